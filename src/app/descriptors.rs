//! How many files and connections the process may have open.

/// What is taken for the limit where the system does not tell it.
#[cfg(not(target_os = "linux"))]
const USUAL: usize = 1024;
/// More than this is never asked for.
#[cfg(target_os = "linux")]
const MOST: u64 = 1 << 20;

/// Descriptors that the database, logs and the process itself use, about.
pub const OWN: usize = 96;

/// The limit of the process, raised as far as it may be. (Systems set a low one for programs that cannot bear more.)
#[cfg(target_os = "linux")]
#[must_use]
pub fn raise() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(MOST).min(MOST);
    if current.is_some_and(|current| current < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
    {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let current = getrlimit(Resource::Nofile).current.unwrap_or(MOST).min(MOST);
    usize::try_from(current).unwrap_or(usize::MAX)
}

/// The limit of the process.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn raise() -> usize {
    USUAL
}
