//! Keyset paging: pages that stay in place when rows are inserted or removed around them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sea_orm::sea_query::{
    Alias, Asterisk, Expr, ExprTrait as _, Query, SelectStatement, SimpleExpr, UnionType, Value,
};
use sea_orm::{ConnectionTrait, EntityTrait, FromQueryResult as _, Order};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::{Error, Result};

/// Rows on a page when nobody says how many.
pub const DEFAULT_PAGE: usize = 50;
/// Most rows on a page.
pub const MAX_PAGE: usize = 200;

/// Which way a connection is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

impl Direction {
    /// The other way.
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::Ascending => Self::Descending,
            Self::Descending => Self::Ascending,
        }
    }
}

/// Which end of the rows a page is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Side {
    First,
    Last,
}

/// The four arguments of a connection, as they came.
#[derive(Debug, Clone, Default)]
pub struct PageArgs {
    /// How many from the start.
    pub first: Option<i32>,
    /// Start behind this one.
    pub after: Option<String>,
    /// How many from the end.
    pub last: Option<i32>,
    /// End ahead of this one.
    pub before: Option<String>,
}

/// A place in a sorted list: the row's sort key, and its id where keys repeat.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Value of the sort key.
    pub key: SortKey,
    /// Id of the row.
    pub id: Uuid,
}

/// Value that rows are sorted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SortKey {
    /// Numbers and instants.
    Int(i64),
    /// Names.
    Text(String),
}

/// The order whose keys are texts; those of all others are numbers.
pub const BY_NAME: &str = "NAME";

impl SortKey {
    /// Whether it is a key of this order: a cursor may be made up.
    fn fits(&self, order: &str) -> bool {
        match self {
            Self::Int(_) => order != BY_NAME,
            Self::Text(text) => order == BY_NAME && !text.contains('\0'),
        }
    }
}

/// A page to fetch, checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Page {
    side: Side,
    limit: usize,
    after: Option<Position>,
    before: Option<Position>,
}

/// Rows of one page, in the order of the connection.
#[derive(Debug, Clone)]
pub struct Slice<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Whether there are more behind.
    pub has_next_page: bool,
    /// Whether there are more ahead.
    pub has_previous_page: bool,
}

impl<T> Default for Slice<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), has_next_page: false, has_previous_page: false }
    }
}

impl Page {
    /// Checks the arguments of a connection that is sorted by `order` (a word that cursors carry, so that one
    /// of another order is refused).
    ///
    /// # Errors
    /// `BAD_USER_INPUT` for counts out of range, `first` with `last`, and cursors that are not of this order.
    pub fn new(args: &PageArgs, order: &str) -> Result<Self> {
        let (side, count, field) = match (args.first, args.last) {
            (Some(_), Some(_)) => {
                return Err(Error::bad_input("last", "cannot be given together with first"));
            }
            (None, Some(last)) => (Side::Last, Some(last), "last"),
            (first, None) => (Side::First, first, "first"),
        };
        let limit = count.map_or(Ok(DEFAULT_PAGE), |count| limit(count, field))?;
        let cursor =
            |text: &Option<String>, field| text.as_deref().map(|text| decode(text, order, field)).transpose();
        Ok(Self {
            side,
            limit,
            after: cursor(&args.after, "after")?,
            before: cursor(&args.before, "before")?,
        })
    }

    /// The places that it starts behind and ends ahead of.
    #[must_use]
    pub const fn bounds(&self) -> (Option<&Position>, Option<&Position>) {
        (self.after.as_ref(), self.before.as_ref())
    }

    /// How many rows to fetch: one more than the page holds, to know whether there are more.
    #[must_use]
    pub const fn fetch(&self) -> usize {
        self.limit + 1
    }

    /// The direction to fetch in, for a connection sorted in `direction`.
    #[must_use]
    pub const fn fetch_direction(&self, direction: Direction) -> Direction {
        match self.side {
            Side::First => direction,
            Side::Last => direction.reversed(),
        }
    }

