//! The gate of a listener: who calls, how often, with which role, and for which domains.
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use prost::Message;
use recorder_db::{Db, tokens};
use recorder_proto::pb::FILE_DESCRIPTOR_SET;
use recorder_proto::{Problem, time};
use recorder_runtime::accept::Peer;
use recorder_runtime::clock::Clock;
use recorder_runtime::gate::{Gate, MessageCheck, Pass};
use subtle::ConstantTimeEq;
use tonic::codegen::http::request::Parts;
use tonic::codegen::http::{HeaderMap, header};

use super::bootstrap::Standing;
use super::limiter::Limiter;
use super::scope::{self, Read, Scope};
use super::table::{self, Least};
use super::{Caller, Revocations, secret};

/// Tokens that do not count, per second and at once, that one address may try.
const FAILURES: (u32, u32) = (5, 20);

/// An open stream asks this often whether its token still counts; revoking it on this server is heard at once.
const RECHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Tokens remembered as good, or with their last minute of use.
const MAX_REMEMBERED: usize = 10_000;

const MINUTE: i64 = 60_000_000;

/// Which listener it stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// The public API. A certificate lets a client connect; what it may do, its token says.
    Api,
    /// The node link. A certificate of the client CA is a media node's.
    Link,
}

/// What it asks callers for.
#[derive(Debug, Clone)]
pub enum Demand {
    /// Nothing: whoever reaches the listener may do everything.
    Nothing,
    /// A token.
    Tokens {
        /// Those that are not in the database.
        standing: Arc<[Standing]>,
        /// Calls a second of each token, and of each address for calls that need none.
        rate: u32,
    },
}

/// The gate of one listener.
#[derive(Debug)]
pub struct Guard {
    port: Port,
    db: Db,
    clock: Arc<dyn Clock>,
    revocations: Revocations,
    standing: Option<Arc<[Standing]>>,
    calls: Limiter<Who>,
    failures: Limiter<Who>,
    /// Hashes of tokens that counted before: somebody else's failures at the same address do not hold them up.
    good: Mutex<HashSet<[u8; 32]>>,
    /// The last minute of use that was noted, by token.
    noted: Mutex<HashMap<String, i64>>,
}

/// Whom calls are counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    /// Whoever has this secret, known or not.
    Holder([u8; 32]),
    /// Whoever is at this address: of IPv6, in this network, which is what one subscriber has.
    Address(IpAddr),
    /// Whoever has no address, such as a test on a pipe.
    Nobody,
}

impl Who {
    fn at(peer: &Peer) -> Self {
        match peer.address.map(|address| address.ip().to_canonical()) {
            None => Self::Nobody,
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                Self::Address(IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
            }
            Some(address) => Self::Address(address),
        }
    }
}

/// Someone who was recognised, and the row of the token if it is one of the database.
struct Recognised {
    caller: Caller,
    row: Option<tokens::Row>,
}

impl From<Caller> for Recognised {
    fn from(caller: Caller) -> Self {
        Self { caller, row: None }
    }
}

impl Guard {
    /// A gate that lets through what `demand` says.
    pub fn new(port: Port, demand: Demand, db: Db, clock: Arc<dyn Clock>, revocations: Revocations) -> Self {
        let (standing, rate) = match demand {
            Demand::Nothing => (None, 1),
            Demand::Tokens { standing, rate } => (Some(standing), rate),
        };
        let calls = Limiter::new(rate, rate.saturating_mul(2));
        let failures = Limiter::new(FAILURES.0, FAILURES.1);
        let (good, noted) = (Mutex::default(), Mutex::default());
        Self { port, db, clock, revocations, standing, calls, failures, good, noted }
    }

