//! WHIP over HTTP (RFC 9725): `/whip/{app}/{stream}` takes offers, `/whip/~/{id}` is a session, `/publish` a page that
//! publishes. Nothing is remembered here; the rules are in the `whip` crate.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ::whip::limits::{MAX_FRAGMENT_BYTES, MAX_OFFER_BYTES};
use ::whip::{FRAGMENT, Opened, Reachable, Refused, Request as Offered, SDP, Sessions};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Query, Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use recorder_proto::names::StreamKey;
use recorder_proto::pb::v1::protocol;

use super::auth::{self, Credentials, Denied};
use super::{whip, whip_pictures};
use crate::http::decoded;
use crate::node::Node;

/// A body that has not come by then is not coming.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// After this a publisher that was turned away may come again, in seconds.
const RETRY_AFTER: u32 = 5;
/// Sessions are told from streams by a step that no app can have.
const SESSION: &str = "~";
const PAGE: &str = include_str!("publish.html");

/// What the routes need.
pub struct Whip {
    /// The node.
    pub node: Arc<Node>,
    /// Its sessions.
    pub sessions: Sessions,
    /// Where publishers send to.
    pub reachable: Reachable,
}

/// The routes; see the module.
pub fn routes(whip: Arc<Whip>) -> Router {
    Router::new().route("/whip/{*path}", any(handle)).route("/publish", any(page)).with_state(whip)
}

async fn page(method: Method) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return refuse(&not_allowed(), "GET, HEAD");
    }
    let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    (kind, PAGE).into_response()
}

async fn handle(State(whip): State<Arc<Whip>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().strip_prefix("/whip/").unwrap_or_default().to_owned();
    let mut response = match path.strip_prefix(SESSION).and_then(|rest| rest.strip_prefix('/')) {
        Some(id) => whip.session(&parts, body, id).await,
        None => whip.endpoint(&parts, body, &path).await,
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let exposed = HeaderValue::from_static("Location, ETag, Link, Accept-Post, Accept-Patch, Retry-After");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

impl Whip {
    async fn endpoint(&self, parts: &Parts, body: Body, path: &str) -> Response {
        const ALLOWED: &str = "POST, OPTIONS, GET, HEAD";
        let accepts = (HeaderName::from_static("accept-post"), HeaderValue::from_static(SDP));
        let mut response = match parts.method.clone() {
            Method::POST => match self.publish(parts, body, path).await {
                Ok(response) => return response,
                Err(refused) => refuse(&refused, ALLOWED),
            },
            Method::OPTIONS => preflight(ALLOWED),
            Method::GET | Method::HEAD => StatusCode::NO_CONTENT.into_response(),
            _ => refuse(&not_allowed(), ALLOWED),
        };
        response.headers_mut().extend([accepts]);
        response
    }

    /// An offer: names, then authentication, then admission, then the offer itself, so that little is done for strangers.
    async fn publish(&self, parts: &Parts, body: Body, path: &str) -> Result<Response, Refused> {
        let outcome = self.answer(parts, body, path).await;
        if let Err(refused) = &outcome {
            tracing::info!(path, status = refused.status, reason = %refused, "WHIP offer refused");
            metrics::counter!("recorder_publish_rejected_total", "protocol" => "whip", "reason" => refused.kind)
                .increment(1);
        }
        outcome
    }

    async fn answer(&self, parts: &Parts, body: Body, path: &str) -> Result<Response, Refused> {
        let target = Target::of(parts, path)?;
        self.authenticate(&target)?;
        self.node.admits().map_err(|reason| Refused::busy("admission", reason, RETRY_AFTER))?;
        let text = read(parts, body, MAX_OFFER_BYTES).await?;
        let mut reachable = self.reachable.clone();
        if target.is_local {
            reachable.add_loopback();
        }
        let name = target.stream.to_string();
        let Opened { session, offer, etag, answer } = self.sessions.open(Offered {
            content_type: text_of(&parts.headers, header::CONTENT_TYPE),
            body: &text,
            stream: &name,
            token: target.token.as_deref(),
            reachable: &reachable,
            wanted: &whip_pictures::wanted(self.node.link.directives(), &target.stream),
        })?;
        let location = format!("/whip/{SESSION}/{}", session.id());
        let video = offer.video.as_ref().map(|video| video.codec.name()).unwrap_or("none");
        let sound = offer.sound.is_some();
        // Whoever knows the id may end the session.
        let session_begin = session.id().get(..6).unwrap_or_default();
        tracing::info!(stream = %target.stream, session = session_begin, video, sound, "WHIP offer answered");
        tokio::spawn(whip::serve(Arc::clone(&self.node), target.stream, offer, session));
        let mut response = (StatusCode::CREATED, answer).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(SDP));
        headers.insert(HeaderName::from_static("accept-patch"), HeaderValue::from_static(FRAGMENT));
        let values = [(header::LOCATION, location), (header::ETAG, etag)].into_iter();
        let links = self.node.settings.whip.ice_servers.iter().filter_map(|server| link(server));
        for (name, value) in values.chain(links.map(|link| (header::LINK, link))) {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.append(name, value);
            }
        }
        Ok(response)
    }

    fn authenticate(&self, target: &Target) -> Result<(), Refused> {
        let policy = self.node.link.directives().domain(target.stream.domain());
        let (domain, stream, now) = (target.stream.domain(), target.stream.stream(), self.node.clock.now());
        let checked = auth::check(policy.as_ref(), domain, protocol::Kind::Whip, stream, target.credentials(), now);
        let checked = checked.and_then(|()| auth::check_block(policy.as_ref(), &target.stream, now));
        checked.map_err(|denied| {
            let status = match denied {
                Denied::UnknownDomain(_) => 404,
                Denied::Disabled(_) | Denied::Protocol(_) | Denied::Unavailable(_) | Denied::Blocked { .. } => 403,
                _ => 401,
            };
            Refused::new(status, "auth", denied.to_string())
        })
    }

    async fn session(&self, parts: &Parts, body: Body, id: &str) -> Response {
        const ALLOWED: &str = "PATCH, DELETE, OPTIONS, GET, HEAD";
        // A preflight carries no token.
        if parts.method == Method::OPTIONS {
            return preflight(ALLOWED);
        }
        let outcome = match self.sessions.check(id, bearer(&parts.headers)) {
            Err(refused) => Err(refused),
            Ok(()) => match parts.method.clone() {
                Method::PATCH => self.patch(parts, body, id).await,
                Method::DELETE => self.sessions.delete(id).await.map(|()| StatusCode::OK.into_response()),
                Method::GET | Method::HEAD => Ok(StatusCode::NO_CONTENT.into_response()),
                _ => Err(not_allowed()),
            },
        };
        outcome.unwrap_or_else(|refused| refuse(&refused, ALLOWED))
    }

    async fn patch(&self, parts: &Parts, body: Body, id: &str) -> Result<Response, Refused> {
        let text = read(parts, body, MAX_FRAGMENT_BYTES).await?;
        let content_type = text_of(&parts.headers, header::CONTENT_TYPE);
        let if_match = text_of(&parts.headers, header::IF_MATCH);
        let Some((etag, fragment)) = self.sessions.patch(id, content_type, if_match, &text).await? else {
            return Ok(StatusCode::NO_CONTENT.into_response());
        };
        let headers = [(header::CONTENT_TYPE, FRAGMENT.to_owned()), (header::ETAG, etag)];
        Ok((StatusCode::OK, headers, fragment).into_response())
    }
}

