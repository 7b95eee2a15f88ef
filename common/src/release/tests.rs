//! The rules against naive readings of them.

use proptest::{prelude::*, strategy::Strategy as _};

use super::{Strategy, *};
use crate::error::Code;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs.iter().map(|(n, v)| (n.to_string(), v.to_string()))).unwrap()
}

fn rule(pairs: &[(&str, &str)], version: u64, priority: i32) -> ReleaseRule {
    ReleaseRule { labels: labels(pairs), version, priority, percentage: None }
}

fn share(basis_points: u32, rule: ReleaseRule) -> ReleaseRule {
    ReleaseRule { percentage: Some(Percentage { basis_points, sticky_label: "client".into() }), ..rule }
}

fn canary(basis_points: u32) -> Strategy {
    let percentage = Percentage { basis_points, sticky_label: String::new() };
    Strategy::new(Kind::Canary, Labels::default(), Some(percentage), None).unwrap()
}

fn targeted(pairs: &[(&str, &str)]) -> Strategy {
    Strategy::new(Kind::Targeted, labels(pairs), None, None).unwrap()
}

fn client(i: u32) -> Labels {
    labels(&[("client", &format!("c{i}"))])
}

#[test]
fn the_highest_priority_that_matches_wins() {
    let rules = [rule(&[], 1, 0), rule(&[("region", "eu")], 2, 10), rule(&[("region", "eu"), ("ip", "1")], 3, 20)];
    assert_eq!(evaluate(1, &rules, &labels(&[])), Some(1));
    assert_eq!(evaluate(1, &rules, &labels(&[("region", "eu")])), Some(2));
    assert_eq!(evaluate(1, &rules, &labels(&[("region", "eu"), ("ip", "1")])), Some(3));
    assert_eq!(evaluate(1, &rules[1..], &labels(&[])), None);
}

/// What a user raises from 10 to 20 % must hold, and must not take the new version from anybody.
#[test]
fn a_rollout_holds_its_share_and_grows_without_moving_anyone_out() {
    const CLIENTS: u32 = 100_000;
    for config in [1, 7, 4_000_000_000] {
        let before = [rule(&[], 1, 0)];
        let at_ten = plan(&before, 2, &canary(1_000)).unwrap();
        let at_twenty = plan(&at_ten, 2, &canary(2_000)).unwrap();
        let (mut ten, mut twenty) = (0, 0);
        for client in (0..CLIENTS).map(client) {
            let (at, later) = (evaluate(config, &at_ten, &client), evaluate(config, &at_twenty, &client));
            assert!(at != Some(2) || later == Some(2), "{client:?} fell out");
            ten += u32::from(at == Some(2));
            twenty += u32::from(later == Some(2));
        }
        assert!((9_000..=11_000).contains(&ten), "{ten} of {CLIENTS} at 10 %");
        assert!((19_000..=21_000).contains(&twenty), "{twenty} of {CLIENTS} at 20 %");
        assert_eq!(evaluate(config, &at_twenty, &labels(&[])), Some(1), "a client without the label is out");
    }
}

/// Two configs must not draw the same clients: one canary would then bear the risk of all.
#[test]
fn configs_draw_different_canaries() {
    let rules = [share(1_000, rule(&[], 2, 1))];
    let both = (0..10_000).map(client).filter(|c| evaluate(1, &rules, c).is_some() && evaluate(2, &rules, c).is_some());
    assert!((50..200).contains(&both.count()), "about 1 % are in both");
}

/// A refusal must let its reader mend the list: both rules and the reason are in it.
#[test]
fn refusals_name_both_rules() {
    let eu = || rule(&[("region", "eu")], 2, 5);
    for (rules, field, parts) in [
        (vec![rule(&[], 1, 0), rule(&[], 2, 0)], "rules[1]", ["rules[0] (default, priority 0)", "same rank"]),
        (vec![eu(), rule(&[("host", "a")], 3, 5)], "rules[1]", ["rules[0] ({region=eu}, priority 5)", "{host=a}"]),
        (vec![rule(&[], 1, 9), eu()], "rules[1]", ["rules[0] (default, priority 9)", "priority above 9"]),
        (vec![eu(), rule(&[], 1, 9)], "rules[0]", ["rules[1] (default, priority 9)", "can never serve"]),
        (
            vec![share(500, rule(&[], 1, 1)), share(1_000, rule(&[], 1, 2))],
            "rules[0]",
            ["(all clients, 5 % by client, priority 1)", "(all clients, 10 % by client, priority 2)"],
        ),
    ] {
        let refused = validate(&rules).unwrap_err();
        assert_eq!((refused.code, refused.details[0].field.as_str()), (Code::InvalidArgument, field), "{rules:?}");
        assert!(parts.iter().all(|part| refused.message.contains(part)), "{}", refused.message);
    }
}

