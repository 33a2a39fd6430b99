//! Files and folders that nobody but the owner can look into: the database has the key that signs URLs, and the bytes of
//! private assets lie beside those of public ones.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::path::Path;

/// Makes a folder, and those above it, unless they are there.
///
/// # Errors
/// When it cannot be made.
pub fn make_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Makes an empty file, unless it is there.
///
/// # Errors
/// When it cannot be made.
pub fn make_file(path: &Path) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Takes others' rights on a file or folder of ours away, if it is there.
///
/// # Errors
/// When they cannot be taken away; the message says what to do.
#[cfg(unix)]
pub fn close(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let permissions = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?.permissions(),
    };
    let mode = permissions.mode();
    if mode.trailing_zeros() >= 6 {
        return Ok(());
    }
    let closed = fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7700));
    if closed.is_ok() {
        tracing::info!(path = %path.display(), "took the rights of other users away");
    }
    closed.map_err(|error| {
        let path = path.display();
        io::Error::new(
            error.kind(),
            format!(
                "other users can read {path}, and this one may not change that ({error}): chmod go-rwx {path}"
            ),
        )
    })
}

/// Elsewhere folders have the rights of those above them.
#[cfg(not(unix))]
pub fn close(_path: &Path) -> io::Result<()> {
    Ok(())
}
