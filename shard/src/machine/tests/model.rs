//! The whole command set against a naive model of what it means, and a replay that must give the same rows.

mod reference;

use conflux_common::labels::Labels;
use conflux_proto::{
    log::{self, Publish, ShardCommand, UpdateConfig, shard_answer, shard_command::Op},
    v1,
};
use proptest_state_machine::{StateMachineTest, prop_state_machine};

use self::reference::{
    Condition, Demanding, How, Model, ScopeName, Step, What, Write, content, label, name, rules, tags,
};
use super::{bench::*, commands::*, whole};
use crate::{
    query::{self, DueWork, Filter},
    store::{config, draft, scope, version},
};

const MINUTE: u64 = 60_000;

/// A replica, and the log that made it what it is.
pub struct Replica {
    bench: Bench,
    log: Vec<(u64, ShardCommand)>,
}

impl Replica {
    fn apply(&mut self, command: ShardCommand) -> shard_answer::Result {
        self.log.push((self.bench.now_ms, command.clone()));
        self.bench.apply(&command)
    }

    /// Applies it under a key, and again: a call whose answer was lost. Answers whether it was accepted.
    fn twice(&mut self, op: Op) -> bool {
        self.twice_if((0, false), op)
    }

    /// The same under a condition.
    fn twice_if(&mut self, (if_match, if_absent): (u64, bool), op: Op) -> bool {
        let command = ShardCommand { if_match, if_absent, ..keyed(&format!("k{}", self.log.len()), op) };
        let answer = self.apply(command.clone());
        assert_eq!(self.apply(command), answer, "one effect and one answer for a key");
        !matches!(answer, shard_answer::Result::Refusal(_))
    }

    /// What is in the draft, as the leader looks it up before it proposes.
    fn drafted(&self, id: u64, number: u64) -> String {
        let found = self.bench.read(|view, _| draft::get(view, TENANT, id, number)).unwrap();
        let known = found.and_then(|d| (0u8..4).map(content).find(|text| hash(text) == d.sha256));
        known.unwrap_or_default()
    }

    /// What a client that has just read the config sends for its condition.
    fn condition(&self, asked: &Demanding) -> (u64, bool) {
        let present = || {
            self.bench.read(|view, row| {
                let by_name = |n| query::config_by_name(view, row, "app", "env", &name(n)).ok();
                let found = match &asked.write {
                    Write::Put(n, _) | Write::Create(n, _) => by_name(*n),
                    Write::AddVersion(id, _)
                    | Write::Release(id, _)
                    | Write::Delete(id)
                    | Write::Update(id, ..)
                    | Write::Publish(id, ..)
                    | Write::Rollback(id, _) => config::get(view, TENANT, *id).unwrap(),
                };
                found.map_or(0, |config| config.revision)
            })
        };
        match asked.condition {
            Condition::None => (0, false),
            Condition::Present => (present(), false),
            Condition::Revision(revision) => (revision, false),
            Condition::Absent => (0, true),
        }
    }

    fn op(&self, write: &Write) -> Op {
        match write {
            Write::Put(n, c) => put(&name(*n), &content(*c)),
            Write::Create(n, c) => match create(&name(*n), &c.map(content).unwrap_or_default()) {
                Op::CreateConfig(op) => Op::CreateConfig(conflux_proto::log::CreateConfig { tags: Vec::new(), ..op }),
                other => other,
            },
            Write::AddVersion(id, c) => add_version(*id, &content(*c)),
            Write::Release(id, given) => {
                releases(*id, rules(given).iter().map(conflux_proto::release::to_wire).collect())
            }
            Write::Delete(id) => delete(*id),
            Write::Update(id, description, new) => Op::UpdateConfig(UpdateConfig {
                description: description.map(|d| d.to_string()),
                tags: new.map(tags).unwrap_or_default(),
                set_tags: new.is_some(),
                ..update(*id)
            }),
            Write::Publish(id, what, how, minutes) => {
                let how = match how {
                    How::All => all(),
                    How::Canary(share) => canary(*share),
                    How::Targeted(value) => targeted("l", &value.to_string()),
                };
                let op: Publish = match what {
                    What::Content(c) => publish(*id, &content(*c), how),
                    What::Version(version) => publish_version(*id, *version, how),
                    What::Draft(number) => publish_draft(*id, *number, &self.drafted(*id, *number), how),
                };
                Op::Publish(promised(op, *minutes))
            }
            Write::Rollback(id, version) => rollback(*id, *version),
        }
    }

