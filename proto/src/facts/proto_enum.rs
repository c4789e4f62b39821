//! Serde for generated enums: by their wire name, so that logs, the database and facts read alike.

macro_rules! by_name {
    ($($module:ident: $kind:ty),+ $(,)?) => {$(
        pub(super) mod $module {
            use serde::{Deserialize, Deserializer, Serializer};

            // Serde wants a reference here.
            #[allow(clippy::trivially_copy_pass_by_ref)]
            pub fn serialize<S: Serializer>(value: &$kind, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(value.as_str_name())
            }

            pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$kind, D::Error> {
                let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                // A name from a newer node is not known here; "unspecified" keeps the rest of the fact.
                Ok(<$kind>::from_str_name(&name).unwrap_or_default())
            }
        }
    )+};
}

by_name! {
    protocol: crate::pb::v1::protocol::Kind,
    end_reason: crate::pb::v1::recording::EndReason,
    gap_reason: crate::pb::v1::gap::Reason,
    health_kind: crate::pb::v1::health::Kind,
}
