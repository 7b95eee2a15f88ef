//! Each checker on a history that is right and on ones that are wrong in one place.

use super::*;

fn call(ask: Ask, told: Told, began: u64, ended: u64) -> Call {
    Call { client: 0, tenant: 0, register: "r".into(), ask, told, began, ended, sent: 1, part: 0 }
}

fn put(value: u64, revision: u64, began: u64, ended: u64) -> Call {
    call(Ask::Put { value }, Told::Wrote { revision, version: revision }, began, ended)
}

fn stale(value: u64, revision: u64, age_ms: u64, began: u64) -> Call {
    call(Ask::Stale { floor: 0 }, Told::Saw { value, revision, age_ms }, began, began + 10)
}

const SECOND: u64 = 1_000_000;

/// A stale read may be as old as it says, and no older.
#[test]
fn a_stale_read_is_no_older_than_it_says() {
    let writes = vec![put(10, 1, 0, 100), put(11, 2, SECOND, SECOND + 100)];
    let with = |read| freshness(&[writes.clone(), vec![read]].concat(), 1).violations;
    assert_eq!(with(stale(10, 1, 3000, 3 * SECOND)), 0);
    assert_eq!(with(stale(10, 1, 500, 3 * SECOND)), 1);
    assert_eq!(with(stale(11, 2, 0, 3 * SECOND)), 0);
    assert_eq!(with(stale(11, 1, 3000, 3 * SECOND)), 1, "the value of another revision");
    let strong = call(Ask::Read, Told::Saw { value: 10, revision: 1, age_ms: 5000 }, 3 * SECOND, 3 * SECOND + 1);
    assert_eq!(with(strong), 1, "a linearizable read has no age");
    let floor =
        call(Ask::Stale { floor: 2 }, Told::Saw { value: 10, revision: 1, age_ms: 9000 }, 3 * SECOND, 3 * SECOND + 1);
    assert_eq!(with(floor), 1, "below min_revision");
}

/// A write acknowledged after another one began must not come before it.
#[test]
fn revisions_follow_real_time() {
    assert_eq!(freshness(&[put(10, 2, 0, 10), put(11, 1, 20, 30)], 1).violations, 1);
    assert_eq!(freshness(&[put(10, 2, 0, 25), put(11, 1, 20, 30)], 1).violations, 0);
    assert_eq!(freshness(&[put(10, 1, 0, 25), put(11, 1, 20, 30)], 1).violations, 1);
}

/// Lost, doubled, denied and made-up versions.
#[test]
fn versions_are_the_writes() {
    let stored = |values: &[u64]| {
        let versions =
            values.iter().zip(1..).map(|(v, number)| Stored { number, hash: hash_of(*v), created_ms: 0 }).collect();
        BTreeMap::from([((0, "r".to_owned()), versions)])
    };
    let calls = [put(10, 1, 0, 1), put(11, 2, 2, 3), call(Ask::Put { value: 12 }, Told::NotApplied, 4, 5)];
    assert_eq!(versions(&calls, &stored(&[10, 11])).violations, 0);
    assert_eq!(versions(&calls, &stored(&[10])).violations, 1, "lost");
    assert_eq!(versions(&calls, &stored(&[10, 11, 10])).violations, 1, "twice");
    assert_eq!(versions(&calls, &stored(&[10, 11, 12])).violations, 1, "denied");
    assert_eq!(versions(&calls, &stored(&[10, 11, 99])).violations, 1, "made up");
}

/// A hole, a repetition and an end too early.
#[test]
fn a_watcher_sees_each_revision_once() {
    let wrong = |seen: &[u64]| {
        let mut finding = Finding::new("t");
        sequence("w", seen, (3, 6), &MadeAt::new(), &mut finding);
        finding.violations
    };
    assert_eq!(wrong(&[4, 5, 6]), 0);
    assert_eq!(wrong(&[4, 6]), 1);
    assert_eq!(wrong(&[4, 5, 5, 6]), 1);
    assert_eq!(wrong(&[4, 5]), 1);
}

/// One clock that is hours ahead must not show in what is stored.
#[test]
fn group_time_is_not_pushed() {
    let stored = |created_ms| {
        let version = Stored { number: 1, hash: hash_of(10), created_ms };
        BTreeMap::from([((0, "r".to_owned()), vec![version])])
    };
    let calls = [put(10, 1, 0, 100_000)];
    assert!(group_time(&calls, &stored(1_000_100), 1_000_000).passed());
    let found = group_time(&calls, &stored(1_000_100 + AHEAD_MS + 1), 1_000_000);
    assert_eq!((found.violations, found.first_at), (1, Some(100_000)));
}

fn part(register: &str, part: usize, value: u64, revision: u64) -> Call {
    let register = register.to_owned();
    Call { register, part, ..put(value, revision, revision * 100, revision * 100 + 50) }
}

/// Half of a changeset must be seen for what it is, wherever it shows.
#[test]
fn changesets_are_whole() {
    let calls = [part("s0-0-0", 0, 5, 1), part("s0-0-1", 1, 5, 1), part("r0-1", 0, 6, 2)];
    let sets = sets_at(&calls, 0);
    assert_eq!(sets.keys().copied().collect::<Vec<_>>(), [1]);
    let told = |names: &[(u64, &'static str)]| {
        let mut finding = Finding::new("test");
        whole("w", &by_revision(names.iter().copied()), &sets, &mut finding);
        finding.violations
    };
    assert_eq!(told(&[(1, "s0-0-0.json"), (1, "s0-0-1.json"), (2, "r0-1.json")]), 0);
    assert_eq!(told(&[(1, "s0-0-0.json"), (2, "r0-1.json")]), 1);
    // One and the same again is no part of a set.
    assert_eq!(by_revision([(1, "a"), (1, "a")].into_iter()).len(), 2);

    let version = |hash: &str| Stored { number: 1, hash: hash.into(), created_ms: 0 };
    let agree = |other: &str| {
        let mut finding = Finding::new("test");
        let stored = [((0, "s0-0-0".to_owned()), vec![version("x")]), ((0, "s0-0-1".to_owned()), vec![version(other)])];
        sets_agree(&stored.into(), &mut finding);
        finding.violations
    };
    assert_eq!((agree("x"), agree("y")), (0, 1));

    // Whoever reads another register of the set after a changeset was seen must see it too.
    let saw = |register: &str, value, began| {
        let told = Told::Saw { value, revision: 1, age_ms: 0 };
        Call { register: register.into(), ..call(Ask::Read, told, began, began + 1) }
    };
    assert_eq!(linearizability(&[&calls[..], &[saw("s0-0-1", 5, 500)]].concat()).violations, 0);
    assert_eq!(linearizability(&[&calls[..], &[saw("s0-0-1", ABSENT, 500)]].concat()).violations, 1);
}
