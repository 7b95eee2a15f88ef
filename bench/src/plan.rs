//! How much is measured: what a preset says, and what the command line says otherwise.

use std::time::Duration;

use crate::{Run, conflux, scenario::Kind};

/// Sizes of values in the whole grid.
const SIZES: [usize; 4] = [256, 1024, 16 << 10, 256 << 10];

/// Requests in flight in the whole grid.
const CONCURRENCIES: [usize; 4] = [1, 16, 64, 256];

/// All numbers of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub quick: bool,
    pub matrix: bool,
    /// Windows of each side in a comparison.
    pub rounds: usize,
    pub window: Duration,
    /// Numbers of watchers over SSE; the other transports are measured with those of `others_watch`.
    pub watchers: Vec<usize>,
    pub others_watch: Vec<usize>,
    /// How long changes are made for each number of watchers.
    pub watch: Duration,
    pub kills: usize,
    pub moves: usize,
    pub tenants: usize,
    /// Configs, step by step.
    pub growth: Vec<u64>,
    pub versions: u64,
    /// Configs of a tenant at the last step of growth, at most.
    pub per_tenant: u64,
    pub starts: usize,
    pub idle: Duration,
    /// Bytes that must be free where the data goes.
    pub disk: u64,
}

impl Plan {
    /// What this command line asks for.
    pub fn of(run: &Run) -> Self {
        let preset = if run.quick {
            Self::quick()
        } else if run.full {
            Self::full()
        } else {
            Self::usual()
        };
        Self {
            matrix: run.matrix,
            rounds: run.rounds.unwrap_or(preset.rounds).max(1),
            window: run.window_ms.map_or(preset.window, Duration::from_millis),
            watchers: run.watchers.clone().unwrap_or(preset.watchers),
            others_watch: run.watchers.clone().unwrap_or(preset.others_watch),
            watch: run.watch_s.map_or(preset.watch, Duration::from_secs),
            kills: run.kills.unwrap_or(preset.kills),
            moves: run.moves.unwrap_or(preset.moves),
            growth: run.growth.clone().unwrap_or(preset.growth),
            versions: run.versions.unwrap_or(preset.versions).max(1),
            per_tenant: run.per_tenant.clamp(1, conflux::CONFIGS_OF_A_TENANT),
            ..preset
        }
    }

    /// A sensible part, in a quarter of an hour.
    fn usual() -> Self {
        Self {
            quick: false,
            matrix: false,
            rounds: 5,
            window: Duration::from_millis(750),
            watchers: vec![100, 1000, 5000],
            others_watch: vec![1000],
            watch: Duration::from_secs(10),
            kills: 10,
            moves: 10,
            tenants: 1000,
            growth: vec![10_000, 50_000],
            versions: 1,
            per_tenant: 10_000,
            starts: 3,
            idle: Duration::from_secs(10),
            disk: 6 << 30,
        }
    }

    fn quick() -> Self {
        Self {
            quick: true,
            rounds: 2,
            window: Duration::from_millis(500),
            watchers: vec![100],
            others_watch: vec![100],
            watch: Duration::from_secs(4),
            kills: 2,
            moves: 2,
            tenants: 20,
            growth: vec![1000, 3000],
            starts: 1,
            idle: Duration::from_secs(3),
            disk: 2 << 30,
            ..Self::usual()
        }
    }

    /// What the published page is made of.
    fn full() -> Self {
        Self {
            window: Duration::from_millis(3000),
            watchers: vec![100, 1000, 5000, 20_000],
            others_watch: vec![1000, 5000],
            watch: Duration::from_secs(60),
            kills: 50,
            moves: 20,
            growth: vec![10_000, 100_000, 1_000_000],
            starts: 5,
            disk: 15 << 30,
            ..Self::usual()
        }
    }

    /// Sizes at which fetches and changes are measured beside 1 KiB.
    pub fn sizes(&self) -> &'static [usize] {
        if self.quick { &[] } else { &[256, 16 << 10, 256 << 10] }
    }

    /// Requests in flight at 1 KiB.
    pub fn concurrencies(&self) -> &'static [usize] {
        if self.quick { &[64] } else { &[1, 64, 256] }
    }

    /// Every size with every number in flight, where all of it is wanted.
    pub fn grid(&self) -> Vec<(usize, usize)> {
        if !self.matrix {
            return self.sizes().iter().map(|size| (*size, 64)).collect();
        }
        let all = SIZES.iter().flat_map(|size| CONCURRENCIES.map(|concurrency| (*size, concurrency)));
        all.filter(|(size, concurrency)| *size != 1024 || !self.concurrencies().contains(concurrency)).collect()
    }

    /// Configs and keys of a size: of large ones fewer, so that they are put in a short time.
    pub fn keys(&self, size: usize) -> u64 {
        if size > 64 << 10 { 100 } else { 1000 }
    }
}

/// The scenarios of a run, in their order.
pub fn kinds(run: &Run) -> Vec<Kind> {
    use clap::ValueEnum;
    Kind::value_variants().iter().copied().filter(|kind| wanted(run, *kind)).collect()
}

fn wanted(run: &Run, kind: Kind) -> bool {
    !run.skip.contains(&kind) && (run.only.is_empty() || run.only.contains(&kind))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn run(arguments: &str) -> Run {
        #[derive(Parser)]
        struct Only {
            #[command(flatten)]
            run: Run,
        }
        Only::parse_from(["x"].into_iter().chain(arguments.split_whitespace())).run
    }

    #[test]
    fn what_is_said_wins_over_a_preset() {
        let plan = Plan::of(&run("--quick --rounds 7 --watchers 5,6"));
        assert_eq!((plan.rounds, plan.kills, plan.watchers), (7, 2, vec![5, 6]));
        assert_eq!(Plan::of(&run("--full")).kills, 50);
    }

    #[test]
    fn the_grid_has_each_pair_once() {
        let plan = Plan::of(&run("--matrix"));
        let mut all = plan.grid();
        all.extend(plan.concurrencies().iter().map(|c| (1024, *c)));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), SIZES.len() * CONCURRENCIES.len());
    }

    #[test]
    fn scenarios_are_chosen_and_left_out() {
        assert_eq!(kinds(&run("--only change,fetch")), [Kind::Fetch, Kind::Change]);
        assert!(!kinds(&run("--skip growth")).contains(&Kind::Growth));
    }
}
