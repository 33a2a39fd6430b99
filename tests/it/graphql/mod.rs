//! The API by its nouns.

mod asset;
mod change;
mod folder;
mod node;
mod statements;
mod upload;
mod version;
