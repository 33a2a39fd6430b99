//! Finding assets by part of a text: what is indexed of them, and the condition that a search becomes.
//!
//! Texts are folded (NFKC, lower case) and cut into pieces of three characters, shorter at their end. A search is
//! folded alike; the index leads to the texts that have all its pieces, and only these are looked through. One or
//! two characters are looked up as the beginning of a piece. The pieces are letters and digits to the index (hex
//! of their UTF-8), so that every script and every sign can be searched alike on both databases.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use entity::{AssetId, DeletionId, FolderId, asset, asset_tag, asset_text, folder, folder_text, setting};
use sea_orm::sea_query::{
    Alias, BinOper, Expr, ExprTrait as _, Func, Query, SelectStatement, SimpleExpr, UnionType,
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DbBackend, EntityTrait as _,
    IntoSimpleExpr as _, JoinType, QueryFilter as _, QueryOrder as _, QuerySelect as _, QueryTrait as _,
    Statement, Value,
};
use unicode_normalization::UnicodeNormalization as _;
use uuid::Uuid;

use super::actor::Actor;
use super::commit;
use super::error::{Error, Result};
use crate::app::App;

/// Longest text that can be searched for, in characters.
const MAX_SEARCH: usize = 200;
/// Characters in a piece.
const PIECE: usize = 3;
/// Assets that are indexed in one commit, when a library is indexed for the first time.
const BATCH: u64 = 1000;
/// The setting that says that everything is indexed.
const SETTING: &str = "search_index";

/// Text as it is compared: compatible forms are one, and so are cases. Slashes stay what they are: a sign in a name
/// that is compatible with one does not become one.
#[must_use]
pub fn fold(text: &str) -> String {
    let segments: Vec<String> = text.split('/').map(fold_segment).collect();
    segments.join("/")
}

fn fold_segment(segment: &str) -> String {
    let lower: String = segment.nfkc().flat_map(char::to_lowercase).nfkc().collect();
    // What lower case alone keeps apart.
    lower.replace('ß', "ss").replace('ς', "σ").replace('/', "\u{2215}")
}

/// A text to search for, folded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Needle(String);

impl Needle {
    /// Reads what a user typed; none when it is blank.
    ///
    /// # Errors
    /// `BAD_USER_INPUT` when it is too long.
    pub fn parse(text: &str, field: &str) -> Result<Option<Self>> {
        let text = text.trim();
        if text.chars().nth(MAX_SEARCH).is_some() {
            return Err(Error::bad_input(field, format!("is longer than {MAX_SEARCH} characters")));
        }
        let folded = fold(text);
        if folded.contains('\0') {
            return Err(Error::bad_input(field, "must not have a NUL character"));
        }
        Ok(if folded.is_empty() { None } else { Some(Self(folded)) })
    }

    /// The condition, over `assets`, that the text is part of the name, path, title, alternative text or a tag.
    #[must_use]
    pub fn condition(&self, backend: DbBackend) -> SimpleExpr {
        let sql = Sql(backend);
        let own = asset::Column::Id.in_subquery(sql.assets(&self.0, Place::Within));
        let in_folders = |named| asset::Column::FolderId.in_subquery(at_or_below(named));
        let Some((folder, name)) = self.0.rsplit_once('/') else {
            return own.or(in_folders(sql.folders(&self.0, sql.has(folder_text::Column::Name, &self.0))));
        };
        // A path has it when the path of a folder has it, and so have all below that folder; or when it lies
        // across the last slash.
        let ends_in = Sql::ends(folder_text::Column::Path, folder);
        let in_root = asset::Column::FolderId.eq(FolderId::ROOT);
        let last = folder.rsplit('/').next().unwrap_or_default();
        if name.is_empty() {
            return own.or(in_folders(sql.folders(last, ends_in)));
        }
        let begun =
            Sql::begins(folder_text::Column::Name, name).and(sql.has(folder_text::Column::Path, &self.0));
        let named = asset::Column::Id.in_subquery(sql.assets(name, Place::AtStart));
        // In any folder but the root, which has no slash.
        let across = if folder.is_empty() {
            named.and(in_root.not())
        } else {
            named.and(asset::Column::FolderId.in_subquery(sql.folders(last, ends_in)))
        };
        own.or(in_folders(sql.folders(name, begun))).or(across)
    }
}

/// Where in a text something is looked for.
#[derive(Clone, Copy)]
enum Place {
    Within,
    AtStart,
}

/// What the databases spell differently.
#[derive(Clone, Copy)]
struct Sql(DbBackend);

