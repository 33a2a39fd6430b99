//! Signed URLs: only what was signed is good.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use vellum_fuzz::{CONTENT, Library};

fuzz_target!(|input: &[u8]| {
    let Some((how, rest)) = input.split_first() else { return };
    let library = Library::get();
    let (path, good) = &library.signed_url;
    // Either changes to a good one, each a place and what is changed there, or something else altogether.
    let query = if how % 2 == 0 {
        let mut query = good.clone().into_bytes();
        for change in rest.chunks_exact(2) {
            let place = usize::from(change[0]) % query.len();
            query[place] ^= change[1];
        }
        query
    } else {
        rest.to_vec()
    };
    let Some(answer) = library.read(&[path.as_bytes(), b"?", &query].concat(), &[]) else { return };
    if answer.status != 200 {
        assert!(answer.status.is_client_error(), "{}", answer.status);
        assert!(!answer.body.windows(8).any(|part| CONTENT.windows(8).any(|secret| secret == part)));
        return;
    }
    let parts = |query: &[u8]| url::form_urlencoded::parse(query).into_owned().collect::<BTreeMap<_, _>>();
    // What stands behind # is no part of it.
    let query = query.split(|byte| *byte == b'#').next().unwrap_or_default();
    let (asked, signed) = (parts(query), parts(good.as_bytes()));
    for (name, value) in signed {
        assert_eq!(asked.get(&name), Some(&value), "{name}");
    }
});
