//! `publish`: new versions of bytes that are stored, each published at once in a commit of its own.

use std::time::Duration;

use serde_json::json;

use super::Target;
use crate::load::{Load, run};
use crate::plan::Asset;
use crate::query::{self, Query, check_equal};
use crate::random::Random;
use crate::report::{Report, count};
use crate::server::Server;
use crate::wanted;

const LOAD: Load =
    Load { connections: 64, warm_up: Duration::from_secs(1), measured: Duration::from_secs(5) };

/// Publishes on assets chosen at random.
///
/// # Errors
/// When an answer is wrong.
pub async fn measure(target: Target<'_>, report: &mut Report) -> anyhow::Result<()> {
    let query = Query::new(query::PUBLISH);
    let plan = &target.library.plan;
    let (assets, file) = (plan.assets, plan.file_id(0).to_string());
    let sample = Asset::Numbered(0);
    let data = target.server.ask(&query, &variables(&file, sample)).await?;
    let number = sample.versions() + 1;
    let version = json!({ "number": number, "state": "PUBLISHED", "sha256": plan.blobs[0].sha256 });
    let change = json!({ "type": "ASSET_PUBLISH", "path": sample.path(), "versionNumber": number });
    check_equal(&data, &json!({ "createVersion": { "version": version, "changes": [change] } }))?;
    let anywhere = move |random: &mut Random| variables(&file, Asset::Numbered(random.below(assets)));
    let figures = run(target.server, LOAD, &query, anywhere.clone()).await?;
    let measured = format!("{} a second; {}", count(figures.rate()), figures.summary()?);
    let postgres = target.library.postgres_url().is_some();
    report.add("publish", measured, if postgres { wanted::PUBLISH_POSTGRES } else { wanted::PUBLISH });
    if postgres {
        let (other, _) = Server::start(target.program, target.library).await?;
        let half = Load { connections: LOAD.connections / 2, ..LOAD };
        let both = tokio::join!(
            run(target.server, half, &query, anywhere.clone()),
            run(&other, half, &query, anywhere)
        );
        other.stop().await?;
        let rates = [both.0?.rate(), both.1?.rate()];
        let measured = format!("{} a second ({} and {})", count(rates[0] + rates[1]), rates[0], rates[1]);
        report.add("publish on two servers", measured, wanted::PUBLISH_TWO);
    }
    Ok(())
}

fn variables(file: &str, asset: Asset) -> String {
    format!("{{\"path\":\"{}\",\"file\":\"{file}\"}}", asset.path())
}
