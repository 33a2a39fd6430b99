//! What can go wrong, by what the caller can do about it. Knows no transport; `graphql/error.rs` and
//! `http/error.rs` map it, and neither ever sends a cause.

use std::fmt;
use std::sync::Arc;

use entity::upload_intent::RejectionCode;
use sea_orm::{DbErr, RuntimeErr, SqlxError};

/// Result of an operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation did not happen.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The input breaks a rule; `field` names the input field (dotted below `input`).
    #[error("{field}: {message}")]
    BadInput {
        /// Which input.
        field: String,
        /// What is wrong with it and what would do.
        message: String,
    },
    /// There is no such thing, or the actor may not know of it.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken.
    #[error("{0}")]
    AlreadyExists(String),
    /// The thing changed since the caller read it.
    #[error("{what} is at revision {current}, not {expected}: read it again")]
    RevisionConflict {
        /// Which thing, e.g. `asset images/hero`.
        what: String,
        /// The revision that the caller had.
        expected: i64,
        /// The revision now; 0 when it does not exist.
        current: i64,
    },
    /// An upload cannot go on; the reason decides how.
    #[error("{message}")]
    Upload {
        /// Why.
        reason: UploadError,
        /// For people.
        message: String,
    },
    /// A version uses the file.
    #[error("{0}")]
    FileInUse(String),
    /// Bytes that were in the store a moment ago are not there any more: secure them and try again.
    #[error("the storage changed meanwhile; try again")]
    BytesMoved,
    /// One of several operations that happen together was refused, and so none happened.
    #[error("operation {index}: {error}")]
    InOperation {
        /// Which, from 0.
        index: usize,
        /// Why.
        error: Box<Error>,
    },
    /// The cursor is older than the log keeps, or from another database.
    #[error("{0}")]
    CursorExpired(String),
    /// Nobody is known to ask, and somebody has to be.
    #[error("{0}")]
    Unauthenticated(String),
    /// The actor's role does not allow it.
    #[error("{0}")]
    Forbidden(String),
    /// Too much at once.
    #[error("{0}")]
    RateLimited(String),
    /// The database or the store cannot be reached now.
    #[error("{message}")]
    Unavailable {
        /// For people, without the cause.
        message: String,
        /// For the log.
        cause: Cause,
    },
    /// A fault of the server's.
    #[error("something went wrong in the server")]
    Internal(Cause),
}

/// Why an upload cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadError {
    /// Its bytes did not come yet.
    Incomplete,
    /// Its time ran out.
    Expired,
    /// It was cancelled.
    Cancelled,
    /// Its bytes came already.
    AlreadyReceived,
    /// The bytes are not what was declared.
    Rejected(RejectionCode),
}

/// What is behind an error, for the log alone.
#[derive(Clone)]
pub struct Cause(Arc<str>);

