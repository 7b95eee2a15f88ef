//! Publish, rollback, promotion, drafts, update: what users do with versions.

use conflux_common::labels::Labels;
use conflux_proto::{
    log::{ShardCommand, UpdateConfig, shard_command::Op},
    store::Config,
    v1::Retention,
};

use super::{bench::*, commands::*};
use crate::{
    machine::limits,
    query::{self, DueWork},
    store::config,
};

const MINUTE: u64 = 60_000;

/// With config 1, `a`, of which versions 1 and 2 are there; 2 is the default.
fn released() -> Bench {
    let mut bench = Bench::active();
    bench.write(put("a", "x: 1")).unwrap();
    bench.write(put("a", "x: 2")).unwrap();
    bench
}

fn row(bench: &Bench) -> Config {
    bench.state.read(|view| config::get(view, TENANT, 1)).unwrap().unwrap()
}

fn served(bench: &Bench, pairs: &[(&str, &str)]) -> u64 {
    let labels = Labels::new(pairs.iter().map(|(n, v)| (n.to_string(), v.to_string()))).unwrap();
    bench.read(|view, row| query::fetch(view, row, "app", "env", "a", &labels)).unwrap().version
}

fn refused(bench: &mut Bench, op: Op) -> (String, String) {
    let refusal = bench.write(op).unwrap_err();
    (refusal.code, refusal.details.first().map(|d| d.field.clone()).unwrap_or_default())
}

/// Applies what the leader's upkeep would log now; answers how many promotions that were.
fn upkeep(bench: &mut Bench) -> usize {
    let due = bench.state.read(|view| query::due(view, bench.now_ms, 10)).unwrap();
    let promotions = due.into_iter().filter_map(|d| match d.work {
        DueWork::Promote(promote) => Some(by_upkeep(command(Op::Promote(promote)))),
        _ => None,
    });
    promotions.map(|command| bench.write_as(command).unwrap()).count()
}

/// A version that reaches only the clients it is meant for, in one revision with its rule.
#[test]
fn a_publish_makes_version_and_rule_together() {
    let mut bench = released();
    let made = bench.write(Op::Publish(publish(1, "x: 3", targeted("host", "a")))).unwrap();
    assert_eq!((made.version, made.revision.as_str(), made.created), (3, "3.3", false));
    assert_eq!((served(&bench, &[]), served(&bench, &[("host", "a")])), (2, 3));
    assert_eq!(bench.history(), ["created", "released", "released"]);
    let wider = bench.write(Op::Publish(publish_version(1, 3, canary(2_000)))).unwrap();
    assert_eq!(wider.version, 3);
    assert_eq!(row(&bench).rules.len(), 3);
    bench.write(Op::Publish(publish_version(1, 3, all()))).unwrap();
    assert_eq!(row(&bench).rules, [rule(&[], 3, 0)]);
    assert_eq!(row(&bench).previous_default, 2);
}

/// A pipeline that publishes the same again must neither fill the list of versions nor wake anybody.
#[test]
fn a_publish_of_what_is_released_changes_nothing() {
    let mut bench = released();
    let first = bench.write(Op::Publish(publish(1, "x: 3", canary(1_000)))).unwrap();
    let again = bench.write(Op::Publish(publish(1, "x: 3", canary(1_000)))).unwrap();
    assert_eq!((again.version, &again.revision, &again.etag), (3, &first.revision, &first.etag));
    // Wider, of the same content: the same version.
    let wider = bench.write(Op::Publish(publish(1, "x: 3", canary(5_000)))).unwrap();
    assert_eq!((wider.version, wider.revision.as_str()), (3, "3.4"));
    assert_eq!(bench.write(Op::Publish(publish(1, "x: 1", all()))).unwrap().version, 4, "only the latest is the same");
}

