//! Where backups are: a directory or a bucket, over `object_store`.

use std::{
    fs,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use conflux_shard::retention::archive::{S3Settings, open_s3};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, local::LocalFileSystem, path::Path};
use tokio::time::timeout;

use super::usage;

/// One object has so long, repetitions included.
const WITHIN: Duration = Duration::from_secs(300);

/// Of a bucket. Without the two files the credentials come from the environment or the machine's role.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Storage (s3://)")]
pub struct StorageArgs {
    /// Of another service than Amazon's: `https://minio.example.com`
    #[arg(long, env = "CONFLUX_S3_ENDPOINT", value_name = "URL")]
    s3_endpoint: Option<String>,
    /// The bucket's region
    #[arg(long, env = "CONFLUX_S3_REGION", default_value = "us-east-1")]
    s3_region: String,
    /// A file with the access key's id [default: AWS_ACCESS_KEY_ID, or the machine's role]
    #[arg(long, env = "CONFLUX_S3_ACCESS_KEY_FILE", value_name = "FILE", requires = "s3_secret_key_file")]
    s3_access_key_file: Option<PathBuf>,
    /// A file with its secret [default: AWS_SECRET_ACCESS_KEY, or the machine's role]
    #[arg(long, env = "CONFLUX_S3_SECRET_KEY_FILE", value_name = "FILE", requires = "s3_access_key_file")]
    s3_secret_key_file: Option<PathBuf>,
    /// Let the endpoint be plain HTTP: backups then travel in clear
    #[arg(long)]
    s3_allow_http: bool,
}

/// A place with names below it.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    url: String,
}

impl Store {
    /// To read from.
    pub fn open(url: &str, args: &StorageArgs) -> anyhow::Result<Self> {
        if let Some(directory) = directory(url)?
            && !directory.is_dir()
        {
            bail!("{} is no directory", directory.display());
        }
        Self::at(url, args)
    }

