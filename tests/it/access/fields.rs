//! What each role gets of every field of all that has an id, and of the viewer.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{ALL, HIDDEN, Library, ROLES, VIEWERS};
use crate::support::{HOPPER, ROCKET, text};

/// There is nothing to tell, whoever asks.
const NOTHING: [&str; 4] = ["null"; 4];
/// Strangers are not told who does what.
const WHO: [&str; 4] = ["nobody", "data", "data", "data"];
/// Lists that strangers find empty.
const EMPTIED: [&str; 4] = ["none", "data", "data", "data"];
/// What only those need who write.
const WRITERS: [&str; 4] = ["UNAUTHENTICATED", "null", "data", "data"];
const ADMINS: [&str; 4] = ["UNAUTHENTICATED", "FORBIDDEN", "FORBIDDEN", "data"];

/// A type, a document that asks for a field of one of its objects, and the fields with what each role gets.
type Table = (&'static str, &'static str, &'static [(&'static str, [&'static str; 4])]);

/// Every field of the types that implement `Node`, and of `Viewer`. `$name` stands for an id of the library.
const TYPES: [Table; 9] = [
    (
        "Asset",
        "{ asset(path: \"a/PUBLIC\") { $field } }",
        &[
            (
                "id path name folder{id} visibility url title altText tags metadata revision createdAt updatedAt",
                ALL,
            ),
            ("publishedVersion{id} latestVersion{id} version(number:1){id} versions{nodes{id}}", ALL),
            ("formerPaths", EMPTIED),
            ("changes{nextCursor}", VIEWERS),
            ("createdBy{kind} updatedBy{kind}", WHO),
            ("deletedAt deletedBy{kind} purgeAt", NOTHING),
        ],
    ),
    (
        "Folder",
        "{ folder(path: \"a\") { $field } }",
        &[
            ("id path name title parent{id} ancestors{id} folders{totalCount} assets{nodes{id}}", ALL),
            ("revision createdAt updatedAt", ALL),
            ("changes{nextCursor}", VIEWERS),
            ("createdBy{kind} updatedBy{kind}", WHO),
            ("deletedAt deletedBy{kind} purgeAt", NOTHING),
        ],
    ),
    (
        "Version",
        "{ version(id: \"$restored\") { $field } }",
        &[
            ("id asset{id} number state filename contentType size sha256 url createdAt publishedAt", ALL),
            ("label text", ALL),
            ("archivedAt archivedBy{kind}", NOTHING),
            ("signedUrl{url}", VIEWERS),
            // It was made of one that was never published.
            ("restoredFrom{id}", HIDDEN),
            ("createdBy{kind} publishedBy{kind}", WHO),
        ],
    ),
    // One that was published, before another one was.
    (
        "Version",
        "{ version(id: \"$archived\") { $field } }",
        &[("state archivedAt", ALL), ("createdBy{kind} publishedBy{kind} archivedBy{kind}", WHO)],
    ),
    (
        "Change",
        "{ changes(filter: { types: [ASSET_PUBLISH] }) { nodes { $field } } }",
        &[
            (
                "id cursor type at actor{kind} path folderPath name versionNumber contentType size sha256",
                VIEWERS,
            ),
            ("folder{id} asset{id} version{id}", VIEWERS),
            ("oldPath", ["UNAUTHENTICATED", "null", "null", "null"]),
        ],
    ),
    (
        "UploadIntent",
        "{ uploadIntent(id: \"$intent\") { $field } }",
        &[
            ("id path status receivedBytes createdAt createdBy{kind} expiresAt", VIEWERS),
            ("target{url}", WRITERS),
            ("parts{number}", ["UNAUTHENTICATED", "none", "none", "none"]),
            ("rejection version{id}", ["UNAUTHENTICATED", "null", "null", "null"]),
        ],
    ),
    (
        "StoredFile",
        "{ storedFile(id: \"$file\") { $field } }",
        &[("id url contentType size sha256 createdAt", VIEWERS)],
    ),
    (
        "Token",
        "{ tokens(first: 1) { nodes { $field } } }",
        &[
            ("id name role createdAt createdBy{kind} lastUsedAt", ADMINS),
            ("expiresAt revokedAt", ["UNAUTHENTICATED", "FORBIDDEN", "FORBIDDEN", "null"]),
        ],
    ),
    ("Viewer", "{ viewer { $field } }", &[("role", ALL), ("actor{kind}", WHO)]),
];

/// What the field inside an answer comes to.
fn outcome(answer: &Value) -> String {
    if let Some(error) = answer["errors"].get(0) {
        return text(&error["extensions"]["code"]).to_owned();
    }
    // Down to the object that was asked for one field.
    let mut value = &answer["data"];
    for _ in 0..2 {
        value = value.as_object().expect("an object").values().next().expect("a field");
    }
    if let Some(first) = value.get(0).filter(|first| first.is_object() && is_page(answer)) {
        value = first.as_object().expect("an object").values().next().expect("a field");
    }
    match value {
        Value::Null => "null",
        Value::Array(elements) if elements.is_empty() => "none",
        Value::Object(who) if who.get("kind").is_some_and(|kind| kind == "ANONYMOUS") => "nobody",
        _ => "data",
    }
    .to_owned()
}

/// Whether the object that was asked stands in a page.
fn is_page(answer: &Value) -> bool {
    ["changes", "tokens"].iter().any(|root| answer["data"].get(root).is_some())
}

#[tokio::test]
async fn every_field_is_told_to_each_role_as_the_table_says() {
    let mut library = Library::open().await;
    library.server.token = library.tokens[3].clone();
    let words = json!({ "path": "words/restored", "publish": false, "filename": "words.txt" });
    let unpublished = library.server.upload(words, b"words").await["version"]["id"].take();
    let restore = "mutation($id: ID!) { restoreVersion(input: { versionId: $id }) { version { id } } }";
    let restored = library.server.gql(restore, json!({ "id": unpublished })).await;
    library.ids.insert("restored", text(&restored["restoreVersion"]["version"]["id"]).to_owned());
    let archived =
        library.server.upload(json!({ "path": "words/twice" }), HOPPER).await["version"]["id"].take();
    library.ids.insert("archived", text(&archived).to_owned());
    library.server.upload(json!({ "path": "words/twice" }), ROCKET).await;
    let set =
        "mutation { updateAsset(input: { asset: { path: \"a/PUBLIC\" }, title: \"x\", altText: \"x\", tags: [\"x\"] }) {
        asset { id } } }";
    library.server.gql(set, json!({})).await;
    let mut wrong = Vec::new();
    for (index, role) in ROLES.into_iter().enumerate() {
        library.server.token = library.tokens[index].clone();
        for (of, document, fields) in TYPES {
            for (selections, should) in fields {
                for selection in selections.split(' ') {
                    let asked =
                        library.fill(&document.replace("$field", &selection.replace(':', ": ")), role);
                    let is = outcome(&library.server.ask(&asked, json!({})).await);
                    if is != should[index] {
                        wrong.push(format!("{role}: {of}.{selection} is {is}, not {}", should[index]));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn the_table_of_fields_names_all_of_them() {
    let library = Library::open().await;
    let asked = "{ node: __type(name: \"Node\") { possibleTypes { name fields { name } } }
        viewer: __type(name: \"Viewer\") { name fields { name } } }";
    let schema = library.server.gql(asked, json!({})).await;
    let types = schema["node"]["possibleTypes"].as_array().expect("types").iter().chain([&schema["viewer"]]);
    let of_schema: BTreeMap<&str, BTreeSet<&str>> = types
        .map(|kind| {
            let fields = kind["fields"].as_array().expect("fields").iter();
            (text(&kind["name"]), fields.map(|field| text(&field["name"])).collect())
        })
        .collect();
    let name = |selection: &'static str| selection.split(['(', '{']).next().unwrap_or_default();
    let mut of_table: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (of, _, fields) in TYPES {
        let names = fields.iter().flat_map(|(selections, _)| selections.split(' ')).map(name);
        of_table.entry(of).or_default().extend(names);
    }
    assert_eq!(of_table, of_schema);
}
