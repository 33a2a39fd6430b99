//! Compares all that is in the folder of a case with the model.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::client::{Checked, Client, Failure, below_base};
use super::library::{Asset, Folder, Library, Life, State, Status, name, parent};
use super::operation::{Thing, VersionAt};
use super::replay::Node;
use crate::support::text;

const THINGS: &str = "query($ids: [ID!]!, $top: String!) {
    nodes(ids: $ids) {
        ... on Folder { path name title revision deletedAt purgeAt
            folders(first: 200) { totalCount nodes { id } } assets(first: 200) { totalCount nodes { id } } }
        ... on Asset { path name assetTitle: title revision deletedAt purgeAt url formerPaths
            publishedVersion { id number } latestVersion { number }
            versions(first: 200, orderBy: { direction: ASC }) {
                totalCount nodes { id number state label size sha256 } } }
        ... on UploadIntent { path status version { id } }
        ... on StoredFile { url size sha256 }
    }
    folder(path: $top) { assets(first: 200, recursive: true) { nodes { path } } }
}";
const SHOWN: &str = "query($ids: [ID!]!, $top: String!) {
    nodes(ids: $ids) {
        ... on Folder { path createdBy { id } parent { id } }
        ... on Asset { path url folder { path } versions(first: 200) { nodes { state } } latestVersion { state } }
    }
    folder(path: $top) {
        folders(first: 200) { totalCount nodes { path } }
        assets(first: 200, recursive: true) { totalCount nodes { path } } }
}";
const TRASH: &str = "query($after: String) { trash(first: 20, after: $after) {
    nodes { ... on Folder { id path } ... on Asset { id path } } pageInfo { hasNextPage endCursor } } }";

const FOLDER_THEN: &str = "query($path: String!, $cursor: String!) {
    folder(path: $path, at: { cursor: $cursor }) { id path name
        assets(first: 200) { nodes { id path name folder { path } publishedVersion { number } } } } }";
const ASSET_THEN: &str = "query($path: String!, $cursor: String!) {
    asset(path: $path, at: { cursor: $cursor }) { id path name folder { path } publishedVersion { number } } }";

/// What is percent-encoded in a path: enough for every name in the alphabet.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.');

/// Fails when two things differ, saying what they are of.
fn same<T: PartialEq + Debug>(what: &str, is: &T, should: &T) -> Checked {
    if is == should { Ok(()) } else { Err(Failure::Differs(format!("{what} is {is:?}, not {should:?}"))) }
}

/// The same, and readable.
fn same_json(what: &str, is: &Value, should: &Value) -> Checked {
    if is == should { Ok(()) } else { Err(Failure::Differs(format!("{what} is {is}, not {should}"))) }
}

impl Client {
    /// The tree, the trash, uploads and files, and the tree as the changelog tells it.
    pub async fn check(&mut self, library: &Library) -> Checked {
        self.read_changelog(library).await?;
        self.check_things(library).await?;
        self.check_trash(library).await?;
        self.check_strangers(library).await?;
        same("the tree by its changelog", self.replay.live(), &tree(library))
    }

