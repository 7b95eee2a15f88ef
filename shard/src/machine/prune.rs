//! Prune: versions that retention gives up. Logged by the leader, which has archived them before where an archive is set
//! (`retention`).

use conflux_common::ids::ConfigId;
use conflux_proto::{log, v1};

use super::{audit::Note, change::Change, delete_config::delete_version, limits, stop::Stop};
use crate::store::{config, version};

/// Deletes the named versions that nothing points at; others are passed over: a rule may have come to point at one since the leader
/// looked. It makes no revision, since nobody is served anything else; it is recorded.
pub(super) fn prune(change: &mut Change<'_, '_>, op: &log::Prune) -> Result<v1::WriteResponse, Stop> {
    let Some(mut row) = config::get(&*change.tx, change.tenant.id, op.config_id)? else {
        return Ok(v1::WriteResponse::default());
    };
    let (mut gone, mut bytes) = (Vec::new(), 0);
    for number in op.versions.iter().copied().take(limits::VERSIONS_PER_PRUNE) {
        if crate::retention::is_held(&row, number) {
            continue;
        }
        let Some(found) = version::get(&*change.tx, change.tenant.id, row.id, number)? else { continue };
        delete_version(change.tx, &mut change.tenant, row.id, &found)?;
        bytes += found.size;
        gone.push(number);
    }
    if gone.is_empty() {
        return Ok(v1::WriteResponse::default());
    }
    row.versions = row.versions.saturating_sub(gone.len() as u64);
    change.put_config(&mut row, false)?;
    let kept = if op.archived { ", archived" } else { "" };
    change.note(Note {
        target: format!("{}/{}/{}", row.app, row.env, row.name),
        config_id: ConfigId(row.id).to_string(),
        summary: format!("pruned; versions {} ({bytes} bytes){kept}", spans(&gone)),
    });
    Ok(v1::WriteResponse::default())
}

/// `1-3, 5`
fn spans(numbers: &[u64]) -> String {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match spans.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => spans.push((*number, *number)),
        }
    }
    let shown = |(from, to): &(u64, u64)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    spans.iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    /// A record must stay readable when thousands of versions go.
    #[test]
    fn neighbours_are_shown_as_spans() {
        assert_eq!(super::spans(&[1, 2, 3, 5, 8, 9]), "1-3, 5, 8-9");
    }
}
