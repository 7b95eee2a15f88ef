//! Why a client is served what it is served.

use std::fmt;

use super::{Percent, ReleaseRule, order};
use crate::labels::Labels;

/// Why a rule serves a client, or why it does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is the first that admits the client.
    Serves,
    /// It would, but this rule (its place in the list) is above it.
    Outranked(usize),
    /// The client does not carry this label, of which the rule asks for a value.
    Missing {
        /// The label.
        label: String,
        /// What the rule asks for.
        wanted: String,
    },
    /// The client carries another value.
    Other {
        /// The label.
        label: String,
        /// What the rule asks for.
        wanted: String,
        /// What the client has.
        has: String,
    },
    /// The client does not carry the label by which the share is drawn.
    NotDrawn(String),
    /// The client was drawn a place outside of the share.
    OutsideShare {
        /// By this label.
        label: String,
        /// Where it stands, in hundredths of a percent.
        place: u32,
        /// Those below this are in.
        share: u32,
    },
}

/// What a rule is for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The rule's place in the list.
    pub rule: usize,
    /// Why it serves or not.
    pub reason: Reason,
}

/// For people.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Serves => f.write_str("serves: the first rule that admits this client"),
            Reason::Outranked(by) => write!(f, "admits this client, but rules[{by}] is above it and serves"),
            Reason::Missing { label, wanted } => {
                write!(f, "the client carries no label {label}; {wanted:?} is asked for")
            }
            Reason::Other { label, wanted, has } => {
                write!(f, "the client's {label} is {has:?}; {wanted:?} is asked for")
            }
            Reason::NotDrawn(label) => write!(f, "the client carries no label {label}, by which the share is drawn"),
            Reason::OutsideShare { label, place, share } => {
                write!(
                    f,
                    "the client's {label} stands at {}, outside of the first {}",
                    Percent(*place),
                    Percent(*share)
                )
            }
        }
    }
}

/// Every rule in the order in which they are tried, with the reason. [`super::evaluate`] answers the version of the one that serves.
pub fn explain(config: u64, rules: &[ReleaseRule], labels: &Labels) -> Vec<Verdict> {
    let mut serves = None;
    let verdict = |rule: usize| {
        let reason = match obstacle(config, &rules[rule], labels) {
            Some(reason) => reason,
            None => match serves {
                Some(by) => Reason::Outranked(by),
                None => {
                    serves = Some(rule);
                    Reason::Serves
                }
            },
        };
        Verdict { rule, reason }
    };
    order(rules).into_iter().map(verdict).collect()
}

/// Why the rule does not admit the client; none: it does.
fn obstacle(config: u64, rule: &ReleaseRule, labels: &Labels) -> Option<Reason> {
    for (name, wanted) in rule.labels.iter() {
        let (label, wanted) = (name.to_owned(), wanted.to_owned());
        match labels.get(name) {
            None => return Some(Reason::Missing { label, wanted }),
            Some(has) if has != wanted => return Some(Reason::Other { label, wanted, has: has.to_owned() }),
            Some(_) => {}
        }
    }
    let share = rule.percentage.as_ref()?;
    let label = share.sticky_label.clone();
    match share.place(config, labels) {
        None => Some(Reason::NotDrawn(label)),
        Some(place) if place >= share.basis_points => {
            Some(Reason::OutsideShare { label, place, share: share.basis_points })
        }
        Some(_) => None,
    }
}