/// What people set up every day.
#[test]
fn usual_lists_stand() {
    let eu = |priority| rule(&[("region", "eu")], 2, priority);
    for rules in [
        vec![],
        vec![rule(&[], 1, 0)],
        vec![rule(&[], 1, 0), eu(0)],
        vec![rule(&[], 1, 0), eu(10), rule(&[("region", "us")], 3, 10)],
        vec![rule(&[], 1, 0), share(1_000, rule(&[], 2, 10))],
        vec![rule(&[], 1, 0), share(0, rule(&[], 2, 10))],
        vec![share(1_000, rule(&[], 2, 10)), share(2_000, rule(&[], 3, 5))],
        vec![share(WHOLE, rule(&[], 2, 10)), rule(&[], 1, 0)],
        vec![rule(&[], 1, 0), eu(10), rule(&[("region", "eu"), ("host", "a")], 3, 20)],
    ] {
        validate(&rules).unwrap_or_else(|e| panic!("{rules:?}: {e}"));
    }
    let absurd = [
        rule(&[], 1, MAX_PRIORITY + 1),
        share(WHOLE + 1, rule(&[], 1, 0)),
        ReleaseRule {
            percentage: Some(Percentage { basis_points: 1, sticky_label: "Client".into() }),
            ..rule(&[], 1, 0)
        },
    ];
    assert!(absurd.into_iter().all(|rule| validate(&[rule]).is_err()));
}

#[test]
fn strategies_make_the_rules_that_they_say() {
    let before = vec![rule(&[], 1, 0), rule(&[("region", "eu")], 1, 40)];
    let all = plan(&before, 2, &Strategy::all()).unwrap();
    assert_eq!(all, [rule(&[], 2, 0)]);
    let ten = plan(&before, 2, &canary(1_000)).unwrap();
    assert_eq!(ten[..2], before[..]);
    assert_eq!(ten[2], share(1_000, rule(&[], 2, 50)));
    // The same canary again: wider, where it was.
    let twenty = plan(&ten, 3, &canary(2_000)).unwrap();
    assert_eq!(twenty[2], share(2_000, rule(&[], 3, 50)));
    let green = plan(&before, 2, &targeted(&[("region", "eu")])).unwrap();
    assert_eq!(green, [rule(&[], 1, 0), rule(&[("region", "eu")], 2, 40)]);
    let first = plan(&[], 1, &targeted(&[("host", "a")])).unwrap();
    assert_eq!(first, [rule(&[("host", "a")], 1, 10)]);
}

/// A strategy whose parts contradict one another must not be guessed.
#[test]
fn strategies_are_checked() {
    let of = |kind, labels, share: Option<u32>, priority| {
        let percentage = share.map(|basis_points| Percentage { basis_points, sticky_label: "client".into() });
        Strategy::new(kind, labels, percentage, priority).map_err(|e| e.details[0].field.clone())
    };
    let (none, eu) = (Labels::default(), labels(&[("region", "eu")]));
    assert_eq!(of(Kind::All, eu.clone(), None, None).unwrap_err(), "strategy.labels");
    assert_eq!(of(Kind::BlueGreen, none.clone(), None, None).unwrap_err(), "strategy.labels");
    assert_eq!(of(Kind::Targeted, eu.clone(), Some(5), None).unwrap_err(), "strategy.percentage");
    assert_eq!(of(Kind::Canary, none.clone(), None, None).unwrap_err(), "strategy.percentage");
    assert_eq!(of(Kind::Canary, none.clone(), Some(0), None).unwrap_err(), "strategy.percentage.basis_points");
    assert_eq!(of(Kind::Canary, none, Some(5), Some(MAX_PRIORITY + 1)).unwrap_err(), "strategy.priority");
    assert!("rolling".parse::<Kind>().is_err());
    // A wider rule put above a narrower one would silence it: refused, with a way out.
    let narrow = [rule(&[("region", "eu"), ("host", "a")], 1, 5)];
    let refused = plan(&narrow, 2, &targeted(&[("region", "eu")])).unwrap_err();
    assert!(refused.message.contains("rules[0]") && refused.message.contains("rules[1]"), "{refused}");
    let below = Strategy::new(Kind::Targeted, eu, None, Some(1)).unwrap();
    assert_eq!(plan(&narrow, 2, &below).unwrap().len(), 2);
}

