//! `vellum schema`.

/// Prints the SDL.
#[expect(clippy::print_stdout, reason = "it is what the command is for")]
pub fn run() {
    print!("{}", crate::graphql::sdl());
}
