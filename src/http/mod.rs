//! The HTTP edge: the routes and their layers. The only place that knows axum.

mod assets;
mod auth;
mod body;
mod bytes;
mod connections;
mod edge;
mod error;
mod graphql;
mod health;
mod limits;
mod lingering;
mod metrics;
mod operation;
mod pages;
mod params;
mod rest;
mod serve;
mod signed;
mod socket;
mod stream;
mod trace;
mod ui;
mod uploads;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware;
use axum::response::Redirect;
use axum::routing::{any, get, put};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, Any, CorsLayer};

use crate::app::{App, descriptors};
use crate::graphql::Graphql;
pub use auth::{Auth, token_path};
use connections::{Connection, Connections};
use edge::Edge;
use health::Ready;
use limits::{Concurrency, Exceeded, Limits};
use metrics::router as metrics_router;
use pages::Pages;
pub use serve::{serve, serve_metrics};

/// What handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    app: App,
    graphql: Graphql,
    auth: Auth,
    pages: Pages,
    edge: Edge,
    ready: Ready,
    limits: Limits,
    connections: Connections,
    concurrency: Concurrency,
}

impl Server {
    /// A server of a library.
    ///
    /// # Errors
    /// When the trusted documents cannot be read.
    pub fn new(app: App, auth: Auth) -> anyhow::Result<Self> {
        let graphql = Graphql::new(&app)?;
        let pages = Pages::new(app.config(), app.public_url());
        let edge = Edge::new(&app);
        let open_files = descriptors::raise().saturating_sub(descriptors::OWN).max(descriptors::OWN);
        let limits = Limits::new(app.config(), open_files);
        let connections = Connections::new(limits.clone());
        let concurrency = Concurrency::new(app.config());
        let ready = Ready::default();
        Ok(Self(Arc::new(Inner { app, graphql, auth, pages, edge, ready, limits, connections, concurrency })))
    }

    /// The library.
    #[must_use]
    pub fn app(&self) -> &App {
        &self.0.app
    }

    fn graphql(&self) -> &Graphql {
        &self.0.graphql
    }

    fn auth(&self) -> &Auth {
        &self.0.auth
    }

    fn edge(&self) -> &Edge {
        &self.0.edge
    }

    fn pages(&self) -> &Pages {
        &self.0.pages
    }

    fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Takes a connection from an address.
    fn open(&self, address: IpAddr) -> Result<Connection, Exceeded> {
        self.0.connections.open(address, self.edge().trusts(address))
    }

    fn concurrency(&self) -> &Concurrency {
        &self.0.concurrency
    }

    fn ready(&self) -> &Ready {
        &self.0.ready
    }
}

/// Every route of the server. Refusals of a method come before the layers, so that CORS answers its own.
fn router(server: Server) -> Router {
    let limit = middleware::from_fn_with_state(server.clone(), edge::limit);
    let bytes = Router::new()
        .route("/assets/{*path}", get(assets::stable).options(assets::preflight))
        .route("/v/{id}/{filename}", get(assets::version).options(assets::preflight))
        .route("/storage/{id}", get(assets::stored).options(assets::preflight))
        .method_not_allowed_fallback(assets::no_method)
        .layer(middleware::from_fn(assets::evenly))
        .layer(limit.clone())
        .layer(middleware::map_response(assets::readable));
    let uploads = Router::new()
        .route("/uploads/{id}", put(uploads::receive).post(uploads::receive))
        .route("/uploads/{id}/parts/{number}", put(uploads::receive_part))
        .method_not_allowed_fallback(error::no_method)
        .layer(DefaultBodyLimit::disable())
        .layer(limit.clone())
        .layer(signed_writes());
    let graphql = Router::new()
        .route("/graphql", any(graphql::endpoint))
        .layer(DefaultBodyLimit::disable())
        .layer(limit.clone())
        .layer(trusted_pages(&server));
    let others = Router::new()
        .route("/", get(|| async { Redirect::to("/graphql") }))
        .route("/explorer/{file}", get(ui::explorer_file))
        .route("/metrics", get(metrics::known))
        .method_not_allowed_fallback(error::no_method)
        .fallback(error::no_route)
        .layer(limit);
    // Asked for by those who look after the server: they are never too many.
    let health = Router::new().route("/healthz", get(health::live)).route("/readyz", get(health::ready));
    health
        .method_not_allowed_fallback(error::no_method)
        .merge(others)
        .merge(bytes)
        .merge(uploads)
        .merge(graphql)
        .layer(middleware::from_fn_with_state(server.clone(), pages::guard))
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(middleware::from_fn_with_state(server.clone(), edge::pass))
        .with_state(server)
}

/// Any page may send bytes to a signed URL that it was given: the signature is what counts.
fn signed_writes() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::PUT, Method::POST])
        .allow_headers(Any)
        .expose_headers([header::ETAG, header::RETRY_AFTER])
}

/// Pages of the configured origins may use the API with their users' tokens.
fn trusted_pages(server: &Server) -> CorsLayer {
    let server = server.clone();
    let trusted = move |origin: &HeaderValue, _: &axum::http::request::Parts| {
        origin.to_str().is_ok_and(|origin| server.pages().trusts_origin(origin))
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(trusted))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([header::RETRY_AFTER, HeaderName::from_static("x-request-id")])
        .max_age(Duration::from_secs(3600))
}