/// Who wants to publish what.
struct Target {
    stream: StreamKey,
    parameters: Vec<(String, String)>,
    token: Option<String>,
    /// The publisher is on this machine.
    is_local: bool,
}

impl Target {
    fn of(parts: &Parts, path: &str) -> Result<Self, Refused> {
        let (app, stream) = path
            .trim_end_matches('/')
            .rsplit_once('/')
            .ok_or_else(|| Refused::new(404, "name", "publish to /whip/{app}/{stream}"))?;
        let parameters = match Query::<Vec<(String, String)>>::try_from_uri(&parts.uri) {
            Ok(Query(parameters)) => parameters,
            Err(error) => return Err(Refused::malformed(format!("the query cannot be read: {error}"))),
        };
        let host = text_of(&parts.headers, header::HOST).or(parts.uri.host()).map(host_of).unwrap_or_default();
        let asked = ["domain", "vhost"].iter().find_map(|name| parameter(&parameters, name));
        let domain = asked.filter(|domain| !domain.is_empty()).unwrap_or(host);
        let stream = StreamKey::new(domain, &decoded(app), &decoded(stream))
            .map_err(|error| Refused::new(400, "name", error.to_string()))?;
        let is_local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        Ok(Self { stream, is_local, token: bearer(&parts.headers).map(str::to_owned), parameters })
    }

    /// From the query, as over RTMP, or from the bearer token: that is the stream key, or the signature in the form
    /// `txSecret=...&txTime=...`.
    fn credentials(&self) -> Credentials<'_> {
        let token = self.token.as_deref();
        let inside = |name: &str| {
            let mut pairs = token.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let find = |name: &str| parameter(&self.parameters, name).or_else(|| inside(name));
        Credentials {
            secret: find("txSecret"),
            time: find("txTime"),
            key: parameter(&self.parameters, "key").or(token),
        }
    }
}

fn parameter<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text_of(headers, header::AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The name of a `Host`, without its port.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default().trim_end_matches('.'),
    }
}

async fn read(parts: &Parts, body: Body, limit: usize) -> Result<String, Refused> {
    let too_large = || Refused::new(413, "size", format!("the body may have {limit} bytes"));
    let announced = text_of(&parts.headers, header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let late = |_| Refused::new(408, "slow", "the body did not come in time");
    let bytes = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, limit)).await.map_err(late)?;
    let bytes = bytes.map_err(|_| too_large())?;
    String::from_utf8(bytes.into()).map_err(|_| Refused::malformed("the body is not UTF-8"))
}

/// `stun:host:port` or `turn:host:port user password` as a Link header (RFC 9725, section 4.5).
fn link(server: &str) -> Option<String> {
    let mut words = server.split_whitespace();
    let url = words.next().filter(|url| !url.contains(['<', '>', '"']))?;
    let plain = format!("<{url}>; rel=\"ice-server\"");
    Some(match (words.next(), words.next()) {
        (Some(user), Some(password)) => {
            let clean = |text: &str| text.replace(['"', '\\'], "");
            let (user, password) = (clean(user), clean(password));
            format!("{plain}; username=\"{user}\"; credential=\"{password}\"; credential-type=\"password\"")
        }
        _ => plain,
    })
}

fn preflight(allowed: &'static str) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().extend([
        (header::ALLOW, HeaderValue::from_static(allowed)),
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(allowed)),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Authorization, Content-Type, If-Match")),
        (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400")),
    ]);
    response
}

fn not_allowed() -> Refused {
    Refused::new(405, "method", "this method is not for this resource")
}

fn refuse(refused: &Refused, allowed: &'static str) -> Response {
    let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    let mut response = (status, kind, refused.body()).into_response();
    let headers = response.headers_mut();
    match refused.status {
        405 => drop(headers.insert(header::ALLOW, HeaderValue::from_static(allowed))),
        401 => drop(headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        _ => {}
    }
    if let Some(seconds) = refused.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

#[cfg(test)]
#[path = "whip_http_tests.rs"]
mod tests;
