//! Vellum, a versioned asset server. The map of the crate, from what users touch to what keeps the rows:
//!
//! - [`cli`] parses arguments and runs a command; [`http`] and [`graphql`] are the other edges.
//! - [`domain`] is what the product does.
//! - [`app`] opens the library; [`feed`] is its changelog, [`blob`] its bytes, [`config`] its settings.

#![warn(missing_docs)]
// Dependencies that nothing uses are named; the program alone has an allocator.
#![cfg_attr(not(test), warn(unused_crate_dependencies))]
use mimalloc as _;

pub mod app;
pub mod blob;
pub mod cli;
pub mod config;
pub mod domain;
pub mod feed;
pub mod graphql;
pub mod http;
