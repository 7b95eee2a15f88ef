//! What is kept of reports, what goes, and what is said of it.

use conflux_common::{distinct, release::ReleaseRule};
use conflux_proto::internal::TenantUse;
use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))).unwrap()
}

fn clients(of: std::ops::Range<u64>) -> Distinct {
    let mut clients = Distinct::default();
    of.for_each(|client| clients.insert_hash(distinct::hash([&client.to_be_bytes()[..]])));
    clients
}

fn told(name: &str, age_ms: u64, fetches: u64, sets: &[(&Labels, std::ops::Range<u64>)]) -> ConfigUse {
    let mut all = Distinct::default();
    let labels = sets.iter().map(|(labels, range)| {
        all.merge(&clients(range.clone()));
        let clients = clients(range.clone()).to_wire().into();
        LabelsUse { labels: (*labels).clone().into(), fetches, age_ms, clients }
    });
    let labels = labels.collect();
    ConfigUse {
        app: "shop".into(),
        env: "prod".into(),
        name: name.into(),
        labels,
        dropped: 0,
        fetches: fetches * sets.len() as u64,
        age_ms,
        clients: all.to_wire().into(),
    }
}

fn report(tenant: u64, configs: Vec<ConfigUse>) -> ReportUseRequest {
    ReportUseRequest { tenants: vec![TenantUse { tenant_id: tenant, configs }] }
}

fn seen(usage: &Usage, tenant: u64, name: &str) -> ConfigSeen {
    usage.config(TenantId(tenant), "shop", "prod", name)
}

/// Two gateways see some of the same clients: together they are counted once, and the later fetch is the last.
#[test]
fn reports_of_several_gateways_add_up() {
    let usage = Usage::default();
    let (eu, none) = (labels(&[("region", "eu")]), Labels::default());
    usage.take(report(1, vec![told("a", 60_000, 10, &[(&eu, 0..50), (&none, 50..60)])]), |_| true);
    usage.take(report(1, vec![told("a", 1_000, 5, &[(&eu, 25..75)])]), |_| true);
    let a = seen(&usage, 1, "a");
    assert_eq!((a.fetches, a.label_sets.len(), a.dropped), (25, 2, 0));
    assert!((1_000..30_000).contains(&a.last.unwrap().as_millis()), "{:?}", a.last);
    assert_eq!((&a.label_sets[0].labels, a.label_sets[0].fetches), (&eu, 15), "the last seen first");
    assert!((64..=86).contains(&a.label_sets[0].clients.estimate()), "{:?}", a.label_sets[0].clients);
    assert!(a.label_sets[1].last >= Duration::from_secs(60));
    assert_eq!(seen(&usage, 1, "b").last, None);
    assert_eq!(seen(&usage, 2, "a").last, None, "another tenant's");
}

/// Who reads a whole environment reads each config in it: none of them is unused.
#[test]
fn a_fetch_of_the_environment_is_one_of_each_config() {
    let usage = Usage::default();
    let eu = labels(&[("region", "eu")]);
    usage.take(report(1, vec![told("", 5_000, 3, &[(&eu, 0..3)]), told("a", 9_000, 4, &[(&eu, 3..7)])]), |_| true);
    let a = seen(&usage, 1, "a");
    assert_eq!((a.fetches, a.label_sets.len(), a.clients.estimate()), (7, 1, 7));
    assert!(a.last.unwrap() < Duration::from_secs(9));
    assert_eq!(seen(&usage, 1, "b").fetches, 3);
}

/// A tenant that has moved away or is gone must leave nothing, and one that is not here must not begin to be kept.
#[test]
fn tenants_that_are_not_here_are_forgotten() {
    let usage = Usage::default();
    let none = Labels::default();
    for tenant in 1..=3 {
        usage.take(report(tenant, vec![told("a", 0, 1, &[(&none, 0..1)])]), |tenant| tenant.0 != 3);
    }
    assert_eq!(seen(&usage, 3, "a").fetches, 0);
    usage.keep(&[TenantId(2)]);
    assert_eq!((seen(&usage, 1, "a").fetches, seen(&usage, 2, "a").fetches), (0, 1));
    usage.0.lock().check();
    usage.keep(&[]);
    assert_eq!(usage.0.lock().bytes(), 0);
}

