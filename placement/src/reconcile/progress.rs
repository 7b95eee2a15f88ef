//! What the leader remembers of the moves under way: clocks, and the shards' last words for whoever looks on. Nothing of it
//! decides what is right; a new leader begins without it.

use std::collections::HashMap;

use conflux_proto::internal::{Move, MovePhase};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::moves::{Copied, Lasted, Said};

/// The moves that this leader works on.
#[derive(Debug, Default)]
pub struct Progress(Mutex<HashMap<u64, Watched>>);

/// One of them, as it was seen last.
#[derive(Debug, Clone)]
pub struct Watched {
    phase: MovePhase,
    since: Instant,
    copied: Copied,
    came_on: Instant,
    troubled: Option<Instant>,
    /// It waits until others that concern its shards are through.
    pub waits_for_turn: bool,
    /// What the shards said; none: they were not asked yet.
    pub source: Option<Said>,
    /// As `source`.
    pub destination: Option<Said>,
}

impl Watched {
    fn new(phase: MovePhase, now: Instant) -> Self {
        Self {
            phase,
            since: now,
            copied: Copied::default(),
            came_on: now,
            troubled: None,
            waits_for_turn: false,
            source: None,
            destination: None,
        }
    }

    fn lasted(&self, now: Instant) -> Lasted {
        Lasted {
            phase: now.saturating_duration_since(self.since),
            stall: now.saturating_duration_since(self.came_on),
            trouble: self.troubled.map(|since| now.saturating_duration_since(since)).unwrap_or_default(),
        }
    }
}

impl Progress {
    /// As it was seen last; none: this member does not lead, or has just begun to.
    pub fn of(&self, id: u64) -> Option<Watched> {
        self.0.lock().get(&id).cloned()
    }

    /// The move is in this phase. The phase's clock began at `now` unless it was known already; when it began.
    pub(super) fn enter(&self, id: u64, phase: MovePhase, now: Instant) -> Instant {
        let mut all = self.0.lock();
        let watched = all.entry(id).or_insert_with(|| Watched::new(phase, now));
        if watched.phase != phase || watched.waits_for_turn {
            let (source, destination) = (watched.source.take(), watched.destination.take());
            *watched = Watched { source, destination, ..Watched::new(phase, now) };
        }
        watched.since
    }

    /// Its clocks stand still until it has its turn.
    pub(super) fn wait(&self, id: u64, now: Instant) {
        let watched = Watched { waits_for_turn: true, ..Watched::new(MovePhase::Preparing, now) };
        self.0.lock().entry(id).or_insert(watched);
    }

    /// Takes the shards' words in; how long what has lasted.
    pub(super) fn note(&self, m: &Move, source: &Said, destination: &Said, now: Instant) -> Lasted {
        let mut all = self.0.lock();
        let watched = all.entry(m.id).or_insert_with(|| Watched::new(m.phase(), now));
        if let Ok(d) = destination {
            if watched.copied.note(d) {
                watched.came_on = now;
            }
            watched.troubled = if d.import_trouble.is_empty() { None } else { watched.troubled.or(Some(now)) };
        }
        watched.source = Some(source.clone());
        watched.destination = Some(destination.clone());
        watched.lasted(now)
    }

    /// Only these are still under way.
    pub(super) fn keep(&self, under_way: &[Move]) {
        self.0.lock().retain(|id, _| under_way.iter().any(|m| m.id == *id));
    }

    /// Another one leads.
    pub(super) fn forget(&self) {
        self.0.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use conflux_proto::internal::EnsureTenantResponse;

    use super::*;

    /// A move that waited for an hour has its whole time when its turn comes, and each phase begins its own clock.
    #[test]
    fn clocks_run_for_what_is_worked_on() {
        let (progress, start) = (Progress::default(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        let m = Move { id: 1, phase: MovePhase::Preparing.into(), ..Default::default() };
        let silence = || Err::<EnsureTenantResponse, String>("down".into());
        progress.wait(1, at(0));
        assert!(progress.of(1).unwrap().waits_for_turn);
        assert_eq!(progress.enter(1, MovePhase::Preparing, at(3600)), at(3600));
        assert_eq!(progress.enter(1, MovePhase::Preparing, at(3602)), at(3600));
        let lasted = progress.note(&m, &silence(), &silence(), at(3605));
        assert_eq!(lasted.stall, Duration::from_secs(5));
        let trouble = || Ok(EnsureTenantResponse { import_trouble: "disk".into(), ..Default::default() });
        progress.note(&m, &silence(), &trouble(), at(3606));
        assert_eq!(progress.note(&m, &silence(), &trouble(), at(3608)).trouble, Duration::from_secs(2));
        assert_eq!(progress.note(&m, &silence(), &Ok(Default::default()), at(3609)).trouble, Duration::ZERO);
        assert_eq!(progress.enter(1, MovePhase::Freezing, at(3610)), at(3610));
        assert!(progress.of(1).unwrap().destination.is_some(), "whoever looks on sees the last words still");
        progress.keep(&[]);
        assert!(progress.of(1).is_none());
    }
}
