//! Drives the real server through its public API: a real database, a real folder, real sockets.

mod access;
mod cli;
mod crash;
mod database;
mod disk;
mod feed;
mod graphql;
mod http;
mod jwt;
mod model;
mod schema;
mod secrets;
mod servers;
mod storage;
mod story;
mod support;
mod tidy;
mod tokens;
mod traces;
