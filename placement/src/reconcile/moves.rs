//! What is next about a move: placement's record against what both shards said, and the clocks. Pure (docs/adr/0003-moves.md).

use std::{collections::HashMap, time::Duration};

use conflux_proto::internal::{EnsureTenantResponse, Move, MovePhase};

use crate::settings::MoveSettings;

/// Touched rows that are left to be taken over when the source may freeze: a fraction of the budget's work.
const SMALL_LAG: u64 = 64;

/// What is to be done about a move.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The record may enter this phase.
    Enter(MovePhase),
    /// It is given up, for this reason.
    Abort(String),
    /// The shards are at it.
    Wait,
}

/// What a shard said, or why it said nothing.
pub type Said = Result<EnsureTenantResponse, String>;

/// How long what has lasted, by this leader's monotonic clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lasted {
    /// The phase, since this leader saw or made it.
    pub phase: Duration,
    /// That the copy has made no progress.
    pub stall: Duration,
    /// That the destination has named a reason why the copy does not go on.
    pub trouble: Duration,
}

/// The next step of `m`.
pub fn next(m: &Move, source: &Said, destination: &Said, lasted: &Lasted, settings: &MoveSettings) -> Next {
    match m.phase() {
        MovePhase::Preparing => preparing(m, source, destination, lasted, settings),
        MovePhase::Freezing => freezing(m, source, destination, lasted, settings),
        MovePhase::Committed if is_active(destination, m.to_epoch) => Next::Enter(MovePhase::Cleaning),
        MovePhase::Cleaning if is_cleared(source) => Next::Enter(MovePhase::Done),
        MovePhase::Aborted if is_back(m, source) && is_ended(m, destination) => Next::Enter(MovePhase::GivenUp),
        _ => Next::Wait,
    }
}

fn preparing(m: &Move, source: &Said, destination: &Said, lasted: &Lasted, settings: &MoveSettings) -> Next {
    if let Ok(d) = destination
        && is_importing(m, d)
        && d.import_whole
        && d.import_lag <= SMALL_LAG
        && d.import_trouble.is_empty()
        && is_active(source, m.from_epoch)
    {
        return Next::Enter(MovePhase::Freezing);
    }
    if lasted.trouble >= settings.trouble()
        && let Ok(d) = destination
    {
        return Next::Abort(format!("{} cannot copy the tenant: {}", m.to, d.import_trouble));
    }
    if lasted.stall >= settings.stall() {
        return Next::Abort(format!(
            "no progress for {} s: {}",
            lasted.stall.as_secs(),
            stalled(m, source, destination)
        ));
    }
    Next::Wait
}

/// Why a copy stands still, as far as the shards' words tell.
fn stalled(m: &Move, source: &Said, destination: &Said) -> String {
    match (source, destination) {
        (_, Err(why)) => format!("{} does not answer ({why})", m.to),
        (Err(why), _) => format!("{} does not answer ({why})", m.from),
        (_, Ok(d)) if !is_importing(m, d) => format!("{} does not import the tenant, it says {}", m.to, d.state),
        (Ok(s), _) if s.state != "active" => format!("{} does not serve the tenant, it says {}", m.from, s.state),
        (_, Ok(d)) if d.import_whole => {
            format!("the tenant is written faster than it is copied, {} rows are left", d.import_lag)
        }
        (_, Ok(d)) => format!("the copy stopped at {} bytes", d.row_bytes),
    }
}

fn freezing(m: &Move, source: &Said, destination: &Said, lasted: &Lasted, settings: &MoveSettings) -> Next {
    if is_frozen(m, source)
        && is_prepared(m, destination)
        && let (Ok(s), Ok(d)) = (source, destination)
    {
        // The destination seals only what agrees: a defect, of which the tenant must not become the victim.
        return if (s.revision, &s.rows_hash) == (d.revision, &d.rows_hash) {
            Next::Enter(MovePhase::Committed)
        } else {
            Next::Abort(format!("the copy at {} differs from the tenant at {}", m.to, m.from))
        };
    }
    if lasted.phase < settings.freeze_budget() {
        return Next::Wait;
    }
    let late = match (source, destination) {
        (Err(why), _) => format!("{} does not answer ({why})", m.from),
        (_, Err(why)) => format!("{} does not answer ({why})", m.to),
        (Ok(s), _) if !is_frozen(m, source) => format!("{} says {}", m.from, s.state),
        (_, Ok(d)) => format!("{} says {}", m.to, d.state),
    };
    Next::Abort(format!("the freeze took longer than {} ms: {late}", settings.freeze_budget_ms))
}