/// The default is what clients without labels get, whatever else stands.
#[test]
fn the_default_is_made_below_everything() {
    for others in
        [vec![], vec![rule(&[("a", "1")], 1, -5)], vec![share(1_000, rule(&[], 1, 0))], vec![rule(&[("a", "1")], 1, 7)]]
    {
        let mut rules = others.clone();
        serve_by_default(&mut rules, 9).unwrap();
        validate(&rules).unwrap();
        assert_eq!(default_rule(&rules).map(|r| r.version), Some(9));
        assert!(evaluate(1, &rules, &labels(&[("a", "1")])).is_some());
        assert_eq!(rules[..others.len()], others[..]);
    }
    let mut lowest = vec![share(1_000, rule(&[], 1, -MAX_PRIORITY))];
    assert!(serve_by_default(&mut lowest, 9).is_err());
}

#[test]
fn a_promotion_ends_the_canary_and_leaves_the_rest() {
    let rules = [rule(&[], 1, 0), share(1_000, rule(&[], 2, 10)), rule(&[("host", "a")], 1, 20)];
    assert_eq!(promote(&rules, 2).unwrap(), [rule(&[], 2, 0), rule(&[("host", "a")], 1, 20)]);
    assert_eq!(promote(&[share(1_000, rule(&[], 2, 10))], 2).unwrap(), [rule(&[], 2, 0)]);
}

/// What a user reads who asks why.
#[test]
fn reasons_say_what_is_the_matter() {
    let rules = [
        rule(&[], 1, 0),
        rule(&[("region", "eu")], 2, 10),
        share(1, rule(&[("region", "us")], 3, 20)),
        rule(&[("host", "a")], 4, 30),
    ];
    let why = |pairs: &[(&str, &str)]| {
        let told = explain(7, &rules, &labels(pairs));
        told.into_iter().map(|v| (v.rule, v.reason.to_string())).collect::<Vec<_>>()
    };
    let told = why(&[("region", "eu")]);
    assert_eq!(told.iter().map(|(rule, _)| *rule).collect::<Vec<_>>(), [3, 2, 1, 0]);
    assert_eq!(told[0].1, "the client carries no label host; \"a\" is asked for");
    assert_eq!(told[1].1, "the client's region is \"eu\"; \"us\" is asked for");
    assert!(told[2].1.starts_with("serves"));
    assert_eq!(told[3].1, "admits this client, but rules[1] is above it and serves");
    assert_eq!(why(&[("region", "us")])[1].1, "the client carries no label client, by which the share is drawn");
    let outside = &why(&[("region", "us"), ("client", "c1")])[1].1;
    assert!(outside.ends_with("outside of the first 0.01 %"), "{outside}");
}

fn any_labels() -> impl proptest::strategy::Strategy<Value = Labels> {
    proptest::collection::btree_map("[ab]", "[01]", 0..3).prop_map(|map| Labels::try_from(map).unwrap())
}

fn any_rule() -> impl proptest::strategy::Strategy<Value = ReleaseRule> {
    let percentage = proptest::option::of(
        (prop_oneof![Just(1_000), Just(2_000), Just(WHOLE)], "client|host")
            .prop_map(|(basis_points, sticky_label)| Percentage { basis_points, sticky_label }),
    );
    (any_labels(), 1u64..5, -1i32..3, percentage).prop_map(|(labels, version, priority, percentage)| ReleaseRule {
        labels,
        version,
        priority,
        percentage,
    })
}

fn any_rules() -> impl proptest::strategy::Strategy<Value = Vec<ReleaseRule>> {
    proptest::collection::vec(any_rule(), 0..5)
}

fn any_client() -> impl proptest::strategy::Strategy<Value = Labels> {
    (any_labels(), proptest::option::of(0u32..50), proptest::option::of(0u32..50)).prop_map(|(own, client, host)| {
        let own = own.iter().map(|(n, v)| (n.to_owned(), v.to_owned()));
        let drawn = [("client", client), ("host", host)];
        let drawn = drawn.into_iter().filter_map(|(n, v)| v.map(|v| (n.to_owned(), format!("v{v}"))));
        Labels::new(own.chain(drawn)).unwrap()
    })
}

