//! A tenant's quotas between the wire and the domain.

use conflux_common::quotas::Quotas;

use crate::v1;

/// As they hold: with the defaults where nothing or 0 was given.
pub fn effective(given: Option<&v1::Quotas>) -> Quotas {
    Quotas::effective(from_wire(given))
}

/// As they were given; 0: the default.
pub fn from_wire(given: Option<&v1::Quotas>) -> Quotas {
    let given = given.copied().unwrap_or_default();
    Quotas {
        configs: given.configs,
        config_bytes: given.config_bytes,
        versions: given.versions,
        total_bytes: given.total_bytes,
    }
}