fn is_importing(m: &Move, d: &EnsureTenantResponse) -> bool {
    d.state == "importing" && d.r#move == m.id
}

/// The source has stopped the tenant for this move: its revision and hash are final.
pub fn is_frozen(m: &Move, source: &Said) -> bool {
    source.as_ref().is_ok_and(|s| s.state == "frozen" && s.r#move == m.id && s.epoch == m.from_epoch)
}

/// The destination has all of the frozen tenant.
pub fn is_prepared(m: &Move, destination: &Said) -> bool {
    destination.as_ref().is_ok_and(|d| d.state == "prepared" && d.r#move == m.id)
}

/// The shard serves the tenant under this epoch.
pub fn is_active(shard: &Said, epoch: u64) -> bool {
    shard.as_ref().is_ok_and(|s| s.state == "active" && s.epoch == epoch)
}

/// Nothing is left at the source but a tombstone.
fn is_cleared(source: &Said) -> bool {
    source.as_ref().is_ok_and(|s| s.rows == 0 && matches!(s.state.as_str(), "moved" | "absent" | "deleted"))
}

/// The source serves on and takes no message of this move any more.
fn is_back(m: &Move, source: &Said) -> bool {
    is_active(source, m.from_epoch) && source.as_ref().is_ok_and(|s| s.ended_move >= m.id)
}

/// The destination has nothing of this move and takes no message of it any more.
fn is_ended(m: &Move, destination: &Said) -> bool {
    let begun = |state: &str| matches!(state, "importing" | "prepared");
    destination.as_ref().is_ok_and(|d| d.ended_move >= m.id && !begun(&d.state) && d.rows == 0)
}

/// How far a copy had come when it was seen last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copied {
    state: String,
    rows: u64,
    bytes: u64,
    whole: bool,
    /// The least that was seen since it was whole: a tenant that is written all the time makes it go up and down.
    least_lag: u64,
}

impl Copied {
    /// Takes the destination's word in; whether the copy has come on.
    pub fn note(&mut self, d: &EnsureTenantResponse) -> bool {
        let now = Copied {
            state: d.state.clone(),
            rows: d.rows,
            bytes: d.row_bytes,
            whole: d.import_whole,
            least_lag: if self.whole { self.least_lag.min(d.import_lag) } else { d.import_lag },
        };
        let on = now.state != self.state
            || now.whole != self.whole
            || (!now.whole && (now.rows, now.bytes) != (self.rows, self.bytes))
            || (now.whole && now.least_lag < self.least_lag);
        *self = now;
        on
    }
}

/// Which of the moves in Preparing are worked on: those with the lowest ids, so many at each shard. Later phases always are.
pub fn in_turn(moves: &[Move], per_shard: u32) -> Vec<u64> {
    let mut busy: HashMap<&str, u32> = HashMap::new();
    let mut waiting: Vec<&Move> = moves.iter().filter(|m| m.phase() == MovePhase::Preparing).collect();
    waiting.sort_by_key(|m| m.id);
    let mut chosen = Vec::new();
    for m in waiting {
        let free = |shard: &str| busy.get(shard).is_none_or(|n| *n < per_shard);
        if free(&m.from) && free(&m.to) {
            *busy.entry(&m.from).or_default() += 1;
            *busy.entry(&m.to).or_default() += 1;
            chosen.push(m.id);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const M: u64 = 7;

    fn a_move(phase: MovePhase) -> Move {
        let (from, to) = ("shard-a".into(), "shard-b".into());
        Move { id: M, from, to, from_epoch: 3, to_epoch: 5, phase: phase.into(), ..Default::default() }
    }

    fn said(state: &str) -> EnsureTenantResponse {
        EnsureTenantResponse { state: state.into(), ..Default::default() }
    }

    fn active(epoch: u64) -> EnsureTenantResponse {
        EnsureTenantResponse { epoch, ..said("active") }
    }

    fn importing() -> EnsureTenantResponse {
        EnsureTenantResponse { r#move: M, import_whole: true, import_lag: SMALL_LAG, ..said("importing") }
    }

    fn frozen() -> EnsureTenantResponse {
        EnsureTenantResponse { r#move: M, epoch: 3, revision: 40, rows_hash: vec![1; 32].into(), ..said("frozen") }
    }

    fn prepared() -> EnsureTenantResponse {
        EnsureTenantResponse { epoch: 0, state: "prepared".into(), ..frozen() }
    }

    fn ended(state: &str) -> EnsureTenantResponse {
        EnsureTenantResponse { ended_move: M, ..said(state) }
    }

    fn step(phase: MovePhase, source: EnsureTenantResponse, destination: EnsureTenantResponse) -> Next {
        next(&a_move(phase), &Ok(source), &Ok(destination), &Lasted::default(), &MoveSettings::default())
    }

    /// Each phase is left on the words of the shards alone, for this very move and these very epochs.
    #[test]
    fn a_phase_is_left_on_the_shards_word_only() {
        use MovePhase::*;
        let cases = [
            (Preparing, active(3), importing(), Freezing),
            (Freezing, frozen(), prepared(), Committed),
            (Committed, frozen(), active(5), Cleaning),
            (Cleaning, said("moved"), active(5), Done),
            (Cleaning, said("deleted"), active(5), Done),
            (Aborted, EnsureTenantResponse { ended_move: M, ..active(3) }, ended("absent"), GivenUp),
            (Aborted, EnsureTenantResponse { ended_move: M, ..active(3) }, ended("moved"), GivenUp),
        ];
        for (phase, source, destination, to) in cases {
            assert_eq!(step(phase, source.clone(), destination.clone()), Next::Enter(to), "{phase:?}");
            // Nothing of it holds for another move, and nobody's silence is a word.
            let other = Move { id: M + 1, from_epoch: 4, to_epoch: 6, ..a_move(phase) };
            let (settings, lasted) = (MoveSettings::default(), Lasted::default());
            let (s, d) = (Ok(source), Ok(destination));
            if phase != Cleaning {
                assert_eq!(next(&other, &s, &d, &lasted, &settings), Next::Wait, "{phase:?} of another move");
                assert_eq!(next(&a_move(phase), &s, &Err("down".into()), &lasted, &settings), Next::Wait, "{phase:?}");
            }
            if phase != Committed {
                assert_eq!(next(&a_move(phase), &Err("down".into()), &d, &lasted, &settings), Next::Wait, "{phase:?}");
            }
        }
    }

    /// What is not there yet, one thing at a time.
    #[test]
    fn what_is_missing_is_waited_for() {
        use MovePhase::*;
        let of = |change: fn(&mut EnsureTenantResponse), mut said: EnsureTenantResponse| {
            change(&mut said);
            said
        };
        let back = || EnsureTenantResponse { ended_move: M, ..active(3) };
        let cases = [
            (Preparing, active(3), of(|d| d.import_whole = false, importing())),
            (Preparing, active(3), of(|d| d.import_lag += 1, importing())),
            (Preparing, active(3), of(|d| d.import_trouble = "the disk is full".into(), importing())),
            (Preparing, said("frozen"), importing()),
            (Freezing, active(3), prepared()),
            (Freezing, frozen(), importing()),
            (Committed, said("moved"), of(|d| d.epoch = 3, active(5))),
            (Committed, said("moved"), prepared()),
            (Cleaning, of(|s| s.rows = 1, said("moved")), active(5)),
            (Cleaning, frozen(), active(5)),
            (Aborted, frozen(), ended("absent")),
            (Aborted, active(3), ended("absent")),
            (Aborted, back(), said("absent")),
            (Aborted, back(), of(|d| d.rows = 9, ended("absent"))),
            (Aborted, back(), ended("importing")),
        ];
        for (phase, source, destination) in cases {
            assert_eq!(
                step(phase, source.clone(), destination.clone()),
                Next::Wait,
                "{phase:?} {source:?} {destination:?}"
            );
        }
    }

    /// A tenant is never handed over to a copy that is not the same, whatever else is said.
    #[test]
    fn copies_that_differ_are_never_committed() {
        for other in [
            EnsureTenantResponse { revision: 39, ..prepared() },
            EnsureTenantResponse { rows_hash: vec![2; 32].into(), ..prepared() },
        ] {
            let Next::Abort(why) = step(MovePhase::Freezing, frozen(), other) else { panic!("not given up") };
            assert!(why.contains("differs"), "{why}");
        }
    }

    /// A move ends by itself, and says why; from the commit on it only goes forward.
    #[test]
    fn what_takes_too_long_is_given_up() {
        let settings = MoveSettings::default();
        let long = Duration::from_secs(3600);
        let reason = |phase, source: Said, destination: Said, lasted: Lasted| match next(
            &a_move(phase),
            &source,
            &destination,
            &lasted,
            &settings,
        ) {
            Next::Abort(why) => why,
            other => panic!("{phase:?}: {other:?}"),
        };
        let stall = Lasted { stall: settings.stall(), ..Lasted::default() };
        let down = || Err("connection refused".to_owned());
        assert!(reason(MovePhase::Preparing, down(), Ok(importing()), stall).contains("shard-a does not answer"));
        assert!(reason(MovePhase::Preparing, Ok(active(3)), down(), stall).contains("shard-b does not answer"));
        let busy = EnsureTenantResponse { import_lag: 900, ..importing() };
        assert!(reason(MovePhase::Preparing, Ok(active(3)), Ok(busy.clone()), stall).contains("900 rows"));
        let trouble = Lasted { trouble: settings.trouble(), ..Lasted::default() };
        let full = EnsureTenantResponse { import_trouble: "the disk is full".into(), ..importing() };
        assert!(reason(MovePhase::Preparing, Ok(active(3)), Ok(full), trouble).contains("the disk is full"));
        let late = Lasted { phase: settings.freeze_budget(), ..Lasted::default() };
        assert!(reason(MovePhase::Freezing, Ok(frozen()), Ok(importing()), late).contains("longer than 1000 ms"));
        let all = Lasted { phase: long, stall: long, trouble: long };
        for phase in [MovePhase::Committed, MovePhase::Cleaning, MovePhase::Aborted] {
            assert_eq!(next(&a_move(phase), &down(), &down(), &all, &settings), Next::Wait, "{phase:?}");
        }
        // Ready at the last moment is ready.
        assert_eq!(
            next(&a_move(MovePhase::Freezing), &Ok(frozen()), &Ok(prepared()), &all, &settings),
            Next::Enter(MovePhase::Committed)
        );
    }

    /// A lag that goes up and down with the tenant's writes is no progress; only its new lows are.
    #[test]
    fn progress_is_what_brings_the_end_nearer() {
        let mut copied = Copied::default();
        let at = |row_bytes, import_whole, import_lag| EnsureTenantResponse {
            row_bytes,
            import_whole,
            import_lag,
            ..said("importing")
        };
        let on: Vec<bool> = [
            at(0, false, 0),
            at(10, false, 50),
            at(10, false, 90),
            at(20, false, 100),
            at(20, true, 500),
            at(25, true, 400),
            at(30, true, 450),
            at(35, true, 410),
            at(35, true, 399),
            at(35, true, 399),
        ]
        .iter()
        .map(|d| copied.note(d))
        .collect();
        assert_eq!(on, [true, true, false, true, true, true, false, false, true, false]);
    }

    /// A shard is not copied from or to by more moves than it is meant to bear, and nobody waits without a reason.
    #[test]
    fn moves_take_turns() {
        let between = |id, from: &str, to: &str, phase: MovePhase| Move {
            id,
            from: from.into(),
            to: to.into(),
            phase: phase.into(),
            ..Default::default()
        };
        let p = MovePhase::Preparing;
        let moves = [
            between(5, "a", "b", p),
            between(2, "a", "b", p),
            between(3, "a", "b", p),
            between(4, "c", "d", p),
            between(6, "c", "a", p),
            between(7, "c", "d", p),
            between(1, "a", "b", MovePhase::Cleaning),
        ];
        assert_eq!(in_turn(&moves, 2), [2, 3, 4, 7]);
        assert_eq!(in_turn(&moves, 1), [2, 4]);
    }

    proptest! {
        /// However many there are: never too many at a shard, and the first one always has its turn.
        #[test]
        fn turns_are_bounded_and_somebody_has_one(pairs in prop::collection::vec((0_u8..5, 0_u8..5), 1..40), per_shard in 1_u32..4) {
            let moves: Vec<Move> = pairs.iter().enumerate().filter(|(_, (a, b))| a != b).map(|(i, (a, b))| Move {
                id: i as u64, from: a.to_string(), to: b.to_string(), phase: MovePhase::Preparing.into(), ..Default::default()
            }).collect();
            let chosen = in_turn(&moves, per_shard);
            for shard in 0..5_u8 {
                let name = shard.to_string();
                let busy = moves.iter().filter(|m| chosen.contains(&m.id) && (m.from == name || m.to == name)).count();
                prop_assert!(busy <= per_shard as usize);
            }
            prop_assert_eq!(chosen.first(), moves.first().map(|m| &m.id));
        }
    }
}
