//! Which tenants should move where: shards without weight are emptied, and the load is spread over the others by their weights,
//! with as few bytes moved as it takes. Pure: the same input, in whatever order, gives the same plan.
//!
//! A tenant's load is its share of four things: bytes, writes, fetches, and the number of tenants. Small totals are
//! filled up, so that one write a minute in a federation that sleeps is no load. Spreading is a local search: the one move
//! after the other that lowers the sum of load²/weight the most for its bytes, as long as a shard is further than a tenth
//! from its share. It stops where none helps; what was planned and carried out is therefore not planned back.

use std::{cmp::Ordering, collections::BTreeMap};

/// A shard group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// The group's name.
    pub name: String,
    /// Its share against the others'.
    pub weight: u32,
    /// It has voters and answers.
    pub is_able: bool,
    /// An operator wants it empty, whatever its weight.
    pub drains: bool,
}

impl Shard {
    fn is_emptied(&self) -> bool {
        self.drains || self.weight == 0
    }

    fn takes(&self) -> bool {
        self.is_able && !self.is_emptied()
    }
}

/// A tenant and its load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// Where it is, or where a move that is under way takes it.
    pub shard: String,
    /// Of all its rows.
    pub bytes: u64,
    /// In thousandths of a write a second.
    pub milliwrites: u64,
    /// In thousandths of a fetch a second.
    pub millifetches: u64,
    /// It may be moved: it is stable, and does not move already.
    pub is_free: bool,
}

/// What is to be planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Only what empties shards.
    pub only_drain: bool,
    /// At most so many moves.
    pub limit: usize,
}

/// One move of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The tenant's name.
    pub tenant: String,
    /// Where it is.
    pub from: String,
    /// Where it goes.
    pub to: String,
    /// Bytes to be copied.
    pub bytes: u64,
    /// In words.
    pub why: String,
}

/// What a shard carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Burden {
    /// How many tenants.
    pub tenants: u64,
    /// As of [`Tenant`], summed up.
    pub bytes: u64,
    /// As of [`Tenant`], summed up.
    pub milliwrites: u64,
    /// As of [`Tenant`], summed up.
    pub millifetches: u64,
    /// Its load in percent of its share by weight; none: it has no share.
    pub percent: Option<u64>,
}

/// A shard before and after the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The shard.
    pub shard: Shard,
    /// Now.
    pub before: Burden,
    /// When the plan was carried out.
    pub after: Burden,
}

/// What is proposed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Each tenant once.
    pub moves: Vec<Step>,
    /// By name.
    pub shards: Vec<Standing>,
    /// What cannot be done, in words.
    pub notes: Vec<String>,
}

/// One of the four parts of all load.
const WHOLE: u128 = 1_000_000_000;
/// Totals below these are filled up to them.
const LEAST_BYTES: u64 = 64 << 20;
const LEAST_MILLIWRITES: u64 = 20_000;
const LEAST_MILLIFETCHES: u64 = 500_000;
/// A shard this far from its share, in percent, is worth a move.
const TOLERANCE: u128 = 10;
/// How often one tenant is given another place on the average, at most.
const STEPS_A_TENANT: usize = 4;
/// What a move costs whatever its size, in bytes.
const ANY_MOVE: u64 = 1 << 20;

/// The plan.
pub fn plan(shards: &[Shard], tenants: &[Tenant], ask: Ask) -> Plan {
    let mut board = Board::new(shards, tenants);
    let before = board.burdens();
    let notes = board.drain(ask.limit);
    if !ask.only_drain {
        board.spread(ask.limit);
    }
    let after = board.burdens();
    let standings = board.shards.iter().zip(before.into_iter().zip(after));
    Plan {
        moves: board.steps(),
        shards: standings.map(|(s, (before, after))| Standing { shard: s.clone(), before, after }).collect(),
        notes,
    }
}

/// Where everything is, amid the planning.
struct Board {
    /// By name.
    shards: Vec<Shard>,
    /// By name, with their loads.
    tenants: Vec<(Tenant, u64)>,
    /// The shard of each tenant: now, and by the plan so far.
    home: Vec<Option<usize>>,
    place: Vec<Option<usize>>,
    load: Vec<u64>,
    /// Tenants that were given another place, in this order, and why.
    reasons: BTreeMap<usize, (usize, String)>,
}

