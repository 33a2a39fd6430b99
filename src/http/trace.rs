//! Traces that began elsewhere (<https://www.w3.org/TR/trace-context/>).

use axum::http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// What says which trace a request belongs to.
const TRACE: &str = "traceparent";

/// Lets `span` be part of the trace that the headers tell of, if they do and traces are sent.
pub fn go_on(span: &Span, headers: &HeaderMap) {
    if headers.contains_key(TRACE) && !span.is_disabled() {
        // Only where no traces are sent there is nothing to set.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&HeaderExtractor(headers)));
    }
}
