//! A backup whose bits have flipped.

use anyhow::{Context, Result, ensure};
use conflux_tests::command::conflux;
use serde_json::Value;

use super::Nemesis;
use crate::disks;

impl Nemesis {
    /// Takes a backup of everything while it is used; it must be whole. Then bits of one of its files flip, and it must not pass for
    /// whole any more.
    pub(super) async fn flip_backup(&mut self, bits: u32, pick: u64) -> Result<String> {
        for group in 0..self.groups.len() {
            self.whole(group).await?;
        }
        let federation = self.federation.as_ref().context("its processes are not ours")?;
        let directory = federation.directory().join("backups");
        let to = format!("file://{}", directory.display());
        let made = conflux(federation, &["backup", "create", "--to", &to, "-o", "json"]).await;
        ensure!(made.code == 0, "conflux backup create: {} {}", made.out.trim(), made.err.trim());
        let json: Value = serde_json::from_str(&made.out).context("what backup create said")?;
        let url = json["url"].as_str().context("the URL of the backup")?.to_owned();
        let hash = json["manifest_hash"].as_str().context("the hash of its manifest")?.to_owned();
        let verify = ["backup", "verify", &url, "--manifest-hash", &hash];
        let whole = conflux(federation, &verify).await;
        let path = url.strip_prefix("file://").context("a backup in files")?;
        let flipped = disks::flip_any(path.as_ref(), bits, pick)?;
        let damaged = conflux(federation, &verify).await;
        std::fs::remove_dir_all(&directory)?;
        if whole.code != 0 {
            self.complain(format!(
                "a backup that was just taken is not whole: {} {}",
                whole.out.trim(),
                whole.err.trim()
            ));
        }
        if damaged.code == 0 {
            self.complain(format!("a backup passed for whole after this: {flipped}"));
        }
        Ok(flipped)
    }
}
