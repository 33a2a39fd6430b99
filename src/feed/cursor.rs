//! Places in the changelog, bound to the database that they were made by.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

/// Behind the entry with this number; 0 is before the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub i64);

/// A text that is no usable cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorError {
    /// It is no cursor at all.
    Garbage,
    /// It is from another database.
    Foreign,
}

/// First byte of the text form, so that it can change.
const FORMAT: u8 = 1;

impl Cursor {
    /// The opaque text that clients hold.
    #[must_use]
    pub fn encode(self, epoch: Uuid) -> String {
        let mut bytes = [FORMAT; 17];
        bytes[1..9].copy_from_slice(&epoch.as_bytes()[..8]);
        bytes[9..].copy_from_slice(&self.0.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads what [`Cursor::encode`] wrote.
    ///
    /// # Errors
    /// When it is garbage, or was made with another epoch.
    pub fn decode(text: &str, epoch: Uuid) -> Result<Self, CursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError::Garbage)?;
        let bytes: [u8; 17] = bytes.try_into().map_err(|_| CursorError::Garbage)?;
        let mut seq = [0; 8];
        seq.copy_from_slice(&bytes[9..]);
        let seq = i64::from_be_bytes(seq);
        if bytes[0] != FORMAT || seq < 0 {
            return Err(CursorError::Garbage);
        }
        if bytes[1..9] != epoch.as_bytes()[..8] {
            return Err(CursorError::Foreign);
        }
        Ok(Self(seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_holds_for_its_own_database_alone() {
        let (here, elsewhere) = (Uuid::from_u128(1 << 100), Uuid::from_u128(2 << 100));
        let text = Cursor(42).encode(here);
        assert_eq!(Cursor::decode(&text, here), Ok(Cursor(42)));
        assert_eq!(Cursor::decode(&text, elsewhere), Err(CursorError::Foreign));
        for garbage in ["", "42", "not a cursor", &text[1..]] {
            assert_eq!(Cursor::decode(garbage, here), Err(CursorError::Garbage), "{garbage}");
        }
    }
}
