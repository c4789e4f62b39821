//! Facts about what is wrong with a recording's media.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::proto_enum;
use crate::pb::v1;

/// What was found abnormal since the fact of this kind before: counts add up, because each fact is applied once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingAbnormal {
    /// At most one per kind.
    pub found: Vec<AbnormalSpan>,
}

/// How often something was found, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbnormalSpan {
    /// What.
    #[serde(with = "proto_enum::health_kind")]
    pub kind: v1::health::Kind,
    /// How often; for dropped frames the frames.
    pub count: u64,
    /// The first of them.
    pub first_time: DateTime<Utc>,
    /// The last of them.
    pub last_time: DateTime<Utc>,
}
