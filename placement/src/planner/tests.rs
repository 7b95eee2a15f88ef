//! What a plan may and may not do.

use proptest::prelude::*;

use super::*;

const ALL: Ask = Ask { only_drain: false, limit: usize::MAX };

fn shard(name: &str, weight: u32) -> Shard {
    Shard { name: name.into(), weight, is_able: true, drains: false }
}

fn tenant(name: &str, shard: &str, bytes: u64) -> Tenant {
    let (name, shard) = (name.to_owned(), shard.to_owned());
    Tenant { name, shard, bytes, milliwrites: 0, millifetches: 0, is_free: true }
}

fn many(count: u32, on: &str) -> Vec<Tenant> {
    (0..count).map(|n| tenant(&format!("t{n:03}"), on, 10 << 20)).collect()
}

fn carry_out(plan: &Plan, tenants: &[Tenant]) -> Vec<Tenant> {
    let mut tenants = tenants.to_vec();
    for step in &plan.moves {
        let tenant = tenants.iter_mut().find(|t| t.name == step.tenant).unwrap();
        assert_eq!((&tenant.shard, tenant.bytes), (&step.from, step.bytes));
        tenant.shard.clone_from(&step.to);
    }
    tenants
}

fn count(tenants: &[Tenant], shard: &str) -> usize {
    tenants.iter().filter(|t| t.shard == shard).count()
}

/// A third shard that comes empty gets its part, from both, and no more is moved than that.
#[test]
fn an_empty_shard_gets_its_part() {
    let shards = [shard("a", 100), shard("b", 100), shard("c", 100)];
    let mut tenants = many(30, "a");
    tenants.iter_mut().skip(15).for_each(|t| t.shard = "b".into());
    let plan = plan(&shards, &tenants, ALL);
    assert!(plan.moves.iter().all(|m| m.to == "c"), "{:?}", plan.moves);
    let after = carry_out(&plan, &tenants);
    assert!((9..=10).contains(&count(&after, "c")), "{}", count(&after, "c"));
    assert!(count(&after, "a").abs_diff(count(&after, "b")) <= 1);
    assert_eq!(plan.shards[2].before.percent, Some(0));
    assert!(plan.moves[0].why.contains("c 0 %"), "{}", plan.moves[0].why);
}

/// A shard with twice the weight carries twice as much.
#[test]
fn weights_count() {
    let tenants = many(30, "a");
    let after = carry_out(&plan(&[shard("a", 100), shard("b", 200)], &tenants, ALL), &tenants);
    assert!((18..=21).contains(&count(&after, "b")), "{}", count(&after, "b"));
}

/// Of two tenants that relieve a shard alike, the one with fewer bytes goes.
#[test]
fn what_is_hot_and_small_goes_first() {
    let busy = |name: &str, bytes| Tenant { milliwrites: 100_000, ..tenant(name, "a", bytes) };
    let tenants = [busy("big", 900 << 20), busy("small", 1 << 10), tenant("idle", "b", 900 << 20)];
    let moves = plan(&[shard("a", 1), shard("b", 1)], &tenants, ALL).moves;
    assert_eq!(moves.iter().map(|m| m.tenant.as_str()).collect::<Vec<_>>(), ["small"]);
}

/// In a federation that sleeps, or is balanced well enough, nobody is moved about.
#[test]
fn small_differences_move_nobody() {
    let mut tenants = many(20, "a");
    tenants.iter_mut().skip(10).for_each(|t| t.shard = "b".into());
    tenants[0].milliwrites = 16;
    tenants[3].millifetches = 900;
    assert_eq!(plan(&[shard("a", 1), shard("b", 1)], &tenants, ALL).moves, []);
}

/// What cannot be done is said, and not proposed.
#[test]
fn what_is_stuck_is_told() {
    let shards = [shard("a", 0), Shard { is_able: false, ..shard("b", 100) }];
    let stuck = plan(&shards, &many(3, "a"), ALL);
    assert!(stuck.moves.is_empty() && stuck.notes[0].contains("no other shard"), "{stuck:?}");
    let silent = [Shard { is_able: false, ..shard("a", 0) }, shard("b", 100)];
    let stuck = plan(&silent, &many(3, "a"), ALL);
    assert!(stuck.moves.is_empty() && stuck.notes[0].contains("does not answer"), "{stuck:?}");
}

