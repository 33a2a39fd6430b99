//! Cursors: of the changelog and of lists.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use uuid::Uuid;
use vellum::feed::Cursor;
use vellum_fuzz::Library;

/// Lists that go on from a cursor, forth and back.
const QUERY: &str = "query($cursor: String!) {
    changes(after: $cursor) { nextCursor }
    assets(after: $cursor) { nodes { id } }
    before: assets(before: $cursor, last: 2) { nodes { id } }
    bySize: assets(after: $cursor, orderBy: { field: SIZE, direction: DESC }) { nodes { id } }
    byTime: assets(after: $cursor, orderBy: { field: UPDATED_AT, direction: ASC }) { nodes { id } }
    root { folders(after: $cursor) { nodes { id } } assets(after: $cursor, recursive: true) { nodes { id } } }
    trash(after: $cursor) { nodes { __typename } }
    tokens(after: $cursor) { nodes { id } }
}";

fuzz_target!(|text: &str| {
    let epoch = Uuid::from_u128(7 << 100);
    if let Ok(cursor) = Cursor::decode(text, epoch) {
        assert_eq!(cursor.encode(epoch), text);
    }
    let library = Library::get();
    // Each alone: one that is refused takes the others along.
    for field in QUERY.lines().filter(|line| line.starts_with("    ")) {
        let answer = library.graphql(&format!("query($cursor: String!) {{ {field} }}"), &json!({ "cursor": text }));
        assert!(answer["data"].is_object() || answer["errors"].is_array(), "{answer}");
    }
    library.graphql(QUERY, &json!({ "cursor": text }));
});
