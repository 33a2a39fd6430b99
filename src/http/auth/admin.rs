//! The admin token, which the first start makes.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use uuid::Uuid;

use crate::blob::private;

/// Where the admin token of a data folder is.
#[must_use]
pub fn token_path(data_dir: &Path) -> PathBuf {
    data_dir.join("admin-token")
}

/// The admin token of a data folder, made the first time.
///
/// # Errors
/// When it cannot be read or written.
pub fn token(data_dir: &Path) -> anyhow::Result<String> {
    let path = token_path(data_dir);
    if !path.exists() {
        write_token(&path).with_context(|| format!("cannot write the admin token to {}", path.display()))?;
        tracing::info!(path = %path.display(), "made an admin token");
    }
    private::close(&path)?;
    let token = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let token = token.trim().to_owned();
    anyhow::ensure!(token.len() >= 32, "{} has no token: remove the file to get a new one", path.display());
    Ok(token)
}

fn write_token(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // Whole or not at all: an empty file would lock everybody out.
    let unfinished = path.with_extension("new");
    let _ = fs::remove_file(&unfinished);
    let mut file = options.open(&unfinished)?;
    writeln!(file, "vellum_{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}
