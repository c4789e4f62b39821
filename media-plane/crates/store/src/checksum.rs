//! CRC32C, the one checksum that S3, Google and we all know and that can be combined from parts.
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::bucket::{Part, Stored};
use crate::error::Error;

/// As S3 and Google write it: big-endian bytes in base64.
pub fn crc32c_base64(crc: u32) -> String {
    BASE64_STANDARD.encode(crc.to_be_bytes())
}

/// From S3's and Google's notation; `None` for anything else (S3 writes `…-3` for a checksum of checksums).
pub(crate) fn crc32c_from_base64(text: &str) -> Option<u32> {
    let bytes: [u8; 4] = BASE64_STANDARD.decode(text).ok()?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

/// CRC32C of the object that these parts make in this order; `None` when a part's is unknown.
pub fn crc32c_of_parts(parts: &[Part]) -> Option<u32> {
    parts.iter().try_fold(0, |whole, part| {
        let size = usize::try_from(part.size).ok()?;
        Some(crc32c::crc32c_combine(whole, part.crc32c?, size))
    })
}

/// Whether an object that is there is the one these parts make. Falls back on the size where the store keeps no
/// checksum.
pub(crate) fn made_of(stored: &Stored, parts: &[Part]) -> bool {
    let size: u64 = parts.iter().map(|part| part.size).sum();
    let checksums = stored.crc32c.zip(crc32c_of_parts(parts));
    !parts.is_empty() && stored.size == size && checksums.is_none_or(|(theirs, ours)| theirs == ours)
}

/// How a repeated complete, whose upload is gone, tells "my first try got through" from "somebody else's".
pub(crate) fn completed_before(held: Option<Stored>, parts: &[Part], gone: Error) -> Result<Stored, Error> {
    match held.filter(|held| made_of(held, parts)) {
        Some(held) => Ok(Stored { crc32c: held.crc32c.or_else(|| crc32c_of_parts(parts)), ..held }),
        None => Err(gone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u32, bytes: &[u8]) -> Part {
        Part { number, size: bytes.len() as u64, etag: String::new(), crc32c: Some(crc32c::crc32c(bytes)) }
    }

    #[test]
    fn parts_combine_to_the_whole() {
        let (a, b, c) = (vec![1_u8; 70_000], vec![], vec![3_u8; 5]);
        let whole = [a.as_slice(), b.as_slice(), c.as_slice()].concat();
        let mut parts = [part(1, &a), part(2, &b), part(3, &c)];
        assert_eq!(crc32c_of_parts(&parts), Some(crc32c::crc32c(&whole)));
        assert_eq!(crc32c_of_parts(&[]), Some(0));
        parts[1].crc32c = None;
        assert_eq!(crc32c_of_parts(&parts), None);
    }

    #[test]
    fn notation_is_the_providers() {
        // RFC 3720 B.4: 32 bytes of zeroes.
        assert_eq!(crc32c_base64(crc32c::crc32c(&[0; 32])), "ipE2qg==");
        assert_eq!(crc32c_from_base64("ipE2qg=="), Some(0x8a91_36aa));
        assert_eq!(crc32c_from_base64("ipE2qg==-3"), None);
    }
}
