//! WHIP (RFC 9725): what of an offer is taken, the connection that answers it, and one socket for all of them.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod answer;
mod codecs;
mod endpoint;
mod fragment;
mod framing;
pub mod limits;
mod offer;
mod packet;
mod peer;
mod refused;
mod resource;
mod sdp;
mod session;
mod sessions;
mod stun;
mod table;

pub use answer::Reachable;
pub use codecs::{Sound, Video, VideoCodec, Wanted};
pub use endpoint::Endpoint;
pub use offer::{Declined, Offer};
pub use packet::{KeyFrameRequest, Packet, SenderReport};
pub use peer::{Event, Peer, Shared, interface_addresses};
pub use refused::Refused;
pub use resource::{FRAGMENT, SDP, is_type};
pub use session::{Cause, Session, SessionEvent};
pub use sessions::{Limits, Opened, Request, Sessions};