impl Sql {
    /// Ids of the assets whose own text has `part`. The name stands first in it.
    fn assets(self, part: &str, place: Place) -> SelectStatement {
        let fits = match place {
            Place::Within => self.has(asset_text::Column::Text, part),
            Place::AtStart => Self::begins(asset_text::Column::Text, part),
        };
        let mut found = Query::select();
        found.column(asset_text::Column::AssetId).from(asset_text::Entity).and_where(fits);
        found.cond_where(Condition::all().add_option(self.pieces("asset", part)));
        found.take()
    }

    /// Ids of the folders whose name has `part` and that meet a condition.
    fn folders(self, part: &str, condition: SimpleExpr) -> SelectStatement {
        let mut found = Query::select();
        found.column(folder_text::Column::FolderId).from(folder_text::Entity).and_where(condition);
        // The root has no name; everything else lies below it.
        found.and_where(Expr::col(folder_text::Column::Path).ne(""));
        found.cond_where(Condition::all().add_option(self.pieces("folder", part)));
        found.take()
    }

    /// The condition that the index knows all pieces of a text; none for the empty text.
    fn pieces(self, noun: &str, part: &str) -> Option<SimpleExpr> {
        let length = part.chars().count();
        let pieces = match length {
            0 => return None,
            1 | 2 => vec![hex(part)],
            _ => {
                pieces(part).filter(|piece| piece.chars().count() == PIECE).map(|piece| hex(&piece)).collect()
            }
        };
        let short = length < PIECE;
        Some(if self.0 == DbBackend::Postgres {
            let ending = if short { ":*" } else { "" };
            let words: Vec<String> = pieces.iter().map(|piece| format!("'{piece}'{ending}")).collect();
            Expr::cust_with_values(format!("{noun}_texts.grams @@ $1::tsquery"), [words.join(" & ")])
        } else {
            let ending = if short { "*" } else { "" };
            let words: Vec<String> = pieces.iter().map(|piece| format!("\"{piece}\"{ending}")).collect();
            let sql =
                format!("{noun}_texts.id IN (SELECT rowid FROM {noun}_grams WHERE {noun}_grams MATCH ?)");
            Expr::cust_with_values(sql, [words.join(" ")])
        })
    }

    fn has(self, column: impl ColumnTrait, part: &str) -> SimpleExpr {
        let function = if self.0 == DbBackend::Postgres { "strpos" } else { "instr" };
        let at = Func::cust(function).arg(column.into_simple_expr()).arg(Expr::value(part));
        Expr::expr(at).gt(0)
    }

    fn begins(column: impl ColumnTrait, part: &str) -> SimpleExpr {
        let length = i32::try_from(part.chars().count()).unwrap_or(i32::MAX);
        let start = Func::cust("substr").arg(column.into_simple_expr()).arg(1).arg(length);
        Expr::expr(start).eq(part)
    }

    fn ends(column: impl ColumnTrait, part: &str) -> SimpleExpr {
        let length = i32::try_from(part.chars().count()).unwrap_or(i32::MAX);
        let from = Expr::expr(Func::char_length(column.into_simple_expr())).sub(length - 1);
        let end = Func::cust("substr").arg(column.into_simple_expr()).arg(from);
        Expr::expr(end).eq(part)
    }
}

/// Ids of the given folders and of all below them.
fn at_or_below(mut named: SelectStatement) -> SelectStatement {
    let (above, inner) = (Alias::new("above"), Alias::new("inner_folder"));
    let path = |table: &Alias| Expr::col((table.clone(), folder::Column::Path));
    let with = |sign: &'static str| path(&above).binary(BinOper::Custom("||"), Expr::value(sign));
    let below = Query::select()
        .column((inner.clone(), folder::Column::Id))
        .from_as(folder::Entity, above.clone())
        .join_as(
            JoinType::InnerJoin,
            folder::Entity,
            inner.clone(),
            Condition::all()
                .add(Expr::col((inner.clone(), folder::Column::DeletionId)).is_null())
                .add(path(&inner).gte(with("/")))
                .add(path(&inner).lt(with("0"))),
        )
        .and_where(Expr::col((above.clone(), folder::Column::Id)).in_subquery(named.clone()))
        .and_where(Expr::col((above.clone(), folder::Column::DeletionId)).is_null())
        .take();
    named.union(UnionType::Distinct, below).take()
}

/// The pieces of a text: three characters from each, fewer from the last two.
fn pieces(line: &str) -> impl Iterator<Item = String> {
    line.char_indices().map(|(at, _)| line[at..].chars().take(PIECE).collect())
}