#[test]
fn what_cannot_be_read_of_a_report_is_passed_over() {
    let usage = Usage::default();
    let good = labels(&[("region", "eu")]);
    let mut config = told("a", 0, 1, &[(&good, 0..1), (&Labels::default(), 1..2)]);
    config.labels[0].clients = vec![0; 3].into();
    config.labels[1].labels.insert("no label".into(), "x".into());
    let broken = ConfigUse { clients: vec![0; 2].into(), ..told("b", 0, 1, &[]) };
    usage.take(report(1, vec![broken, config]), |_| true);
    let a = seen(&usage, 1, "a");
    assert_eq!((a.fetches, a.label_sets.len()), (2, 0));
}

/// The clients "of late" are not those of last year.
#[test]
fn clients_who_left_are_forgotten_in_time() {
    let start = Instant::now();
    let mut book = Book::new(Bounds::default());
    let at = |hours: u32| start + HOUR * hours;
    let used = |book: &mut Book, range: std::ops::Range<u64>, now: Instant| {
        book.config_used(1, "a/b/c", 1, now, &clients(range.clone()), 0, now);
        book.labels_used(1, "a/b/c", Labels::default(), 1, now, &clients(range), now);
    };
    let count = |book: &Book, now: Instant| book.config(TenantId(1), "a/b/c", "a/b", now).clients.estimate();
    used(&mut book, 0..4, at(0));
    assert_eq!(count(&book, at(11)), 4);
    used(&mut book, 4..6, at(13));
    assert_eq!(count(&book, at(14)), 6, "the first are of the last half");
    assert_eq!(count(&book, at(26)), 2);
    used(&mut book, 6..7, at(60));
    assert_eq!(count(&book, at(60)), 1);
    book.keep(&[TenantId(1)], at(85));
    let quiet = book.config(TenantId(1), "a/b/c", "a/b", at(85));
    assert_eq!((quiet.label_sets.len(), quiet.dropped), (0, 0), "not seen for a day: gone, but not for want of room");
    assert_eq!((quiet.last, quiet.fetches), (Some(HOUR * 25), 3), "when it was last fetched is still known");
    book.check();
}

/// What goes for want of room is what was seen least recently, and it is told that something went.
#[test]
fn the_least_recently_seen_goes_and_is_counted() {
    let start = Instant::now();
    let bounds = Bounds { label_sets_of_config: 3, label_sets_of_tenant: 5, configs_of_tenant: 3, bytes: usize::MAX };
    let mut book = Book::new(bounds);
    let set = |n: u64| labels(&[("n", &n.to_string())]);
    let use_at = |book: &mut Book, config: &str, n: u64, second: u64| {
        let now = start + Duration::from_secs(second);
        book.config_used(1, config, 1, now, &clients(n..n + 1), 0, now);
        book.labels_used(1, config, set(n), 1, now, &clients(n..n + 1), now);
        book.check();
    };
    let now = start + Duration::from_secs(100);
    let known = |book: &Book, config: &str| {
        let seen = book.config(TenantId(1), config, "a/b", now);
        let mut sets: Vec<String> = seen.label_sets.iter().map(|s| s.labels.get("n").unwrap().to_owned()).collect();
        sets.sort();
        (sets.join(","), seen.dropped)
    };
    for n in 1..=3 {
        use_at(&mut book, "a/b/1", n, n);
    }
    use_at(&mut book, "a/b/1", 1, 4);
    use_at(&mut book, "a/b/1", 4, 5);
    assert_eq!(known(&book, "a/b/1"), ("1,3,4".into(), 1), "2 was the least recently seen");
    for n in 6..=8 {
        use_at(&mut book, "a/b/2", n, n);
    }
    assert_eq!(known(&book, "a/b/1"), ("1,4".into(), 2), "the tenant has room for five");
    use_at(&mut book, "a/b/3", 9, 9);
    use_at(&mut book, "a/b/4", 10, 10);
    assert_eq!(known(&book, "a/b/1"), (String::new(), 0), "the tenant has room for three configs");
    let first = book.config(TenantId(1), "a/b/1", "a/b", now);
    assert!(first.observed <= Duration::from_secs(95), "it was seen at 5 s: nothing is said of before");
}

