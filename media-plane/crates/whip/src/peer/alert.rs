//! Alerts of a DTLS handshake (RFC 5246, 7.2), as far as they say why it fails.

const ALERT: u8 = 21;
const FATAL: u8 = 2;
/// Bytes of a record's header (RFC 6347, 4.1).
const HEADER: usize = 13;

/// The description of a fatal alert that is not encrypted; `None` for everything else.
pub fn fatal(data: &[u8]) -> Option<u8> {
    let (header, body) = data.split_at_checked(HEADER)?;
    match (header, body) {
        (&[ALERT, _, _, 0, 0, ..], &[FATAL, description]) => Some(description),
        _ => None,
    }
}

/// What it means.
pub fn words(description: u8) -> String {
    let name = match description {
        20 => "bad_record_mac",
        40 => "handshake_failure",
        42 => "bad_certificate: WebRTC certificates are ECDSA on P-256 or RSA, with the fingerprint of the offer",
        43 => "unsupported_certificate",
        47 => "illegal_parameter",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version: DTLS 1.2 is needed",
        71 => "insufficient_security",
        80 => "internal_error",
        _ => "alert",
    };
    format!("{name} ({description})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fatal_alerts_in_the_clear_are_heeded() {
        let refused = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2, 2, 42];
        assert_eq!(fatal(&refused), Some(42));
        assert!(words(42).starts_with("bad_certificate") && words(42).ends_with("(42)"));
        let mut goodbye = refused;
        goodbye[13..].copy_from_slice(&[1, 0]);
        assert_eq!(fatal(&goodbye), None);
        let mut encrypted = refused;
        encrypted[4] = 1;
        assert_eq!(fatal(&encrypted), None);
        for length in 0..refused.len() {
            assert_eq!(fatal(&refused[..length]), None, "{length}");
        }
    }
}
