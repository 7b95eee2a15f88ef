//! The members of placement as gateways and shards know them: by their settings.

use anyhow::{Context, Result};

use crate::Federation;

impl Federation {
    /// Writes a new member of placement in the place of an old one into the settings of every gateway and shard. They see it once
    /// they are started again.
    pub fn name_in_settings(&self, old: &str, new: &str) -> Result<()> {
        let address = self.member(new).address;
        let shards = self.description.members.iter().filter(|m| m.role == "shard").map(|m| &m.config_file);
        let gateways = self.description.gateways.iter().map(|g| &g.config_file);
        for file in gateways.chain(shards) {
            let mut settings: toml::Table = toml::from_str(&std::fs::read_to_string(file)?)?;
            let known = settings.get_mut("placement").and_then(toml::Value::as_array_mut);
            let known = known.with_context(|| format!("no [[placement]] in {}", file.display()))?;
            for entry in known.iter_mut().filter_map(toml::Value::as_table_mut) {
                if entry.get("member").and_then(toml::Value::as_str) == Some(old) {
                    entry.insert("member".into(), new.into());
                    entry.insert("address".into(), address.clone().into());
                }
            }
            std::fs::write(file, toml::to_string(&settings)?)?;
        }
        Ok(())
    }
}
