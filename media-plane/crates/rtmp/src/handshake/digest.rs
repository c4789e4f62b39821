//! The digest handshake of Flash Media Server: HMAC-SHA256 over everything but the digest itself.
//!
//! Where the digest lies is given by four bytes of the packet; the two schemes differ in where those four bytes are.
//! It authenticates nobody (the keys are public), but some encoders refuse a server that ignores it.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::PACKET;

const CLIENT_KEY: &[u8] = b"Genuine Adobe Flash Player 001";
const SERVER_KEY: &[u8] = b"Genuine Adobe Flash Media Server 001";
/// Appended to both keys for the second packets.
const KEY_TAIL: [u8; 32] = [
    0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57, 0x6e, 0xec, 0x5d,
    0x2d, 0x29, 0x80, 0x6f, 0xab, 0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
];
const DIGEST: usize = 32;

/// Where the four offset bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Bytes 8..12; the digest in the first half.
    Zero,
    /// Bytes 772..776; the digest in the second half.
    One,
}

impl Scheme {
    /// Where the digest starts in `packet`.
    fn position(self, packet: &[u8]) -> usize {
        let base = match self {
            Self::Zero => 8,
            Self::One => 772,
        };
        let sum: usize = packet.iter().skip(base).take(4).map(|byte| usize::from(*byte)).sum();
        base + 4 + sum % 728
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; DIGEST] {
    // HMAC takes keys of any length; the error exists for other MACs.
    let Ok(mut mac) = <Hmac<Sha256> as Mac>::new_from_slice(key) else { return [0; DIGEST] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The digest of `packet` with `key`, computed around the place where it lies.
fn packet_digest(packet: &[u8], position: usize, key: &[u8]) -> [u8; DIGEST] {
    let before = packet.get(..position).unwrap_or_default();
    let after = packet.get(position + DIGEST..).unwrap_or_default();
    hmac(key, &[before, after])
}

/// Which scheme C1 follows and its digest; `None` for the simple handshake.
pub(crate) fn find_client_digest(c1: &[u8; PACKET]) -> Option<(Scheme, [u8; DIGEST])> {
    find_digest(c1, CLIENT_KEY)
}

fn find_digest(packet: &[u8; PACKET], key: &[u8]) -> Option<(Scheme, [u8; DIGEST])> {
    [Scheme::One, Scheme::Zero].into_iter().find_map(|scheme| {
        let position = scheme.position(packet);
        let sent: [u8; DIGEST] = *packet.get(position..)?.first_chunk()?;
        (packet_digest(packet, position, key) == sent).then_some((scheme, sent))
    })
}

/// S1 with its digest.
pub(crate) fn server_hello(scheme: Scheme, seed: &[u8; 32]) -> [u8; PACKET] {
    // Flash Media Server 5.0.3: clients only look whether the version is zero.
    signed_packet(scheme, seed, [0x05, 0x00, 0x03, 0x01], SERVER_KEY)
}

/// C1 with its digest, for [`crate::client`].
pub(crate) fn client_hello(scheme: Scheme, seed: &[u8; 32]) -> [u8; PACKET] {
    signed_packet(scheme, seed, [0x80, 0x00, 0x07, 0x02], CLIENT_KEY)
}

fn signed_packet(scheme: Scheme, seed: &[u8; 32], version: [u8; 4], key: &[u8]) -> [u8; PACKET] {
    let mut packet = random_packet(seed, 1);
    for (to, from) in packet.iter_mut().zip([0; 4].iter().chain(&version)) {
        *to = *from;
    }
    let position = scheme.position(&packet);
    let digest = packet_digest(&packet, position, key);
    for (to, from) in packet.iter_mut().skip(position).zip(digest) {
        *to = from;
    }
    packet
}

/// S2: random, its last 32 bytes prove that the client's digest was read.
pub(crate) fn server_echo(client_digest: &[u8; DIGEST], seed: &[u8; 32]) -> [u8; PACKET] {
    let mut packet = random_packet(seed, 2);
    let digest = echo_digest(&packet, client_digest);
    for (to, from) in packet.iter_mut().skip(PACKET - DIGEST).zip(digest) {
        *to = from;
    }
    packet
}

fn echo_digest(packet: &[u8; PACKET], client_digest: &[u8; DIGEST]) -> [u8; DIGEST] {
    let key: Vec<u8> = SERVER_KEY.iter().chain(&KEY_TAIL).copied().collect();
    let signing = hmac(&key, &[client_digest]);
    hmac(&signing, &[packet.get(..PACKET - DIGEST).unwrap_or_default()])
}

/// Whether S1 and S2 are what a server that understood `c1` sends, for [`crate::client`].
pub(crate) fn verify_server(c1: &[u8; PACKET], s1: &[u8; PACKET], s2: &[u8; PACKET]) -> bool {
    let Some((scheme, client_digest)) = find_client_digest(c1) else { return false };
    let hello = find_digest(s1, SERVER_KEY).is_some_and(|(found, _)| found == scheme);
    let echo = s2.last_chunk::<DIGEST>() == Some(&echo_digest(s2, &client_digest));
    hello && echo
}

/// 1536 bytes expanded from the seed; `label` separates the packets of one handshake.
pub(crate) fn random_packet(seed: &[u8; 32], label: u8) -> [u8; PACKET] {
    let mut packet = [0; PACKET];
    for (counter, block) in (0_u8..).zip(packet.chunks_mut(DIGEST)) {
        let bytes = Sha256::new().chain_update(seed).chain_update([label, counter]).finalize();
        for (to, from) in block.iter_mut().zip(bytes) {
            *to = from;
        }
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python's `hmac` over the same packet.
    #[test]
    fn e1_digests_are_those_of_another_implementation() {
        let mut packet = [0; PACKET];
        for (index, byte) in packet.iter_mut().enumerate() {
            *byte = (index * 7 + index / 256) as u8;
        }
        for (scheme, position, client, echo) in [
            (
                Scheme::Zero,
                278,
                "ccd0907f7bf3f1245be52e85e5347e7a88b59518b0b4abb5f4ae208f95a4e64b",
                "6629fc1750e21bcd981814fde27da5771d306efe0af8541f81af806df59ab030",
            ),
            (
                Scheme::One,
                942,
                "0c7a6f9c9855f8ff6c8c03b110e43e0c4a1c2b8c58a4eb25f4c33ceef7cb2c31",
                "f66f6a19b161abe5cd786dee6483b498c8508d3f203c1fefb2e45c7bbfe7af95",
            ),
        ] {
            assert_eq!(scheme.position(&packet), position);
            let digest = packet_digest(&packet, position, CLIENT_KEY);
            assert_eq!(hex::encode(digest), client);
            assert_eq!(hex::encode(echo_digest(&packet, &digest)), echo);
            let mut signed = packet;
            signed[position..position + DIGEST].copy_from_slice(&digest);
            assert_eq!(find_client_digest(&signed), Some((scheme, digest)));
            assert_eq!(find_client_digest(&packet), None);
        }
    }
}