    async fn decide(&self, head: &mut Parts) -> Result<Pass, Problem> {
        let peer = head.extensions.get::<Peer>().cloned().unwrap_or_default();
        let rule = table::rule(head.uri.path()).filter(|rule| rule.least != Least::Anyone);
        let secret = bearer(&head.headers);
        if self.standing.is_some() {
            let holder = secret.map(|secret| Who::Holder(secret::hash(secret)));
            let who = holder.filter(|_| rule.is_some()).unwrap_or_else(|| Who::at(&peer));
            self.calls.take(who, self.clock.monotonic()).map_err(Problem::rate_limited)?;
        }
        // What needs no role, and what the router refuses anyway.
        let Some(rule) = rule else { return Ok(Pass::default()) };
        let Recognised { caller, row } = self.recognise(&peer, secret).await?;
        if !caller.may(rule.least) {
            return Err(Problem::role_required(rule.least.as_str()));
        }
        let message = match rule.scope {
            _ if caller.domains().is_empty() => None,
            Scope::Free => None,
            Scope::Server => return Err(scope::whole_server(caller.domains())),
            Scope::Named(read) => Some(self.ask(read, Arc::clone(caller.domains()))),
        };
        let until = row.filter(|_| is_streaming(head.uri.path())).map(|row| self.until(row));
        let name = Arc::clone(&caller.name);
        head.extensions.insert(caller);
        Ok(Pass { caller: Some(name), message, until })
    }

    async fn recognise(&self, peer: &Peer, secret: Option<&str>) -> Result<Recognised, Problem> {
        if let (Port::Link, Some(names)) = (self.port, &peer.certificate) {
            return Ok(Caller::certified(names).into());
        }
        let Some(standing) = &self.standing else { return Ok(Caller::local().into()) };
        let Some(secret) = secret else {
            return Err(Problem::unauthenticated("this call needs a token: send `authorization: Bearer <token>`"));
        };
        let hash = secret::hash(secret);
        if let Some(found) = standing.iter().find(|standing| standing.hash.ct_eq(&hash).into()) {
            return Ok(found.caller.clone().into());
        }
        let (who, now) = (Who::at(peer), self.clock.monotonic());
        if !self.is_good(&hash) {
            self.failures.look(who, now).map_err(Problem::rate_limited)?;
        }
        match self.of_database(hash).await? {
            Some(recognised) => {
                self.remember(hash);
                Ok(recognised)
            }
            None => {
                self.good.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash);
                // Whether there was room for one more failure does not change this answer.
                let _ = self.failures.take(who, now);
                Err(Problem::unauthenticated("the token is unknown, revoked or expired"))
            }
        }
    }

    fn is_good(&self, hash: &[u8; 32]) -> bool {
        self.good.lock().unwrap_or_else(PoisonError::into_inner).contains(hash)
    }

    fn remember(&self, hash: [u8; 32]) {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.len() >= MAX_REMEMBERED {
            good.clear();
        }
        good.insert(hash);
    }

    async fn of_database(&self, hash: [u8; 32]) -> Result<Option<Recognised>, Problem> {
        let row = self.db.read(move |db| tokens::by_hash(db, &hash)).await?;
        let now = time::micros(self.clock.now());
        let Some(row) = row.filter(|row| row.expire_time.is_none_or(|end| now < end)) else { return Ok(None) };
        let caller = Caller::holder(&row.token()?);
        self.note(&row, now);
        Ok(Some(Recognised { caller, row: Some(row) }))
    }

    /// Notes the minute of use, behind the call's back: nothing depends on it.
    fn note(&self, row: &tokens::Row, now: i64) {
        let minute = now - now.rem_euclid(MINUTE);
        if row.last_used_time.is_some_and(|noted| noted >= minute) {
            return;
        }
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.get(&row.id).is_some_and(|noted| *noted >= minute) {
            return;
        }
        if noted.len() >= MAX_REMEMBERED {
            noted.clear();
        }
        noted.insert(row.id.clone(), minute);
        let (db, id) = (self.db.clone(), row.id.clone());
        tokio::spawn(async move {
            let written = db.write(move |db| tokens::used(db, &id, minute)).await;
            if let Err(error) = written {
                tracing::debug!(%error, "the last use of a token was not noted");
            }
        });
    }

    fn ask(&self, read: Read, domains: Arc<[String]>) -> MessageCheck {
        let db = self.db.clone();
        Box::new(move |message: Bytes| {
            Box::pin(async move {
                let unreadable = |_| Problem::invalid_field("", "is not a message of this method");
                let targets = read(&message).map_err(unreadable)?;
                db.read(move |db| scope::check(db, &targets, &domains)).await
            })
        })
    }

    /// Resolves when the token no longer counts.
    fn until(&self, row: tokens::Row) -> BoxFuture<'static, Problem> {
        let (db, clock, mut bell) = (self.db.clone(), Arc::clone(&self.clock), self.revocations.listen());
        Box::pin(async move {
            let expires = row.expire_time.map(time::from_micros);
            loop {
                tokio::select! {
                    _ = bell.changed() => {}
                    () = tokio::time::sleep(pause(expires, clock.now())) => {}
                }
                if expires.is_some_and(|end| end <= clock.now()) {
                    return Problem::unauthenticated("the token has expired");
                }
                let id = row.id.clone();
                // A database that is away revokes nothing.
                if let Ok(None) = db.read(move |db| tokens::get(db, &id)).await {
                    return Problem::unauthenticated("the token was revoked");
                }
            }
        })
    }
}

