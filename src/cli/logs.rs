//! Where what the program tells of itself goes: logs to standard error, traces to an OpenTelemetry collector.

use std::collections::HashMap;
use std::fmt;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt as text, registry};

use crate::config::{Config, LogFormat, Traces};

/// Who would log whole messages, in which tokens may be.
const QUIET: &str = "tungstenite=info,tokio_tungstenite=info,h2=info";
/// How long a collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer of it that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Sends traces while it is kept; those that wait are sent when it is dropped.
pub struct Sending(SdkTracerProvider);

impl Drop for Sending {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// Starts to log: readable text, or an object a line.
pub fn start(config: &Config) {
    registry().with(logs(config)).init();
}

/// The same, and sends traces where the settings have it.
///
/// # Errors
/// When the collector cannot be talked to, whatever it would say.
pub fn start_with_traces(config: &Config) -> anyhow::Result<Option<Sending>> {
    let Some(traces) = &config.traces else {
        start(config);
        return Ok(None);
    };
    let provider = provider(traces).context("cannot send traces")?;
    // Our own spans, and of what is logged in them what may go into any log.
    let ours = |about: &Metadata<'_>| {
        about.target().starts_with("vellum") && (about.is_span() || *about.level() <= Level::INFO)
    };
    let sent = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("vellum"))
        .with_location(false)
        .with_threads(false);
    let sent = sent.with_filter(filter_fn(ours).with_max_level_hint(LevelFilter::DEBUG));
    registry().with(sent).with(logs(config)).init();
    Ok(Some(Sending(provider)))
}

fn logs<S>(config: &Config) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let filter = EnvFilter::new(format!("sea_orm_migration=warn,{},{QUIET}", config.log));
    let logs = text::layer().with_writer(std::io::stderr).with_target(false);
    let logs = match config.log_format {
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => logs.json().boxed(),
    };
    logs.with_filter(filter)
}

fn provider(traces: &Traces) -> anyhow::Result<SdkTracerProvider> {
    let headers: HashMap<String, String> =
        traces.headers.iter().map(|(name, value)| (name.clone(), value.reveal().to_owned())).collect();
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Collector::new()?)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(traces.endpoint.as_str())
        .with_headers(headers)
        .build()?;
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(traces.share)));
    let resource = Resource::builder().with_service_name("vellum");
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_sampler(sampler);
    Ok(provider.with_resource(resource.build()).build())
}

/// The way to a collector. It is used on a thread of its own, where nothing else runs.
struct Collector {
    runtime: Runtime,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Whether it did not take what it was sent last.
    fails: AtomicBool,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

impl Collector {
    fn new() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let connector = HttpsConnectorBuilder::new();
        let connector = connector.with_native_roots()?.https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { runtime, client, fails: AtomicBool::new(false) })
    }

    /// Logs when it begins and when it ends that traces are lost.
    fn note(&self, answer: &Result<Response<Bytes>, HttpError>) {
        let problem = match answer {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(response.status().to_string()),
            Err(error) => Some(error.to_string()),
        };
        match (problem, &self.fails) {
            (Some(problem), fails) if !fails.swap(true, Ordering::Relaxed) => {
                tracing::warn!(problem, "the collector does not take traces; they are lost");
            }
            (None, fails) if fails.swap(false, Ordering::Relaxed) => {
                tracing::info!("the collector takes traces again");
            }
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sending = async {
            let (parts, body) = self.client.request(request.map(Full::new)).await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
            Ok(Response::from_parts(parts, body))
        };
        let answer = self.runtime.block_on(async { timeout(PATIENCE, sending).await? });
        self.note(&answer);
        answer
    }
}
