//! Signs what goes into URLs (HMAC-SHA-256, RFC 2104), with a key that the servers of one library share.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entity::setting;
use hmac::{Hmac, KeyInit, Mac};
use sea_orm::{ActiveValue::Set, DatabaseConnection, DbErr, EntityTrait};
use sha2::Sha256;
use uuid::Uuid;

const SETTING: &str = "signing_key";

/// Makes and checks signatures.
pub struct Signer(Hmac<Sha256>);

impl Signer {
    /// Reads the key of the library, making it the first time.
    ///
    /// # Errors
    /// What the database says.
    pub async fn load(database: &DatabaseConnection) -> Result<Self, DbErr> {
        let fresh = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let row = setting::ActiveModel { name: Set(SETTING.to_owned()), value: Set(fresh) };
        // Of two servers that start together, both use what the first one wrote.
        setting::Entity::insert(row)
            .on_conflict_do_nothing_on([setting::Column::Name])
            .exec(database)
            .await?;
        let key = setting::Entity::find_by_id(SETTING).one(database).await?;
        let key = key.ok_or_else(|| DbErr::RecordNotFound(SETTING.to_owned()))?;
        Ok(Self(Hmac::new_from_slice(key.value.as_bytes()).expect("HMAC takes keys of any length")))
    }

    /// The signature of `purpose` and `subject`, in URL-safe base64.
    #[must_use]
    pub fn sign(&self, purpose: &str, subject: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.mac(purpose, subject).finalize().into_bytes())
    }

    /// An id of `purpose` and `subject` that nobody can guess, and every server of the library finds again.
    #[must_use]
    pub fn secret_id(&self, purpose: &str, subject: &str) -> Uuid {
        let mac = self.mac(purpose, subject).finalize().into_bytes();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&mac[..16]);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// Whether `signature` is the one of `purpose` and `subject`; takes the same time for every wrong one.
    #[must_use]
    pub fn verify(&self, purpose: &str, subject: &str, signature: &str) -> bool {
        let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        self.mac(purpose, subject).verify_slice(&bytes).is_ok()
    }

    fn mac(&self, purpose: &str, subject: &str) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(purpose.as_bytes());
        mac.update(b"\n");
        mac.update(subject.as_bytes());
        mac
    }
}
