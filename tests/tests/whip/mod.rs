//! WebRTC publishers over WHIP: recorded like others, and the endpoint's manners.

mod codecs;
mod hostile;
mod http;
mod losses;
mod publishers;
mod takeover;
