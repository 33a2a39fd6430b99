//! What is read by hand is what the ordinary way reads.

use sea_orm::EntityTrait as _;

use super::*;
use crate::app::Clock;
use crate::config::{Config, Flags};
use crate::domain::actor::Actor as Asking;
use crate::domain::asset::{self as assets, AssetOrder, NewAsset, Parent, Selection, Within};
use crate::domain::page::PageArgs;
use crate::domain::stored_file::{self, FileVersion};
use crate::domain::upload::{Declared, Received, Way, receive};
use crate::domain::{folder as folders, trash, version as versions};

async fn library() -> (tempfile::TempDir, App) {
    let folder = tempfile::tempdir().expect("a folder");
    let flags = Flags { data_dir: Some(folder.path().to_owned()), ..Flags::default() };
    let config = Config::load(None, &flags).expect("settings");
    let app = App::open(config, "http://test".to_owned(), Clock::system()).await.expect("a library");
    (folder, app)
}

async fn store(app: &App) -> StoredFileId {
    let target = stored_file::start(app, &Asking::dev()).await.expect("a target");
    let (base, signature) = target.url.split_once("?signature=").expect("a signature");
    let id = base.rsplit('/').next().expect("an id").parse().expect("an id");
    let body = futures_util::stream::iter([Ok::<_, String>(bytes::Bytes::from_static(b"hello"))]);
    let declared = Declared::default();
    match receive(app, id, Way::File, signature, declared, body).await.expect("received") {
        Received::File(file) => file.id,
        Received::Upload(_) => panic!("no upload was started"),
    }
}

#[tokio::test]
async fn quick_reads_answer_what_the_ordinary_ones_do() {
    let (_folder, app) = library().await;
    let (asking, file) = (Asking::dev(), store(&app).await);
    let path = |text: &str| TreePath::parse(text, "path").expect("a path");
    for number in 0..7 {
        for publish in [true, number % 2 == 0] {
            let new = FileVersion {
                path: path(&format!("a/é{number}")),
                file,
                label: publish.then(|| "label".to_owned()),
                filename: None,
                publish,
                if_revision: None,
            };
            stored_file::create_version(&app, &asking, new).await.expect("a version");
        }
    }
    let new = NewAsset {
        tags: Some(vec!["t".to_owned()]),
        metadata: Some(serde_json::json!({"m": 1})),
        ..NewAsset::default()
    };
    assets::create(&app, &asking, path("a/none"), new).await.expect("an asset");
    for text in ["", "a", "b", "a/none"] {
        let ordinary = folders::find(app.read(), &path(text)).await.expect("read");
        assert_eq!(folder_at(&app, &path(text)), Some(ordinary), "{text}");
    }
    let folder = Arc::new(folders::find(app.read(), &path("a")).await.expect("read").expect("a folder"));
    for text in ["a/é0", "a/none", "a/nothing", "b/x"] {
        let ordinary = assets::find(app.read(), &path(text)).await.expect("read");
        let quick = asset_at(&app, &path(text)).expect("a quick read");
        let shown = quick.as_ref().and_then(|asset| asset.published.as_ref().map(|version| version.id));
        assert_eq!(shown, ordinary.as_ref().and_then(|asset| asset.row.published_version_id), "{text}");
        assert_eq!(quick.map(|asset| Asset { published: None, ..asset }), ordinary, "{text}");
    }
    set_aside(&app, &asking, file).await;
    for text in
        ["a/é0", "a/é1", "a/none", "a/nothing", "b/x", "c/private", "c/draft", "c/trashed", "d/trashed"]
    {
        let ordinary = versions::kept_at_ordinarily(&app, &path(text)).await.expect("read");
        assert_eq!(ordinary.is_some(), text.starts_with("a/é") || text == "c/private", "{text}");
        assert_eq!(kept_at(&app, &path(text)), Some(ordinary), "{text}");
        let asset = assets::find(app.read(), &path(text)).await.expect("read");
        let Some(id) = asset.and_then(|asset| asset.row.published_version_id) else { continue };
        let ordinary = versions::kept_ordinarily(&app, id).await.expect("read");
        assert!(ordinary.is_some(), "{text}");
        assert_eq!(kept(&app, id), Some(ordinary), "{text}");
    }
    let first = assets::find(app.read(), &path("a/é0")).await.expect("read").expect("an asset");
    compare_pages(&app, &folder, first.row.id).await;
    app.close(std::time::Duration::from_secs(10)).await;
}