#[test]
fn a_publish_says_what_is_wrong_with_it() {
    let mut bench = released();
    let none = publish_version(1, 0, all());
    let both = conflux_proto::log::Publish { version: 1, ..publish(1, "x: 3", all()) };
    let described = conflux_proto::log::Publish { description: "d".into(), ..publish_version(1, 1, all()) };
    let mut short = publish(1, "x: 3", all());
    short.sha256 = "abc".into();
    let mut misspelt = publish(1, "x: 3", all());
    misspelt.strategy.as_mut().unwrap().r#type = "everybody".into();
    for (op, field) in [
        (none, "content"),
        (both, "content"),
        (described, "description"),
        (short, "sha256"),
        (misspelt, "strategy.type"),
        (publish(1, "x: 3", None), "strategy"),
        (publish_version(1, 9, all()), "version"),
        (promised(publish(1, "x: 3", all()), 5), "make_default_after_mins"),
        (promised(publish(1, "x: 3", canary(1)), limits::MAX_PROMOTION_MINUTES + 1), "make_default_after_mins"),
        (publish(1, "x: 3", canary(0)), "strategy.percentage.basis_points"),
    ] {
        assert_eq!(refused(&mut bench, Op::Publish(op.clone())), ("INVALID_ARGUMENT".into(), field.into()), "{op:?}");
    }
    assert_eq!(refused(&mut bench, Op::Publish(publish(9, "x", all()))).0, "NOT_FOUND");
    let stale = ShardCommand { if_match: 1, ..command(Op::Publish(publish(1, "x: 3", all()))) };
    assert_eq!(bench.write_as(stale).unwrap_err().code, "FAILED_PRECONDITION");
    assert_eq!((bench.row().revision, bench.row().versions), (2, 2));
}

/// The way back must be one call, and must not end anybody's canary.
#[test]
fn a_rollback_touches_the_default_only() {
    let mut bench = released();
    bench.write(Op::Publish(publish(1, "x: 3", targeted("host", "a")))).unwrap();
    assert_eq!(bench.write(rollback(1, 0)).unwrap().version, 1);
    assert_eq!((served(&bench, &[]), served(&bench, &[("host", "a")])), (1, 3));
    // A second one takes the first back.
    assert_eq!(bench.write(rollback(1, 0)).unwrap().version, 2);
    assert_eq!(bench.write(rollback(1, 3)).unwrap().version, 3);
    let revision = bench.row().revision;
    bench.write(rollback(1, 3)).unwrap();
    assert_eq!(bench.row().revision, revision, "it is there already");
    assert_eq!(refused(&mut bench, rollback(1, 9)), ("INVALID_ARGUMENT".into(), "version".into()));
}

#[test]
fn a_rollback_makes_the_default_that_is_missing() {
    let mut bench = Bench::active();
    bench.write(create("a", "x: 1")).unwrap();
    assert_eq!(refused(&mut bench, rollback(1, 0)), ("FAILED_PRECONDITION".into(), "version".into()));
    bench.write(releases(1, vec![rule(&[("host", "a")], 1, -3)])).unwrap();
    bench.write(rollback(1, 1)).unwrap();
    assert_eq!(row(&bench).rules, [rule(&[("host", "a")], 1, -3), rule(&[], 1, -3)]);
}