fn hex(piece: &str) -> String {
    piece.bytes().fold(String::with_capacity(2 * piece.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The pieces of a folded text of several lines, each once, as the index takes them.
fn words(text: &str) -> String {
    let pieces: BTreeSet<String> = text.lines().flat_map(pieces).map(|piece| hex(&piece)).collect();
    pieces.into_iter().collect::<Vec<_>>().join(" ")
}

/// Whether something can be in the index already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It was just made.
    No,
    /// It may be.
    Maybe,
}

/// Puts an asset into the index as it is now.
///
/// # Errors
/// What the database says.
pub async fn index_asset(conn: &impl ConnectionTrait, row: &asset::Model, known: Known) -> Result<()> {
    let own = [Some(&row.name), row.title.as_ref(), row.alt_text.as_ref()];
    let texts = own.into_iter().flatten().chain(&row.tags.0);
    // A text of several lines stays one: what is searched for has none.
    let lines: Vec<String> = texts.map(|text| fold(&text.replace(['\n', '\r'], " "))).collect();
    let text = lines.join("\n");
    write(conn, "asset", &[("asset_id", row.id.0.into()), ("text", text.as_str().into())], &words(&text))
        .await?;
    if known == Known::Maybe {
        asset_tag::Entity::delete_many().filter(asset_tag::Column::AssetId.eq(row.id)).exec(conn).await?;
    }
    let tags = row.tags.0.iter();
    let tags: Vec<_> =
        tags.map(|tag| asset_tag::ActiveModel { tag: Set(tag.clone()), asset_id: Set(row.id) }).collect();
    if !tags.is_empty() {
        asset_tag::Entity::insert_many(tags).exec_without_returning(conn).await?;
    }
    Ok(())
}

/// Puts a folder into the index as it is now.
///
/// # Errors
/// What the database says.
pub async fn index_folder(conn: &impl ConnectionTrait, row: &folder::Model) -> Result<()> {
    let (name, path) = (fold(&row.name), fold(&row.path));
    let words = words(&name);
    let columns = [("folder_id", row.id.0.into()), ("name", name.into()), ("path", path.into())];
    write(conn, "folder", &columns, &words).await
}

/// Gives the folders that now lie below `to` their folded paths; before, they began with `from`.
///
/// # Errors
/// What the database says.
pub async fn move_folders(conn: &impl ConnectionTrait, from: &str, to: &str) -> Result<()> {
    let skip = i32::try_from(fold(from).chars().count() + 1).unwrap_or(i32::MAX);
    let tail = Func::cust("substr").arg(Expr::col(folder_text::Column::Path)).arg(skip);
    let path = Expr::value(fold(to)).binary(BinOper::Custom("||"), Expr::expr(tail));
    let below = folder::Entity::find().select_only().column(folder::Column::Id);
    let rewrite = Query::update()
        .table(folder_text::Entity)
        .value(folder_text::Column::Path, path)
        .and_where(
            Expr::col(folder_text::Column::FolderId)
                .in_subquery(below.filter(super::folder::is_below(to)).into_query()),
        )
        .to_owned();
    conn.execute(&rewrite).await?;
    Ok(())
}

/// Takes assets out of the index.
///
/// # Errors
/// What the database says.
pub async fn forget_assets(conn: &impl ConnectionTrait, ids: &[AssetId]) -> Result<()> {
    let texts = asset_text::Column::AssetId.is_in(ids.iter().copied());
    if conn.get_database_backend() == DbBackend::Sqlite {
        let known =
            asset_text::Entity::find().select_only().column(asset_text::Column::Id).filter(texts.clone());
        forget_pieces(conn, "asset_grams", known.into_query()).await?;
    }
    asset_text::Entity::delete_many().filter(texts).exec(conn).await?;
    let tags = asset_tag::Column::AssetId.is_in(ids.iter().copied());
    asset_tag::Entity::delete_many().filter(tags).exec(conn).await?;
    Ok(())
}

/// Takes the folders of a deletion out of the index.
///
/// # Errors
/// What the database says.
pub async fn forget_folders(conn: &impl ConnectionTrait, deletion: DeletionId) -> Result<()> {
    let folders = folder::Entity::find()
        .select_only()
        .column(folder::Column::Id)
        .filter(folder::Column::DeletionId.eq(deletion))
        .into_query();
    let texts = folder_text::Column::FolderId.in_subquery(folders);
    if conn.get_database_backend() == DbBackend::Sqlite {
        let known =
            folder_text::Entity::find().select_only().column(folder_text::Column::Id).filter(texts.clone());
        forget_pieces(conn, "folder_grams", known.into_query()).await?;
    }
    folder_text::Entity::delete_many().filter(texts).exec(conn).await?;
    Ok(())
}

async fn forget_pieces(conn: &impl ConnectionTrait, table: &'static str, ids: SelectStatement) -> Result<()> {
    let delete = Query::delete()
        .from_table(Alias::new(table))
        .and_where(Expr::col(Alias::new("rowid")).in_subquery(ids))
        .to_owned();
    conn.execute(&delete).await?;
    Ok(())
}

/// Writes the texts of one thing, the first column naming it, and the pieces in them.
async fn write(
    conn: &impl ConnectionTrait,
    noun: &str,
    columns: &[(&str, Value)],
    words: &str,
) -> Result<()> {
    let backend = conn.get_database_backend();
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let sets: Vec<String> = names[1..].iter().map(|name| format!("{name} = excluded.{name}")).collect();
    let mut values: Vec<Value> = columns.iter().map(|(_, value)| value.clone()).collect();
    let (key, names, sets) = (names[0], names.join(", "), sets.join(", "));
    if backend == DbBackend::Postgres {
        let places: Vec<String> = (1..=values.len()).map(|number| format!("${number}")).collect();
        let grams = format!("array_to_tsvector(string_to_array(${}, ' '))", values.len() + 1);
        let sql = format!(
            "INSERT INTO {noun}_texts ({names}, grams) VALUES ({}, {grams}) \
             ON CONFLICT ({key}) DO UPDATE SET {sets}, grams = excluded.grams",
            places.join(", ")
        );
        values.push(words.into());
        conn.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        return Ok(());
    }
    let places = vec!["?"; values.len()].join(", ");
    let sql = format!(
        "INSERT INTO {noun}_texts ({names}) VALUES ({places}) ON CONFLICT ({key}) DO UPDATE SET {sets} RETURNING id"
    );
    let row = conn.query_one_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    let id: i64 = row.ok_or_else(|| Error::internal("a text was not written"))?.try_get("", "id")?;
    let sql = format!("INSERT OR REPLACE INTO {noun}_grams (rowid, grams) VALUES (?, ?)");
    let values: [Value; 2] = [id.into(), words.into()];
    conn.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    Ok(())
}

/// Fills the index of a library that was made before there was one. One that breaks off begins again.
///
/// # Errors
/// What the database says.
pub async fn fill(app: &App) -> Result<()> {
    if setting::Entity::find_by_id(SETTING).one(app.read()).await?.is_some() {
        return Ok(());
    }
    let mut last = AssetId(Uuid::nil());
    loop {
        let rows = asset::Entity::find().filter(asset::Column::Id.gt(last)).order_by_asc(asset::Column::Id);
        let rows = rows.limit(BATCH).all(app.read()).await?;
        let Some(end) = rows.last() else { break };
        last = end.id;
        commit(app, &Actor::system(), move |edit| {
            Box::pin(async move {
                for row in &rows {
                    index_asset(edit.conn(), row, Known::Maybe).await?;
                }
                Ok(())
            })
        })
        .await?;
    }
    let mut last = None;
    loop {
        let mut rows = folder::Entity::find().order_by_asc(folder::Column::Id);
        if let Some(last) = last {
            rows = rows.filter(folder::Column::Id.gt(last));
        }
        let rows = rows.limit(BATCH).all(app.read()).await?;
        let Some(end) = rows.last() else { break };
        last = Some(end.id);
        commit(app, &Actor::system(), move |edit| {
            Box::pin(async move {
                for row in &rows {
                    index_folder(edit.conn(), row).await?;
                }
                Ok(())
            })
        })
        .await?;
    }
    commit(app, &Actor::system(), |edit| {
        Box::pin(async move {
            let done = setting::ActiveModel { name: Set(SETTING.to_owned()), value: Set("1".to_owned()) };
            setting::Entity::insert(done)
                .on_conflict_do_nothing_on([setting::Column::Name])
                .exec(edit.conn())
                .await?;
            Ok(())
        })
    })
    .await
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_folded_and_cut_alike_in_every_script() {
        assert_eq!(fold("ÄÖ Ｆｕｌｌ ΣΑΣ Straße a／b/C"), "äö full σασ strasse a∕b/c");
        assert_eq!(pieces("abcd").collect::<Vec<_>>(), ["abc", "bcd", "cd", "d"]);
        assert_eq!(words("猫だ\n猫だ"), format!("{} {}", hex("だ"), hex("猫だ")));
    }

    #[test]
    fn what_is_searched_is_bounded() {
        assert_eq!(Needle::parse("  ", "search").expect("blank"), None);
        assert!(Needle::parse(&"x".repeat(201), "search").is_err());
        assert!(Needle::parse("a\0b", "search").is_err());
    }
}
