//! Jobs that share a transaction and end in different ways.

use std::time::Duration;

use entity::setting;
use sea_orm::{ActiveValue::Set, DbBackend, EntityTrait as _, QueryTrait as _};
use tokio::sync::oneshot;

use super::*;
use crate::app::App;
use crate::config::{Config, Flags};

/// Writes a setting, and then ends as it is told.
struct Probe {
    name: &'static str,
    end: Done,
    panics: bool,
    settled: Option<oneshot::Sender<bool>>,
}

#[async_trait]
impl Job for Probe {
    fn wants(&self) -> Option<Wants> {
        Some(Wants::default())
    }

    async fn run(&mut self, tx: &Tx) -> Done {
        let row = setting::ActiveModel { name: Set(self.name.to_owned()), value: Set(String::new()) };
        let insert = setting::Entity::insert(row);
        match (tx.inline(), tx.pooled()) {
            (Some(inline), _) => {
                inline.write(&DbBackend::Sqlite.build(&insert.into_query())).expect("written");
            }
            (_, Some(pooled)) => {
                insert.exec_without_returning(pooled).await.expect("written");
                return Done::Kept;
            }
            _ => unreachable!("one of them"),
        }
        assert!(!self.panics, "told to panic");
        self.end
    }

    fn settle(mut self: Box<Self>, outcome: Result<Vec<change::Model>, Arc<DbErr>>) {
        if let Some(settled) = self.settled.take() {
            let _ = settled.send(outcome.is_ok());
        }
    }
}

#[tokio::test]
async fn what_is_taken_back_takes_nothing_along() {
    let folder = tempfile::tempdir().expect("a folder");
    let flags = Flags { data_dir: Some(folder.path().to_owned()), ..Flags::default() };
    let config = Config::load(None, &flags).expect("settings");
    let app = App::open(config, "http://test".to_owned(), Clock::system()).await.expect("a library");
    let mut outcomes = Vec::new();
    for (name, end, panics) in [
        ("first", Done::Kept, false),
        ("refused", Done::TakenBack, false),
        ("second", Done::Kept, false),
        ("panicked", Done::Kept, true),
        ("elsewhere", Done::Elsewhere, false),
        ("third", Done::Kept, false),
    ] {
        let (settled, outcome) = oneshot::channel();
        // All are queued before the writer gets to run: they share a transaction.
        assert!(app.submit(Box::new(Probe { name, end, panics, settled: Some(settled) })).await);
        outcomes.push(outcome);
    }
    for outcome in outcomes {
        assert!(outcome.await.expect("settled"));
    }
    let mut there: Vec<String> = setting::Entity::find()
        .all(app.read())
        .await
        .expect("settings")
        .into_iter()
        .map(|row| row.name)
        .filter(|name| {
            ["first", "refused", "second", "panicked", "elsewhere", "third"].contains(&name.as_str())
        })
        .collect();
    there.sort();
    assert_eq!(there, ["elsewhere", "first", "second", "third"]);
    app.close(Duration::from_secs(1)).await;
}