impl Board {
    fn new(shards: &[Shard], tenants: &[Tenant]) -> Self {
        let mut shards = shards.to_vec();
        shards.sort_by(|a, b| a.name.cmp(&b.name));
        let mut tenants = tenants.to_vec();
        tenants.sort_by(|a, b| a.name.cmp(&b.name));
        let tenants = loads(tenants);
        let at = |name: &str| shards.binary_search_by(|s| s.name.as_str().cmp(name)).ok();
        let home: Vec<Option<usize>> = tenants.iter().map(|(t, _)| at(&t.shard)).collect();
        let mut load = vec![0; shards.len()];
        for ((_, own), home) in tenants.iter().zip(&home) {
            if let Some(home) = home {
                load[*home] += own;
            }
        }
        Self { place: home.clone(), home, load, shards, tenants, reasons: BTreeMap::new() }
    }

    /// Whether this tenant can be copied away from where it is.
    fn is_movable(&self, tenant: usize) -> bool {
        let at = self.place[tenant].map(|s| &self.shards[s]);
        self.tenants[tenant].0.is_free && at.is_some_and(|s| s.is_able)
    }

    fn put(&mut self, tenant: usize, to: usize, why: String) {
        let own = self.tenants[tenant].1;
        if let Some(from) = self.place[tenant] {
            self.load[from] -= own;
        }
        self.load[to] += own;
        self.place[tenant] = Some(to);
        let order = self.reasons.len();
        let first = self.reasons.get(&tenant).map_or(order, |(first, _)| *first);
        self.reasons.insert(tenant, (first, why));
    }

    /// Planned so far.
    fn moved(&self) -> usize {
        (0..self.tenants.len()).filter(|t| self.place[*t] != self.home[*t]).count()
    }

    /// Empties the shards without weight, heaviest tenant first, onto those that carry the least; says what stays.
    fn drain(&mut self, limit: usize) -> Vec<String> {
        let mut notes = Vec::new();
        for from in (0..self.shards.len()).filter(|s| self.shards[*s].is_emptied()).collect::<Vec<_>>() {
            let name = self.shards[from].name.clone();
            let mut here: Vec<usize> = (0..self.tenants.len()).filter(|t| self.place[*t] == Some(from)).collect();
            here.sort_by_key(|t| (std::cmp::Reverse(self.tenants[*t].1), *t));
            let (free, stay): (Vec<usize>, Vec<usize>) = here.into_iter().partition(|t| self.is_movable(*t));
            if !stay.is_empty() {
                let why =
                    if self.shards[from].is_able { "are not stable" } else { "cannot be copied: it does not answer" };
                notes.push(format!("{} of the tenants on {name} {why}", stay.len()));
            }
            for tenant in free {
                if self.moved() >= limit {
                    return notes;
                }
                let Some(to) = self.least(self.tenants[tenant].1) else {
                    notes.push(format!("no other shard with a weight above 0 can take the tenants of {name}"));
                    break;
                };
                let how = if self.shards[from].drains { "is drained" } else { "has weight 0" };
                self.put(tenant, to, format!("{name} {how}"));
            }
        }
        notes
    }

    /// The shard that carries the least for its weight when it gets this load too.
    fn least(&self, own: u64) -> Option<usize> {
        let takers = (0..self.shards.len()).filter(|s| self.shards[*s].takes());
        takers.min_by(|a, b| {
            ratio(self.load[*a] + own, self.shards[*a].weight, self.load[*b] + own, self.shards[*b].weight)
        })
    }

    /// Each step lowers one sum, so that this ends; the bound keeps it from taking long.
    fn spread(&mut self, limit: usize) {
        for _ in 0..self.tenants.len() * STEPS_A_TENANT {
            if self.moved() >= limit {
                return;
            }
            let Some((tenant, to, why)) = self.best() else { return };
            self.put(tenant, to, why);
        }
    }

    /// The best next move from the most to the least burdened shard between which one helps.
    fn best(&self) -> Option<(usize, usize, String)> {
        let mut takers: Vec<usize> = (0..self.shards.len()).filter(|s| self.shards[*s].takes()).collect();
        let weigh = |a: &usize, b: &usize| {
            ratio(self.load[*a], self.shards[*a].weight, self.load[*b], self.shards[*b].weight).then(a.cmp(b))
        };
        takers.sort_by(weigh);
        let percent = self.percents();
        let of = |s: usize| u128::from(percent[s].unwrap_or_default());
        for from in takers.iter().rev().copied() {
            for to in takers.iter().copied().filter(|to| *to != from) {
                if of(from) <= 100 + TOLERANCE && of(to) + TOLERANCE >= 100 {
                    continue;
                }
                if let Some(tenant) = self.best_between(from, to) {
                    let [a, b] = [from, to].map(|s| &self.shards[s].name);
                    let why = format!("{a} carries {} % of its share, {b} {} %", of(from), of(to));
                    return Some((tenant, to, why));
                }
            }
        }
        None
    }