    async fn check_things(&mut self, library: &Library) -> Checked {
        let mut ids = vec![self.ids.thing(Thing::Folder(0))];
        ids.extend((1..library.folders.len()).map(|number| self.ids.thing(Thing::Folder(number))));
        ids.extend((0..library.assets.len()).map(|number| self.ids.thing(Thing::Asset(number))));
        ids.extend(self.ids.uploads.iter().map(|upload| upload.id.as_str()));
        ids.extend(self.ids.files.iter().map(String::as_str));
        let ids: Vec<String> = ids.into_iter().map(ToOwned::to_owned).collect();
        let mut nodes = Vec::new();
        let mut listed = Value::Null;
        for page in ids.chunks(200) {
            let mut data = self.gql(THINGS, json!({ "ids": page, "top": self.ids.top })).await?;
            nodes.append(data["nodes"].as_array_mut().expect("nodes"));
            listed = data["folder"]["assets"]["nodes"].take();
        }
        let (folders, rest) = nodes.split_at(library.folders.len());
        let (assets, rest) = rest.split_at(library.assets.len());
        let (uploads, files) = rest.split_at(library.uploads.len());
        for (number, (node, folder)) in folders.iter().zip(&library.folders).enumerate() {
            self.check_folder(Thing::Folder(number), node, folder, library)?;
        }
        for (number, node) in assets.iter().enumerate() {
            self.check_asset(number, node, library)?;
        }
        for (node, upload) in uploads.iter().zip(&library.uploads) {
            if node.is_null() && library.may_be_forgotten(upload) {
                continue;
            }
            same_json("the state of an upload", &node["status"], &json!(status_name(upload.status)))?;
            same_json("the place of an upload", &node["path"], &json!(self.ids.path(&upload.path)))?;
        }
        for (node, file) in files.iter().zip(&library.files) {
            same("whether a stored file has no URL", &node["url"].is_null(), &file.deleted)?;
            same_json("the digest of a stored file", &node["sha256"], &json!(self.digest(file.content)))?;
        }
        let live = library.assets.iter().filter(|asset| asset.life == Life::Live);
        let should: BTreeSet<String> = live.map(|asset| self.ids.path(&asset.path)).collect();
        let listed = listed.as_array().into_iter().flatten().map(|node| text(&node["path"]).to_owned());
        same("the listing of all assets", &listed.collect(), &should)
    }

    fn check_folder(&mut self, thing: Thing, node: &Value, folder: &Folder, library: &Library) -> Checked {
        if !self.check_life(thing, node, &folder.path, folder.life, folder.revision)? {
            return Ok(());
        }
        let what = format!("{thing:?} {:?}", folder.path);
        if let Some(title) = folder.title {
            same_json(&format!("the title of {what}"), &node["title"], &json!(title))?;
        }
        if folder.life != Life::Live {
            return Ok(());
        }
        let inside = |path: &str| !path.is_empty() && parent(path) == folder.path;
        let folders = library.folders.iter().enumerate();
        let folders = folders.filter(|(_, it)| it.life == Life::Live && inside(&it.path));
        let folders: Vec<_> = folders.map(|(number, _)| Thing::Folder(number)).collect();
        self.check_listing(&format!("the folders in {what}"), &node["folders"], &folders)?;
        let assets = library.assets.iter().enumerate();
        let assets = assets.filter(|(_, it)| it.life == Life::Live && inside(&it.path));
        let assets: Vec<_> = assets.map(|(number, _)| Thing::Asset(number)).collect();
        self.check_listing(&format!("the assets in {what}"), &node["assets"], &assets)
    }

    fn check_listing(&self, what: &str, listing: &Value, should: &[Thing]) -> Checked {
        let nodes = listing["nodes"].as_array().expect("nodes");
        let listed: BTreeSet<&str> = nodes.iter().map(|node| text(&node["id"])).collect();
        same(what, &listed, &should.iter().map(|thing| self.ids.thing(*thing)).collect())?;
        same_json(&format!("the count of {what}"), &listing["totalCount"], &json!(should.len()))
    }

    /// What folders and assets have in common. Answers whether there is more to look at.
    fn check_life(
        &mut self,
        thing: Thing,
        node: &Value,
        path: &str,
        life: Life,
        revision: i64,
    ) -> Checked<bool> {
        let what = format!("{thing:?} {path:?}");
        same(&format!("whether {what} is gone"), &node.is_null(), &(life == Life::Purged))?;
        if life == Life::Purged {
            return Ok(false);
        }
        let whole = self.ids.path(path);
        same(&format!("the name of {what}"), &text(&node["name"]), &name(&whole))?;
        same_json(&format!("the path of {what}"), &node["path"], &json!(whole))?;
        same_json(&format!("the revision of {what}"), &node["revision"], &json!(revision))?;
        let is_trashed = life != Life::Live;
        same(&format!("whether {what} is deleted"), &node["deletedAt"].is_string(), &is_trashed)?;
        same(&format!("whether {what} has a last day"), &node["purgeAt"].is_string(), &is_trashed)?;
        let before = self.revisions.insert(thing, revision).unwrap_or(0);
        same(&format!("whether the revision of {what} only grows"), &(before <= revision), &true)?;
        Ok(true)
    }

