//! The schema that the server prints is the one that stands in the repository.

#[test]
fn the_file_says_what_the_server_says() {
    let file = include_str!("../../schema.graphql");
    let printed = vellum::graphql::sdl();
    let differing = file.lines().zip(printed.lines()).find(|(file, printed)| file != printed);
    assert!(file == printed, "run `just schema`; the first difference: {differing:?}");
}
