//! Release rules between the wire and the domain.

use conflux_common::{
    error::ApiError,
    labels::Labels,
    release::{Percentage, ReleaseRule, Strategy},
};

use crate::v1;

/// The rule as it travels and is stored.
pub fn to_wire(rule: &ReleaseRule) -> v1::ReleaseRule {
    v1::ReleaseRule {
        labels: rule.labels.clone().into(),
        version: rule.version,
        priority: rule.priority,
        percentage: rule.percentage.as_ref().map(share_to_wire),
    }
}

/// Checks and takes a rule.
pub fn from_wire(wire: &v1::ReleaseRule) -> Result<ReleaseRule, ApiError> {
    Ok(ReleaseRule {
        labels: Labels::new(wire.labels.clone())?,
        version: wire.version,
        priority: wire.priority,
        percentage: wire.percentage.as_ref().map(share_from_wire),
    })
}

fn share_to_wire(p: &Percentage) -> v1::Percentage {
    v1::Percentage { basis_points: p.basis_points, sticky_label: p.sticky_label.clone() }
}

fn share_from_wire(p: &v1::Percentage) -> Percentage {
    Percentage { basis_points: p.basis_points, sticky_label: p.sticky_label.clone() }
}

/// Checks and takes a strategy. Fields of errors are `strategy..`.
pub fn strategy_from_wire(wire: Option<&v1::Strategy>) -> Result<Strategy, ApiError> {
    let missing = || ApiError::invalid("strategy", "missing: {\"type\": \"all\"} releases it to everybody");
    let wire = wire.ok_or_else(missing)?;
    let labels = Labels::new(wire.labels.clone()).map_err(|e| e.within("strategy"))?;
    let percentage = wire.percentage.as_ref().map(share_from_wire);
    Strategy::new(wire.r#type.parse()?, labels, percentage, wire.priority)
}