    fn check_asset(&mut self, number: usize, node: &Value, library: &Library) -> Checked {
        let asset = &library.assets[number];
        let thing = Thing::Asset(number);
        if !self.check_life(thing, node, &asset.path, asset.life, asset.revision)? {
            return Ok(());
        }
        let what = format!("{thing:?} {:?}", asset.path);
        same_json(&format!("the title of {what}"), &node["assetTitle"], &json!(asset.title))?;
        let versions = node["versions"]["nodes"].as_array().expect("nodes");
        let should = asset.versions.iter().enumerate().map(|(index, version)| {
            json!({
                "id": self.ids.versions.get(&VersionAt { asset: number, number: index + 1 }),
                "number": index + 1,
                "state": state_name(version.state),
                "label": version.label,
                "size": self.bytes(version.content).len(),
                "sha256": self.digest(version.content),
            })
        });
        same_json(&format!("the versions of {what}"), &node["versions"]["nodes"], &should.collect())?;
        let published = versions.iter().filter(|version| version["state"] == "PUBLISHED").count();
        same(&format!("whether {what} has one published version at most"), &(published <= 1), &true)?;
        let published = &node["publishedVersion"]["number"];
        same_json(&format!("the published version of {what}"), published, &json!(asset.published()))?;
        let latest = (!asset.versions.is_empty()).then_some(asset.versions.len());
        same_json(
            &format!("the latest version of {what}"),
            &node["latestVersion"]["number"],
            &json!(latest),
        )?;
        if asset.life != Life::Live {
            return Ok(());
        }
        same(&format!("whether {what} has a URL"), &node["url"].is_string(), &asset.published().is_some())?;
        let former = library.former_paths(asset).into_iter();
        let former: Vec<String> = former.map(|path| self.ids.path(path)).collect();
        same_json(&format!("the former paths of {what}"), &node["formerPaths"], &json!(former))
    }

    /// Who has no token sees what is published, and the folders that lead to it, wherever it looks.
    async fn check_strangers(&self, library: &Library) -> Checked {
        let Some(stranger) = &self.stranger else { return Ok(()) };
        let live = library.assets.iter().filter(|asset| asset.life == Life::Live);
        let shown: Vec<&Asset> = live.filter(|asset| asset.published().is_some()).collect();
        let leads = |folder: &Folder| {
            let below = format!("{}/", folder.path);
            folder.life == Life::Live && shown.iter().any(|asset| asset.path.starts_with(&below))
        };
        let mut should: BTreeSet<String> = shown.iter().map(|asset| self.ids.path(&asset.path)).collect();
        let folders = library.folders.iter().skip(1).filter(|folder| leads(folder));
        should.extend(folders.map(|folder| self.ids.path(&folder.path)));
        if !shown.is_empty() {
            should.insert(self.ids.top.clone());
        }
        let things = (0..library.folders.len()).map(Thing::Folder);
        let things = things.chain((0..library.assets.len()).map(Thing::Asset));
        let ids: Vec<&str> = things.map(|thing| self.ids.thing(thing)).collect();
        let mut seen = BTreeSet::new();
        for ids in ids.chunks(200) {
            let body = json!({ "query": SHOWN, "variables": { "ids": ids, "top": self.ids.top } });
            let request = stranger.post(format!("{}/graphql", self.base)).json(&body);
            let answer: Value = request.send().await?.json().await?;
            let data = &answer["data"];
            let nodes = data["nodes"].as_array().ok_or_else(|| format!("strangers: {answer}"))?;
            seen.extend(nodes.iter().filter_map(|node| node["path"].as_str()).map(ToOwned::to_owned));
            let drafts = nodes.iter().filter_map(|node| node["versions"]["nodes"].as_array()).flatten();
            same("a draft that strangers see", &drafts.filter(|node| node["state"] == "DRAFT").count(), &0)?;
            let folder = &data["folder"];
            same("whether strangers see the folder", &folder.is_null(), &shown.is_empty())?;
            if !folder.is_null() {
                let direct = library.folders.iter().skip(1).filter(|folder| leads(folder));
                let direct = direct.filter(|folder| parent(&folder.path).is_empty()).count();
                same_json("the folders of strangers", &folder["folders"]["totalCount"], &json!(direct))?;
                same_json(
                    "the listed folders",
                    &json!(folder["folders"]["nodes"].as_array().map(Vec::len)),
                    &json!(direct),
                )?;
                same_json("the assets of strangers", &folder["assets"]["totalCount"], &json!(shown.len()))?;
                same_json(
                    "the listed assets",
                    &json!(folder["assets"]["nodes"].as_array().map(Vec::len)),
                    &json!(shown.len()),
                )?;
            }
        }
        same("what strangers see", &seen, &should)
    }

