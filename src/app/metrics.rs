//! What the server counts, for those who look after it; rendered as OpenMetrics text.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of times, in seconds.
const TIMES: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];
/// Names of operations that are told apart: clients make them up.
const NAMES: usize = 200;

type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Times = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// Counters and gauges of a process.
pub struct Metrics {
    registry: Registry,
    requests: Counters<3>,
    request_times: Times,
    operations: Counters<3>,
    operation_times: Times,
    names: Mutex<HashSet<String>>,
    uploads: Counters<1>,
    removed: Counters<1>,
    rate_limited: Counter,
    gauges: Gauges,
}

/// What an operation is called; empty when it is not.
#[derive(Debug, Default, Clone, Copy)]
pub struct OperationName<'a> {
    /// As its document has it.
    pub name: &'a str,
    /// Whether it came from somebody who is not known: they could use up the names that are told apart.
    pub is_strangers: bool,
}

/// What is looked up when it is asked for.
#[derive(Default)]
struct Gauges {
    subscribers: Gauge,
    operations: Gauge,
    feed_head: Gauge,
    feed_lag: Gauge,
    connections: Family<Labels<2>, Gauge>,
    statements: Gauge,
}

/// What is looked up when it is asked for.
pub struct Readings {
    /// Connections of subscribers.
    pub subscribers: usize,
    /// Operations that run on WebSockets.
    pub operations: usize,
    /// The newest entry of the changelog, if the database answers.
    pub newest: Option<i64>,
    /// The newest entry that subscribers can be told of.
    pub head: i64,
    /// Pools of database connections: their name, how many there are, how many of those are idle.
    pub pools: Vec<(&'static str, u32, usize)>,
    /// SQL statements since the start.
    pub statements: u64,
}

fn times() -> Histogram {
    Histogram::new(TIMES)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("vellum"),
            requests: Family::default(),
            request_times: Family::new_with_constructor(times),
            operations: Family::default(),
            operation_times: Family::new_with_constructor(times),
            names: Mutex::default(),
            uploads: Family::default(),
            removed: Family::default(),
            rate_limited: Counter::default(),
            gauges: Gauges::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program", build);
        registry.register("http_requests", "Requests, by route, method and status", self.requests.clone());
        let about = "Time to the head of an answer, by route";
        registry.register_with_unit("http_request", about, Unit::Seconds, self.request_times.clone());
        let about = "GraphQL operations, by name, kind and outcome";
        registry.register("graphql_operations", about, self.operations.clone());
        let about = "Time of GraphQL queries and mutations, by kind";
        registry.register_with_unit("graphql_operation", about, Unit::Seconds, self.operation_times.clone());
        registry.register("uploads", "Uploads that ended, by how", self.uploads.clone());
        let about = "Bytes in storage that nothing needed, by whether they could be removed";
        registry.register("gc_objects", about, self.removed.clone());
        registry.register("rate_limited", "Requests that came too often", self.rate_limited.clone());
        let gauges = &self.gauges;
        registry.register("subscribers", "Connections of subscribers", gauges.subscribers.clone());
        let about = "Operations that run on WebSockets";
        registry.register("websocket_operations", about, gauges.operations.clone());
        let about = "The newest entry that subscribers are told of";
        registry.register("feed_head", about, gauges.feed_head.clone());
        let about = "Entries that are committed and that subscribers are not told of yet";
        registry.register("feed_lag_entries", about, gauges.feed_lag.clone());
        let about = "Database connections, by pool and state";
        registry.register("database_connections", about, gauges.connections.clone());
        let about = "SQL statements since the start";
        registry.register("database_statements", about, gauges.statements.clone());
    }

    /// Counts a request.
    pub fn request(&self, route: &str, method: &'static str, status: u16, took: Duration) {
        let route = ("route", Cow::Owned(route.to_owned()));
        let labels = [route.clone(), ("method", method.into()), ("status", status.to_string().into())];
        self.requests.get_or_create(&labels).inc();
        self.request_times.get_or_create(&[route]).observe(took.as_secs_f64());
    }

    /// Counts a GraphQL operation; a subscription when it begins. A stranger's is counted by a name that others made known.
    pub fn operation(
        &self,
        name: OperationName<'_>,
        kind: &'static str,
        outcome: &'static str,
        took: Option<Duration>,
    ) {
        let name = self.known(name);
        let kind = ("kind", kind.into());
        self.operations
            .get_or_create(&[("name", name.into()), kind.clone(), ("outcome", outcome.into())])
            .inc();
        if let Some(took) = took {
            self.operation_times.get_or_create(&[kind]).observe(took.as_secs_f64());
        }
    }

    /// A name as it is counted: the first ones that came by their own, all others together.
    fn known(&self, OperationName { name, is_strangers }: OperationName<'_>) -> String {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if name.is_empty() || names.contains(name) {
            return name.to_owned();
        }
        if is_strangers || names.len() >= NAMES || name.len() > 100 {
            return "(other)".to_owned();
        }
        names.insert(name.to_owned());
        name.to_owned()
    }

    /// Counts uploads that ended.
    pub fn uploads(&self, how: &'static str, count: usize) {
        self.uploads.get_or_create(&[("outcome", how.into())]).inc_by(count as u64);
    }

    /// Counts objects in storage that were to be removed.
    pub fn removed(&self, how: &'static str, count: usize) {
        self.removed.get_or_create(&[("outcome", how.into())]).inc_by(count as u64);
    }

    /// Counts a request that came too often.
    pub fn rate_limited(&self) {
        self.rate_limited.inc();
    }

    /// All of it, as text.
    #[must_use]
    pub fn render(&self, readings: &Readings) -> String {
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let gauges = &self.gauges;
        gauges.subscribers.set(whole(readings.subscribers));
        gauges.operations.set(whole(readings.operations));
        gauges.feed_head.set(readings.head);
        if let Some(newest) = readings.newest {
            gauges.feed_lag.set((newest - readings.head).max(0));
        }
        gauges.statements.set(i64::try_from(readings.statements).unwrap_or(i64::MAX));
        for (pool, all, idle) in &readings.pools {
            let set = |state: &'static str, count: i64| {
                let labels = [("pool", (*pool).into()), ("state", state.into())];
                gauges.connections.get_or_create(&labels).set(count);
            };
            set("idle", whole(*idle));
            set("busy", i64::from(*all) - whole(*idle));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a text takes all that is written");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_clients_make_up_do_not_fill_the_memory() {
        let metrics = Metrics::default();
        for number in 0..1000 {
            let name = format!("q{number}");
            metrics.operation(OperationName { name: &name, is_strangers: false }, "query", "ok", None);
        }
        assert_eq!(metrics.names.lock().expect("not poisoned").len(), NAMES);
        let known = |name, is_strangers| metrics.known(OperationName { name, is_strangers });
        assert_eq!((known("q0", false), known("q999", false)), ("q0".to_owned(), "(other)".to_owned()));
    }

    #[test]
    fn strangers_make_no_name_known() {
        let metrics = Metrics::default();
        let known = |is_strangers| metrics.known(OperationName { name: "Page", is_strangers });
        assert_eq!([true, false, true].map(known), ["(other)", "Page", "Page"]);
    }
}
