//! ULIDs that grow strictly within one process, so that "newest first" means what it says within a millisecond too.
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use ulid::{Generator, Ulid};

/// Makes ids. Clones share the last one made.
#[derive(Clone, Default)]
pub struct Mint {
    generator: Arc<Mutex<Generator>>,
}

impl std::fmt::Debug for Mint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mint")
    }
}

impl Mint {
    /// The next ULID; greater than every one before it even when the clock goes back.
    pub fn ulid(&self, now: DateTime<Utc>) -> Ulid {
        let mut generator = self.generator.lock().unwrap_or_else(PoisonError::into_inner);
        // Fails only when 2^80 ids were made within one millisecond; a random one is as good then.
        generator.generate_from_datetime(now.into()).unwrap_or_else(|_| Ulid::from_datetime(now.into()))
    }

    /// An id for a resource whose creator named none; fits the alphabet of ids.
    pub fn id(&self, collection: &str, now: DateTime<Utc>) -> String {
        let initial: String = collection.chars().take(1).collect();
        format!("{initial}-{}", self.ulid(now).to_string().to_ascii_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use recorder_proto::names::check_id;

    use super::*;

    #[test]
    fn ids_grow_even_when_time_stands_still_or_goes_back() {
        let mint = Mint::default();
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let earlier = DateTime::from_timestamp(1_600_000_000, 0).unwrap();
        let made = [mint.ulid(now), mint.ulid(now), mint.ulid(earlier), mint.ulid(now)];
        assert!(made.is_sorted_by(|left, right| left < right), "{made:?}");
    }

    #[test]
    fn minted_ids_are_ids() {
        let id = Mint::default().id("templates", DateTime::UNIX_EPOCH);
        check_id(&id).unwrap();
        assert!(id.starts_with("t-"), "{id}");
    }
}
