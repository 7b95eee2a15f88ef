//! The archive over `object_store`: one implementation for directories and for S3.

use std::{fs, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use conflux_proto::store;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, aws::AmazonS3Builder, local::LocalFileSystem, path::Path};
use tokio::time::timeout;

use super::{Archive, ArchiveError, ArchiveSettings, Archived, S3Settings, Sought};
use crate::machine::limits::MAX_CONTENT_BYTES;

/// One object has so long, repetitions included.
const WITHIN: Duration = Duration::from_secs(30);
/// Bytes of a description: the schema is the most of it.
const MAX_DESCRIPTION: usize = 1 << 20;

/// See the module.
pub struct ObjectArchive {
    store: Arc<dyn ObjectStore>,
    prefix: String,
}

impl ObjectArchive {
    /// Opens what the settings name. The text of an error says which of them is wrong.
    pub fn open(settings: &ArchiveSettings) -> Result<Self, String> {
        match (&settings.directory, &settings.s3) {
            (Some(directory), None) => {
                fs::create_dir_all(directory).map_err(|e| format!("archive.directory: {e}"))?;
                let store =
                    LocalFileSystem::new_with_prefix(directory).map_err(|e| format!("archive.directory: {e}"))?;
                // What is pruned after it must not be lost with the power.
                Ok(Self { store: Arc::new(store.with_fsync(true)), prefix: String::new() })
            }
            (None, Some(s3)) => {
                let store = open_s3(s3).map_err(|e| format!("archive.{e}"))?;
                Ok(Self { store: Arc::new(store), prefix: s3.prefix.clone() })
            }
            _ => Err("archive: name one of directory and s3".into()),
        }
    }

    fn path(&self, name: &str) -> Path {
        match self.prefix.as_str() {
            "" => Path::from(name),
            prefix => Path::from(format!("{prefix}/{name}")),
        }
    }

    /// An object of at most `max` bytes; none: it is not there.
    async fn get(&self, name: &str, max: usize) -> Result<Option<Bytes>, ArchiveError> {
        let failed = |why: String| ArchiveError { name: name.to_owned(), why };
        let work = async {
            let found = match self.store.get(&self.path(name)).await {
                Ok(found) => found,
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                Err(e) => return Err(failed(e.to_string())),
            };
            if found.meta.size > max as u64 {
                return Err(failed(format!("{} bytes, more than {max}", found.meta.size)));
            }
            found.bytes().await.map(Some).map_err(|e| failed(e.to_string()))
        };
        timeout(WITHIN, work).await.unwrap_or_else(|_| Err(failed(format!("no answer within {WITHIN:?}"))))
    }

    async fn put(&self, name: &str, payload: PutPayload) -> Result<(), ArchiveError> {
        let failed = |why: String| ArchiveError { name: name.to_owned(), why };
        let path = self.path(name);
        match timeout(WITHIN, self.store.put(&path, payload)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(failed(e.to_string())),
            Err(_) => Err(failed(format!("no answer within {WITHIN:?}"))),
        }
    }
}

#[async_trait]
impl Archive for ObjectArchive {
    async fn keep(&self, version: &Archived) -> Result<(), ArchiveError> {
        let name = version.name();
        self.put(&name, version.content.clone().into()).await?;
        // Last: where it is, the content is whole.
        self.put(&format!("{name}.json"), version.description().into()).await
    }

    async fn find(&self, sought: &Sought) -> Result<Option<(store::Version, Bytes)>, ArchiveError> {
        let name = sought.name();
        // Where the description is, the content is whole.
        let Some(description) = self.get(&format!("{name}.json"), MAX_DESCRIPTION).await? else { return Ok(None) };
        let Some(content) = self.get(&name, MAX_CONTENT_BYTES).await? else { return Ok(None) };
        sought.read(&description, content).map(Some)
    }
}

/// A bucket. Credentials come from files, else from the environment (`AWS_ACCESS_KEY_ID`, ..); neither is ever told.
pub fn open_s3(settings: &S3Settings) -> Result<impl ObjectStore + use<>, String> {
    let secret = |field: &str, file: &std::path::Path| {
        let text = fs::read_to_string(file).map_err(|e| format!("s3.{field}: {}: {e}", file.display()))?;
        Ok::<_, String>(text.trim().to_owned())
    };
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&settings.bucket)
        .with_region(&settings.region)
        .with_allow_http(settings.allow_http);
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(file) = &settings.access_key_file {
        builder = builder.with_access_key_id(secret("access_key_file", file)?);
    }
    if let Some(file) = &settings.secret_key_file {
        builder = builder.with_secret_access_key(secret("secret_key_file", file)?);
    }
    builder.build().map_err(|e| format!("s3: {e}"))
}

#[cfg(test)]
mod tests {
    use conflux_common::ids::{ConfigId, Incarnation};
    use sha2::{Digest, Sha256};

    use super::*;

    fn version() -> Archived {
        let config =
            store::Config { id: 3, app: "shop".into(), env: "prod".into(), name: "a".into(), ..Default::default() };
        let sha256 = Sha256::digest(b"x: 1").to_vec().into();
        let version = store::Version { number: 7, format: "yaml".into(), size: 4, sha256, ..Default::default() };
        Archived { tenant: ("acme".into(), 9, 1), config, version, content: "x: 1".into() }
    }

    /// What was archived must be found again by its name, and once however often it was given.
    #[tokio::test]
    async fn a_directory_keeps_versions_with_their_descriptions() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("archive");
        let settings = ArchiveSettings { directory: Some(directory.clone()), s3: None };
        let archive = ObjectArchive::open(&settings).unwrap();
        for _ in 0..2 {
            archive.keep(&version()).await.unwrap();
        }
        assert_eq!(fs::read(directory.join("acme-9/1/c3/7")).unwrap(), b"x: 1");
        let told: serde_json::Value =
            serde_json::from_slice(&fs::read(directory.join("acme-9/1/c3/7.json")).unwrap()).unwrap();
        assert_eq!((&told["app"], &told["version"], &told["size"]), (&"shop".into(), &7.into(), &4.into()));
        let names = fs::read_dir(directory.join("acme-9/1/c3")).unwrap().count();
        assert_eq!(names, 2, "nothing half-written is left");
    }

    /// What was given up can be read again, whole or not at all.
    #[tokio::test]
    async fn a_version_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let settings = ArchiveSettings { directory: Some(folder.path().into()), s3: None };
        let archive = ObjectArchive::open(&settings).unwrap();
        archive.keep(&version()).await.unwrap();
        let sought = |config, version| Sought {
            tenant: "acme".into(),
            tenant_id: 9,
            incarnation: Incarnation(1),
            config: ConfigId(config),
            version,
        };
        let (found, content) = archive.find(&sought(3, 7)).await.unwrap().unwrap();
        assert_eq!((&found, &content), (&version().version, &version().content));
        assert_eq!(archive.find(&sought(3, 8)).await.unwrap(), None);
        fs::write(folder.path().join("acme-9/1/c3/7"), "x: 2").unwrap();
        assert!(archive.find(&sought(3, 7)).await.unwrap_err().why.contains("damaged"));
    }

    /// A storage that cannot be reached must be an error with a name, not a version that is gone.
    #[tokio::test]
    async fn a_storage_that_fails_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("archive");
        let archive = ObjectArchive::open(&ArchiveSettings { directory: Some(directory.clone()), s3: None }).unwrap();
        fs::remove_dir(&directory).unwrap();
        fs::write(&directory, "in the way").unwrap();
        let error = archive.keep(&version()).await.unwrap_err();
        assert_eq!(error.name, "acme-9/1/c3/7");
    }
}