    /// What the leader's upkeep logs; a second leader may log the same.
    fn promote_what_is_due(&mut self) {
        let due = self.bench.state.read(|view| query::due(view, self.bench.now_ms, 10)).unwrap();
        for promote in due.into_iter().filter_map(|d| match d.work {
            DueWork::Promote(promote) => Some(promote),
            _ => None,
        }) {
            for _ in 0..2 {
                let answer = self.apply(by_upkeep(command(Op::Promote(promote))));
                assert!(matches!(answer, shard_answer::Result::Write(_)), "{answer:?}");
            }
        }
    }
}

/// The test of the machine against the model.
pub struct TheMachine;

impl StateMachineTest for TheMachine {
    type SystemUnderTest = Replica;
    type Reference = Model;

    fn init_test(_: &Model) -> Replica {
        Replica { bench: Bench::active(), log: Vec::new() }
    }

    fn apply(mut replica: Replica, model: &Model, step: Step) -> Replica {
        replica.bench.now_ms += 7;
        let accepted = match &step {
            Step::Write(asked) => {
                let (condition, op) = (replica.condition(asked), replica.op(&asked.write));
                replica.twice_if(condition, op)
            }
            Step::Changeset(writes) => {
                let step = |asked: &Demanding| {
                    let (if_match, if_absent) = replica.condition(asked);
                    log::Step { if_match, if_absent, ..step_of(replica.op(&asked.write)) }
                };
                let steps = writes.iter().map(step).collect();
                replica.twice(changeset(steps))
            }
            Step::PutScope((app, env), description, existing) => {
                let (app, env) = (app.to_string(), env.unwrap_or_default().to_owned());
                let description = reference::described(*description);
                replica.twice(Op::PutScope(log::PutScope { app, env, description, existing: *existing }))
            }
            Step::DeleteScope((app, env)) => {
                let (app, env) = (app.to_string(), env.unwrap_or_default().to_owned());
                replica.twice(Op::DeleteScope(log::DeleteScope { app, env }))
            }
            Step::Prune(id, versions) => {
                // Under no key: a second leader may log the same.
                let prune = log::Prune { config_id: *id, versions: versions.clone(), archived: false };
                let pruned = || by_upkeep(command(Op::Prune(prune.clone())));
                let first = replica.apply(pruned());
                assert_eq!(replica.apply(pruned()), first, "pruning again does nothing");
                true
            }
            Step::SaveDraft(id, number, c) => replica.twice(save_draft(*id, *number, &content(*c))),
            Step::DropDraft(id, number) => replica.twice(drop_draft(*id, *number)),
            Step::Cancel(id) => replica.twice(cancel(*id)),
            Step::Pass(minutes) => {
                // To the minute of the model: the few milliseconds of each step do not add up to one.
                let passed = replica.bench.now_ms + u64::from(*minutes) * MINUTE;
                replica.bench.now_ms = passed;
                replica.promote_what_is_due();
                true
            }
            Step::Expire => {
                replica.apply(command(expire(3)));
                true
            }
        };
        assert_eq!(accepted, model.accepted, "{step:?}");
        replica
    }

    fn check_invariants(replica: &Replica, model: &Model) {
        whole::check(&replica.bench);
        compare(&replica.bench, model);
    }

    fn teardown(replica: Replica, _: Model) {
        let mut other = Bench::active();
        for (now_ms, command) in &replica.log {
            other.now_ms = *now_ms;
            other.apply(command);
        }
        assert_eq!(other.rows(), replica.bench.rows(), "the same log gives the same rows");
    }
}

