//! `asset`, `page`, `versions`: reading one thing after another.

use serde_json::{Value, json};

use super::Target;
use crate::load::{Figures, run};
use crate::plan::{Asset, CONTENT_TYPE, Folder, PER_FOLDER, Plan};
use crate::query::{self, Query, check_equal, path_variable};
use crate::report::Report;
use crate::server::Server;
use crate::wanted;

/// Assets in a page.
const PAGE: u32 = 50;

/// One asset by path with its published version.
///
/// # Errors
/// When an answer is wrong.
pub async fn asset(target: Target<'_>, report: &mut Report) -> anyhow::Result<()> {
    let figures = load_assets(target).await?;
    report.add("asset", figures.summary()?, wanted::ASSET);
    Ok(())
}

/// A folder page of 50 assets with the same of each.
///
/// # Errors
/// When an answer is wrong.
pub async fn page(target: Target<'_>, report: &mut Report) -> anyhow::Result<()> {
    let figures = load_pages(target).await?;
    report.add("page", figures.summary()?, wanted::PAGE);
    Ok(())
}

/// The 19 versions of an asset.
///
/// # Errors
/// When an answer is wrong.
pub async fn versions(target: Target<'_>, report: &mut Report) -> anyhow::Result<()> {
    let (server, plan) = (target.server, &target.library.plan);
    let query = Query::new(query::VERSIONS);
    let variables = path_variable(&Asset::Many.path());
    let mut data = server.ask(&query, &variables).await?;
    for node in data["asset"]["versions"]["nodes"].as_array_mut().into_iter().flatten() {
        let created_at = node.as_object_mut().and_then(|node| node.remove("createdAt"));
        anyhow::ensure!(created_at.is_some_and(|at| at.is_string()), "a version has no createdAt");
    }
    let newest = Asset::Many.versions();
    let nodes: Vec<Value> = (1..=newest).rev().map(|number| numbered(server, plan, number)).collect();
    check_equal(&data, &json!({ "asset": { "versions": { "nodes": nodes } } }))?;
    let figures = run(server, target.reading, &query, move |_| variables.clone()).await?;
    report.add("versions", figures.summary()?, wanted::VERSIONS);
    Ok(())
}

/// Asks for assets by path.
///
/// # Errors
/// When an answer is wrong.
pub async fn load_assets(target: Target<'_>) -> anyhow::Result<Figures> {
    let (server, plan) = (target.server, &target.library.plan);
    let query = Query::new(query::ASSET);
    let assets = plan.assets;
    let sample = Asset::Numbered(assets / 3);
    let data = server.ask(&query, &path_variable(&sample.path())).await?;
    check_equal(&data, &json!({ "asset": with_published(server, plan, sample) }))?;
    run(server, target.reading, &query, move |random| {
        path_variable(&Asset::Numbered(random.below(assets)).path())
    })
    .await
}

/// Asks for pages of folders.
///
/// # Errors
/// When an answer is wrong.
pub async fn load_pages(target: Target<'_>) -> anyhow::Result<Figures> {
    let (server, plan) = (target.server, &target.library.plan);
    let query = Query::new(query::PAGE);
    let folders = plan.full_folders();
    let sample = folders / 3;
    let data = server.ask(&query, &path_variable(&Folder::Numbered(sample).path())).await?;
    let numbers = sample * PER_FOLDER..sample * PER_FOLDER + PAGE;
    let nodes: Vec<Value> =
        numbers.map(|number| with_published(server, plan, Asset::Numbered(number))).collect();
    check_equal(&data, &json!({ "folder": { "assets": { "nodes": nodes } } }))?;
    run(server, target.reading, &query, move |random| {
        path_variable(&Folder::Numbered(random.below(folders)).path())
    })
    .await
}

fn with_published(server: &Server, plan: &Plan, asset: Asset) -> Value {
    json!({ "path": asset.path(), "publishedVersion": version(server, plan, asset, asset.versions()) })
}

fn numbered(server: &Server, plan: &Plan, number: i32) -> Value {
    let mut version = version(server, plan, Asset::Many, number);
    version["number"] = number.into();
    version["state"] = if number == Asset::Many.versions() { "PUBLISHED" } else { "ARCHIVED" }.into();
    version
}

fn version(server: &Server, plan: &Plan, asset: Asset, number: i32) -> Value {
    let blob = plan.blob(asset, number);
    let url = format!("{}/v/{}/{}", server.url, plan.version_id(asset, number), asset.filename());
    json!({ "size": blob.size(), "contentType": CONTENT_TYPE, "sha256": blob.sha256, "url": url })
}
