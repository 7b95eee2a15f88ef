//! Release rules between the wire and the domain.

use conflux_common::{
    error::ApiError,
    labels::Labels,
    release::{Percentage, ReleaseRule},
};

use crate::v1;

/// The rule as it travels and is stored.
pub fn to_wire(rule: &ReleaseRule) -> v1::ReleaseRule {
    v1::ReleaseRule {
        labels: rule.labels.clone().into(),
        version: rule.version,
        priority: rule.priority,
        percentage: rule
            .percentage
            .as_ref()
            .map(|p| v1::Percentage { basis_points: p.basis_points, sticky_label: p.sticky_label.clone() }),
    }
}

/// Checks and takes a rule.
pub fn from_wire(wire: &v1::ReleaseRule) -> Result<ReleaseRule, ApiError> {
    Ok(ReleaseRule {
        labels: Labels::try_from(wire.labels.clone())?,
        version: wire.version,
        priority: wire.priority,
        percentage: wire
            .percentage
            .as_ref()
            .map(|p| Percentage { basis_points: p.basis_points, sticky_label: p.sticky_label.clone() }),
    })
}
