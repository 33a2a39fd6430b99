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
/// Moving a folder with all assets below it.
pub const MOVE: &str = "250 ms, one entry";
/// Memory after a start.
pub const MEMORY: &str = "48 MiB";
/// First answer after a start on existing data.
pub const START: &str = "100 ms";
/// One asset, and a page, at 1,000,000 assets against 1,000.
pub const SCALE: &str = "1.3 ×";
