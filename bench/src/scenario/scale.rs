//! `scale`: whether reading costs more when there is more. Both servers run at once and are asked in turns, so that
//! what else the machine does meets both.

use std::time::Duration;

use super::{Setup, Target, reads, start_first};
use crate::library::Library;
use crate::load::Figures;
use crate::report::{Report, duration};
use crate::server::Server;
use crate::wanted;

const SMALL: u32 = 1_000;
const LARGE: u32 = 1_000_000;
const ROUNDS: usize = 3;

/// What was measured on one of the two.
#[derive(Default)]
struct Both {
    asset: Figures,
    page: Figures,
}

/// Makes a small and a large library and measures `asset` and `page` on both.
///
/// # Errors
/// When an answer is wrong.
pub async fn measure(setup: Setup<'_>, report: &mut Report) -> anyhow::Result<()> {
    let small = Library::make(SMALL, setup.postgres, setup.config).await?;
    let large = match Library::make(LARGE, setup.postgres, setup.config).await {
        Ok(large) => large,
        Err(error) => {
            small.remove().await?;
            return Err(error);
        }
    };
    let measured = compare(setup, &small, &large, report).await;
    let removed = (small.remove().await, large.remove().await);
    measured.and(removed.0).and(removed.1)
}

async fn compare(
    setup: Setup<'_>,
    small: &Library,
    large: &Library,
    report: &mut Report,
) -> anyhow::Result<()> {
    start_first(setup.program, small).await?;
    start_first(setup.program, large).await?;
    let (small_server, _) = Server::start(setup.program, small).await?;
    let (large_server, _) = Server::start(setup.program, large).await?;
    let reading = setup.reading();
    let targets = [(&small_server, small), (&large_server, large)].map(|(server, library)| Target {
        program: setup.program,
        server,
        library,
        reading,
    });
    let mut of_both = [Both::default(), Both::default()];
    for _ in 0..ROUNDS {
        for (target, figures) in targets.into_iter().zip(&mut of_both) {
            figures.asset.add(reads::load_assets(target).await?);
        }
        for (target, figures) in targets.into_iter().zip(&mut of_both) {
            figures.page.add(reads::load_pages(target).await?);
        }
    }
    let [of_small, of_large] = &of_both;
    report.add("scale: asset", ratio(&of_small.asset, &of_large.asset)?, wanted::SCALE);
    report.add("scale: page", ratio(&of_small.page, &of_large.page)?, wanted::SCALE);
    small_server.stop().await?;
    large_server.stop().await
}

fn ratio(small: &Figures, large: &Figures) -> anyhow::Result<String> {
    let (small, large): (Duration, Duration) = (small.cpu_per_request()?, large.cpu_per_request()?);
    let ratio = large.as_secs_f64() / small.as_secs_f64();
    Ok(format!("{ratio:.2} × ({} against {} CPU a request)", duration(large), duration(small)))
}