fn compare(bench: &Bench, model: &Model) {
    let row = bench.row();
    let versions: usize = model.configs.values().map(|c| c.kept()).sum();
    let drafts: usize = model.configs.values().map(|c| c.drafts.len()).sum();
    assert_eq!((row.revision, row.configs), (model.revision, model.configs.len() as u64));
    assert_eq!((row.versions, row.drafts), (versions as u64, drafts as u64));
    bench.read(|view, row| {
        for n in 0..6 {
            for value in [None, Some(0), Some(1)] {
                let labels = value.map(label).unwrap_or_default();
                let found = query::fetch(view, row, "app", "env", &name(n), &labels).ok();
                let found = found.map(|f| (f.version, String::from_utf8(f.content.to_vec()).unwrap()));
                assert_eq!(found, model.served(&name(n), value), "{} with {value:?}", name(n));
            }
        }
        for (id, expected) in &model.configs {
            let found = config::get(view, TENANT, *id).unwrap().unwrap();
            let wire: Vec<v1::ReleaseRule> = expected.rules.iter().map(conflux_proto::release::to_wire).collect();
            assert_eq!((&found.rules, found.previous_default), (&wire, expected.previous), "{id}");
            assert_eq!((&found.description, &found.tags), (&expected.description, &expected.tags));
            assert_eq!(found.latest_version, expected.versions.len() as u64);
            assert_eq!((found.revision, found.versions), (expected.revision, expected.kept() as u64));
            for (number, text) in (1..).zip(&expected.versions) {
                let row = version::get(view, TENANT, *id, number).unwrap();
                assert_eq!(row.map(|v| v.sha256), text.as_deref().map(hash), "version {number} of {id}");
            }
            assert_eq!(found.promotion.as_ref().map(|p| p.version), expected.promotion.map(|(version, _)| version));
            let drafts = draft::all(view, TENANT, *id).unwrap();
            let hashes: Vec<_> = drafts.iter().map(|d| (d.number, d.sha256.clone())).collect();
            let told: Vec<_> = expected.drafts.iter().map(|(n, text)| (*n, hash(text))).collect();
            assert_eq!(hashes, told);
            let told = query::explain(&found, &Labels::default()).unwrap().version;
            assert_eq!(told, model.served(&expected.name, None).map_or(0, |(version, _)| version));
        }
        listed(view, row, model);
        assert_eq!(row.scopes, model.scopes.len() as u64);
        for app in ["app", "other"] {
            for scope in [(app, None), (app, Some("env")), (app, Some("env-2"))] {
                scoped(view, model, scope);
            }
        }
        let history = query::history(view, row, 0, 0, 0).unwrap();
        let told: Vec<u64> = history.revisions.iter().map(|r| r.revision).collect();
        assert_eq!(told, (1..=model.revision).collect::<Vec<_>>(), "revisions are dense");
    });
}

fn scoped(view: &dyn conflux_raft::Read, model: &Model, name: ScopeName) {
    let found = scope::get(view, TENANT, name.0, name.1).unwrap();
    let expected = model.scopes.get(&name).map(|description| (description.clone(), model.members(name) as u64));
    assert_eq!(found.map(|row| (row.description, row.members)), expected, "{name:?}");
}

fn listed(view: &dyn conflux_raft::Read, row: &query::TenantRow, model: &Model) {
    let mut expected: Vec<&str> = model.configs.values().map(|c| c.name.as_str()).collect();
    expected.sort_unstable();
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let filter = Filter { app: "app".into(), ..Default::default() };
        let (page, next) = query::list(view, row, &filter, 2, &cursor, &|_, _, _| true).unwrap();
        found.extend(page.into_iter().map(|c| c.name));
        cursor = next;
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(found, expected);
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(200)
}

prop_state_machine! {
    // PROPTEST_CASES=1000 for more of them.
    #![proptest_config(proptest::test_runner::Config { cases: cases(), ..Default::default() })]

    // Every answer and every read is what a naive reading of the commands gives, and a second replica has the same rows.
    #[test]
    fn the_machine_is_the_model(sequential 1..60 => TheMachine);
}