    async fn check_trash(&mut self, library: &Library) -> Checked {
        let listed = self.trash().await?;
        let things = library.trashed().map(|deletion| {
            let path = self.ids.path(library.path_of(deletion.top));
            (self.ids.thing(deletion.top), (path, deletion.step))
        });
        let mut things: HashMap<&str, (String, usize)> = things.collect();
        let mut before = usize::MAX;
        for node in &listed {
            let (path, step) = things
                .remove(text(&node["id"]))
                .ok_or_else(|| format!("{node} is in the trash, and should not be"))?;
            same_json("a path in the trash", &node["path"], &json!(path))?;
            same("whether the trash has the newest first", &(step <= before), &true)?;
            before = step;
        }
        same("what the trash does not have", &things, &HashMap::new())
    }

    /// What the trash has from this client's folder, in its order.
    async fn trash(&self) -> Checked<Vec<Value>> {
        let below = format!("{}/", self.ids.top);
        let mut listed = Vec::new();
        let mut after = Value::Null;
        loop {
            let mut page = self.gql(TRASH, json!({ "after": after })).await?["trash"].take();
            let nodes = page["nodes"].as_array_mut().expect("nodes");
            let count = nodes.len();
            nodes.retain(|node| text(&node["path"]).starts_with(&below));
            // Newest first: what a client alone deleted comes before all that was there.
            let others_began = self.alone && nodes.len() < count;
            listed.append(nodes);
            if others_began || page["pageInfo"]["hasNextPage"] == false {
                return Ok(listed);
            }
            after = page["pageInfo"]["endCursor"].take();
        }
    }

    /// What was there at a moment in the middle, by its cursor.
    pub async fn check_past(&self, library: &Library) -> Checked {
        let Some((cursor, then)) = self.moments.get(self.moments.len() / 2) else { return Ok(()) };
        for (number, folder) in then.folders.iter().enumerate().filter(|(_, it)| it.life == Life::Live) {
            let gone = library.folders[number].life == Life::Purged;
            let asked = json!({ "path": self.ids.path(&folder.path), "cursor": cursor });
            let is = self.gql(FOLDER_THEN, asked).await?["folder"].take();
            let assets = then.assets.iter().enumerate().filter(|(number, it)| {
                it.life == Life::Live
                    && parent(&it.path) == folder.path
                    && library.assets[*number].life != Life::Purged
            });
            let mut assets: Vec<_> = assets.map(|(number, it)| self.asset_then(number, it)).collect();
            assets.sort_by(|one, other| text(&one["name"]).cmp(text(&other["name"])));
            let path = self.ids.path(&folder.path);
            let id = self.ids.thing(Thing::Folder(number));
            let should =
                json!({ "id": id, "path": path, "name": name(&path), "assets": { "nodes": assets } });
            let should = if gone { Value::Null } else { should };
            same_json(&format!("folder #{number} as it was"), &is, &should)?;
        }
        for (number, asset) in then.assets.iter().enumerate().filter(|(_, it)| it.life == Life::Live) {
            let folder = then.folder_at(parent(&asset.path)).expect("it lay in a folder");
            if library.folders[folder].life == Life::Purged {
                continue; // What its folder is then, the rules do not say.
            }
            let gone = library.assets[number].life == Life::Purged;
            let asked = json!({ "path": self.ids.path(&asset.path), "cursor": cursor });
            let is = self.gql(ASSET_THEN, asked).await?["asset"].take();
            let should = if gone { Value::Null } else { self.asset_then(number, asset) };
            same_json(&format!("asset #{number} as it was"), &is, &should)?;
        }
        Ok(())
    }

