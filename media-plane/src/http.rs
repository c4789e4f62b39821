//! The node's HTTP listener: files of the embedded library, with range requests and the content types players expect.

use std::path::Path;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use tower_http::cors::{Any, CorsLayer};
use tower_http::services::ServeDir;

/// Content types of what the node writes; the web server's own table calls `.ts` something else.
const CONTENT_TYPES: &[(&str, &str)] = &[
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("ts", "video/mp2t"),
    ("m4s", "video/iso.segment"),
    ("mp4", "video/mp4"),
    ("flv", "video/x-flv"),
    ("aac", "audio/aac"),
    ("json", "application/json"),
];

/// Routes: `GET /library/{object key}`.
pub fn routes(library: &Path) -> Router {
    let files = ServeDir::new(library).append_index_html_on_directories(false);
    // Browser players on other origins read playlists and segments, some of them by range.
    let cors = CorsLayer::new().allow_origin(Any).allow_methods(Any).allow_headers([header::RANGE]);
    Router::new().nest_service("/library", files).layer(from_fn(present)).layer(cors)
}

async fn present(request: Request, next: Next) -> Response {
    let path = decoded(request.uri().path());
    // Staged uploads live in hidden folders until they are whole.
    if path.split('/').any(|segment| segment.starts_with('.')) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let mut response = next.run(request).await;
    if !response.status().is_success() && response.status() != StatusCode::NOT_MODIFIED {
        // A file that is announced is not there yet; a player that asked too early must ask again.
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        return response;
    }
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    if let Some((_, kind)) = CONTENT_TYPES.iter().find(|(known, _)| *known == extension) {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    let cache = if extension == "m3u8" { "no-store" } else { "public, max-age=3600" };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    response
}

/// The path as the file service reads it: with every `%XX` decoded.
pub(crate) fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escape = tail.first_chunk::<2>().filter(|_| *first == b'%');
        let byte = escape.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| {
            digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u8::from_str_radix(digits, 16).ok())?
        });
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use tower::ServiceExt;

    async fn get(root: &Path, path: &str, range: Option<&str>) -> Response {
        let mut request = Request::builder().uri(path);
        if let Some(range) = range {
            request = request.header(header::RANGE, range);
        }
        routes(root).oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn ranges_types_and_hidden_files() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("live/.staging")).unwrap();
        std::fs::write(root.path().join("live/0.ts"), b"0123456789").unwrap();
        std::fs::write(root.path().join("live/.staging/1.ts"), b"secret").unwrap();
        let part = get(root.path(), "/library/live/0.ts", Some("bytes=2-4")).await;
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(part.headers()[header::CONTENT_TYPE], "video/mp2t");
        let body = axum::body::to_bytes(part.into_body(), 100).await.unwrap();
        assert_eq!(&body[..], b"234");
        let escaped =
            ["/library/live/%2estaging/1.ts", "/library/live%2F.staging/1.ts", "/library/live%2f%2Estaging%2f1.ts"];
        for hidden in
            ["/library/live/.staging/1.ts", "/library/../secret", "/library/%2e%2e/secret"].iter().chain(&escaped)
        {
            assert_eq!(get(root.path(), hidden, None).await.status(), StatusCode::NOT_FOUND, "{hidden}");
        }
    }

    /// Regression: a player that asked for a file before it was there was told to remember for an hour that it is not.
    #[tokio::test]
    async fn a_missing_file_is_not_cached() {
        let root = tempfile::tempdir().unwrap();
        let missing = get(root.path(), "/library/live/0.mp4", None).await;
        assert_eq!(missing.status(), StatusCode::NOT_FOUND);
        assert_eq!(missing.headers()[header::CACHE_CONTROL], "no-store");
    }
}