/// A canary that nobody stops becomes the default, once, by group time.
#[test]
fn a_promotion_happens_once_when_it_is_due() {
    let mut bench = released();
    let made = bench.write(Op::Publish(promised(publish(1, "x: 3", canary(1_000)), 2))).unwrap();
    let due = bench.now_ms + 2 * MINUTE;
    assert_eq!(made.promotion_due_ms, due);
    assert_eq!(bench.state.read(|view| query::next_promotion(view)).unwrap(), Some(due));
    bench.now_ms = due - 1;
    assert_eq!(upkeep(&mut bench), 0);
    let early = bench.write_as(by_upkeep(command(promote(1, 3, due)))).unwrap_err();
    assert_eq!(early.code, "FAILED_PRECONDITION");
    bench.now_ms = due;
    assert_eq!(upkeep(&mut bench), 1);
    assert_eq!(row(&bench).rules, [rule(&[], 3, 0)]);
    assert_eq!((row(&bench).promotion, row(&bench).previous_default), (None, 2));
    let revision = bench.row().revision;
    // Another leader logged it too.
    bench.write_as(by_upkeep(command(promote(1, 3, due)))).unwrap();
    assert_eq!((bench.row().revision, upkeep(&mut bench)), (revision, 0));
    assert_eq!(bench.history().last().unwrap(), "released");
    assert_eq!(bench.audit().last().unwrap().principal, "shard:upkeep");
    assert_eq!(bench.state.read(|view| query::next_promotion(view)).unwrap(), None);
}

/// Whoever changes the rules has decided anew: an old promise must not overrule it.
#[test]
fn any_change_of_the_rules_ends_a_promotion() {
    let ends: [(&str, Op); 6] = [
        ("put", put("a", "x: 9")),
        ("publish", Op::Publish(publish_version(1, 1, targeted("host", "a")))),
        ("the same publish without it", Op::Publish(publish_version(1, 3, canary(1_000)))),
        ("rollback", rollback(1, 1)),
        ("releases", releases(1, vec![rule(&[], 1, 0)])),
        ("cancel", cancel(1)),
    ];
    for (what, op) in ends {
        let mut bench = released();
        bench.write(Op::Publish(promised(publish(1, "x: 3", canary(1_000)), 1))).unwrap();
        assert!(row(&bench).promotion.is_some());
        // What leaves the rules alone leaves it, too.
        bench.write(add_version(1, "x: 4")).unwrap();
        bench.write(Op::UpdateConfig(UpdateConfig { description: Some("d".into()), ..update(1) })).unwrap();
        assert!(row(&bench).promotion.is_some(), "{what}");
        bench.write(op).unwrap();
        assert_eq!(row(&bench).promotion, None, "{what}");
        bench.now_ms += MINUTE;
        assert_eq!(upkeep(&mut bench), 0, "{what}");
    }
    let mut bench = released();
    assert_eq!(refused(&mut bench, cancel(1)).0, "NOT_FOUND");
    bench.write(Op::Publish(promised(publish(1, "x: 3", canary(1_000)), 1))).unwrap();
    bench.write(delete(1)).unwrap();
    bench.now_ms += MINUTE;
    assert_eq!(upkeep(&mut bench), 0, "a deleted config");
}

/// Work that is under way must be kept without reaching anybody or waking watchers.
#[test]
fn drafts_are_saved_changed_and_published() {
    let mut bench = released();
    let saved = bench.write(save_draft(1, 0, "x: [")).unwrap();
    assert_eq!((saved.draft, saved.created, saved.version), (1, true, 2));
    assert!(!bench.write(save_draft(1, 1, "x: 3")).unwrap().created);
    assert_eq!(bench.write(save_draft(1, 0, "x: 1")).unwrap().draft, 2);
    assert_eq!((bench.row().revision, bench.row().drafts), (2, 2));
    let id = "c1".parse().unwrap();
    let listed = bench.read(|view, row| query::list_drafts(view, row, id)).unwrap();
    assert_eq!(listed.iter().map(|d| d.row.number).collect::<Vec<_>>(), [1, 2]);
    let shown = bench.read(|view, row| query::draft(view, row, id, 1)).unwrap();
    assert_eq!(shown.content.unwrap(), "x: 3");

    // What was looked at is no longer what is in it.
    let seen = Op::Publish(publish_draft(1, 1, "x: [", all()));
    assert_eq!(refused(&mut bench, seen), ("ABORTED".into(), "draft".into()));
    let made = bench.write(Op::Publish(publish_draft(1, 1, "x: 3", all()))).unwrap();
    assert_eq!((made.version, made.revision.as_str()), (3, "3.3"));
    assert_eq!((served(&bench, &[]), bench.row().drafts), (3, 1));
    assert_eq!(refused(&mut bench, drop_draft(1, 1)).0, "NOT_FOUND");
    bench.write(drop_draft(1, 2)).unwrap();
    assert_eq!(bench.write(save_draft(1, 0, "x: 5")).unwrap().draft, 3, "numbers are not used again");
    let told: Vec<String> = bench.audit().into_iter().map(|r| r.summary).collect();
    assert!(told.iter().any(|s| s == "draft 2 dropped (yaml, 4 bytes)"), "{told:?}");
}

