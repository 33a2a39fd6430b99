//! Pages of the changelog, read from the table.

use entity::{AssetId, FolderId, change, change_folder, changelog_head};
use sea_orm::sea_query::{Alias, Asterisk, Query, SelectStatement, UnionType};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait, FromQueryResult as _, Order, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, QueryTrait as _,
};

use super::Filter;
use entity::change::ChangeType;

/// Entries that one page looks at when no index leads to those that are wanted.
const SCAN_WINDOW: i64 = 20_000;

/// A page of entries in order.
#[derive(Debug, Clone)]
pub struct Page {
    /// The entries that were wanted.
    pub entries: Vec<change::Model>,
    /// All up to this one was looked at.
    pub next_seq: i64,
    /// Whether there may be more behind it.
    pub more: bool,
}

/// The entries behind `after` that `filter` wants, oldest first, `limit` at most. It looks at a bounded part
/// of the log: a page may be empty although there are more.
///
/// # Errors
/// What the database says.
pub async fn page(
    conn: &impl ConnectionTrait,
    after: i64,
    filter: &Filter,
    limit: usize,
) -> Result<Page, DbErr> {
    // The head first: what is committed while the page is read belongs to the next one.
    let head = head(conn).await?.last_seq;
    let end = if filter.is_indexed() { head } else { head.min(after.saturating_add(SCAN_WINDOW)) };
    let mut entries = change::Entity::find()
        .filter(change::Column::Seq.gt(after))
        .filter(change::Column::Seq.lte(end))
        .filter(filter.condition())
        .order_by_asc(change::Column::Seq)
        .limit(limit as u64 + 1)
        .all(conn)
        .await?;
    let full = entries.len() > limit;
    entries.truncate(limit);
    let next_seq = match entries.last() {
        Some(last) if full => last.seq,
        _ if full => after,
        _ => end.max(after),
    };
    Ok(Page { entries, next_seq, more: full || end < head })
}

/// The row that counts the entries.
///
/// # Errors
/// What the database says.
pub async fn head(conn: &impl ConnectionTrait) -> Result<changelog_head::Model, DbErr> {
    let row = changelog_head::Entity::find_by_id(1).one(conn).await?;
    row.ok_or_else(|| DbErr::RecordNotFound("the head of the changelog".to_owned()))
}

/// An index that leads to the entries of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Index {
    /// Of this asset.
    Asset(AssetId),
    /// Of this folder, or also of those below it.
    Folder {
        /// Which.
        id: FolderId,
        /// Also below it.
        recursive: bool,
    },
}

/// A page of the entries of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IndexPage {
    /// Whose.
    pub index: Index,
    /// Behind this one.
    pub after: i64,
    /// Only these.
    pub kinds: Option<Vec<ChangeType>>,
    /// How many.
    pub limit: usize,
}

/// Several such pages by one statement; the entries of each come in order.
///
/// # Errors
/// What the database says.
pub async fn by_index(
    conn: &impl ConnectionTrait,
    pages: &[IndexPage],
) -> Result<Vec<Vec<change::Model>>, DbErr> {
    let mut found = vec![Vec::new(); pages.len()];
    let mut selects = pages.iter().enumerate().map(|(position, page)| select(position, page));
    let Some(mut all) = selects.next() else {
        return Ok(found);
    };
    for select in selects {
        all.union(UnionType::All, select);
    }
    for row in conn.query_all(&all).await? {
        let position: i32 = row.try_get("", "position")?;
        let entry = change::Model::from_query_result(&row, "")?;
        if let Some(page) = usize::try_from(position).ok().and_then(|position| found.get_mut(position)) {
            page.push(entry);
        }
    }
    for entries in &mut found {
        entries.sort_unstable_by_key(|entry| entry.seq);
    }
    Ok(found)
}

fn select(position: usize, page: &IndexPage) -> SelectStatement {
    let mut inner = change::Entity::find().filter(change::Column::Seq.gt(page.after));
    if let Some(kinds) = &page.kinds {
        inner = inner.filter(change::Column::Kind.is_in(kinds.iter().copied()));
    }
    inner = match page.index {
        Index::Asset(id) => inner.filter(change::Column::AssetId.eq(id)),
        Index::Folder { id, recursive: true } if id == FolderId::ROOT => inner,
        Index::Folder { id, recursive } => {
            let mut places = Query::select();
            places
                .column(change_folder::Column::Seq)
                .from(change_folder::Entity)
                .and_where(change_folder::Column::FolderId.eq(id))
                .and_where(change_folder::Column::Seq.gt(page.after));
            if !recursive {
                places.and_where(change_folder::Column::Direct.eq(true));
            }
            inner.filter(change::Column::Seq.in_subquery(places.take()))
        }
    };
    let inner = inner.order_by(change::Column::Seq, Order::Asc).limit(page.limit as u64);
    // A compound SELECT takes LIMIT only inside a subquery.
    Query::select()
        .expr_as(
            sea_orm::sea_query::Expr::value(i32::try_from(position).unwrap_or(i32::MAX)),
            Alias::new("position"),
        )
        .column(Asterisk)
        .from_subquery(inner.into_query(), Alias::new("page"))
        .take()
}