/// New rules for clients that were seen: who changes, from what to what.
#[test]
fn impact_compares_what_stands_with_what_would() {
    let usage = Usage::default();
    let (eu, us, none) = (labels(&[("region", "eu")]), labels(&[("region", "us")]), Labels::default());
    let sets = [(&eu, 0..10), (&us, 10..14), (&none, 14..15)];
    usage.take(report(1, vec![told("a", 1_000, 2, &sets)]), |_| true);
    let rule = |labels: &Labels, version, priority| ReleaseRule {
        labels: labels.clone(),
        version,
        priority,
        percentage: None,
    };
    let now = [rule(&none, 1, 0), rule(&us, 2, 10)];
    let then = [rule(&none, 1, 0), rule(&us, 2, 10), rule(&eu, 3, 20)];
    let impact = impact::of(1, &now, &then, &seen(&usage, 1, "a"));
    let reached: Vec<_> = impact.label_sets.iter().map(|r| (&r.labels, r.now, r.then, r.clients)).collect();
    let expected = [(&eu, Some(1), Some(3), 10), (&us, Some(2), Some(2), 4), (&none, Some(1), Some(1), 1)];
    assert_eq!(reached, expected);
    assert_eq!((impact.changing, impact.clients_changing, impact.clients), (1, 10, 15));
    assert!(impact.notes[0].contains("for 0 s only"), "{:?}", impact.notes);

    // Nothing would be served any more: that is a change too.
    let nothing = impact::of(1, &now, &[], &seen(&usage, 1, "a"));
    assert_eq!((nothing.changing, nothing.clients_changing), (3, 15));
    assert!(nothing.label_sets.iter().all(|r| r.then.is_none()));
    let unseen = impact::of(1, &now, &then, &seen(&usage, 1, "z"));
    assert_eq!(unseen.label_sets, []);
    assert!(unseen.notes[0].contains("no fetch of this config has been seen"));
}

proptest! {
    /// Whatever is reported, tables, orders and counts agree, and the bounds hold.
    #[test]
    fn the_bounds_hold(uses in prop::collection::vec((0u64..4, 0u64..6, 0u64..12, 0u64..90), 0..120)) {
        let start = Instant::now() + HOUR;
        let bounds = Bounds { label_sets_of_config: 4, label_sets_of_tenant: 10, configs_of_tenant: 4, bytes: 20_000 };
        let mut book = Book::new(bounds);
        for (step, (tenant, config, set, age)) in uses.into_iter().enumerate() {
            let now = start + Duration::from_secs(step as u64);
            let (key, last) = (format!("a/b/{config}"), now - Duration::from_secs(age));
            book.config_used(tenant, &key, 1, last, &clients(set..set + 1), 0, now);
            book.labels_used(tenant, &key, labels(&[("n", &set.to_string())]), 1, last, &clients(set..set + 1), now);
            book.check();
            prop_assert!(book.bytes() <= bounds.bytes);
            let sets: usize = (0..6).map(|c| book.config(TenantId(tenant), &format!("a/b/{c}"), "", now).label_sets.len()).sum();
            prop_assert!(sets <= bounds.label_sets_of_tenant);
        }
        book.keep(&[], start + HOUR);
        book.check();
        prop_assert_eq!(book.bytes(), 0);
    }
}
