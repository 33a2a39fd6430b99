//! Whether the process lives, and whether it can serve.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Server;
use crate::domain::storage;

/// The process lives, whatever else is away.
pub async fn live() -> &'static str {
    "ok\n"
}

/// The database and the store of bytes answer, and the server is not stopping.
pub async fn ready(State(server): State<Server>) -> Response {
    let app = server.app();
    let store = storage::check(app).await;
    let parts = [
        ("database", app.database().ping().await.map_err(|error| error.to_string()).err()),
        ("storage", store.err().map(|error| format!("{:?}", error.cause()))),
        ("server", (app.stopping().is_cancelled() || !app.takes_jobs()).then(|| "stopping".to_owned())),
    ];
    for (part, cause) in parts.iter().filter_map(|(part, cause)| Some((part, cause.as_ref()?))) {
        tracing::warn!(part, cause, "not ready");
    }
    let state = |part: &(&str, Option<String>)| if part.1.is_none() { "ok" } else { "unavailable" };
    let body =
        json!({ parts[0].0: state(&parts[0]), parts[1].0: state(&parts[1]), parts[2].0: state(&parts[2]) });
    let ready = parts.iter().all(|(_, cause)| cause.is_none());
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}