    /// The page out of all rows, which are sorted ascending by their positions.
    #[must_use]
    pub fn of_sorted<T>(&self, rows: Vec<T>, position: impl Fn(&T) -> Position) -> Slice<T> {
        let place = |position: &Position| (position.key.clone(), position.id);
        let (after, before) = (self.after.as_ref().map(place), self.before.as_ref().map(place));
        let inside = |row: &T| {
            let at = place(&position(row));
            after.as_ref().is_none_or(|after| at > *after)
                && before.as_ref().is_none_or(|before| at < *before)
        };
        let mut rows: Vec<T> = rows.into_iter().filter(inside).collect();
        if self.side == Side::Last {
            rows.reverse();
        }
        rows.truncate(self.fetch());
        self.slice(rows)
    }

    /// Makes the page of what was fetched in [`Page::fetch_direction`].
    #[must_use]
    pub fn slice<T>(&self, mut fetched: Vec<T>) -> Slice<T> {
        let more = fetched.len() > self.limit;
        fetched.truncate(self.limit);
        match self.side {
            Side::First => {
                Slice { rows: fetched, has_next_page: more, has_previous_page: self.after.is_some() }
            }
            Side::Last => {
                fetched.reverse();
                Slice { rows: fetched, has_next_page: self.before.is_some(), has_previous_page: more }
            }
        }
    }
}

impl Position {
    /// The opaque text that stands for it in a connection sorted by `order`.
    #[must_use]
    pub fn cursor(&self, order: &str) -> String {
        let json = serde_json::to_vec(&(order, &self.key, self.id)).expect("text and numbers are JSON");
        URL_SAFE_NO_PAD.encode(json)
    }
}

/// What one page chooses its rows from.
pub(super) struct Source {
    /// The rows, without an order.
    pub rows: SelectStatement,
    /// Which of them.
    pub page: Page,
    /// The sort key; ties are broken by the column `id`.
    pub key: SimpleExpr,
    /// Which way they are sorted.
    pub direction: Direction,
}

/// Fetches several pages by one statement; rows come in [`Page::fetch_direction`]. `position` tells where a
/// row stands in the order of its page.
///
/// # Errors
/// What the database says.
pub(super) async fn fetch<E: EntityTrait>(
    conn: &impl ConnectionTrait,
    sources: Vec<Source>,
    position: impl Fn(usize, &E::Model) -> Position,
) -> Result<Vec<Vec<E::Model>>> {
    let directions: Vec<_> =
        sources.iter().map(|source| source.page.fetch_direction(source.direction)).collect();
    let mut found: Vec<Vec<E::Model>> = directions.iter().map(|_| Vec::new()).collect();
    let mut selects = sources.into_iter().enumerate().map(|(index, source)| one_page(index, source));
    let Some(mut all) = selects.next() else {
        return Ok(found);
    };
    for select in selects {
        all.union(UnionType::All, select);
    }
    for row in conn.query_all(&all).await? {
        let index: i32 = row.try_get("", PAGE_INDEX)?;
        if let Some(page) = usize::try_from(index).ok().and_then(|index| found.get_mut(index)) {
            page.push(E::Model::from_query_result(&row, "")?);
        }
    }
    // The parts of a compound SELECT come in no promised order.
    for (index, (rows, direction)) in found.iter_mut().zip(directions).enumerate() {
        rows.sort_by_cached_key(|row| {
            let position = position(index, row);
            (position.key, position.id)
        });
        if direction == Direction::Descending {
            rows.reverse();
        }
    }
    Ok(found)
}

/// Which of several pages a row belongs to.
const PAGE_INDEX: &str = "page_index";