fn any_strategy() -> impl proptest::strategy::Strategy<Value = Strategy> {
    prop_oneof![
        Just(Strategy::all()),
        (any_labels(), prop_oneof![Just(500), Just(3_000)], "client|host|").prop_map(|(labels, basis_points, by)| {
            let percentage = Percentage { basis_points, sticky_label: by };
            Strategy::new(Kind::Canary, labels, Some(percentage), None).unwrap()
        }),
        any_labels().prop_filter_map("labels are needed", |l| Strategy::new(Kind::BlueGreen, l, None, None).ok()),
    ]
}

/// A client as the rules see it: a value, another value or none for each label, and where it stands by each sticky label.
type Seen = ([Option<&'static str>; 2], [Option<u32>; 2]);

/// Every kind of client that there is.
fn kinds() -> Vec<Seen> {
    let values = [None, Some("0"), Some("1"), Some("another")];
    let places = [None, Some(0), Some(1_500), Some(5_000)];
    let mut all = Vec::new();
    for a in values {
        for b in values {
            for client in places {
                all.extend(places.map(|host| ([a, b], [client, host])));
            }
        }
    }
    all
}

fn carries(seen: &Seen, rule: &ReleaseRule) -> bool {
    rule.labels.iter().all(|(n, v)| seen.0[usize::from(n == "b")] == Some(v))
}

fn admitted(seen: &Seen, rule: &ReleaseRule) -> bool {
    let in_share = |p: &Percentage| seen.1[usize::from(p.sticky_label == "host")].is_some_and(|at| at < p.basis_points);
    carries(seen, rule) && rule.percentage.as_ref().is_none_or(in_share)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    // The one that serves is the best of all that admit, by reading the definition.
    #[test]
    fn evaluation_is_the_naive_one(rules in any_rules(), client in any_client(), config in 0u64..5) {
        let mut admitting: Vec<&ReleaseRule> = rules.iter().filter(|r| r.admits(config, &client)).collect();
        admitting.sort_by_key(|r| std::cmp::Reverse((r.priority, r.labels.iter().count())));
        let expected = admitting.first().map(|r| r.version);
        prop_assert_eq!(evaluate(config, &rules, &client), expected);
        let told = explain(config, &rules, &client);
        prop_assert_eq!(told.len(), rules.len());
        let serves: Vec<u64> =
            told.iter().filter(|v| v.reason == Reason::Serves).map(|v| rules[v.rule].version).collect();
        prop_assert_eq!(serves, expected.into_iter().collect::<Vec<_>>());
    }

    // A list stands exactly if every rule serves somebody and no two could quarrel over one client.
    #[test]
    fn validity_is_the_naive_one(rules in any_rules()) {
        let kinds = kinds();
        let quarrel = rules.iter().enumerate().any(|(i, a)| rules[..i].iter().any(|b| {
            a.rank() == b.rank() && kinds.iter().any(|k| carries(k, a) && carries(k, b))
        }));
        let idle = rules.iter().any(|r| !kinds.iter().any(|k| {
            admitted(k, r) && !rules.iter().any(|above| above.rank() > r.rank() && admitted(k, above))
        }));
        prop_assert_eq!(validate(&rules).is_ok(), !quarrel && !idle, "quarrel {}, idle {}", quarrel, idle);
    }

    // Whoever is not meant by a strategy is served as before; the result always stands.
    #[test]
    fn a_strategy_reaches_only_whom_it_names(rules in any_rules(), strategy in any_strategy(), client in any_client()) {
        prop_assume!(validate(&rules).is_ok());
        let Ok(after) = plan(&rules, 9, &strategy) else { return Ok(()) };
        prop_assert!(validate(&after).is_ok());
        let (before, now) = (evaluate(3, &rules, &client), evaluate(3, &after, &client));
        if strategy == Strategy::all() {
            prop_assert_eq!(now, Some(9));
        } else {
            let made = after.iter().find(|r| r.version == 9).unwrap();
            let replaced = rules.iter().any(|r| r.labels == made.labels);
            prop_assert!(made.admits(3, &client) || replaced || now == before);
            prop_assert!(now != Some(9) || made.admits(3, &client));
        }
        let promoted = promote(&after, 9).unwrap();
        prop_assert!(validate(&promoted).is_ok());
        prop_assert_eq!(default_rule(&promoted).map(|r| r.version), Some(9));
        prop_assert_eq!(promoted.iter().filter(|r| r.version == 9).count(), 1);
        prop_assert_eq!(evaluate(3, &promoted, &Labels::default()), Some(9));
    }
}
