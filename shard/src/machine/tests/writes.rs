//! What each write makes, and what it refuses.

use conflux_common::labels::Labels;
use conflux_proto::{
    log::{self, PutConfig, ShardCommand, shard_command::Op},
    v1,
};

use super::{
    bench::*,
    commands::{all, hash, publish, update},
};
use crate::{
    machine::{limits, precondition},
    query,
};

/// `curl -T` twice: the second content is what clients get, and both are there.
#[test]
fn a_put_creates_then_adds_and_releases() {
    let mut bench = Bench::active();
    let first = bench.write(put("a", "x: 1")).unwrap();
    assert_eq!(
        (first.created, first.version, first.revision.as_str(), first.config_id.as_str()),
        (true, 1, "3.1", "c1")
    );
    assert_eq!(first.etag, "\"3.1\"");
    let second = bench.write(put("a", "x: 2")).unwrap();
    assert_eq!((second.created, second.version, second.revision.as_str()), (false, 2, "3.2"));
    assert_eq!(bench.fetched("a").unwrap(), (2, "x: 2".into()));
    assert_eq!(bench.history(), ["created", "released"]);
    let versions = bench.read(|view, row| query::list_versions(view, row, "c1".parse().unwrap(), 0, "")).unwrap().0;
    assert_eq!(versions.iter().map(|v| v.number).collect::<Vec<_>>(), [2, 1]);
}

/// A deployment that puts the same file each time must not wake every watcher.
#[test]
fn a_put_of_what_is_released_changes_nothing() {
    let mut bench = Bench::active();
    let first = bench.write(put("a", "x: 1")).unwrap();
    bench.write(put("b", "y: 1")).unwrap();
    let again = bench.write(put("a", "x: 1")).unwrap();
    assert_eq!((again.created, again.version, &again.revision, &again.etag), (false, 1, &first.revision, &first.etag));
    assert_eq!(bench.row().revision, 2);
    // After a rollback the same bytes are news.
    bench.write(put("a", "x: 2")).unwrap();
    bench.write(releases(1, vec![rule(&[], 1, 0)])).unwrap();
    assert_eq!(bench.write(put("a", "x: 2")).unwrap().version, 3);
}

/// A put must not end a canary that someone else has set up.
#[test]
fn a_put_leaves_rules_with_labels() {
    let mut bench = Bench::active();
    bench.write(put("a", "x: 1")).unwrap();
    bench.write(releases(1, vec![rule(&[("region", "eu")], 1, -5)])).unwrap();
    assert_eq!(bench.fetched("a").unwrap_err(), conflux_common::error::Code::NotFound);
    bench.write(put("a", "x: 2")).unwrap();
    assert_eq!(bench.fetched("a").unwrap().0, 2);
    let eu = Labels::new([("region".to_owned(), "eu".to_owned())]).unwrap();
    let served = bench.read(|view, row| query::fetch(view, row, "app", "env", "a", &eu)).unwrap();
    assert_eq!(served.version, 1, "the new default rule must not hide the labelled one");
    assert_eq!((served.media_type.as_str(), served.hash.len()), ("application/yaml", 7 + 64));
}

/// Creating and releasing are two rights: a creation alone must not reach clients.
#[test]
fn a_created_config_is_not_served_until_released() {
    let mut bench = Bench::active();
    bench.write(create("a", "x: 1")).unwrap();
    assert!(bench.fetched("a").is_err());
    assert_eq!(bench.write(create("a", "x: 1")).unwrap_err().code, "ALREADY_EXISTS");
    bench.write(add_version(1, "x: 2")).unwrap();
    assert!(bench.fetched("a").is_err());
    bench.write(releases(1, vec![rule(&[], 1, 0)])).unwrap();
    assert_eq!(bench.fetched("a").unwrap(), (1, "x: 1".into()));
    assert_eq!(bench.history(), ["created", "versioned", "released"]);
    let config = bench.read(|view, row| query::config_by_name(view, row, "app", "env", "a")).unwrap();
    assert_eq!(config.tags, ["a", "b"]);
    bench.write(create("empty", "")).unwrap();
    assert!(bench.fetched("empty").is_err());
}

/// Rules must not promise what is not there.
#[test]
fn rules_are_checked() {
    let mut bench = Bench::active();
    bench.write(put("a", "x: 1")).unwrap();
    let refused = |bench: &mut Bench, rules| bench.write(releases(1, rules)).unwrap_err();
    let missing = refused(&mut bench, vec![rule(&[], 9, 0)]);
    assert_eq!((missing.code.as_str(), missing.details[0].field.as_str()), ("INVALID_ARGUMENT", "rules[0].version"));
    assert_eq!(refused(&mut bench, vec![rule(&[], 1, 0), rule(&[], 1, 0)]).code, "INVALID_ARGUMENT");
    let long = "v".repeat(128);
    let many =
        |i: i32| rule(&[("a", &long), ("b", &long), ("c", &long), ("d", &long), ("e", &long), ("f", &long)], 1, i);
    assert_eq!(refused(&mut bench, (0..100).map(many).collect()).code, "INVALID_ARGUMENT");
    assert_eq!(bench.write(releases(9, vec![])).unwrap_err().code, "NOT_FOUND");
    assert_eq!(bench.row().revision, 1, "refusals make no revision");
}

