//! `/metrics`, for Prometheus: to who has a role, or on an address of its own to whoever reaches that.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::error::HttpError;
use super::limits::Resource;
use super::{Server, health};
use crate::app::Readings;
use crate::domain::actor::Role;

/// What OpenMetrics text is called (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /metrics`, with a token.
pub async fn known(State(server): State<Server>, headers: HeaderMap) -> Result<Response, HttpError> {
    server.auth().session(&headers).await?.actor.require(Role::Viewer)?;
    Ok(render(&server).await)
}

/// Routes for an address that only those reach who look after the server.
pub fn router(server: Server) -> Router {
    let metrics = |State(server): State<Server>| async move { render(&server).await };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .with_state(server)
}

async fn render(server: &Server) -> Response {
    let app = server.app();
    let limits = server.limits();
    let readings = Readings {
        subscribers: limits.in_use(Resource::Subscribers),
        operations: limits.in_use(Resource::Operations),
        newest: app.feed().bounds().await.ok().map(|(_, newest)| newest),
        head: app.feed().head(),
        pools: app.database().pools(),
        statements: app.database().statements(),
    };
    let headers = [(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")];
    (headers, app.metrics().render(&readings)).into_response()
}
