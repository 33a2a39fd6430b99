//! The nodes of a page, written row by row when all that is asked of them stands in the rows: without a future for
//! each field, a list costs a fraction. Whatever a selection has that is not known here (arguments, directives,
//! fields that have to be fetched) sends the whole list the ordinary way; a test compares the two.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::{Field, FragmentDefinition, Selection, SelectionSet};
use async_graphql::registry::Registry;
use async_graphql::{
    Context, ContextSelectionSet, Name, OutputType, Positioned, ScalarType as _, SelectionField,
    ServerResult, Value,
};

use super::asset::Asset;
use super::change::{Change, ChangeType};
use super::folder::Folder;
use super::list::List;
use super::scalar::{ByteCount, DateTime, Json, Url, rfc3339};
use super::token::Token;
use super::version::Version;
use crate::app::App;
use crate::domain::asset::{self as assets, Along};
use crate::domain::path::{name_of, parent_of};
use crate::domain::version as versions;

/// The nodes of a page.
pub struct Nodes<T>(pub Vec<T>);

/// Writes one field of a thing; none when it is not in the row after all.
type Write<T> = Box<dyn Fn(&T, &App) -> Option<Value> + Send + Sync>;
/// What is written of a thing, in order.
type Plan<T> = Vec<(Name, Write<T>)>;
type Fragments = HashMap<Name, Positioned<FragmentDefinition>>;

/// Things whose plain fields stand in their rows.
pub trait Plain: Sized + 'static {
    /// What `__typename` says.
    fn type_name() -> Cow<'static, str>;

    /// How a field is written, unless it has to be fetched.
    fn write(field: &Field, fragments: &Fragments) -> Option<Write<Self>>;
}

impl<T: Plain + OutputType> OutputType for Nodes<T> {
    fn type_name() -> Cow<'static, str> {
        <List<T> as OutputType>::type_name()
    }

    fn qualified_type_name() -> String {
        <List<T> as OutputType>::qualified_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        <List<T> as OutputType>::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        if let Some(value) = self.write(ctx) {
            return Ok(value);
        }
        List::resolve_all(&self.0, ctx, field).await
    }
}

impl<T: Plain> Nodes<T> {
    fn write(&self, ctx: &ContextSelectionSet<'_>) -> Option<Value> {
        let plan: Plan<T> = plan(&ctx.item.node, &ctx.query_env.fragments)?;
        let app = ctx.data_unchecked::<App>();
        let nodes: Option<Vec<Value>> = self.0.iter().map(|node| object(&plan, node, app)).collect();
        nodes.map(Value::List)
    }
}

fn object<T>(plan: &Plan<T>, thing: &T, app: &App) -> Option<Value> {
    let mut fields = IndexMap::with_capacity(plan.len());
    for (key, write) in plan {
        fields.insert(key.clone(), write(thing, app)?);
    }
    Some(Value::Object(fields))
}

/// What a selection comes to; none when some of it is not plain.
fn plan<T: Plain>(set: &SelectionSet, fragments: &Fragments) -> Option<Plan<T>> {
    let mut plan = Plan::with_capacity(set.items.len());
    add(set, fragments, &mut plan)?;
    Some(plan)
}

fn add<T: Plain>(set: &SelectionSet, fragments: &Fragments, plan: &mut Plan<T>) -> Option<()> {
    for selection in &set.items {
        if !selection.node.directives().is_empty() {
            return None;
        }
        match &selection.node {
            Selection::Field(field) => {
                let field = &field.node;
                let key = &field.response_key().node;
                // The same key again may ask for more of the same.
                if !field.arguments.is_empty() || plan.iter().any(|(known, _)| known == key) {
                    return None;
                }
                let write = match field.name.node.as_str() {
                    "__typename" => {
                        Box::new(|_: &T, _: &App| Some(Value::String(T::type_name().into_owned())))
                    }
                    _ => T::write(field, fragments)?,
                };
                plan.push((key.clone(), write));
            }
            Selection::FragmentSpread(spread) => {
                let fragment = &fragments.get(&spread.node.fragment_name.node)?.node;
                if fragment.type_condition.node.on.node != *T::type_name() {
                    return None;
                }
                add(&fragment.selection_set.node, fragments, plan)?;
            }
            Selection::InlineFragment(_) => return None,
        }
    }
    Some(())
}

#[expect(clippy::unnecessary_wraps, reason = "all arms of a match have one type")]
fn leaf<T: 'static>(write: fn(&T) -> Value) -> Option<Write<T>> {
    Some(Box::new(move |thing, _| Some(write(thing))))
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn optional_text(value: Option<&String>) -> Value {
    value.map_or(Value::Null, |value| text(value))
}

fn time(at: entity::Timestamp) -> Value {
    Value::String(rfc3339(at))
}

