//! A session as an HTTP resource (RFC 9725, section 4.3): preconditions, trickle and restart, without any HTTP.

use crate::fragment::Fragment;
use crate::limits::{MAX_CANDIDATES, MAX_FRAGMENT_BYTES};
use crate::offer::check_credentials;
use crate::refused::Refused;

/// Media type of offers and answers.
pub const SDP: &str = "application/sdp";
/// Media type of fragments.
pub const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// What a client can know of a session.
#[derive(Clone, Debug)]
pub struct Resource {
    generation: u32,
    tag: String,
    remote_ufrag: String,
    remote_password: String,
    candidates: u32,
}

/// What a PATCH has led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patched {
    /// Candidates were announced: 204.
    Trickled,
    /// ICE starts anew with these credentials of the publisher: 200, if the session still lives.
    Restart {
        /// User fragment.
        ufrag: String,
        /// Password.
        password: String,
    },
}

/// Whether a `Content-Type` is `wanted`, parameters aside.
pub fn is_type(content_type: Option<&str>, wanted: &str) -> bool {
    let given = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    given.trim().eq_ignore_ascii_case(wanted)
}

impl Resource {
    /// Of a new session; `tag` makes its entity tags unlike any other session's.
    pub fn new(tag: &str, ufrag: &str, password: &str) -> Self {
        Self {
            generation: 1,
            tag: tag.to_owned(),
            remote_ufrag: ufrag.to_owned(),
            remote_password: password.to_owned(),
            candidates: 0,
        }
    }

    /// The strong entity tag of the current ICE generation, with its quotes.
    pub fn etag(&self) -> String {
        format!("\"{}-{}\"", self.tag, self.generation)
    }

    /// Judges a PATCH. A restart takes effect with [`Self::restarted`].
    pub fn patch(
        &mut self,
        content_type: Option<&str>,
        if_match: Option<&str>,
        body: &str,
    ) -> Result<Patched, Refused> {
        if !is_type(content_type, FRAGMENT) {
            return Err(Refused::new(415, "type", format!("a session takes {FRAGMENT}")));
        }
        let Some(if_match) = if_match.map(str::trim) else {
            return Err(Refused::new(
                428,
                "precondition",
                "If-Match is missing: the session's ETag, or * for an ICE restart",
            ));
        };
        if body.len() > MAX_FRAGMENT_BYTES {
            return Err(Refused::new(413, "size", format!("a fragment may have {MAX_FRAGMENT_BYTES} bytes")));
        }
        let anew = if_match == "*";
        if !anew && !if_match.split(',').any(|tag| tag.trim() == self.etag()) {
            return Err(Refused::new(
                412,
                "precondition",
                "If-Match is not the ETag of the session's current ICE generation",
            ));
        }
        let fragment = Fragment::parse(body)?;
        let is_other = |given: &Option<String>, known: &str| given.as_deref().is_some_and(|given| given != known);
        let changed =
            is_other(&fragment.ufrag, &self.remote_ufrag) || is_other(&fragment.password, &self.remote_password);
        match (anew, changed, fragment.ufrag, fragment.password) {
            (true, true, Some(ufrag), Some(password)) => {
                check_credentials(&ufrag, &password)?;
                Ok(Patched::Restart { ufrag, password })
            }
            (true, ..) => Err(Refused::new(
                422,
                "restart",
                "an ICE restart (If-Match: *) needs an a=ice-ufrag and a=ice-pwd unlike the current ones",
            )),
            // Of a generation that is over or yet to come: dropped without a word (RFC 9725, section 4.3.2).
            (false, true, ..) => Ok(Patched::Trickled),
            (false, false, ..) => {
                self.candidates = self.candidates.saturating_add(fragment.candidates);
                if self.candidates > MAX_CANDIDATES {
                    return Err(Refused::new(422, "candidates", format!("more than {MAX_CANDIDATES} candidates")));
                }
                Ok(Patched::Trickled)
            }
        }
    }

    /// The restart has been carried out.
    pub fn restarted(&mut self, ufrag: String, password: String) {
        self.generation = self.generation.wrapping_add(1);
        self.candidates = 0;
        (self.remote_ufrag, self.remote_password) = (ufrag, password);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "0123456789abcdef012345";

    fn resource() -> Resource {
        Resource::new("s1", "abcd", PASSWORD)
    }

    fn trickle(candidates: usize) -> String {
        let line = "a=candidate:1 1 udp 2122260223 192.0.2.7 5000 typ host\r\n";
        format!("a=ice-ufrag:abcd\r\na=ice-pwd:{PASSWORD}\r\nm=audio 9 X 0\r\na=mid:0\r\n{}", line.repeat(candidates))
    }

    fn restart(ufrag: &str) -> String {
        format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:another-password-of-22-chars\r\n").replace("-of-", "/of/")
    }

    fn status(resource: &mut Resource, if_match: Option<&str>, body: &str) -> u16 {
        resource.patch(Some(FRAGMENT), if_match, body).unwrap_err().status
    }

    #[test]
    fn w3_trickle_needs_the_current_tag() {
        let mut resource = resource();
        let tag = resource.etag();
        assert!(tag.starts_with('"') && tag.ends_with('"') && !tag.starts_with("W/"), "strong: {tag}");
        assert_eq!(resource.patch(Some(FRAGMENT), Some(&tag), &trickle(2)), Ok(Patched::Trickled));
        assert_eq!(status(&mut resource, None, &trickle(1)), 428);
        assert_eq!(status(&mut resource, Some("\"other\""), &trickle(1)), 412);
        assert_eq!(status(&mut resource, Some(&tag), "nonsense"), 400);
        assert_eq!(resource.patch(Some("application/sdp"), Some(&tag), "x").unwrap_err().status, 415);
        let with_charset = format!("{FRAGMENT}; charset=utf-8");
        assert_eq!(resource.patch(Some(&with_charset), Some(&tag), &trickle(1)), Ok(Patched::Trickled));
    }

    #[test]
    fn w3_a_restart_changes_the_tag_and_an_incomplete_one_does_not() {
        let mut resource = resource();
        let first = resource.etag();
        assert_eq!(status(&mut resource, Some("*"), &trickle(1)), 422, "the same credentials are no restart");
        assert_eq!(status(&mut resource, Some("*"), "a=ice-ufrag:efgh\r\n"), 422);
        assert_eq!(status(&mut resource, Some("*"), &restart("e")), 400);
        let Patched::Restart { ufrag, password } = resource.patch(Some(FRAGMENT), Some("*"), &restart("efgh")).unwrap()
        else {
            panic!("no restart");
        };
        assert_eq!(resource.etag(), first, "not yet");
        resource.restarted(ufrag, password);
        assert_ne!(resource.etag(), first);
        assert_eq!(status(&mut resource, Some(&first), &trickle(1)), 412);
        let late = resource.patch(Some(FRAGMENT), Some(&resource.etag()), &trickle(1));
        assert_eq!(late, Ok(Patched::Trickled), "candidates of the old generation are dropped silently");
        assert_eq!(resource.candidates, 0);
    }

    #[test]
    fn ten_thousand_candidates_and_a_replayed_patch_keep_nothing() {
        let mut resource = resource();
        let tag = resource.etag();
        assert_eq!(status(&mut resource, Some(&tag), &trickle(10_000)), 413);
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..10_000 {
            match resource.patch(Some(FRAGMENT), Some(&tag), &trickle(1)) {
                Ok(_) => taken += 1,
                Err(error) => {
                    assert_eq!(error.status, 422);
                    refused += 1;
                }
            }
        }
        assert_eq!((taken, refused), (1_000, 9_000));
    }
}
