//! A write that is repeated under its key is answered as it was the first time.

use std::collections::BTreeMap;

use super::Evidence;
use crate::history::{Ended, Written};

pub fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    let puts = evidence.history.puts.borrow();
    let mut first: BTreeMap<&str, &Written> = BTreeMap::new();
    for put in puts.iter() {
        match (&put.outcome, first.get(put.key.as_str())) {
            (Ended::Done(written), None) => {
                first.insert(&put.key, written);
            }
            (Ended::Done(again), Some(before)) => {
                let same = |w: &Written| (w.revision, w.version, w.etag.clone());
                if same(again) != same(before) {
                    return Err(format!("{} was answered {before:?} and then {again:?}", put.key));
                }
            }
            (Ended::Refused(code), Some(before)) if code.name() != "DEADLINE_EXCEEDED" => {
                return Err(format!("{} was answered {before:?} and then refused: {}", put.key, code.name()));
            }
            _ => {}
        }
    }
    Ok(())
}
