//! Points at which a test can let the process die, to see that nothing is lost there. Release builds have none.

/// Ends the process at once when the environment names this point (`VELLUM_TEST_CRASH_AT`).
#[cfg(debug_assertions)]
pub fn crash_point(name: &str) {
    if crate::config::crash_at() == Some(name) {
        std::process::abort();
    }
}

/// Ends the process at once when a test asked for it; never in a release build.
#[cfg(not(debug_assertions))]
pub const fn crash_point(_: &str) {}
