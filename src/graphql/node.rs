//! Refetching by id (<https://relay.dev/graphql/objectidentification.htm>).

use std::str::FromStr;

use async_graphql::{Context, ID, Interface, Object};
use entity::{AssetId, FolderId, StoredFileId, TokenId, UploadIntentId, VersionId};

use super::asset::Asset;
use super::change::Change;
use super::context::{ContextExt as _, Result};
use super::folder::Folder;
use super::list::List;
use super::loaders::EntryNumber;
use super::stored_file::StoredFile;
use super::token::Token;
use super::upload::UploadIntent;
use super::version::Version;
use crate::domain::error::{Error, Result as Parsed};
use crate::domain::page::MAX_PAGE;
use crate::domain::scope::Scope;

/// Something with an id that it can be fetched by.
#[derive(Interface)]
#[graphql(field(name = "id", ty = "ID", desc = "Opaque id, the same for ever."))]
pub enum Node {
    /// A folder.
    Folder(Folder),
    /// An asset.
    Asset(Asset),
    /// A version.
    Version(Version),
    /// An upload.
    UploadIntent(UploadIntent),
    /// A file in storage.
    StoredFile(StoredFile),
    /// An entry of the changelog.
    Change(Change),
    /// An API token.
    Token(Token),
}

/// Reads an id; `field` is named when it is none of the kind.
pub fn parse_id<I: FromStr>(id: &ID, field: &str) -> Parsed<I>
where
    I::Err: std::fmt::Display,
{
    id.parse().map_err(|error| Error::bad_input(field, format!("is {error}")))
}

/// Queries by id.
#[derive(Default)]
pub struct NodeQuery;

#[Object]
impl NodeQuery {
    /// Whatever has this id; null when there is nothing.
    async fn node(&self, ctx: &Context<'_>, #[graphql(desc = "Its id.")] id: ID) -> Result<Option<Node>> {
        fetch(ctx, &id).await
    }

    /// Whatever has these ids, in their order; null where there is nothing. At most 200.
    async fn nodes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Their ids.")] ids: Vec<ID>,
    ) -> Result<List<Option<Node>>> {
        if ids.len() > MAX_PAGE {
            return Err(Error::bad_input(
                "ids",
                format!("has {} ids; at most {MAX_PAGE} are allowed", ids.len()),
            )
            .into());
        }
        futures_util::future::try_join_all(ids.iter().map(|id| fetch(ctx, id))).await.map(List)
    }
}

async fn fetch(ctx: &Context<'_>, id: &ID) -> Result<Option<Node>> {
    let loaders = ctx.loaders();
    let Some((prefix, rest)) = id.rsplit_once('_') else {
        return Ok(None);
    };
    // Of what is only for those who have a role, there is nothing for others. What they may see of the rest, loaders know.
    let all = ctx.actor().scope() == Scope::All;
    Ok(match prefix {
        FolderId::PREFIX => match id.parse::<FolderId>() {
            Ok(id) => loaders.one(id).await?.map(|row| Node::Folder(Folder::now(row))),
            Err(_) => None,
        },
        AssetId::PREFIX => match id.parse::<AssetId>() {
            Ok(id) => loaders.one(id).await?.map(|asset| Node::Asset(Asset(asset))),
            Err(_) => None,
        },
        VersionId::PREFIX => match id.parse::<VersionId>() {
            Ok(id) => loaders.one(id).await?.map(|row| Node::Version(Version(row))),
            Err(_) => None,
        },
        UploadIntentId::PREFIX if all => match id.parse::<UploadIntentId>() {
            Ok(id) => loaders.one(id).await?.map(|row| Node::UploadIntent(UploadIntent(row))),
            Err(_) => None,
        },
        StoredFileId::PREFIX if all => match id.parse::<StoredFileId>() {
            Ok(id) => {
                loaders.one(id).await?.filter(|file| file.kept).map(|row| Node::StoredFile(StoredFile(row)))
            }
            Err(_) => None,
        },
        TokenId::PREFIX => match id.parse::<TokenId>() {
            Ok(id) => loaders.one(id).await?.map(|row| Node::Token(Token(row))),
            Err(_) => None,
        },
        Change::ID_PREFIX if all => match rest.parse::<i64>() {
            Ok(seq) => loaders.one(EntryNumber(seq)).await?.map(|row| Node::Change(Change(row))),
            Err(_) => None,
        },
        _ => None,
    })
}
