//! Where the archive is.

use std::path::PathBuf;

use conflux_common::settings::{Problems, Validate};
use serde::{Deserialize, Serialize};

/// `[archive]`: versions that retention gives up are written there first. Absent: they are deleted. One of the two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveSettings {
    /// An absolute path. Whoever leads writes there: let all members see the same directory.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// A bucket.
    #[serde(default)]
    pub s3: Option<S3Settings>,
}

/// `[archive.s3]`. Without the two files the credentials come from the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
/// `AWS_SESSION_TOKEN`, ..) or the machine's role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Settings {
    /// Its name.
    pub bucket: String,
    /// Where it is; services other than Amazon's mostly ignore it.
    #[serde(default = "region")]
    pub region: String,
    /// Of another service than Amazon's: `https://minio.example.com`.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Before each object's name.
    #[serde(default)]
    pub prefix: String,
    /// A file with the access key's id.
    #[serde(default)]
    pub access_key_file: Option<PathBuf>,
    /// A file with its secret.
    #[serde(default)]
    pub secret_key_file: Option<PathBuf>,
    /// Lets the endpoint be plain HTTP. For tests: contents then travel in clear.
    #[serde(default)]
    pub allow_http: bool,
}

fn region() -> String {
    "us-east-1".into()
}

impl Validate for ArchiveSettings {
    fn validate(&self, problems: &mut Problems) {
        let one = self.directory.is_some() != self.s3.is_some();
        problems.require(one, "directory", "name one of directory and s3");
        if let Some(directory) = &self.directory {
            problems.absolute("directory", directory);
        }
        if let Some(s3) = &self.s3 {
            problems.require(!s3.bucket.is_empty(), "s3.bucket", "must not be empty");
            let both = s3.access_key_file.is_some() == s3.secret_key_file.is_some();
            problems.require(both, "s3.secret_key_file", "goes with access_key_file: give both or none");
            for (field, file) in
                [("s3.access_key_file", &s3.access_key_file), ("s3.secret_key_file", &s3.secret_key_file)]
            {
                if let Some(file) = file {
                    problems.absolute(field, file);
                }
            }
            if let Some(endpoint) = &s3.endpoint {
                let plain = endpoint.starts_with("http://") && s3.allow_http;
                problems.require(plain || endpoint.starts_with("https://"), "s3.endpoint", "an https URL is needed");
            }
        }
    }
}