/// Somebody's id, name and kind.
fn actor<T: 'static>(
    field: &Field,
    fragments: &Fragments,
    who: fn(&T) -> Option<&entity::Actor>,
) -> Option<Write<T>> {
    let plan: Plan<super::viewer::Actor> = plan(&field.selection_set.node, fragments)?;
    Some(Box::new(move |thing, app| match who(thing) {
        Some(who) => object(&plan, &who.clone().into(), app),
        None => Some(Value::Null),
    }))
}

impl Plain for super::viewer::Actor {
    fn type_name() -> Cow<'static, str> {
        <Self as OutputType>::type_name()
    }

    fn write(field: &Field, _: &Fragments) -> Option<Write<Self>> {
        match field.name.node.as_str() {
            "id" => leaf(|actor: &Self| text(&actor.id)),
            "name" => leaf(|actor: &Self| optional_text(actor.name.as_ref())),
            "kind" => leaf(|actor: &Self| Value::from(actor.kind)),
            _ => None,
        }
    }
}

impl Plain for Asset {
    fn type_name() -> Cow<'static, str> {
        <Self as OutputType>::type_name()
    }

    fn write(field: &Field, fragments: &Fragments) -> Option<Write<Self>> {
        match field.name.node.as_str() {
            "id" => leaf(|asset: &Self| Value::String(asset.0.row.id.to_string())),
            "path" => leaf(|asset: &Self| Value::String(asset.0.path())),
            "name" => leaf(|asset: &Self| text(&asset.0.row.name)),
            "title" => leaf(|asset: &Self| optional_text(asset.0.row.title.as_ref())),
            "altText" => leaf(|asset: &Self| optional_text(asset.0.row.alt_text.as_ref())),
            "tags" => {
                leaf(|asset: &Self| Value::List(asset.0.row.tags.0.iter().map(|tag| text(tag)).collect()))
            }
            "metadata" => leaf(|asset: &Self| Json(asset.0.row.metadata.clone()).to_value()),
            "revision" => leaf(|asset: &Self| asset.0.row.revision.into()),
            "createdAt" => leaf(|asset: &Self| time(asset.0.row.created_at)),
            "updatedAt" => leaf(|asset: &Self| time(asset.0.row.updated_at)),
            "createdBy" => actor(field, fragments, |asset: &Self| Some(&asset.0.row.created_by)),
            "updatedBy" => actor(field, fragments, |asset: &Self| Some(&asset.0.row.updated_by)),
            "url" => Some(Box::new(|asset, app| {
                Some(assets::url(app, &asset.0).map_or(Value::Null, |url| Url(url).to_value()))
            })),
            "publishedVersion" => {
                if let Some(plan) = plan::<Shown>(&field.selection_set.node, fragments) {
                    return Some(Box::new(move |asset, app| match asset.0.row.published_version_id {
                        Some(_) => object(&plan, &Shown(Arc::clone(&asset.0)), app),
                        None => Some(Value::Null),
                    }));
                }
                let plan: Plan<Version> = plan(&field.selection_set.node, fragments)?;
                Some(Box::new(move |asset, app| {
                    match (&asset.0.published, asset.0.row.published_version_id) {
                        (Some(version), _) => object(&plan, &Version(Arc::clone(version)), app),
                        (None, None) => Some(Value::Null),
                        (None, Some(_)) => None,
                    }
                }))
            }
            _ => None,
        }
    }
}

/// A published version as far as the row of its asset tells of it.
struct Shown(Arc<assets::Asset>);

/// The fields of [`Shown`].
const SHOWN: [&str; 7] = ["id", "filename", "contentType", "size", "sha256", "url", "__typename"];

impl Plain for Shown {
    fn type_name() -> Cow<'static, str> {
        <Version as OutputType>::type_name()
    }

    fn write(field: &Field, _: &Fragments) -> Option<Write<Self>> {
        match field.name.node.as_str() {
            "id" => leaf(|shown: &Self| {
                shown.0.row.published_version_id.map_or(Value::Null, |id| Value::String(id.to_string()))
            }),
            "filename" => leaf(|shown: &Self| optional_text(shown.0.row.published_filename.as_ref())),
            "contentType" => leaf(|shown: &Self| optional_text(shown.0.row.published_media_type.as_ref())),
            "size" => leaf(|shown: &Self| ByteCount(shown.0.row.published_size_bytes).to_value()),
            "sha256" => leaf(|shown: &Self| optional_text(shown.0.row.published_sha256.as_ref())),
            "url" => Some(Box::new(|shown, app| {
                let row = &shown.0.row;
                let url =
                    versions::url_of(app, row.published_version_id?, row.published_filename.as_deref()?);
                Some(Url(url).to_value())
            })),
            _ => None,
        }
    }
}

/// What is to be read with the assets of a connection: their published versions, when more is asked of these than
/// the assets' rows tell. Edges go the ordinary way, which wants the versions themselves.
pub fn along(ctx: &Context<'_>) -> Along {
    let page = ctx.look_ahead();
    let nodes = page.field("nodes").field("publishedVersion").selection_fields();
    let mut asked = nodes.iter().flat_map(SelectionField::selection_set);
    let more = asked.any(|field| !SHOWN.contains(&field.name()));
    if more || page.field("edges").field("node").field("publishedVersion").exists() {
        return Along::Published;
    }
    Along::Nothing
}

