//! What the query string of a signed URL says.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use url::form_urlencoded;

use super::Server;
use super::error::HttpError;
use crate::domain::error::Error;

/// What a signed URL carries; other parameters are nobody's business.
#[derive(Debug, Default)]
pub struct Signed {
    /// Proves that the URL was given out by the server.
    pub signature: Option<String>,
    /// Until when it holds.
    pub expires: Option<String>,
    /// How browsers are to take the file.
    pub disposition: Option<String>,
}

impl Signed {
    /// # Errors
    /// `BAD_USER_INPUT` for a parameter that is given twice: which one counts would be anybody's guess.
    fn parse(query: &str) -> Result<Self, Error> {
        let mut signed = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = match &*name {
                "signature" => &mut signed.signature,
                "expires" => &mut signed.expires,
                "disposition" => &mut signed.disposition,
                _ => continue,
            };
            if place.replace(value.into_owned()).is_some() {
                return Err(Error::bad_input(name, "is given more than once"));
            }
        }
        Ok(signed)
    }
}

impl FromRequestParts<Server> for Signed {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &Server) -> Result<Self, HttpError> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_counts_once() {
        let signed = Signed::parse("expires=1&x=2&signature=a%2Db&x=3").expect("it can be read");
        assert_eq!((signed.signature.as_deref(), signed.expires.as_deref()), (Some("a-b"), Some("1")));
        assert_eq!(signed.disposition, None);
        assert!(matches!(Signed::parse("signature=a&signature=a"), Err(Error::BadInput { .. })));
    }
}
