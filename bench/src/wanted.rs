//! What the figures should be at most (publishing: at least), on SQLite with 100,000 assets of three versions each.

/// One asset by path with its published version.
pub const ASSET: &str = "90 µs CPU";
/// A folder page of 50 assets with their published versions.
pub const PAGE: &str = "300 µs CPU, 4 SQL statements";
/// The 19 versions of an asset.
pub const VERSIONS: &str = "200 µs CPU";
/// A search that finds 20 assets.
pub const SEARCH: &str = "5 ms";
/// A new published version of stored bytes, at 64 connections.
pub const PUBLISH: &str = "at least 4,000 a second";
/// A file of 20 KB from the local folder.
pub const SMALL_FILE: &str = "25 µs CPU";
/// One of 64 MiB.
pub const LARGE_FILE: &str = "16 ms CPU";
/// A file of 1 GiB that is sent to the local folder.
pub const UPLOAD: &str = "85 % of one thread; 64 MiB more";
/// A file of 5 GiB that comes in parts.
pub const PARTS: &str = "64 MiB more";
/// Documents of up to 64 KB that would cost a naive server minutes.
pub const BOMBS: &str = "50 ms, 64 MiB";
/// Moving a folder with all assets below it.
pub const MOVE: &str = "250 ms, one entry";
/// Memory after a start.
pub const MEMORY: &str = "48 MiB";
/// First answer after a start on existing data.
pub const START: &str = "100 ms";
/// One asset, and a page, at 1,000,000 assets against 1,000.
pub const SCALE: &str = "1.3 ×";
/// Memory of an idle subscriber.
pub const SUBSCRIBER: &str = "24 KiB";
/// 5,000 subscribers with one document, two entries a second.
pub const FANOUT: &str = "15 µs CPU a delivery; the last subscriber p99 150 ms";
/// 1,000 subscribers, each with a filter of its own.
pub const FILTERS: &str = "40 µs CPU a delivery";
/// An entry that a filter drops.
pub const DROPPED: &str = "1 µs CPU";
/// One subscriber.
pub const LONE: &str = "p50 3 ms, p99 20 ms";
/// One subscriber that catches up with 100,000 entries.
pub const REPLAY: &str = "at least 150,000";
/// The same on PostgreSQL.
pub const PUBLISH_POSTGRES: &str = "at least 2,500 a second";
/// The same on PostgreSQL, half of the connections on a second server.
pub const PUBLISH_TWO: &str = "at least 2,000 a second";
/// One subscriber that reads nothing while 100,000 entries pass.
pub const SILENT: &str = "the same; bounded";
