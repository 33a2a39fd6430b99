//! What a store's refusal means to us.

use std::io;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// An error of a request: `NotFound` when what it was about is not there, anything else when it could not be done.
pub fn failure<E>(doing: &str, error: &SdkError<E, HttpResponse>) -> io::Error
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let kind = kind(error);
    let code = error.code().unwrap_or_default().to_owned();
    let message = if matches!(error, SdkError::ServiceError(_)) && !code.is_empty() {
        format!("{doing}: the store answers {code}: {}", error.message().unwrap_or_default())
    } else {
        format!("{doing}: {}", DisplayErrorContext(error))
    };
    io::Error::new(kind, message)
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