impl Plain for Version {
    fn type_name() -> Cow<'static, str> {
        <Self as OutputType>::type_name()
    }

    fn write(field: &Field, fragments: &Fragments) -> Option<Write<Self>> {
        match field.name.node.as_str() {
            "id" => leaf(|version: &Self| Value::String(version.0.id.to_string())),
            "number" => leaf(|version: &Self| version.0.number.into()),
            "state" => leaf(|version: &Self| Value::Enum(Name::new(state(version.0.state)))),
            "label" => leaf(|version: &Self| optional_text(version.0.label.as_ref())),
            "filename" => leaf(|version: &Self| text(&version.0.filename)),
            "contentType" => leaf(|version: &Self| text(&version.0.content_type)),
            "size" => leaf(|version: &Self| ByteCount(version.0.size_bytes).to_value()),
            "sha256" => leaf(|version: &Self| text(&version.0.sha256)),
            "createdAt" => leaf(|version: &Self| DateTime(version.0.created_at).to_value()),
            "publishedAt" => leaf(|version: &Self| version.0.published_at.map_or(Value::Null, time)),
            "archivedAt" => leaf(|version: &Self| version.0.archived_at.map_or(Value::Null, time)),
            "createdBy" => actor(field, fragments, |version: &Self| Some(&version.0.created_by)),
            "publishedBy" => actor(field, fragments, |version: &Self| version.0.published_by.as_ref()),
            "archivedBy" => actor(field, fragments, |version: &Self| version.0.archived_by.as_ref()),
            "url" => Some(Box::new(|version, app| Some(Url(versions::url(app, &version.0)).to_value()))),
            _ => None,
        }
    }
}

const fn state(state: entity::version::State) -> &'static str {
    match state {
        entity::version::State::Draft => "DRAFT",
        entity::version::State::Published => "PUBLISHED",
        entity::version::State::Archived => "ARCHIVED",
    }
}

impl Plain for Change {
    fn type_name() -> Cow<'static, str> {
        <Self as OutputType>::type_name()
    }

    fn write(field: &Field, fragments: &Fragments) -> Option<Write<Self>> {
        match field.name.node.as_str() {
            "id" => leaf(|change: &Self| Value::String(change.own_id())),
            "cursor" => Some(Box::new(|change, app| Some(Value::String(app.feed().encode(change.0.seq))))),
            "type" => leaf(|change: &Self| Value::from(ChangeType::from(change.0.kind))),
            "at" => leaf(|change: &Self| time(change.0.at)),
            "actor" => actor(field, fragments, |change: &Self| Some(&change.0.actor)),
            "path" => leaf(|change: &Self| text(&change.0.path)),
            "oldPath" => leaf(|change: &Self| optional_text(change.0.old_path.as_ref())),
            "folderPath" => leaf(|change: &Self| text(parent_of(&change.0.path))),
            "name" => leaf(|change: &Self| text(name_of(&change.0.path))),
            "versionNumber" => leaf(|change: &Self| change.0.version_number.map_or(Value::Null, Into::into)),
            "contentType" => leaf(|change: &Self| optional_text(change.0.content_type.as_ref())),
            "size" => leaf(|change: &Self| {
                change.0.size_bytes.map_or(Value::Null, |size| ByteCount(size).to_value())
            }),
            "sha256" => leaf(|change: &Self| optional_text(change.0.sha256.as_ref())),
            _ => None,
        }
    }
}

impl Plain for Folder {
    fn type_name() -> Cow<'static, str> {
        <Self as OutputType>::type_name()
    }

    fn write(field: &Field, fragments: &Fragments) -> Option<Write<Self>> {
        match field.name.node.as_str() {
            "id" => leaf(|folder: &Self| Value::String(folder.row().id.to_string())),
            "path" => leaf(|folder: &Self| text(&folder.row().path)),
            "name" => leaf(|folder: &Self| text(&folder.row().name)),
            "title" => leaf(|folder: &Self| text(folder.row().display_title())),
            "revision" => leaf(|folder: &Self| folder.row().revision.into()),
            "createdAt" => leaf(|folder: &Self| time(folder.row().created_at)),
            "updatedAt" => leaf(|folder: &Self| time(folder.row().updated_at)),
            "createdBy" => actor(field, fragments, |folder: &Self| Some(&folder.row().created_by)),
            "updatedBy" => actor(field, fragments, |folder: &Self| Some(&folder.row().updated_by)),
            _ => None,
        }
    }
}

/// There are never many.
impl Plain for Token {
    fn type_name() -> Cow<'static, str> {
        <Self as OutputType>::type_name()
    }

    fn write(_: &Field, _: &Fragments) -> Option<Write<Self>> {
        None
    }
}
