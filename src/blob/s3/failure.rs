//! What a store's refusal means to us.

use std::io;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

/// An error of a request: `NotFound` when what it was about is not there, anything else when it could not be done.
pub fn failure<E>(doing: &str, error: &SdkError<E, HttpResponse>) -> io::Error
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let what = match (error, error.code()) {
        (_, Some(code)) => format!("the store answers {code}: {}", error.message().unwrap_or_default()),
        (SdkError::ServiceError(refusal), None) => {
            format!("the store answers {}", refusal.raw().status().as_u16())
        }
        _ => causes(error),
    };
    io::Error::new(kind(error), format!("{doing}: {what}"))
}

/// What an error says, and what those say that it comes from.
fn causes(error: &dyn std::error::Error) -> String {
    let mut all = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !all.contains(&text) {
            all = format!("{all}: {text}");
        }
        next = cause.source();
    }
    all
}

fn kind<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> io::ErrorKind {
    let SdkError::ServiceError(refusal) = error else {
        return io::ErrorKind::Other;
    };
    match (refusal.raw().status().as_u16(), error.code()) {
        // A bucket that is not there is a mistake in the settings, and no answer about an object.
        (_, Some("NoSuchBucket")) => io::ErrorKind::Other,
        (404, _) | (_, Some("NoSuchKey" | "NotFound" | "NoSuchUpload")) => io::ErrorKind::NotFound,
        (412, _) | (_, Some("PreconditionFailed")) => io::ErrorKind::InvalidInput,
        _ => io::ErrorKind::Other,
    }
}
