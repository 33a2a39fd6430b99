//! The API by its nouns.

mod as_of;
mod asset;
mod bulk;
mod change;
mod folder;
mod former;
mod node;
mod plain;
mod search;
mod statements;
mod stored_file;
mod trash;
mod upload;
mod version;
