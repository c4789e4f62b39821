//! As much STUN as the shared socket needs to know whose a packet is (RFC 8489).

const MAGIC: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER: usize = 20;
const USERNAME: u16 = 0x0006;

/// Whether a datagram is STUN, and not DTLS or RTP (RFC 7983).
pub fn is_stun(data: &[u8]) -> bool {
    data.len() >= HEADER && data.first().is_some_and(|first| *first < 4) && data.get(4..8) == Some(&MAGIC)
}

/// The local half of the user name of a check: which session it is for.
pub fn local_ufrag(data: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(attribute(data, USERNAME)?).ok()?;
    name.split(':').next().filter(|ufrag| !ufrag.is_empty())
}

fn attribute(data: &[u8], wanted: u16) -> Option<&[u8]> {
    if !is_stun(data) {
        return None;
    }
    let mut rest = data.get(HEADER..)?;
    while let Some((&[kind_high, kind_low, length_high, length_low], tail)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        if u16::from_be_bytes([kind_high, kind_low]) == wanted {
            return tail.get(..length);
        }
        rest = tail.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut data = vec![0, 1, 0, 0];
        data.extend(MAGIC);
        data.extend([7; 12]);
        for (kind, value) in attributes {
            data.extend(kind.to_be_bytes());
            data.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
            data.extend(*value);
            data.resize(data.len().next_multiple_of(4), 0);
        }
        data
    }

    #[test]
    fn the_session_of_a_check_is_in_its_user_name() {
        let data = check(&[(0x24, &[1, 2, 3, 4]), (USERNAME, b"local:remote"), (0x25, b"")]);
        assert_eq!(local_ufrag(&data), Some("local"));
    }

    #[test]
    fn hostile_checks_have_no_session() {
        let whole = check(&[(USERNAME, b"local:remote")]);
        for cut in 0..whole.len() {
            let found = local_ufrag(&whole[..cut]);
            assert!(found.is_none_or(|ufrag| ufrag == "local"), "{cut}");
        }
        assert_eq!(local_ufrag(&check(&[(USERNAME, b":x")])), None);
        assert_eq!(local_ufrag(&check(&[(USERNAME, &[0xff, 0xfe])])), None);
        let mut long = check(&[(0x24, b"")]);
        long[22..24].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(local_ufrag(&long), None);
        assert!(!is_stun(&[0x80; 40]) && !is_stun(&[22; 40]));
    }
}