    /// The tenant whose move gains the most for its bytes; none: no move between these helps.
    fn best_between(&self, from: usize, to: usize) -> Option<usize> {
        let (la, lb) = (i128::from(self.load[from]), i128::from(self.load[to]));
        let (wa, wb) = (i128::from(self.shards[from].weight), i128::from(self.shards[to].weight));
        let gain = |tenant: usize| {
            let own = i128::from(self.tenants[tenant].1);
            // The new place must not become worse off than the old one was, and the whole must gain.
            let fits = (lb + own) * wa < la * wb;
            let gain = own * ((2 * la - own) * wb - (2 * lb + own) * wa);
            (fits && gain > 0).then(|| gain as f64 / (self.tenants[tenant].0.bytes.saturating_add(ANY_MOVE)) as f64)
        };
        let here = (0..self.tenants.len()).filter(|t| self.place[*t] == Some(from) && self.is_movable(*t));
        let scored = here.filter_map(|t| gain(t).map(|score| (t, score)));
        scored.max_by(|(a, x), (b, y)| x.total_cmp(y).then(b.cmp(a))).map(|(t, _)| t)
    }

    /// The load of each shard in percent of its share by weight of what all those that take tenants carry.
    fn percents(&self) -> Vec<Option<u64>> {
        let takers = || self.shards.iter().zip(&self.load).filter(|(s, _)| s.takes());
        let total: u128 = takers().map(|(_, load)| u128::from(*load)).sum();
        let weights: u128 = takers().map(|(s, _)| u128::from(s.weight)).sum();
        let percent = |s: &Shard, load: u64| {
            let share = total * u128::from(s.weight);
            (s.takes() && share > 0)
                .then(|| u64::try_from(u128::from(load) * weights * 100 / share).unwrap_or(u64::MAX))
        };
        self.shards.iter().zip(&self.load).map(|(s, load)| percent(s, *load)).collect()
    }

    fn burdens(&self) -> Vec<Burden> {
        let mut burdens: Vec<Burden> =
            self.percents().into_iter().map(|percent| Burden { percent, ..Burden::default() }).collect();
        for ((tenant, _), place) in self.tenants.iter().zip(&self.place) {
            let Some(burden) = place.and_then(|s| burdens.get_mut(s)) else { continue };
            burden.tenants += 1;
            burden.bytes += tenant.bytes;
            burden.milliwrites += tenant.milliwrites;
            burden.millifetches += tenant.millifetches;
        }
        burdens
    }

    /// From where each tenant is to where the plan has it in the end.
    fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<(usize, Step)> = Vec::new();
        for (tenant, (order, why)) in &self.reasons {
            let (Some(from), Some(to)) = (self.home[*tenant], self.place[*tenant]) else { continue };
            if from == to {
                continue;
            }
            let t = &self.tenants[*tenant].0;
            let [from, to] = [from, to].map(|s| self.shards[s].name.clone());
            steps.push((*order, Step { tenant: t.name.clone(), from, to, bytes: t.bytes, why: why.clone() }));
        }
        steps.sort_by_key(|(order, _)| *order);
        steps.into_iter().map(|(_, step)| step).collect()
    }
}

/// `a/weight_a` against `b/weight_b`, both weights above 0.
fn ratio(a: u64, weight_a: u32, b: u64, weight_b: u32) -> Ordering {
    (u128::from(a) * u128::from(weight_b)).cmp(&(u128::from(b) * u128::from(weight_a)))
}

/// Each tenant's load.
fn loads(tenants: Vec<Tenant>) -> Vec<(Tenant, u64)> {
    let total = |of: fn(&Tenant) -> u64, least: u64| {
        tenants.iter().map(|t| u128::from(of(t))).sum::<u128>().max(u128::from(least)).max(1)
    };
    let parts = |t: &Tenant| [t.bytes, t.milliwrites, t.millifetches, 1];
    let totals = [
        total(|t| t.bytes, LEAST_BYTES),
        total(|t| t.milliwrites, LEAST_MILLIWRITES),
        total(|t| t.millifetches, LEAST_MILLIFETCHES),
        total(|_| 1, 1),
    ];
    let load = |t: &Tenant| {
        let shares = parts(t).into_iter().zip(totals).map(|(part, total)| (u128::from(part) * WHOLE / total) as u64);
        shares.sum()
    };
    tenants.into_iter().map(|t| (load(&t), t)).map(|(load, t)| (t, load)).collect()
}

#[cfg(test)]
mod tests;
