//! The listener: files of the library by range, and playlists whose every entry is signed for as long as they are.
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::{DateTime, Utc};
use recorder_proto::Problem;
use serde::Deserialize;
use store::{Bucket, Kind, TargetKind, content_type_of_key};
use tokio::sync::Semaphore;
use tower::ServiceExt;
use tower_http::cors::{Any, CorsLayer};
use tower_http::services::ServeFile;

use super::sign::Signer;
use super::{left, open, place, said};
use crate::api::Api;
use crate::verify::{entries, rewritten, text};

/// Players at once.
pub const MAX_CONNECTIONS: usize = 1_000;

/// Playlists rewritten at once: each may be held whole in memory.
const PLAYLISTS: usize = 8;

#[derive(Clone)]
struct Server {
    api: Api,
    signer: Signer,
    playlists: Arc<Semaphore>,
}

#[derive(Deserialize)]
struct Signed {
    #[serde(default)]
    expires: String,
    #[serde(default)]
    signature: String,
}

/// Routes: `GET /playback/{storage}/{key}?expires=...&signature=...`.
pub fn routes(api: Api) -> Router {
    let signer = Signer::new(&api.tokens);
    let server = Server { api, signer, playlists: Arc::new(Semaphore::new(PLAYLISTS)) };
    // Browser players on other origins read playlists and segments, some of them by range.
    let cors = CorsLayer::new().allow_origin(Any).allow_methods(Any).allow_headers([header::RANGE]);
    Router::new().route("/playback/{storage}/{*key}", get(answer)).layer(cors).with_state(server)
}

async fn answer(
    State(server): State<Server>,
    Path((storage, key)): Path<(String, String)>,
    Query(signed): Query<Signed>,
    request: Request,
) -> Response {
    let shown = (signed.expires.as_str(), signed.signature.as_str());
    let until = match server.signer.check(&storage, &key, shown, server.api.now()) {
        Ok(until) => until,
        Err(refused) => return told(StatusCode::FORBIDDEN, &refused.to_string()),
    };
    match server.object(&storage, &key, until, request).await {
        Ok(response) => response,
        Err(problem) => {
            let status = match problem.code {
                tonic::Code::NotFound => StatusCode::NOT_FOUND,
                tonic::Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::BAD_GATEWAY,
            };
            // What a provider says is for operators.
            tracing::warn!(storage, key, %problem, "cannot be played");
            told(status, if status == StatusCode::NOT_FOUND { "there is no such object" } else { "try again later" })
        }
    }
}

impl Server {
    async fn object(
        &self,
        storage: &str,
        key: &str,
        until: DateTime<Utc>,
        request: Request,
    ) -> Result<Response, Problem> {
        let (api, id) = (self.api.clone(), storage.to_owned());
        let place = self.api.db.read(move |db| place(&api, db, &id)).await?;
        let place = place.ok_or_else(|| Problem::not_found("storage", storage))?;
        let file = (place.0.kind == TargetKind::FileSystem).then(|| place.0.root.join(&place.0.directory).join(key));
        let bucket = open(place).await?;
        // Also keeps to the library: what is no file of it has no head.
        let found = bucket.head(key).await.map_err(|error| said(&error))?;
        if found.is_none() {
            return Err(Problem::not_found("object", key));
        }
        match file {
            _ if key.ends_with(".m3u8") => self.playlist(bucket.as_ref(), storage, key, until).await,
            Some(file) => Ok(self.file(file, key, until, request).await),
            // Its own URL is the bucket's: nothing signs this one.
            None => Err(Problem::not_found("object", key)),
        }
    }

    async fn file(&self, file: PathBuf, key: &str, until: DateTime<Utc>, request: Request) -> Response {
        let served = ServeFile::new(file).oneshot(request).await;
        let mut response = served.map_or_else(|never| match never {}, IntoResponse::into_response);
        let seconds = left(until, self.api.now()).unwrap_or_default().as_secs().min(3_600);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type_of_key(key)));
        if let Ok(cache) = HeaderValue::from_str(&format!("private, max-age={seconds}")) {
            headers.insert(header::CACHE_CONTROL, cache);
        }
        response
    }

    async fn playlist(
        &self,
        bucket: &dyn Bucket,
        storage: &str,
        key: &str,
        until: DateTime<Utc>,
    ) -> Result<Response, Problem> {
        let _permit = self.playlists.acquire().await.map_err(|_| Problem::internal("no permits"))?;
        let bytes = text(bucket, key, &Default::default()).await?;
        let playlist = String::from_utf8_lossy(&bytes);
        let named = entries(key, &playlist).map_err(|error| Problem::internal(error.to_string()))?;
        let urls = self.signed(bucket, named, until).await?;
        let made = rewritten(key, &playlist, |entry, uri| match urls.get(entry) {
            Some(url) => Some(url.clone()),
            None => Some(format!("{uri}?{}", self.signer.query(storage, entry, until))),
        });
        let made = made.map_err(|error| Problem::internal(error.to_string()))?;
        let headers = [(header::CONTENT_TYPE, content_type_of_key(key)), (header::CACHE_CONTROL, "no-store")];
        Ok((headers, made).into_response())
    }

    /// The bucket's own URLs of these objects; empty where it has none.
    async fn signed(
        &self,
        bucket: &dyn Bucket,
        keys: Vec<String>,
        until: DateTime<Utc>,
    ) -> Result<HashMap<String, String>, Problem> {
        let mut urls = HashMap::new();
        if !bucket.capabilities().presigns {
            return Ok(urls);
        }
        let ttl = left(until, self.api.now()).ok_or_else(|| Problem::not_found("object", "it"))?;
        for key in keys {
            match bucket.presign(&key, ttl).await {
                Ok(url) => drop(urls.insert(key, url)),
                Err(error) if error.kind == Kind::Unsupported => return Ok(HashMap::new()),
                Err(error) => return Err(said(&error)),
            }
            // An RSA signature takes a millisecond.
            tokio::task::yield_now().await;
        }
        Ok(urls)
    }
}

fn told(status: StatusCode, words: &str) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], format!("{words}\n")).into_response()
}
