//! The RTMP handshake, simple and with digests, from the server's side.

pub(crate) mod digest;

use bytes::{Buf, BytesMut};

use crate::error::SessionError;

/// Length of C1, C2, S1 and S2 in bytes.
pub(crate) const PACKET: usize = 1536;
/// The only version that is not encrypted.
pub(crate) const VERSION: u8 = 3;

/// How far the handshake has come.
#[derive(Debug)]
pub(crate) enum Handshake {
    /// Waiting for C0 and C1.
    Hello {
        /// Expanded into the random parts of S1 and S2.
        seed: [u8; 32],
    },
    /// S0, S1 and S2 are sent; this many bytes of C2 are missing.
    Echo {
        /// Bytes of C2 still to come.
        missing: usize,
    },
}

impl Handshake {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self::Hello { seed }
    }

    /// Consumes what it can; true once C2 is complete. What C2 contains is not checked: clients differ, and it proves
    /// nothing about the peer.
    pub(crate) fn advance(&mut self, input: &mut BytesMut, output: &mut Vec<u8>) -> Result<bool, SessionError> {
        if let Self::Hello { seed } = self {
            let Some((version, rest)) = input.split_first() else { return Ok(false) };
            if *version != VERSION {
                return Err(SessionError::Version(*version));
            }
            let Some(c1) = rest.first_chunk::<PACKET>() else { return Ok(false) };
            answer(c1, seed, output);
            input.advance(1 + PACKET);
            *self = Self::Echo { missing: PACKET };
        }
        if let Self::Echo { missing } = self {
            let taken = input.len().min(*missing);
            input.advance(taken);
            *missing -= taken;
            return Ok(*missing == 0);
        }
        Ok(false)
    }
}

/// Writes S0, S1 and S2: with digests when C1 carries one that is right, else the simple form, where S2 repeats C1.
fn answer(c1: &[u8; PACKET], seed: &[u8; 32], output: &mut Vec<u8>) {
    output.reserve_exact(1 + 2 * PACKET);
    output.push(VERSION);
    match digest::find_client_digest(c1) {
        Some((scheme, client_digest)) => {
            output.extend_from_slice(&digest::server_hello(scheme, seed));
            output.extend_from_slice(&digest::server_echo(&client_digest, seed));
        }
        None => {
            let mut s1 = digest::random_packet(seed, 1);
            if let Some(head) = s1.first_chunk_mut::<8>() {
                *head = [0; 8];
            }
            output.extend_from_slice(&s1);
            output.extend_from_slice(c1);
        }
    }
}
