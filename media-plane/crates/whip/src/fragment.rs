//! Trickle ICE fragments (`application/trickle-ice-sdpfrag`, RFC 8840).

use crate::refused::Refused;
use crate::sdp::short;

/// What a fragment says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// User fragment of the generation it is about.
    pub ufrag: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// Candidates in it. A lite agent has no use for them.
    pub candidates: u32,
}

impl Fragment {
    /// Reads a fragment; candidates of unknown kinds are fine, lines that are no attributes are not.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        let mut fragment = Self::default();
        let mut any = false;
        for line in text.lines().map(|line| line.trim_end_matches('\r')).filter(|line| !line.is_empty()) {
            any = true;
            let Some(attribute) = line.strip_prefix("a=") else {
                // `m=` lines group candidates by section; some clients send a whole description.
                if line.as_bytes().get(1) == Some(&b'=') {
                    continue;
                }
                return Err(Refused::malformed(format!("not a line of a fragment: {}", short(line))));
            };
            match attribute.split_once(':') {
                Some(("ice-ufrag", value)) => fragment.ufrag = Some(value.trim().to_owned()),
                Some(("ice-pwd", value)) => fragment.password = Some(value.trim().to_owned()),
                Some(("candidate", _)) => fragment.candidates = fragment.candidates.saturating_add(1),
                _ => {}
            }
        }
        if any { Ok(fragment) } else { Err(Refused::malformed("the fragment is empty")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_candidates() {
        let text = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
                    a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\n\
                    a=candidate:9 1 quic whatever\r\na=end-of-candidates\r\n";
        let fragment = Fragment::parse(text).unwrap();
        assert_eq!(fragment.ufrag.as_deref(), Some("EsAw"));
        assert_eq!(fragment.candidates, 2, "unknown kinds count and do no harm");
        assert_eq!(Fragment::parse("").unwrap_err().status, 400);
        assert_eq!(Fragment::parse("candidate:1").unwrap_err().status, 400);
    }
}
