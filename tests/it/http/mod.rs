//! The HTTP edge by its routes.

mod assets;
mod edge;
mod graphql;
mod guard;
mod health;
mod socket;
mod stream;
mod unread;
