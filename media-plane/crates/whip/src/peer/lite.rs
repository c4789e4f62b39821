//! A lite ICE agent (RFC 8445, section 2.5): it answers checks, believes nominations and never checks by itself. Written
//! here, and not left to the library, because a publisher that changes its network goes on sending from another address.

use std::net::SocketAddr;

use bytes::BytesMut;
use rtc::crypto::RTCCrypto;
use rtc::ice::attributes::control::AttrControlling;
use rtc::ice::attributes::priority::PriorityAttr;
use rtc::ice::attributes::use_candidate::UseCandidateAttr;

use rtc::stun::attributes::{ATTR_ICE_CONTROLLED, ATTR_USE_CANDIDATE, ATTR_USERNAME};
use rtc::stun::error_code::{CODE_ROLE_CONFLICT, ErrorCodeAttribute};
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId};
use rtc::stun::textattrs::Username;
use rtc::stun::xoraddr::XorMappedAddress;

use crate::limits::MAX_PATHS;

/// Names and passwords of both ends, of one ICE generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// This end's user fragment.
    pub ufrag: String,
    /// This end's password.
    pub password: String,
    /// The publisher's user fragment.
    pub remote_ufrag: String,
    /// The publisher's password.
    pub remote_password: String,
}

/// What a check has led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// What goes back to where the check came from.
    pub answer: Option<BytesMut>,
    /// The publisher itself sent it.
    pub genuine: bool,
}

/// The agent of one session.
#[derive(Debug)]
pub struct Lite {
    /// The generation in use, after a restart with the one before it: that is valid until the new one is nominated.
    generations: Vec<Credentials>,
    /// Addresses the publisher has proven to have, newest last.
    paths: Vec<SocketAddr>,
    nominated: Option<SocketAddr>,
}

impl Lite {
    /// Nothing is known but the credentials.
    pub fn new(credentials: Credentials) -> Self {
        Self { generations: vec![credentials], paths: Vec::new(), nominated: None }
    }

    /// An ICE restart: the next nomination under these credentials makes the older ones worthless.
    pub fn restart(&mut self, credentials: Credentials) {
        self.generations.truncate(1);
        self.generations.insert(0, credentials);
    }

    /// Where to send to.
    pub fn nominated(&self) -> Option<SocketAddr> {
        self.nominated
    }

    /// Whether the publisher has proven that it receives at this address.
    pub fn knows(&self, address: SocketAddr) -> bool {
        self.paths.contains(&address)
    }

    /// Judges a check.
    pub fn check(&mut self, from: SocketAddr, data: &[u8], crypto: &dyn RTCCrypto) -> Checked {
        let mut check = Message::new();
        if check.unmarshal_binary(data).is_err() || check.typ != BINDING_REQUEST {
            return Checked::default();
        }
        let Ok(name) = check.get(ATTR_USERNAME) else { return Checked::default() };
        let is_it =
            |generation: &&Credentials| name == format!("{}:{}", generation.ufrag, generation.remote_ufrag).as_bytes();
        let Some(index) = self.generations.iter().position(|generation| is_it(&generation)) else {
            return Checked::default();
        };
        let Some(password) = self.generations.get(index).map(|generation| generation.password.clone()) else {
            return Checked::default();
        };
        if MessageIntegrity::check(&mut check, password.as_bytes(), crypto).is_err() {
            return Checked::default();
        }
        if check.contains(ATTR_ICE_CONTROLLED) {
            // Two ends that both wait to be told which path to use: the other one has to be the one who tells.
            return Checked { answer: conflict(&check, &password, crypto), genuine: true };
        }
        self.paths.retain(|path| *path != from);
        if self.paths.len() >= MAX_PATHS {
            self.paths.remove(0);
        }
        self.paths.push(from);
        // The first path is used until another one is nominated: aggressive nomination and single-path publishers alike.
        if check.contains(ATTR_USE_CANDIDATE) {
            self.nominated = Some(from);
            if index == 0 {
                self.generations.truncate(1);
            }
        }
        Checked { answer: success(&check, from, &password, crypto), genuine: true }
    }
}

fn success(check: &Message, from: SocketAddr, password: &str, crypto: &dyn RTCCrypto) -> Option<BytesMut> {
    message(vec![
        Box::new(check.transaction_id),
        Box::new(BINDING_SUCCESS),
        Box::new(XorMappedAddress { ip: from.ip(), port: from.port() }),
        Box::new(MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto)),
        Box::new(FINGERPRINT),
    ])
}

fn conflict(check: &Message, password: &str, crypto: &dyn RTCCrypto) -> Option<BytesMut> {
    message(vec![
        Box::new(check.transaction_id),
        Box::new(BINDING_ERROR),
        Box::new(ErrorCodeAttribute { code: CODE_ROLE_CONFLICT, reason: b"Role Conflict".to_vec() }),
        Box::new(MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto)),
        Box::new(FINGERPRINT),
    ])
}

/// A nomination as the publisher would send it. The library's own agent is convinced with it that there is a path.
pub fn nomination(credentials: &Credentials, crypto: &dyn RTCCrypto) -> Option<BytesMut> {
    let name = format!("{}:{}", credentials.ufrag, credentials.remote_ufrag);
    message(vec![
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId::new()),
        Box::new(Username::new(ATTR_USERNAME, name)),
        Box::new(UseCandidateAttr::new()),
        Box::new(AttrControlling(1)),
        Box::new(PriorityAttr(1)),
        Box::new(MessageIntegrity::new_short_term_integrity_with_provider(credentials.password.clone(), crypto)),
        Box::new(FINGERPRINT),
    ])
}

/// What the publisher would answer to the library's own check; `None` when it is no check.
pub fn answer_to(request: &[u8], password: &str, local: SocketAddr, crypto: &dyn RTCCrypto) -> Option<BytesMut> {
    let mut check = Message::new();
    check.unmarshal_binary(request).ok()?;
    if check.typ != BINDING_REQUEST {
        return None;
    }
    success(&check, local, password, crypto)
}

fn message(parts: Vec<Box<dyn Setter + '_>>) -> Option<BytesMut> {
    let mut message = Message::new();
    message.build(&parts).ok()?;
    Some(BytesMut::from(message.raw.as_slice()))
}

#[cfg(test)]
#[path = "lite_tests.rs"]
mod tests;
