//! `move`: the folder that has all assets goes to another place and comes back.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Target;
use crate::plan::Folder;
use crate::query::{self, Query, check_equal};
use crate::report::{Report, duration};
use crate::wanted;

/// How often it goes there and back.
const ROUNDS: u32 = 5;
/// Where it goes.
const ELSEWHERE: &str = "elsewhere";

/// What one move took.
struct Taken {
    wall: Duration,
    cpu: Duration,
}

/// Moves `library` there and back.
///
/// # Errors
/// When an answer is wrong.
pub async fn measure(target: Target<'_>, report: &mut Report) -> anyhow::Result<()> {
    let home = Folder::Library.path();
    let mut moves = Vec::new();
    for _ in 0..ROUNDS {
        moves.push(relocate(target, &home, ELSEWHERE).await?);
        moves.push(relocate(target, ELSEWHERE, &home).await?);
    }
    moves.sort_unstable_by_key(|taken| taken.wall);
    let cpu = moves.iter().map(|taken| taken.cpu).sum::<Duration>() / (2 * ROUNDS);
    let (middle, longest) = (&moves[moves.len() / 2], &moves[moves.len() - 1]);
    let measured = format!(
        "{}, {} CPU, longest of {}: {}; one entry",
        duration(middle.wall),
        duration(cpu),
        moves.len(),
        duration(longest.wall),
    );
    report.add("move", measured, wanted::MOVE);
    Ok(())
}

async fn relocate(target: Target<'_>, from: &str, to: &str) -> anyhow::Result<Taken> {
    let (began, cpu_before) = (Instant::now(), target.server.cpu()?);
    let variables = json!({ "from": from, "to": to }).to_string();
    let data = target.server.ask(&Query::new(query::MOVE), &variables).await?;
    let taken = Taken { wall: began.elapsed(), cpu: target.server.cpu()?.saturating_sub(cpu_before) };
    let expected = json!({ "moveFolder": {
        "movedFolders": target.library.plan.folders() + 1,
        "movedAssets": target.library.plan.assets,
        "changes": [{ "type": "FOLDER_MOVE", "path": to, "oldPath": from }],
    } });
    check_equal(&data, &expected)?;
    Ok(taken)
}