/// Assets that not everybody gets the bytes of, or nobody.
async fn set_aside(app: &App, asking: &Asking, file: StoredFileId) {
    let path = |text: &str| TreePath::parse(text, "path").expect("a path");
    let private = NewAsset { visibility: Some(Visibility::Private), ..NewAsset::default() };
    assets::create(app, asking, path("c/private"), private).await.expect("an asset");
    for (text, publish) in [("c/private", true), ("c/draft", false), ("c/trashed", true), ("d/trashed", true)]
    {
        let (label, filename, if_revision) = (None, None, None);
        let new = FileVersion { path: path(text), file, label, filename, publish, if_revision };
        stored_file::create_version(app, asking, new).await.expect("a version");
    }
    let deletion = trash::AssetDeletion { target: AssetRef::Path(path("c/trashed")), if_revision: None };
    trash::delete_asset(app, asking, deletion).await.expect("deleted");
    let target = folders::FolderRef::Path(path("d"));
    let deletion = trash::FolderDeletion { target, recursive: true, if_revision: None };
    trash::delete_folder(app, asking, deletion).await.expect("deleted");
    // Also by its id, what is in the trash and the draft.
    for row in version::Entity::find().all(app.read()).await.expect("read") {
        let ordinary = versions::kept_ordinarily(app, row.id).await.expect("read");
        assert_eq!(kept(app, row.id), Some(ordinary), "{}", row.number);
    }
}

/// Every page of a folder and of the versions of an asset, both ways.
async fn compare_pages(app: &App, folder: &Arc<folder::Model>, asset: AssetId) {
    let ways = [Direction::Ascending, Direction::Descending];
    let ways =
        ways.into_iter().flat_map(|direction| [Scope::All, Scope::Shown].map(|scope| (direction, scope)));
    for (direction, scope) in ways {
        for args in [
            PageArgs { first: Some(3), ..PageArgs::default() },
            PageArgs { last: Some(3), ..PageArgs::default() },
            PageArgs::default(),
        ] {
            let mut args = args;
            loop {
                let page = Page::new(&args, AssetOrder::Name.word()).expect("a page");
                let within = Within::Folder(Parent(Arc::clone(folder)));
                let selection = Selection { within, filter: None };
                let listing = assets::Listing {
                    selection,
                    page: page.clone(),
                    order: AssetOrder::Name,
                    direction,
                    along: Along::Nothing,
                };
                let quick =
                    assets_in(app, scope, folder, &page, direction, Along::Published).expect("a quick read");
                let quick: Vec<Asset> =
                    quick.into_iter().map(|asset| Asset { published: None, ..asset }).collect();
                let ordinary = assets::list_ordinarily(app, scope, &[listing]).await.expect("read");
                let ordinary = ordinary.into_values().next().expect("a slice");
                let quick = page.slice(quick);
                assert_eq!(quick.rows, ordinary.rows);
                assert_eq!(quick.has_next_page, ordinary.has_next_page);
                match quick.rows.last().filter(|_| quick.has_next_page && args.first.is_some()) {
                    Some(last) => args.after = Some(AssetOrder::Name.position(&last.row).cursor("NAME")),
                    None => break,
                }
            }
            let page = Page::new(&PageArgs { after: None, ..args }, versions::ORDER).expect("a page");
            let quick = versions_of(app, asset, &page, direction).expect("a quick read");
            let listing = versions::Listing { asset, page: page.clone(), states: None, direction };
            let ordinary = versions::list_ordinarily(app, Scope::All, &[listing]).await.expect("read");
            assert_eq!(page.slice(quick).rows, ordinary.into_values().next().expect("a slice").rows);
        }
    }
}