impl Gate for Guard {
    fn admit<'a>(&'a self, head: &'a mut Parts) -> BoxFuture<'a, Result<Pass, Problem>> {
        Box::pin(self.decide(head))
    }
}

/// Until the next look at a token.
fn pause(expires: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Duration {
    let left = expires.map(|end| (end - now).to_std().unwrap_or_default());
    left.map_or(RECHECK_INTERVAL, |left| left.min(RECHECK_INTERVAL))
}

/// The secret of `authorization: Bearer …`; what is longer than any is none.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, secret) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let secret = secret.trim();
    let sound = scheme.eq_ignore_ascii_case("bearer") && !secret.is_empty() && secret.len() <= secret::MAX_BYTES;
    sound.then_some(secret)
}

/// Whether replies of this method can go on for long.
fn is_streaming(path: &str) -> bool {
    static PATHS: LazyLock<HashSet<String>> = LazyLock::new(|| {
        let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
        let services = set.file.iter().flat_map(|file| file.service.iter().map(|service| (file.package(), service)));
        let paths = services.flat_map(|(package, service)| {
            let streaming = service.method.iter().filter(|method| method.server_streaming());
            streaming.map(move |method| format!("/{package}.{}/{}", service.name(), method.name()))
        });
        paths.collect()
    });
    PATHS.contains(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn bearer_tokens_are_read_whatever_the_case_of_the_scheme() {
        assert_eq!(bearer(&with("Bearer rec_abc")), Some("rec_abc"));
        assert_eq!(bearer(&with("bearer  rec_abc ")), Some("rec_abc"));
        for other in ["rec_abc", "Basic cmVjOng=", "Bearer ", ""] {
            assert_eq!(bearer(&with(other)), None, "{other}");
        }
        assert_eq!(bearer(&with(&format!("Bearer {}", "x".repeat(secret::MAX_BYTES + 1)))), None);
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn one_subscriber_is_one_address() {
        let at = |text: &str| Who::at(&Peer { address: Some(text.parse().unwrap()), certificate: None });
        assert_eq!(at("[2001:db8:1:2::1]:1"), at("[2001:db8:1:2:ffff::9]:7"));
        assert_ne!(at("[2001:db8:1:2::1]:1"), at("[2001:db8:1:3::1]:1"));
        assert_eq!(at("192.0.2.1:1"), at("[::ffff:192.0.2.1]:2"));
        assert_ne!(at("192.0.2.1:1"), at("192.0.2.2:1"));
    }

    #[test]
    fn watches_are_streams_and_reads_are_not() {
        assert!(is_streaming("/recorder.v1.RecordingService/WatchRecordings"));
        assert!(is_streaming("/recorder.node.v1.NodeLinkService/ReportFacts"));
        assert!(!is_streaming("/recorder.v1.RecordingService/GetRecording"));
    }
}
