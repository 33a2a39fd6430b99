//! `search`: how long one client waits for twenty assets among all.

use std::time::Duration;

use anyhow::ensure;

use super::Target;
use crate::load::{Load, run};
use crate::plan::Asset;
use crate::query::{self, Query};
use crate::report::{Report, duration};
use crate::wanted;
use crate::words::{RARE, with_rare_word};

/// One connection: what is wanted is a latency without a queue.
const LOAD: Load =
    Load { connections: 1, warm_up: Duration::from_millis(500), measured: Duration::from_secs(3) };

/// Searches for the rare word.
///
/// # Errors
/// When an answer is wrong.
pub async fn measure(target: Target<'_>, report: &mut Report) -> anyhow::Result<()> {
    let query = Query::new(query::SEARCH);
    let variables = format!("{{\"search\":\"{RARE}\"}}");
    let data = target.server.ask(&query, &variables).await?;
    let nodes = data["assets"]["nodes"].as_array().into_iter().flatten();
    let mut found: Vec<&str> = nodes.filter_map(|node| node["path"].as_str()).collect();
    found.sort_unstable();
    let expected: Vec<String> =
        with_rare_word(target.library.plan.assets).map(|number| Asset::Numbered(number).path()).collect();
    ensure!(found == expected, "a search found {found:?} instead of {expected:?}");
    let figures = run(target.server, LOAD, &query, move |_| variables.clone()).await?;
    let measured = format!("{}; {}", duration(figures.percentile(50)), figures.summary()?);
    report.add("search", measured, wanted::SEARCH);
    Ok(())
}
