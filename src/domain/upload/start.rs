//! Beginning an upload: what a client says of its bytes is checked, and written down.

use entity::asset::Visibility;
use entity::upload_intent::{self, Status};
use entity::{BlobId, StoredFileId, Timestamp, UploadIntentId};
use sea_orm::{ActiveModelTrait as _, ActiveValue::Set};

use super::{parts, parts_key};
use crate::app::App;
use crate::blob::MediaType;
use crate::domain::actor::{Actor, Role};
use crate::domain::error::{Error, Result};
use crate::domain::path::{TreePath, parse_name};
use crate::domain::version::checked_label;
use crate::domain::{commit, folder, name, storage};

/// What a client says of the bytes that it is going to send.
#[derive(Debug, Clone)]
pub struct NewUpload {
    /// Where the version will appear.
    pub path: TreePath,
    /// For URLs and downloads; defaults to the last segment of the path.
    pub filename: Option<String>,
    /// Declared media type.
    pub content_type: Option<String>,
    /// Declared count of bytes.
    pub size_bytes: Option<i64>,
    /// Declared SHA-256, in hex.
    pub sha256: Option<String>,
    /// Label of the version.
    pub label: Option<String>,
    /// Whether the version is published at once.
    pub publish: bool,
    /// Who may read the asset.
    pub visibility: Option<Visibility>,
    /// The revision that the asset has to have at finish; 0 when it must not exist.
    pub if_revision: Option<i64>,
    /// Size of every part but the last, when the bytes are to come in parts.
    pub part_size_bytes: Option<i64>,
}

/// Opens a permission to send bytes to `upload.path`.
///
/// # Errors
/// `BAD_USER_INPUT`; `ALREADY_EXISTS` when a folder is at the path.
pub async fn start(app: &App, actor: &Actor, upload: NewUpload) -> Result<upload_intent::Model> {
    actor.require(Role::Editor)?;
    let upload = upload.checked(app)?;
    if folder::find(app.read(), &upload.path).await?.is_some() {
        return Err(name::taken_error(upload.path.as_str(), entity::name::Holder::Folder));
    }
    folder::check_can_be_made(app.read(), &upload.path.parent()).await?;
    let ttl = i64::try_from(app.config().upload_ttl.as_millis()).unwrap_or(i64::MAX);
    let backend = storage::default_name(app, app.read()).await?;
    let id = UploadIntentId(app.clock().new_id());
    let blob = BlobId(app.clock().secret_id());
    let upload_ref = match storage::own(app, &backend).await?.direct() {
        Some(direct) if upload.part_size_bytes.is_some() => {
            Some(direct.begin(&parts_key(app, id)).await.map_err(Error::storage)?)
        }
        _ => None,
    };
    let committed = commit(app, actor, move |edit| {
        Box::pin(async move {
            let filename = upload.filename.unwrap_or_else(|| upload.path.name().to_owned());
            let row = upload_intent::ActiveModel {
                id: Set(id),
                path: Set(Some(upload.path.as_str().to_owned())),
                filename: Set(filename),
                declared_content_type: Set(upload.content_type),
                declared_size_bytes: Set(upload.size_bytes),
                declared_sha256: Set(upload.sha256),
                label: Set(upload.label),
                publish: Set(upload.publish),
                visibility: Set(upload.visibility),
                if_revision: Set(upload.if_revision),
                part_size_bytes: Set(upload.part_size_bytes),
                blob_id: Set(Some(blob)),
                upload_ref: Set(upload_ref),
                status: Set(Status::Created),
                rejection_code: Set(None),
                rejection: Set(None),
                stored_file_id: Set(StoredFileId(edit.new_id())),
                backend: Set(backend),
                staging_key: Set(None),
                content_type: Set(None),
                received_bytes: Set(0),
                sha256: Set(None),
                version_id: Set(None),
                created_at: Set(edit.now()),
                created_by: Set(edit.by()),
                expires_at: Set(Timestamp(edit.now().0 + ttl)),
                swept_at: Set(None),
                sweep_at: Set(None),
            };
            Ok(row.insert(edit.conn()).await?)
        })
    })
    .await?;
    crate::app::crash_point("intent-row");
    Ok(committed.value)
}

impl NewUpload {
    fn checked(self, app: &App) -> Result<Self> {
        let max = app.config().max_upload_bytes;
        if let Some(size) = self.size_bytes.filter(|size| *size > max) {
            let message = format!("{size} bytes are too many; this server takes at most {max}");
            return Err(Error::bad_input("input.size", message));
        }
        if self.if_revision.is_some_and(|revision| revision < 0) {
            return Err(Error::bad_input("input.ifRevision", "must not be negative"));
        }
        Ok(Self {
            content_type: self.content_type.map(|text| checked_media_type(&text)).transpose()?,
            part_size_bytes: parts::size(self.size_bytes, self.part_size_bytes)?,
            filename: self.filename.map(|name| parse_name(&name, "input.filename")).transpose()?,
            sha256: self.sha256.map(|text| checked_sha256(&text)).transpose()?,
            label: checked_label(self.label)?,
            ..self
        })
    }
}

fn checked_media_type(text: &str) -> Result<String> {
    let parsed = MediaType::parse(text).map(|media_type| media_type.to_string());
    parsed.ok_or_else(|| {
        let message = format!("{text:?} is not a media type such as image/png");
        Error::bad_input("input.contentType", message)
    })
}

fn checked_sha256(text: &str) -> Result<String> {
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Error::bad_input("input.sha256", "must be 64 hexadecimal digits"))
}