impl Cause {
    /// Keeps what `error` says of itself.
    pub fn new(error: impl fmt::Display) -> Self {
        Self(Arc::from(error.to_string()))
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error {
    /// A broken rule on one input.
    pub fn bad_input(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::BadInput { field: field.into(), message: message.into() }
    }

    /// The same as the refusal of one of several operations: which, and what it is called.
    #[must_use]
    pub fn in_operation(self, index: usize, name: &str) -> Self {
        let error = match self {
            Self::BadInput { field, message } => {
                let rest = field.strip_prefix("input").unwrap_or(&field);
                Self::BadInput { field: format!("input.operations.{index}.{name}{rest}"), message }
            }
            Self::BytesMoved => return Self::BytesMoved,
            other => other,
        };
        Self::InOperation { index, error: Box::new(error) }
    }

    /// Something that cannot be used now, with a message for people and a cause for the log.
    pub fn unavailable(message: impl Into<String>, cause: impl fmt::Display) -> Self {
        Self::Unavailable { message: message.into(), cause: Cause::new(cause) }
    }

    /// What was asked for takes longer than anybody may wait.
    #[must_use]
    pub fn slow() -> Self {
        Self::Unavailable {
            message: "it takes longer than a request may, and may still come to its end: look, and ask again"
                .to_owned(),
            cause: Cause::new("the database or the store is slow"),
        }
    }

    /// A fault of the server's, with its cause.
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::Internal(Cause::new(cause))
    }

    /// An upload that cannot go on.
    pub fn upload(reason: UploadError, message: impl Into<String>) -> Self {
        Self::Upload { reason, message: message.into() }
    }

    /// The store of bytes does not answer as it should.
    pub fn storage(cause: impl fmt::Display) -> Self {
        Self::Unavailable {
            message: "the storage of bytes is not available now; try again later".to_owned(),
            cause: Cause::new(cause),
        }
    }

    /// The stable code that clients switch on.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::BadInput { .. } => "BAD_USER_INPUT",
            Self::NotFound(_) => "NOT_FOUND",
            Self::AlreadyExists(_) => "ALREADY_EXISTS",
            Self::RevisionConflict { .. } => "REVISION_CONFLICT",
            Self::Upload { reason, .. } => reason.code(),
            Self::FileInUse(_) => "FILE_IN_USE",
            Self::InOperation { error, .. } => error.code(),
            Self::CursorExpired(_) => "CURSOR_EXPIRED",
            Self::Unauthenticated(_) => "UNAUTHENTICATED",
            Self::Forbidden(_) => "FORBIDDEN",
            Self::RateLimited(_) => "RATE_LIMITED",
            Self::Unavailable { .. } | Self::BytesMoved => "STORAGE_UNAVAILABLE",
            Self::Internal(_) => "INTERNAL_SERVER_ERROR",
        }
    }

    /// What is to be logged where the error is handled; none when it is the caller's own doing.
    #[must_use]
    pub const fn cause(&self) -> Option<&Cause> {
        match self {
            Self::InOperation { error, .. } => error.cause(),
            Self::Unavailable { cause, .. } | Self::Internal(cause) => Some(cause),
            _ => None,
        }
    }
}

impl UploadError {
    /// The stable code that clients switch on.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Incomplete => "UPLOAD_INCOMPLETE",
            Self::Expired => "UPLOAD_EXPIRED",
            Self::Cancelled => "UPLOAD_CANCELLED",
            Self::AlreadyReceived => "UPLOAD_ALREADY_RECEIVED",
            Self::Rejected(RejectionCode::SizeMismatch) => "SIZE_MISMATCH",
            Self::Rejected(RejectionCode::ChecksumMismatch) => "CHECKSUM_MISMATCH",
            Self::Rejected(RejectionCode::ContentTypeMismatch) => "CONTENT_TYPE_MISMATCH",
        }
    }
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::database(&error)
    }
}

impl Error {
    /// What the database says: that it is away or too busy, which passes, or a fault of ours.
    #[must_use]
    pub fn database(error: &DbErr) -> Self {
        if is_passing(error) {
            let message = "the database is not available now; try again later".to_owned();
            return Self::Unavailable { message, cause: Cause::new(error) };
        }
        Self::internal(error)
    }

    /// The server takes no more work.
    #[must_use]
    pub fn stopping() -> Self {
        let message = "the server is stopping; try again".to_owned();
        Self::Unavailable { message, cause: Cause::new("the writer takes no more jobs") }
    }
}

/// Whether an error tells of a database that is away, too busy, or has no room, rather than of a statement.
fn is_passing(error: &DbErr) -> bool {
    let (DbErr::Exec(runtime) | DbErr::Query(runtime) | DbErr::Conn(runtime)) = error else {
        return matches!(error, DbErr::ConnectionAcquire(_));
    };
    let RuntimeErr::SqlxError(error) = runtime else { return matches!(error, DbErr::Conn(_)) };
    match &**error {
        SqlxError::Io(_)
        | SqlxError::Tls(_)
        | SqlxError::PoolTimedOut
        | SqlxError::PoolClosed
        | SqlxError::WorkerCrashed => true,
        SqlxError::Database(error) => error.code().is_some_and(|code| is_passing_code(&code)),
        _ => false,
    }
}

/// SQLSTATE of PostgreSQL: connections, deadlocks, resources, waits that took too long, shutdown. Result codes of SQLite:
/// busy, locked, read-only, I/O, full, cannot open, in their extended forms too.
fn is_passing_code(code: &str) -> bool {
    if code.len() == 5 {
        let classes = ["08", "40", "53", "57P"];
        return classes.iter().any(|class| code.starts_with(class)) || ["55P03", "57014"].contains(&code);
    }
    code.parse::<u32>().is_ok_and(|code| [5, 6, 8, 10, 13, 14].contains(&(code & 0xff)))
}