/// The event of a release tells who is affected: the rules before and after.
#[test]
fn events_carry_the_rules_before_and_after() {
    let mut bench = Bench::active();
    bench.write(put("a", "x: 1")).unwrap();
    bench.write(put("a", "x: 2")).unwrap();
    let history = bench.read(|view, row| query::history(view, row, 1, 0, 0)).unwrap();
    let event = &history.revisions[0].events[0];
    assert_eq!(event.rules_before, [rule(&[], 1, 0)]);
    assert_eq!(event.rules_after, [rule(&[], 2, 0)]);
    let told = event.event.clone().unwrap();
    assert_eq!((told.revision, told.time_ms, told.version, told.name.as_str()), (2, bench.now_ms, 2, "a"));
    assert_eq!(told.config_id, "c1");
    assert!(told.hash.starts_with("sha256:"));
    let crate::machine::Notice::Revision { revision, events, .. } = bench.notices.last().unwrap() else { panic!() };
    assert_eq!((revision.0, events), (2, &history.revisions[0].events), "the feed says what the history says");
}

/// Two who edit the same config: the second must notice.
#[test]
fn conditions_are_of_the_configs_own_revision() {
    let mut bench = Bench::active();
    bench.write(put("a", "x: 1")).unwrap();
    bench.write(put("b", "x: 1")).unwrap();
    let with = |if_match, if_absent, op| ShardCommand { if_match, if_absent, ..command(op) };
    assert_eq!(bench.write_as(with(2, false, put("a", "x: 2"))).unwrap_err().code, "FAILED_PRECONDITION");
    assert_eq!(bench.write_as(with(0, true, put("a", "x: 2"))).unwrap_err().code, "FAILED_PRECONDITION");
    assert_eq!(bench.write_as(with(1, false, put("new", "x: 2"))).unwrap_err().code, "FAILED_PRECONDITION");
    assert_eq!(bench.write_as(with(1, false, put("a", "x: 2"))).unwrap().version, 2);
    assert_eq!(bench.write_as(with(1, false, delete(1))).unwrap_err().code, "FAILED_PRECONDITION");
    assert_eq!(bench.write_as(with(0, true, put("new", "x: 2"))).unwrap().version, 1);
    assert_eq!(bench.fetched("a").unwrap().0, 2);
    assert_eq!(bench.fetched("new").unwrap().0, 1);
}

/// Nothing of a deleted config is left, and its name is free for another.
#[test]
fn a_deleted_config_is_gone_with_its_contents() {
    let mut bench = Bench::active();
    bench.write(put("keep", "shared: 1")).unwrap();
    bench.write(put("a", "shared: 1")).unwrap();
    bench.write(put("a", "own: 1")).unwrap();
    let rows = bench.rows().len();
    let gone = bench.write(delete(2)).unwrap();
    assert_eq!((gone.version, gone.etag.as_str(), gone.revision.as_str()), (0, "", "3.4"));
    // config, name, two versions, content and count of the one that nobody shares; one event and one audit record more.
    assert_eq!(bench.rows().len(), rows - 6 + 2);
    assert!(bench.fetched("a").is_err());
    assert_eq!(bench.fetched("keep").unwrap().1, "shared: 1");
    assert_eq!(bench.write(delete(2)).unwrap_err().code, "NOT_FOUND");
    assert_eq!(bench.write(put("a", "x: 1")).unwrap().config_id, "c3", "ids are not used again");
    assert_eq!(bench.history().last().unwrap(), "created");
}

/// A config with more versions than one entry deletes.
#[test]
fn many_versions_go_in_several_entries() {
    let mut bench = Bench::active();
    bench.write(create("a", "v: 0")).unwrap();
    let versions = limits::VERSIONS_PER_DELETE + 500;
    for i in 1..versions {
        bench.write(add_version(1, &format!("v: {i}"))).unwrap();
    }
    bench.write(delete(1)).unwrap();
    assert!(bench.read(|view, row| query::get_config(view, row, "c1".parse().unwrap())).is_err());
    let due = |bench: &Bench| bench.state.read(|view| query::due(view, bench.now_ms, 10)).unwrap();
    assert_eq!(due(&bench).len(), 1);
    assert_eq!(bench.tenant(1, expire(300)).unwrap().rows, 300);
    while bench.tenant(1, expire(300)).unwrap().more {}
    assert!(due(&bench).is_empty());
    // The tenant's row, the events, as many audit records, the application and the environment.
    assert_eq!(bench.rows().len(), 1 + 2 * (versions + 1) + 2);
    assert_eq!((bench.row().versions, bench.row().content_bytes), (0, 0));
}