#[test]
fn drafts_are_bounded_and_go_with_their_config() {
    let mut bench = released();
    let before = bench.row().content_bytes;
    for i in 0..limits::MAX_DRAFTS {
        bench.write(save_draft(1, 0, &format!("d: {i}"))).unwrap();
    }
    assert_eq!(refused(&mut bench, save_draft(1, 0, "more")), ("RESOURCE_EXHAUSTED".into(), "quota.drafts".into()));
    assert!(bench.row().content_bytes > before);
    bench.write(delete(1)).unwrap();
    assert_eq!((bench.row().drafts, bench.row().content_bytes, bench.row().versions), (0, 0, 0));
}

#[test]
fn an_update_sets_what_is_given_and_leaves_the_rest() {
    let mut bench = released();
    let retention = Some(Retention { max_versions: 5, max_age_days: 0 });
    let schema = Some("{\"type\": \"object\"}".to_owned());
    let all = UpdateConfig {
        description: Some("d".into()),
        tags: vec!["b".into(), "a".into()],
        set_tags: true,
        schema: schema.clone(),
        retention,
        ..update(1)
    };
    let made = bench.write(Op::UpdateConfig(all.clone())).unwrap();
    assert_eq!((made.version, made.revision.as_str()), (2, "3.3"));
    assert_eq!(bench.history().last().unwrap(), "updated");
    let told = bench.audit().pop().unwrap().summary;
    assert!(told.ends_with("description, tags, schema, retention"), "{told}");
    bench.write(Op::UpdateConfig(all)).unwrap();
    assert_eq!(bench.row().revision, 3, "the same again is no change");
    bench.write(Op::UpdateConfig(UpdateConfig { schema: Some(String::new()), ..update(1) })).unwrap();
    let now = row(&bench);
    assert_eq!((now.schema.as_str(), now.description.as_str(), now.retention), ("", "d", retention));
    assert_eq!(now.tags, ["a", "b"]);
    bench.write(Op::UpdateConfig(UpdateConfig { retention: Some(Retention::default()), ..update(1) })).unwrap();
    assert_eq!(row(&bench).retention, None);
    let long = UpdateConfig { schema: Some("s".repeat(limits::MAX_SCHEMA_BYTES + 1)), ..update(1) };
    assert_eq!(refused(&mut bench, Op::UpdateConfig(long)).1, "schema");
}

/// What a client asks who wonders what it got.
#[test]
fn resolve_says_what_a_fetch_gives_and_why() {
    let mut bench = released();
    bench.write(Op::Publish(publish(1, "x: 3", targeted("host", "a")))).unwrap();
    for (pairs, version) in [(vec![], 2), (vec![("host".to_owned(), "a".to_owned())], 3)] {
        let labels = Labels::new(pairs).unwrap();
        let told = query::explain(&row(&bench), &labels).unwrap();
        let fetched = bench.read(|view, row| query::fetch(view, row, "app", "env", "a", &labels)).unwrap();
        assert_eq!((told.version, fetched.version), (version, version));
        assert_eq!(told.rules.iter().filter(|r| r.serves).count(), 1);
        assert_eq!(told.rules[0].rule.as_ref().unwrap().priority, 10, "in the order in which they are tried");
    }
}
