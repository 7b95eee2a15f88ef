//! Which lists of rules mean something.

use super::{MAX_PRIORITY, MAX_RULES, Percentage, ReleaseRule, WHOLE};
use crate::{
    error::ApiError,
    labels::{Labels, MAX_LABEL_BYTES},
};

/// Refuses what cannot mean anything: what is out of bounds, two rules between which nothing decides, a rule that can never serve.
/// The error names both rules and says what to do. Fields are `rules[i]..`.
pub fn validate(rules: &[ReleaseRule]) -> Result<(), ApiError> {
    if rules.len() > MAX_RULES {
        return Err(ApiError::invalid("rules", format!("at most {MAX_RULES} rules on a config")));
    }
    for (i, rule) in rules.iter().enumerate() {
        bounds(i, rule)?;
    }
    for (i, rule) in rules.iter().enumerate() {
        for (j, other) in rules[..i].iter().enumerate() {
            if ambiguous(rule, other) {
                let why = format!(
                    "({rule}) and rules[{j}] ({other}) are of the same rank and can both match one client: which one wins \
                     would be a guess; give one of them another priority"
                );
                return Err(ApiError::invalid(format!("rules[{i}]"), why));
            }
        }
        if let Some((j, winner)) = rules.iter().enumerate().find(|(_, other)| hides(other, rule)) {
            let why = format!(
                "({rule}) can never serve: rules[{j}] ({winner}) is above it and takes all of its clients; remove it, or \
                 give it a priority above {}",
                winner.priority
            );
            return Err(ApiError::invalid(format!("rules[{i}]"), why));
        }
    }
    Ok(())
}

fn bounds(i: usize, rule: &ReleaseRule) -> Result<(), ApiError> {
    if rule.version == 0 {
        return Err(ApiError::invalid(format!("rules[{i}].version"), "the number of a version, from 1"));
    }
    if !(-MAX_PRIORITY..=MAX_PRIORITY).contains(&rule.priority) {
        let why = format!("{} to {MAX_PRIORITY}", -MAX_PRIORITY);
        return Err(ApiError::invalid(format!("rules[{i}].priority"), why));
    }
    match &rule.percentage {
        Some(p) => share(p, &format!("rules[{i}].percentage")),
        None => Ok(()),
    }
}

/// Refuses a share that cannot be one; `at` is where it stands.
pub(super) fn share(p: &Percentage, at: &str) -> Result<(), ApiError> {
    if p.basis_points > WHOLE {
        return Err(ApiError::invalid(format!("{at}.basis_points"), "0 to 10000, hundredths of a percent"));
    }
    // Clients carry only names that Labels takes as they are: any other is on no client.
    let name = &p.sticky_label;
    let known = Labels::new([(name.clone(), String::new())]).is_ok_and(|l| l.get(name).is_some());
    if !known {
        let rule = format!("names a label: 1 to {MAX_LABEL_BYTES} of a-z, 0-9, '.', '_' and '-', in lower case");
        return Err(ApiError::invalid(format!("{at}.sticky_label"), rule));
    }
    Ok(())
}

/// Whether nothing decides between the two for some client. Shares of the same label overlap, others may.
fn ambiguous(a: &ReleaseRule, b: &ReleaseRule) -> bool {
    a.rank() == b.rank() && !a.labels.contradict(&b.labels)
}

/// Whether `above` takes every client of `below`. What only the hash of a certain value decides is not looked at.
fn hides(above: &ReleaseRule, below: &ReleaseRule) -> bool {
    above.rank() > below.rank() && below.labels.contains_all(&above.labels) && takes_the_share(above, below)
}

fn takes_the_share(above: &ReleaseRule, below: &ReleaseRule) -> bool {
    let Some(share) = &above.percentage else { return true };
    match &below.percentage {
        Some(part) if part.sticky_label == share.sticky_label => {
            share.basis_points > 0 && share.basis_points >= part.basis_points
        }
        // A whole share leaves out only those without the label.
        _ => share.basis_points == WHOLE && below.labels.get(&share.sticky_label).is_some(),
    }
}