fn one_page(index: usize, source: Source) -> SelectStatement {
    let Source { mut rows, page, key, direction } = source;
    let id = || Expr::col(Alias::new("id"));
    // A row comparison, since an index can seek to it.
    let place = || Expr::tuple([key.clone(), id()]);
    let value = |position: &Position| {
        let key: Value = match &position.key {
            SortKey::Int(number) => (*number).into(),
            SortKey::Text(text) => text.clone().into(),
        };
        Expr::tuple([Expr::value(key), Expr::value(position.id)])
    };
    let beyond = |position: &Position, direction| match direction {
        Direction::Ascending => place().gt(value(position)),
        Direction::Descending => place().lt(value(position)),
    };
    if let Some(after) = &page.after {
        rows.and_where(beyond(after, direction));
    }
    if let Some(before) = &page.before {
        rows.and_where(beyond(before, direction.reversed()));
    }
    let order = match page.fetch_direction(direction) {
        Direction::Ascending => Order::Asc,
        Direction::Descending => Order::Desc,
    };
    rows.order_by_expr(key.clone(), order.clone()).order_by_expr(id(), order).limit(page.fetch() as u64);
    // A compound SELECT takes LIMIT only inside a subquery.
    Query::select()
        .expr_as(Expr::value(i32::try_from(index).unwrap_or(i32::MAX)), Alias::new(PAGE_INDEX))
        .column(Asterisk)
        .from_subquery(rows, Alias::new("page"))
        .take()
}

/// Checks a count of rows.
///
/// # Errors
/// `BAD_USER_INPUT` naming `field` when it is negative or too large.
pub fn limit(count: i32, field: &str) -> Result<usize> {
    usize::try_from(count)
        .ok()
        .filter(|count| *count <= MAX_PAGE)
        .ok_or_else(|| Error::bad_input(field, format!("must be 0 to {MAX_PAGE}, not {count}")))
}

fn decode(text: &str, order: &str, field: &str) -> Result<Position> {
    let bytes = URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    match serde_json::from_slice::<(String, SortKey, Uuid)>(&bytes) {
        Ok((made_for, key, id)) if made_for == order && key.fits(order) => Ok(Position { key, id }),
        Ok((made_for, ..)) if made_for != order => {
            Err(Error::bad_input(field, format!("is a cursor of the order {made_for}, not {order}")))
        }
        _ => Err(Error::bad_input(field, "is not a cursor of this connection")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_as_they_went_and_garbage_is_refused() {
        let position = Position { key: SortKey::Text("a/é".into()), id: Uuid::from_u128(7) };
        let cursor = position.cursor("NAME");
        assert_eq!(decode(&cursor, "NAME", "after").expect("own cursor"), position);
        let made_up = Position { key: SortKey::Int(5), id: Uuid::from_u128(7) }.cursor("NAME");
        assert_eq!(decode(&made_up, "NAME", "after").expect_err("made up").code(), "BAD_USER_INPUT");
        for text in [cursor.as_str(), "", "x", "AAAA"] {
            let error = decode(text, "CREATED_AT", "after").expect_err(text);
            assert_eq!(error.code(), "BAD_USER_INPUT");
        }
    }

    #[test]
    fn counts_out_of_range_are_refused_by_name() {
        for (first, last, field) in
            [(Some(-1), None, "first"), (Some(201), None, "first"), (None, Some(-3), "last")]
        {
            let error = Page::new(&PageArgs { first, last, ..PageArgs::default() }, "NAME").expect_err(field);
            assert!(error.to_string().starts_with(field), "{error}");
        }
        assert!(
            Page::new(&PageArgs { first: Some(1), last: Some(1), ..PageArgs::default() }, "NAME").is_err()
        );
    }

    #[test]
    fn the_last_rows_come_in_the_order_of_the_connection() {
        let page = Page::new(&PageArgs { last: Some(2), ..PageArgs::default() }, "NAME").expect("page");
        let slice = page.slice(vec![5, 4, 3]);
        assert_eq!((slice.rows, slice.has_previous_page, slice.has_next_page), (vec![4, 5], true, false));
    }
}
