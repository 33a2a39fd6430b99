//! The HTTP edge by its routes.

mod assets;
mod graphql;
mod health;
mod socket;
mod stream;
