//! The HTTP edge by its routes.

mod assets;
mod graphql;
mod guard;
mod health;
mod socket;
mod stream;
