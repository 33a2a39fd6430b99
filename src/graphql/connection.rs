//! Relay connections (<https://relay.dev/graphql/connections.htm>) on keyset cursors.

use async_graphql::{OutputType, SimpleObject};

use super::context::Result;
use crate::domain::page::{PageArgs, Slice};

/// Where a page stands among all that there is.
#[derive(SimpleObject, Debug, Clone)]
pub struct PageInfo {
    /// Whether there is more behind this page.
    pub has_next_page: bool,
    /// Whether there is more ahead of this page.
    pub has_previous_page: bool,
    /// Cursor of the first edge; null on an empty page.
    pub start_cursor: Option<String>,
    /// Cursor of the last edge; null on an empty page.
    pub end_cursor: Option<String>,
}

/// What stands in a connection.
pub trait Entry: OutputType + Clone {
    /// What decides where it stands.
    type Order: Copy + Send + Sync;

    /// The cursor of this one.
    fn cursor(&self, order: Self::Order) -> String;
}

/// One page of a connection.
pub struct Connection<N: Entry> {
    slice: Slice<N>,
    order: N::Order,
}

impl<N: Entry> Connection<N> {
    /// A page of rows that are sorted by `order`.
    pub fn new<R>(slice: Slice<R>, order: N::Order, wrap: impl FnMut(R) -> N) -> Self {
        let rows = slice.rows.into_iter().map(wrap).collect();
        let Slice { has_next_page, has_previous_page, .. } = slice;
        Self { slice: Slice { rows, has_next_page, has_previous_page }, order }
    }

    /// The things on the page.
    pub fn nodes(&self) -> Vec<N> {
        self.slice.rows.clone()
    }

    /// The things on the page with their cursors.
    pub fn edges(&self) -> impl Iterator<Item = (String, N)> {
        self.slice.rows.iter().map(|node| (node.cursor(self.order), node.clone()))
    }

    /// Where the page stands.
    pub fn page_info(&self) -> PageInfo {
        let cursor = |node: Option<&N>| node.map(|node| node.cursor(self.order));
        PageInfo {
            has_next_page: self.slice.has_next_page,
            has_previous_page: self.slice.has_previous_page,
            start_cursor: cursor(self.slice.rows.first()),
            end_cursor: cursor(self.slice.rows.last()),
        }
    }
}

/// How a connection knows its total.
#[derive(Debug, Clone)]
pub enum Total<K> {
    /// By counting what the key names, when asked for.
    Counted(K),
    /// It came with the page.
    Known(i64),
}

impl<K> From<K> for Total<K> {
    fn from(key: K) -> Self {
        Self::Counted(key)
    }
}

/// Gathers the arguments of a connection.
#[must_use]
pub const fn page_args(
    first: Option<i32>,
    after: Option<String>,
    last: Option<i32>,
    before: Option<String>,
) -> PageArgs {
    PageArgs { first, after, last, before }
}

/// A total as GraphQL's `Int`.
///
/// # Errors
/// When there are more than it can say.
pub fn total(count: Option<i64>) -> Result<i32> {
    Ok(i32::try_from(count.unwrap_or(0))?)
}

/// Declares the connection and edge types of a node. `$key` is what [`super::loaders`] counts by.
macro_rules! connection {
    ($name:ident, $edge:ident, $node:ident, $key:ty, $what:literal) => {
        #[doc = concat!("A page of ", $what, ".")]
        pub struct $name {
            page: $crate::graphql::connection::Connection<$node>,
            count: $crate::graphql::connection::Total<$key>,
        }

        impl $name {
            /// A page, and what to count for the total.
            pub fn new(
                page: $crate::graphql::connection::Connection<$node>,
                count: impl Into<$crate::graphql::connection::Total<$key>>,
            ) -> Self {
                Self { page, count: count.into() }
            }
        }

        #[doc = concat!("A page of ", $what, ".")]
        #[async_graphql::Object]
        impl $name {
            /// The things on this page with their cursors.
            async fn edges(&self) -> $crate::graphql::list::List<$edge> {
                self.page.edges().map(|(cursor, node)| $edge { cursor, node }).collect()
            }

            /// The things on this page.
            async fn nodes(&self) -> $crate::graphql::plain::Nodes<$node> {
                $crate::graphql::plain::Nodes(self.page.nodes())
            }

            /// Where this page stands.
            async fn page_info(&self) -> $crate::graphql::connection::PageInfo {
                self.page.page_info()
            }

            /// How many there are on all pages; counted only when asked for.
            async fn total_count(
                &self,
                ctx: &async_graphql::Context<'_>,
            ) -> $crate::graphql::context::Result<i32> {
                use $crate::graphql::context::ContextExt as _;
                let count = match &self.count {
                    $crate::graphql::connection::Total::Counted(key) => {
                        ctx.loaders().count(key.clone()).await?
                    }
                    $crate::graphql::connection::Total::Known(count) => Some(*count),
                };
                $crate::graphql::connection::total(count)
            }
        }

        #[doc = concat!("One of ", $what, ", with its place in the connection.")]
        #[derive(async_graphql::SimpleObject)]
        pub struct $edge {
            /// Continue behind or ahead of this one with it.
            cursor: String,
            /// The thing itself.
            node: $node,
        }
    };
}

pub(super) use connection;