/// Draining one shard moves its tenants and no others, however uneven the rest is.
#[test]
fn draining_does_nothing_else() {
    let shards = [Shard { drains: true, ..shard("a", 100) }, shard("b", 100), shard("c", 100)];
    let mut tenants = many(30, "b");
    tenants.iter_mut().skip(26).for_each(|t| t.shard = "a".into());
    let plan = plan(&shards, &tenants, Ask { only_drain: true, limit: usize::MAX });
    assert!(plan.moves.len() == 4 && plan.moves.iter().all(|m| m.from == "a" && m.to == "c"), "{:?}", plan.moves);
}

prop_compose! {
    fn any_shards()(all in prop::collection::vec((0_u32..4, any::<u8>(), any::<u8>()), 1..6)) -> Vec<Shard> {
        all.into_iter().enumerate().map(|(n, (weight, able, drains))| Shard {
            name: format!("s{n}"), weight: weight * 100, is_able: able > 30, drains: drains < 30,
        }).collect()
    }
}

prop_compose! {
    fn any_tenants()(all in prop::collection::vec((0_usize..6, 0_u64..1 << 32, 0_u64..50_000, 0_u64..900_000, any::<u8>()), 0..40))
        -> Vec<Tenant> {
        all.into_iter().enumerate().map(|(n, (on, bytes, milliwrites, millifetches, free))| Tenant {
            name: format!("t{n}"), shard: format!("s{on}"), bytes, milliwrites, millifetches, is_free: free > 30,
        }).collect()
    }
}

proptest! {
    /// Whatever the federation looks like: only free tenants move, once, from a shard that answers to one that takes them;
    /// what is drained ends empty of them; and who plans again moves nobody back and forth.
    #[test]
    fn plans_hold(shards in any_shards(), tenants in any_tenants()) {
        let found = plan(&shards, &tenants, ALL);
        let of = |name: &str| shards.iter().find(|s| s.name == name).unwrap();
        for step in &found.moves {
            prop_assert!(of(&step.to).takes() && of(&step.from).is_able && step.from != step.to);
            prop_assert!(tenants.iter().any(|t| t.name == step.tenant && t.is_free));
            prop_assert_eq!(found.moves.iter().filter(|s| s.tenant == step.tenant).count(), 1);
        }
        let after = carry_out(&found, &tenants);
        if shards.iter().any(Shard::takes) {
            let left = |s: &Shard| after.iter().filter(|t| t.is_free && t.shard == s.name).count();
            prop_assert!(shards.iter().filter(|s| s.is_emptied() && s.is_able).all(|s| left(s) == 0));
        }
        prop_assert_eq!(plan(&shards, &after, ALL).moves, vec![]);
    }

    /// No shard is worse off than the worst was before.
    #[test]
    fn balance_does_not_get_worse(mut shards in any_shards(), tenants in any_tenants()) {
        shards.iter_mut().for_each(|s| (s.weight, s.drains) = (s.weight.max(100), false));
        let worst = |of: fn(&Standing) -> Burden, plan: &Plan| plan.shards.iter().filter_map(|s| of(s).percent).max();
        let found = plan(&shards, &tenants, ALL);
        prop_assert!(worst(|s| s.after, &found) <= worst(|s| s.before, &found));
    }

    /// The order in which shards and tenants are named does not matter, and a limit is kept.
    #[test]
    fn plans_are_deterministic(shards in any_shards(), tenants in any_tenants(), limit in 0_usize..5) {
        let (mut s, mut t) = (shards.clone(), tenants.clone());
        s.reverse();
        t.reverse();
        let ask = Ask { limit, ..ALL };
        let found = plan(&shards, &tenants, ask);
        prop_assert_eq!(&found, &plan(&s, &t, ask));
        prop_assert!(found.moves.len() <= limit);
    }
}
