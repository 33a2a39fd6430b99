//! The explorer page: GraphiQL, with everything that it loads, from the binary itself.

use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{Server, error};

/// What the page may load: its own files, and the API.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    font-src 'self' data:; worker-src 'self' blob:; connect-src 'self' ws: wss:; frame-ancestors 'none'";

const PAGE: &str = include_str!("../../ui/explorer/dist/index.html");

/// Name, media type and gzip-compressed content. The page names them with a hash of their content.
const FILES: [(&str, &str, &[u8]); 4] = [
    ("app.js", "text/javascript; charset=utf-8", include_bytes!("../../ui/explorer/dist/app.js.gz")),
    ("app.css", "text/css; charset=utf-8", include_bytes!("../../ui/explorer/dist/app.css.gz")),
    ("worker.js", "text/javascript; charset=utf-8", include_bytes!("../../ui/explorer/dist/worker.js.gz")),
    ("LICENSES.txt", "text/plain; charset=utf-8", include_bytes!("../../ui/explorer/dist/LICENSES.txt.gz")),
];

/// The page.
pub fn explorer_page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::VARY, "Accept"),
    ];
    (StatusCode::OK, headers, PAGE).into_response()
}

/// `GET /explorer/{file}`: what the page loads.
pub async fn explorer_file(State(server): State<Server>, Path(name): Path<String>) -> Response {
    if !server.app().config().graphql.explorer {
        return error::no_route().await;
    }
    let Some((_, content_type, content)) = FILES.iter().find(|(file, ..)| *file == name) else {
        return error::no_route().await;
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_ENCODING, HeaderValue::from_static("gzip")),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (StatusCode::OK, headers, *content).into_response()
}