    /// To write to: a directory is made.
    pub fn create(url: &str, args: &StorageArgs) -> anyhow::Result<Self> {
        if let Some(directory) = directory(url)? {
            fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        Self::at(url, args)
    }

    fn at(url: &str, args: &StorageArgs) -> anyhow::Result<Self> {
        let url = url.trim_end_matches('/').to_owned();
        if let Some(directory) = directory(&url)? {
            let store = LocalFileSystem::new_with_prefix(&directory).with_context(|| url.clone())?;
            return Ok(Self { objects: Arc::new(store.with_fsync(true)), prefix: Path::default(), url });
        }
        let (bucket, prefix) = bucket(&url)?;
        let settings = S3Settings {
            bucket: bucket.to_owned(),
            region: args.s3_region.clone(),
            endpoint: args.s3_endpoint.clone(),
            prefix: String::new(),
            access_key_file: args.s3_access_key_file.clone(),
            secret_key_file: args.s3_secret_key_file.clone(),
            allow_http: args.s3_allow_http,
        };
        let store = open_s3(&settings).map_err(usage)?;
        let prefix = Path::parse(prefix).map_err(|e| usage(format!("{url}: {e}")))?;
        Ok(Self { objects: Arc::new(store), prefix, url })
    }

    /// The place of this name below it.
    pub fn below(&self, name: &str) -> Self {
        let prefix = self.prefix.clone().join(name);
        Self { objects: self.objects.clone(), prefix, url: format!("{}/{name}", self.url) }
    }

    /// As it is shown.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// Writes an object; returns once it is kept.
    pub async fn put(&self, name: &str, content: Bytes) -> anyhow::Result<()> {
        let put = timeout(WITHIN, self.objects.put(&self.path(name), content.into())).await;
        let what = || format!("writing {}/{name}", self.url);
        put.with_context(|| format!("{}: no answer within {WITHIN:?}", what()))?.with_context(what)?;
        Ok(())
    }

    /// Reads an object whole; none: it is not there.
    pub async fn get(&self, name: &str) -> anyhow::Result<Option<Bytes>> {
        let path = self.path(name);
        let get = async {
            match self.objects.get(&path).await {
                Ok(found) => found.bytes().await.map(Some),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let what = || format!("reading {}/{name}", self.url);
        let got = timeout(WITHIN, get).await.with_context(|| format!("{}: no answer within {WITHIN:?}", what()))?;
        got.with_context(what)
    }

    /// The names of the places below it.
    pub async fn places(&self) -> anyhow::Result<Vec<String>> {
        let prefix = Some(&self.prefix).filter(|p| !p.as_ref().is_empty());
        let listed = self.objects.list_with_delimiter(prefix).await.with_context(|| format!("listing {}", self.url))?;
        let last = |path: &Path| path.filename().map(str::to_owned);
        let mut names: Vec<String> = listed.common_prefixes.iter().filter_map(last).collect();
        names.sort();
        Ok(names)
    }

    /// Deletes an object; one that is not there is no error.
    pub async fn delete(&self, name: &str) -> anyhow::Result<()> {
        self.delete_path(&self.path(name)).await
    }

    async fn delete_path(&self, path: &Path) -> anyhow::Result<()> {
        match self.objects.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("deleting {path} at {}", self.url)),
        }
    }

    /// Deletes everything below it.
    pub async fn delete_all(&self) -> anyhow::Result<()> {
        let found = self.objects.list(Some(&self.prefix)).try_collect::<Vec<_>>().await;
        for object in found.with_context(|| format!("listing {}", self.url))? {
            self.delete_path(&object.location).await?;
        }
        self.remove_folders();
        Ok(())
    }

    /// The same as well as it can be done, for what was not finished.
    pub async fn clear(&self) {
        if let Err(error) = self.delete_all().await {
            eprintln!("conflux: a part of an unfinished backup stays at {}: {error:#}", self.url);
        }
    }

    /// A bucket has none; in a directory empty ones would stay.
    fn remove_folders(&self) {
        let Ok(Some(folder)) = directory(&self.url) else { return };
        for inner in fs::read_dir(&folder).into_iter().flatten().flatten() {
            // Only where nothing is left in them.
            let _ = fs::remove_dir(inner.path());
        }
        let _ = fs::remove_dir(folder);
    }
}

/// `file:///var/backups`; none: another kind of URL.
fn directory(url: &str) -> anyhow::Result<Option<PathBuf>> {
    let Some(path) = url.strip_prefix("file://") else { return Ok(None) };
    if !path.starts_with('/') || FilePath::new(path).components().any(|c| c.as_os_str() == "..") {
        return Err(usage(format!("{url}: file:// and an absolute path, so file:///var/backups")));
    }
    Ok(Some(PathBuf::from(path)))
}

/// `s3://bucket/prefix`
fn bucket(url: &str) -> anyhow::Result<(&str, &str)> {
    let wrong = || usage(format!("{url}: file:///directory or s3://bucket/prefix is expected"));
    let (bucket, prefix) = match url.strip_prefix("s3://").ok_or_else(wrong)?.split_once('/') {
        Some((bucket, prefix)) => (bucket, prefix),
        None => (url.strip_prefix("s3://").unwrap_or_default(), ""),
    };
    if bucket.is_empty() { Err(wrong()) } else { Ok((bucket, prefix)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &FilePath) -> Store {
        Store::create(&format!("file://{}/backups", folder.display()), &StorageArgs::default()).unwrap()
    }

    /// What is written is found again by its name, and what is deleted leaves no folders behind.
    #[tokio::test]
    async fn a_directory_keeps_objects() {
        let folder = tempfile::tempdir().unwrap();
        let root = open(folder.path());
        let store = root.below("one");
        store.put("shard-a/000000", Bytes::from_static(b"x")).await.unwrap();
        store.put("manifest.json", Bytes::from_static(b"{}")).await.unwrap();
        assert_eq!(root.places().await.unwrap(), ["one"]);
        assert_eq!(store.get("shard-a/000000").await.unwrap().unwrap(), "x");
        assert_eq!(store.get("shard-a/000001").await.unwrap(), None);
        store.delete_all().await.unwrap();
        assert_eq!(root.places().await.unwrap(), Vec::<String>::new());
        assert_eq!(fs::read_dir(folder.path().join("backups")).unwrap().count(), 0);
    }

    /// A mistake must not become a directory of that name somewhere.
    #[test]
    fn only_the_two_kinds_of_url_are_read() {
        let folder = tempfile::tempdir().unwrap();
        for wrong in ["/var/backups", "file://relative", "http://host/x", "s3:///x", "file:///a/../b", ""] {
            assert!(Store::create(wrong, &StorageArgs::default()).is_err(), "{wrong}");
        }
        let missing = format!("file://{}/nowhere", folder.path().display());
        assert!(Store::open(&missing, &StorageArgs::default()).is_err());
        assert_eq!(bucket("s3://b/p/q").unwrap(), ("b", "p/q"));
        assert_eq!(bucket("s3://b").unwrap(), ("b", ""));
    }
}
