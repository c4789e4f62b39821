//! Paging: sizes, and opaque tokens that only this server can make and only the same list accepts.
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use prost::Message;
use rand::RngCore;
use recorder_db::{Db, Page, settings};
use recorder_proto::problem::Violations;
use recorder_proto::{Problem, limits};
use recorder_runtime::secret::Sealer;
use sha2::Sha256;

use super::places;

const SETTING: &str = "page_token_key";
const KEY_BYTES: usize = 32;
/// Half of the MAC: a forger has one guess per request.
const MAC_BYTES: usize = 16;
/// Cursors are ids; nothing longer was made here.
const CURSOR_MAX_BYTES: usize = 1024;

/// Makes and checks page tokens; also a keyed hash for comparing requests.
#[derive(Clone)]
pub struct Tokens {
    key: [u8; KEY_BYTES],
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

/// Where a list goes on.
#[derive(Debug, Clone)]
pub struct Paging {
    size: i64,
    cursor: Option<String>,
    scope: Vec<u8>,
}

impl Tokens {
    /// Tokens with this key.
    pub fn new(key: [u8; KEY_BYTES]) -> Self {
        Self { key }
    }

    /// The key of this database, made on first use: every replica honours the others' tokens.
    ///
    /// # Errors
    /// When the database is away, or was sealed with another key.
    pub async fn load(db: &Db, sealer: &Sealer) -> Result<Self, Problem> {
        let mut fresh = [0; KEY_BYTES];
        rand::rng().fill_bytes(&mut fresh);
        let offered = sealer.seal(&fresh, places::PAGE_TOKEN_KEY).map_err(unsealable)?;
        let stored = db
            .write(move |connection| match settings::get(connection, SETTING)? {
                Some(stored) => Ok::<_, recorder_db::Error>(stored),
                None => settings::put(connection, SETTING, &offered).map(|()| offered),
            })
            .await?;
        let opened = sealer.open(&stored, places::PAGE_TOKEN_KEY).map_err(unsealable)?;
        let key = opened.as_slice().try_into().map_err(|_| Problem::internal("the page token key is malformed"))?;
        Ok(Self { key })
    }

    /// Reads size and token of a list request. `request` is the request with both left empty: a token is good for the
    /// list that gave it only.
    pub fn paging(
        &self,
        violations: &mut Violations,
        method: &str,
        request: &impl Message,
        page_size: i32,
        page_token: &str,
    ) -> Paging {
        violations.check(page_size >= 0, "page_size", format!("must not be negative, got {page_size}"));
        let size = match page_size {
            i32::MIN..=0 => limits::PAGE_SIZE_DEFAULT,
            size => size.min(limits::PAGE_SIZE_MAX),
        };
        let scope = [method.as_bytes(), b"\0", &request.encode_to_vec()].concat();
        let cursor = (!page_token.is_empty()).then(|| self.open(&scope, page_token));
        if let Some(None) = cursor {
            violations.add("page_token", "must be the next_page_token of a reply to the same request");
        }
        Paging { size: i64::from(size), cursor: cursor.flatten(), scope }
    }

    /// Cuts one row too many off, and makes the token of the next page if there was one. `rows` were read with
    /// [`Paging::page`]; `cursor` gives what the next page starts behind.
    pub fn next<T>(&self, paging: &Paging, rows: &mut Vec<T>, cursor: impl Fn(&T) -> String) -> String {
        let size = usize::try_from(paging.size).unwrap_or_default();
        if rows.len() <= size {
            return String::new();
        }
        rows.truncate(size);
        rows.last().map(|row| self.seal(&paging.scope, &cursor(row))).unwrap_or_default()
    }

    /// The token of a list that goes on behind `cursor`, for lists that stop before their page is full.
    pub fn continued(&self, paging: &Paging, cursor: &str) -> String {
        self.seal(&paging.scope, cursor)
    }