/// What is out of bounds is refused by each replica alike, whatever was proposed.
#[test]
fn bounds_hold_at_apply() {
    let mut bench = Bench::active();
    let Op::PutConfig(good) = put("a", "x: 1") else { panic!() };
    for (bad, code) in [
        (PutConfig { app: "a/b".into(), ..good.clone() }, "INVALID_ARGUMENT"),
        (PutConfig { name: "a\0b".into(), ..good.clone() }, "INVALID_ARGUMENT"),
        (PutConfig { format: "nonsense".into(), ..good.clone() }, "INVALID_ARGUMENT"),
        (PutConfig { sha256: Default::default(), ..good.clone() }, "INVALID_ARGUMENT"),
        (PutConfig { description: "d".repeat(limits::MAX_DESCRIPTION + 1), ..good.clone() }, "INVALID_ARGUMENT"),
        (PutConfig { content: vec![b'a'; limits::MAX_CONTENT_BYTES + 1].into(), ..good.clone() }, "RESOURCE_EXHAUSTED"),
    ] {
        assert_eq!(bench.write(Op::PutConfig(bad)).unwrap_err().code, code);
    }
    assert_eq!(bench.row().revision, 0);
    let mib = "m".repeat(limits::MAX_CONTENT_BYTES);
    bench.set_quotas(v1::Quotas { config_bytes: 1 << 20, ..Default::default() });
    bench.write(put("a", &mib)).unwrap();
    assert_eq!(bench.fetched("a").unwrap().1.len(), 1 << 20);
}

/// A tenant cannot fill the shard with configs; deleting one makes room.
#[test]
fn the_quota_of_configs_names_itself() {
    let mut bench = Bench::active();
    bench.set_quotas(v1::Quotas { configs: 20, ..Default::default() });
    for i in 0..20 {
        bench.write(put(&format!("c{i}"), "x: 1")).unwrap();
    }
    let refusal = bench.write_as(keyed("k", put("more", "x: 1"))).unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.details[0].field.as_str()), ("RESOURCE_EXHAUSTED", "quota.configs"));
    bench.write(put("c0", "x: 2")).unwrap();
    bench.write(delete(1)).unwrap();
    // The same call under the same key is welcome once there is room.
    assert!(bench.write_as(keyed("k", put("more", "x: 1"))).unwrap().created);
}

// A content that was checked against a schema which is another by now must not get in, and the same call is welcome again.
#[test]
fn a_content_is_refused_where_its_schema_has_changed() {
    let mut bench = Bench::active();
    bench.write(put("a", "x: 1")).unwrap();
    let set = log::UpdateConfig { schema: Some("x: integer".into()), ..update(1) };
    bench.write(Op::UpdateConfig(set)).unwrap();
    let before = bench.rows();
    let checked = |schema: &str| Some(precondition::seen(schema));
    let put_seen = |checked| match put("a", "x: 2") {
        Op::PutConfig(op) => keyed("k", Op::PutConfig(PutConfig { checked, ..op })),
        other => panic!("{other:?}"),
    };
    let version_seen = |checked| match add_version(1, "x: 2") {
        Op::CreateVersion(op) => command(Op::CreateVersion(log::CreateVersion { checked, ..op })),
        other => panic!("{other:?}"),
    };
    let publish_seen = |checked| command(Op::Publish(log::Publish { checked, ..publish(1, "x: 2", all()) }));
    for stale in [checked(""), checked("x: string"), Some(precondition::never())] {
        for command in [put_seen(stale.clone()), version_seen(stale.clone()), publish_seen(stale.clone())] {
            let refusal = bench.write_as(command).unwrap_err();
            assert_eq!((refusal.code.as_str(), refusal.retry.as_str()), ("ABORTED", "recheck"), "{refusal:?}");
        }
    }
    assert_eq!(bench.rows(), before, "nothing is left of a refused one, not even under its key");
    for command in [put_seen(checked("x: integer")), version_seen(checked("x: integer")), publish_seen(None)] {
        bench.write_as(command).unwrap();
    }
    // A version's own schema counts in place of the config's.
    let own = log::CreateVersion { schema: "x: number".into(), checked: checked("x: number"), ..Default::default() };
    let own = log::CreateVersion { config_id: 1, content: "x: 2".into(), sha256: hash("x: 2"), ..own };
    bench.write(Op::CreateVersion(own)).unwrap();
}
