//! What a tenant may have (ADR 2). Placement keeps it on the tenant's record; its shard checks it at apply.

use crate::error::ApiError;

/// Bounds of one tenant, each as it holds: defaults are filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Configs.
    pub configs: u64,
    /// Bytes of one content.
    pub config_bytes: u64,
    /// Versions kept of one config.
    pub versions: u64,
    /// Bytes of all contents, each counted once.
    pub total_bytes: u64,
}

impl Quotas {
    /// Of a tenant of which no operator has said otherwise.
    pub const DEFAULT: Quotas =
        Quotas { configs: 1_000, config_bytes: 102_400, versions: 10_000, total_bytes: 1 << 30 };
    /// The most that an operator may give. A content beyond 1 MiB fits into no entry; the others are what a group
    /// can be expected to hold.
    pub const CEILING: Quotas =
        Quotas { configs: 100_000, config_bytes: 1 << 20, versions: 1_000_000, total_bytes: 1 << 40 };

    /// With the default where 0 is given, and never above the ceiling.
    pub fn effective(given: Quotas) -> Quotas {
        let one = |given: u64, default: u64, ceiling: u64| if given == 0 { default } else { given.min(ceiling) };
        let (d, c) = (Self::DEFAULT, Self::CEILING);
        Quotas {
            configs: one(given.configs, d.configs, c.configs),
            config_bytes: one(given.config_bytes, d.config_bytes, c.config_bytes),
            versions: one(given.versions, d.versions, c.versions),
            total_bytes: one(given.total_bytes, d.total_bytes, c.total_bytes),
        }
    }

    /// Refuses what is above the ceiling, naming the field; 0 stands for the default.
    pub fn check(given: Quotas) -> Result<(), ApiError> {
        let c = Self::CEILING;
        for (field, given, ceiling) in [
            ("configs", given.configs, c.configs),
            ("config_bytes", given.config_bytes, c.config_bytes),
            ("versions", given.versions, c.versions),
            ("total_bytes", given.total_bytes, c.total_bytes),
        ] {
            if given > ceiling {
                return Err(ApiError::invalid(field, format!("at most {ceiling}; 0 means the default")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An operator who names nothing gets the defaults; nobody gets a content that fits into no entry.
    #[test]
    fn zero_is_the_default_and_the_ceiling_holds() {
        let none = Quotas { configs: 0, config_bytes: 0, versions: 0, total_bytes: 0 };
        assert_eq!(Quotas::effective(none), Quotas::DEFAULT);
        assert!(Quotas::check(none).is_ok());
        let large = Quotas { config_bytes: (1 << 20) + 1, ..none };
        assert_eq!(Quotas::check(large).unwrap_err().details[0].field, "config_bytes");
        assert_eq!(Quotas::effective(large).config_bytes, 1 << 20);
        assert_eq!(Quotas::effective(Quotas { configs: 5, ..none }).configs, 5);
    }
}
