//! The HTTP edge by its routes.

mod assets;
mod connection;
mod edge;
mod graphql;
mod guard;
mod health;
mod hold;
mod socket;
mod stream;
mod unread;