    fn asset_then(&self, number: usize, asset: &Asset) -> Value {
        let published = asset.published().map(|number| json!({ "number": number }));
        json!({
            "id": self.ids.thing(Thing::Asset(number)),
            "path": self.ids.path(&asset.path),
            "name": name(&asset.path),
            "folder": { "path": self.ids.path(parent(&asset.path)) },
            "publishedVersion": published,
        })
    }

    /// What everybody gets at every URL that there is or was.
    pub async fn check_urls(&self, library: &Library) -> Checked {
        for (number, asset) in library.assets.iter().enumerate() {
            for (index, version) in asset.versions.iter().enumerate() {
                let Some(id) = self.ids.versions.get(&VersionAt { asset: number, number: index + 1 }) else {
                    return Err(Failure::Differs(format!("asset #{number} v{} is not known", index + 1)));
                };
                let bytes = (asset.life == Life::Live).then(|| self.bytes(version.content));
                self.check_bytes(&format!("/v/{id}/file"), bytes).await?;
            }
        }
        let mut places: BTreeSet<&str> = library.assets.iter().map(|asset| asset.path.as_str()).collect();
        places.extend(library.assets.iter().flat_map(|asset| &asset.former_paths).map(String::as_str));
        for path in places {
            self.check_place(path, library).await?;
        }
        Ok(())
    }

    async fn check_place(&self, path: &str, library: &Library) -> Checked {
        let url = self.stable_url(path);
        if let Some(asset) = library.asset_at(path) {
            let asset = &library.assets[asset];
            let published = asset.published().map(|number| asset.versions[number - 1].content);
            return self.check_bytes(&url, published.map(|content| self.bytes(content))).await;
        }
        let leads_on = library.assets.iter().find(|asset| {
            asset.life == Life::Live
                && asset.published().is_some()
                && library.former_paths(asset).contains(&path)
        });
        let Some(asset) = leads_on else { return self.check_bytes(&url, None).await };
        let response = self.http.get(format!("{}{url}", self.base)).send().await?;
        same(&format!("what {url} answers"), &response.status(), &StatusCode::PERMANENT_REDIRECT)?;
        let location = response.headers().get("location").and_then(|value| value.to_str().ok());
        let location = below_base(location.unwrap_or_default());
        same(&format!("where {url} leads"), &location, &self.stable_url(&asset.path))
    }

    fn stable_url(&self, path: &str) -> String {
        format!("/assets/{}", utf8_percent_encode(&self.ids.path(path), ENCODED))
    }

    async fn check_bytes(&self, url: &str, should: Option<Vec<u8>>) -> Checked {
        let response = self.http.get(format!("{}{url}", self.base)).send().await?;
        let status = response.status();
        let is = if status == StatusCode::OK { Some(response.bytes().await?.to_vec()) } else { None };
        same(&format!("the bytes at {url} ({status})"), &is, &should)?;
        let right = if should.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
        same(&format!("what {url} answers"), &status, &right)
    }
}

/// The live tree of the model, as the replay has it.
fn tree(library: &Library) -> BTreeMap<String, Node> {
    let folders = library.folders.iter().skip(1).filter(|folder| folder.life == Life::Live);
    let folders = folders.map(|folder| (folder.path.clone(), Node::Folder));
    let assets = library.assets.iter().filter(|asset| asset.life == Life::Live);
    let assets = assets.map(|asset| {
        let published = asset.published().map(|number| u64::try_from(number).expect("it is small"));
        (asset.path.clone(), Node::Asset(published))
    });
    folders.chain(assets).collect()
}

const fn state_name(state: State) -> &'static str {
    match state {
        State::Draft => "DRAFT",
        State::Published => "PUBLISHED",
        State::Archived => "ARCHIVED",
    }
}

const fn status_name(status: Status) -> &'static str {
    match status {
        Status::Created => "CREATED",
        Status::Received(_) => "RECEIVED",
        Status::Finished(_) => "FINISHED",
        Status::Rejected => "REJECTED",
        Status::Cancelled => "CANCELLED",
        Status::Expired => "EXPIRED",
    }
}