    /// HMAC-SHA256 of some parts, each with its length, so that no two lists of parts collide.
    pub fn keyed_hash(&self, parts: &[&[u8]]) -> [u8; 32] {
        // A key of any length will do for HMAC; this cannot fail.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else { return [0; 32] };
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    fn seal(&self, scope: &[u8], cursor: &str) -> String {
        let mac = self.keyed_hash(&[b"page", scope, cursor.as_bytes()]);
        let token: Vec<u8> = mac.iter().copied().take(MAC_BYTES).chain(cursor.bytes()).collect();
        URL_SAFE_NO_PAD.encode(token)
    }

    fn open(&self, scope: &[u8], token: &str) -> Option<String> {
        let token = (token.len() <= 2 * CURSOR_MAX_BYTES).then(|| URL_SAFE_NO_PAD.decode(token).ok()).flatten()?;
        let (mac, cursor) = token.split_at_checked(MAC_BYTES)?;
        let expected = self.keyed_hash(&[b"page", scope, cursor]);
        let genuine: bool = subtle::ConstantTimeEq::ct_eq(mac, expected.get(..MAC_BYTES)?).into();
        genuine.then(|| String::from_utf8(cursor.to_vec()).ok()).flatten()
    }
}

impl Paging {
    /// What to ask the database for: one row more than the page, to know whether there is a next one.
    pub fn page(&self) -> Page {
        Page { before: self.cursor.clone(), limit: self.size + 1 }
    }

    /// What the page starts behind; None for the first.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }
}

fn unsealable(error: recorder_runtime::Error) -> Problem {
    tracing::error!(%error, "the page token key cannot be opened; was the seal key changed?");
    Problem::internal("the database was sealed with another key")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use recorder_proto::pb::v1::ListRulesRequest;

    use super::*;

    fn tokens() -> Tokens {
        Tokens::new([7; KEY_BYTES])
    }

    fn request(domain: &str) -> ListRulesRequest {
        ListRulesRequest { domain: domain.to_owned(), ..ListRulesRequest::default() }
    }

    fn read(tokens: &Tokens, request: &ListRulesRequest, size: i32, token: &str) -> (Paging, usize) {
        let mut violations = Violations::new();
        let paging = tokens.paging(&mut violations, "ListRules", request, size, token);
        (paging, violations.len())
    }

    #[test]
    fn sizes_default_and_are_capped_and_never_negative() {
        for (asked, given, violations) in [(0, 50, 0), (1, 1, 0), (1000, 1000, 0), (i32::MAX, 1000, 0), (-1, 50, 1)] {
            let (paging, found) = read(&tokens(), &request("d"), asked, "");
            assert_eq!((paging.page().limit, found), (given + 1, violations), "{asked}");
        }
    }

    #[test]
    fn a_token_continues_its_own_list_only() {
        let (paging, _) = read(&tokens(), &request("d"), 2, "");
        let mut rows = vec!["c", "b", "a"];
        let token = tokens().next(&paging, &mut rows, |row| (*row).to_owned());
        assert_eq!(rows, ["c", "b"]);
        let (next, violations) = read(&tokens(), &request("d"), 7, &token);
        assert_eq!((next.cursor(), violations), (Some("b"), 0), "another size is fine");
        assert_eq!(read(&tokens(), &request("e"), 2, &token).1, 1, "another filter");
        assert_eq!(read(&Tokens::new([8; KEY_BYTES]), &request("d"), 2, &token).1, 1, "another server");
        let mut violations = Violations::new();
        tokens().paging(&mut violations, "ListBindings", &request("d"), 2, &token);
        assert_eq!(violations.len(), 1, "another list");
        let mut last = vec!["a"];
        assert_eq!(tokens().next(&next, &mut last, |row| (*row).to_owned()), "");
    }

    #[test]
    fn a_changed_token_is_refused() {
        let (paging, _) = read(&tokens(), &request("d"), 1, "");
        let token = tokens().next(&paging, &mut vec!["b", "a"], |row| (*row).to_owned());
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let (paging, violations) = read(&tokens(), &request("d"), 1, &URL_SAFE_NO_PAD.encode(changed));
            assert_eq!((paging.cursor(), violations), (None, 1));
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_token(text in "\\PC{1,80}") {
            prop_assert_eq!(read(&tokens(), &request("d"), 1, &text).1, 1);
        }
    }
}
