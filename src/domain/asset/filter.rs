//! Which assets a listing wants.

use entity::asset::{self, Visibility};
use entity::{Timestamp, asset_tag};
use sea_orm::sea_query::{Expr, ExprTrait as _, Func, Query, SimpleExpr};
use sea_orm::{ColumnTrait as _, Condition, DbBackend, IntoSimpleExpr as _};

use crate::blob::MediaType;
use crate::domain::content_type;
use crate::domain::error::{Error, Result};
use crate::domain::search::Needle;

/// Most types or tags in a filter.
const MAX_WORDS: usize = 100;

/// Which assets are wanted; all of the given conditions hold for each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct AssetFilter {
    /// Part of the name, path, title, alternative text or a tag.
    pub search: Option<Needle>,
    /// The published version is of one of these types.
    pub content_types: Option<Vec<TypePattern>>,
    /// Has all of these tags.
    pub tags: Vec<String>,
    /// Whether something is published.
    pub published: Option<bool>,
    /// Who may read it.
    pub visibility: Option<Visibility>,
    /// Changed after this instant.
    pub updated_after: Option<Timestamp>,
    /// Changed before this instant.
    pub updated_before: Option<Timestamp>,
    /// The published version has at least so many bytes.
    pub min_size: Option<i64>,
    /// The published version has at most so many bytes.
    pub max_size: Option<i64>,
}

/// A media type, or a family of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TypePattern {
    /// `image/png`.
    Exactly(String),
    /// `image/*`.
    Family(String),
}

impl TypePattern {
    /// Reads `image/png` or `image/*`.
    ///
    /// # Errors
    /// `BAD_USER_INPUT` for what is neither.
    pub fn parse(text: &str, field: &str) -> Result<Self> {
        let essence = content_type::essence(text);
        match essence.strip_suffix("/*") {
            Some(family) if MediaType::parse(&format!("{family}/x")).is_some() => {
                Ok(Self::Family(family.to_owned()))
            }
            None if MediaType::parse(&essence).is_some() => Ok(Self::Exactly(essence)),
            _ => Err(Error::bad_input(
                field,
                format!("has {text:?}, which is no type such as image/png or image/*"),
            )),
        }
    }

    fn condition(&self) -> SimpleExpr {
        match self {
            Self::Exactly(essence) => asset::Column::PublishedContentType.eq(essence.as_str()),
            Self::Family(family) => {
                let family = format!("{family}/");
                let length = i32::try_from(family.len()).unwrap_or(i32::MAX);
                let column = asset::Column::PublishedContentType.into_simple_expr();
                Expr::expr(Func::cust("substr").arg(column).arg(1).arg(length)).eq(family)
            }
        }
    }
}

/// Checks that there are not too many types or tags.
///
/// # Errors
/// `BAD_USER_INPUT`.
pub fn bounded<T>(words: Vec<T>, field: &str) -> Result<Vec<T>> {
    if words.len() > MAX_WORDS {
        return Err(Error::bad_input(field, format!("has {}; at most {MAX_WORDS} are allowed", words.len())));
    }
    Ok(words)
}

impl AssetFilter {
    /// The same over `assets`.
    pub(super) fn condition(&self, backend: DbBackend) -> Condition {
        let published = asset::Column::PublishedVersionId.is_not_null();
        let mut all = Condition::all();
        if let Some(needle) = &self.search {
            all = all.add(needle.condition(backend));
        }
        if let Some(types) = &self.content_types {
            // An empty list matches nothing, as an empty choice does.
            let one_of = types.iter().fold(Condition::any(), |any, pattern| any.add(pattern.condition()));
            all = all.add(if types.is_empty() { Condition::all().add(Expr::value(false)) } else { one_of });
        }
        for tag in &self.tags {
            let mut tagged = Query::select();
            tagged.column(asset_tag::Column::AssetId).from(asset_tag::Entity);
            tagged.and_where(asset_tag::Column::Tag.eq(tag.as_str()));
            all = all.add(asset::Column::Id.in_subquery(tagged.take()));
        }
        if let Some(wanted) = self.published {
            all =
                all.add(if wanted { published.clone() } else { asset::Column::PublishedVersionId.is_null() });
        }
        if self.min_size.or(self.max_size).is_some() {
            all = all.add(published);
        }
        all.add_option(self.visibility.map(|visibility| asset::Column::Visibility.eq(visibility)))
            .add_option(self.updated_after.map(|at| asset::Column::UpdatedAt.gt(at)))
            .add_option(self.updated_before.map(|at| asset::Column::UpdatedAt.lt(at)))
            .add_option(self.min_size.map(|size| asset::Column::PublishedSizeBytes.gte(size)))
            .add_option(self.max_size.map(|size| asset::Column::PublishedSizeBytes.lte(size)))
    }
}
