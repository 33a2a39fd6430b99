//! The columns by which what strangers see is found, against what they stand for.

use sea_orm::{ConnectionTrait as _, Statement};

use super::TestServer;

const OPEN: &str =
    "SELECT 1 FROM assets WHERE open <> (visibility = 'PUBLIC' AND published_version_id IS NOT NULL)";
/// Folders that lead to something shown, and that are not said to.
const LEADING: &str = "SELECT 1 FROM assets AS a JOIN folders AS f ON f.id = a.folder_id \
    JOIN folders ON folders.path = '' OR folders.path = f.path \
        OR substr(f.path, 1, length(folders.path) + 1) = folders.path || '/' \
    WHERE a.open AND a.deletion_id IS NULL AND f.deletion_id IS NULL AND folders.deletion_id IS NULL \
        AND NOT folders.has_open";
/// Folders that are said to lead to something shown, and that do not.
const STALE: &str = "SELECT 1 FROM folders WHERE has_open AND deletion_id IS NULL AND NOT EXISTS \
    (SELECT 1 FROM assets AS a JOIN folders AS f ON f.id = a.folder_id \
    WHERE a.open AND a.deletion_id IS NULL AND f.deletion_id IS NULL AND (folders.path = '' \
        OR f.path = folders.path OR substr(f.path, 1, length(folders.path) + 1) = folders.path || '/'))";

impl TestServer {
    /// What is wrong with these columns, if anything is.
    pub async fn wrongly_shown(&self) -> Option<&'static str> {
        for wrong in [OPEN, LEADING] {
            if self.finds(wrong).await {
                return Some(wrong);
            }
        }
        None
    }

    /// The same after the sweeper was there: what is hidden leaves no trace in them.
    pub async fn wrongly_shown_after_sweep(&self) -> Option<&'static str> {
        self.sweep().await;
        if self.finds(STALE).await { Some(STALE) } else { self.wrongly_shown().await }
    }

    /// Whether a statement answers with anything.
    pub async fn finds(&self, sql: &str) -> bool {
        let read = self.app.read();
        let rows = read.query_all_raw(Statement::from_string(read.get_database_backend(), sql)).await;
        !rows.expect("read").is_empty()
    }
}
