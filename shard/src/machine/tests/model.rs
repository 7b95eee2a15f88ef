//! Random commands against a naive model of what they mean, and a replay that must give the same rows.

use std::collections::BTreeMap;

use conflux_common::labels::Labels;
use conflux_proto::{
    log::{ShardCommand, shard_command::Op},
    v1::ReleaseRule,
};
use proptest::prelude::*;

use super::bench::*;
use crate::query::{self, Filter};

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Create(u8, Option<u8>),
    AddVersion(u8, u8),
    Release(u8, Vec<(Option<u8>, u8)>),
    Delete(u8),
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..6, 0u8..4).prop_map(|(n, c)| Step::Put(n, c)),
        2 => (0u8..6, proptest::option::of(0u8..4)).prop_map(|(n, c)| Step::Create(n, c)),
        2 => (0u8..8, 0u8..4).prop_map(|(id, c)| Step::AddVersion(id, c)),
        2 => (0u8..8, proptest::collection::vec((proptest::option::of(0u8..2), 0u8..5), 0..3))
            .prop_map(|(id, rules)| Step::Release(id, rules)),
        1 => (0u8..8).prop_map(Step::Delete),
        1 => Just(Step::Expire),
    ]
}

/// What a config is to a user: its name, the contents of its versions, who is served which.
#[derive(Debug, Clone, Default)]
struct Config {
    name: String,
    versions: Vec<String>,
    rules: Vec<ReleaseRule>,
}

#[derive(Default)]
struct Model {
    configs: BTreeMap<u64, Config>,
    next_id: u64,
    revision: u64,
}

fn name(n: u8) -> String {
    // Names that begin alike, so that prefixes and the order of the listing matter.
    ["a", "a.b", "ab", "a-b", "B", "b"][usize::from(n)].to_owned()
}

fn content(c: u8) -> String {
    format!("value: {c}")
}

fn rules(given: &[(Option<u8>, u8)]) -> Vec<ReleaseRule> {
    let of = |(i, (label, version)): (usize, &(Option<u8>, u8))| match label {
        None => rule(&[], u64::from(*version), i as i32),
        Some(l) => rule(&[("l", &l.to_string())], u64::from(*version), i as i32 + 10),
    };
    given.iter().enumerate().map(of).collect()
}

impl Model {
    fn id_of(&self, name: &str) -> Option<u64> {
        self.configs.iter().find(|(_, c)| c.name == name).map(|(id, _)| *id)
    }

    fn add(&mut self, name: String) -> &mut Config {
        self.next_id += 1;
        self.configs.entry(self.next_id).or_insert(Config { name, ..Default::default() })
    }

    /// The op, and whether it succeeds; changes the model where it does.
    fn take(&mut self, step: &Step) -> Option<(Op, bool)> {
        let (op, changed) = match step {
            Step::Put(n, c) => {
                let (name, text) = (name(*n), content(*c));
                let op = put(&name, &text);
                let config = match self.id_of(&name) {
                    Some(id) => self.configs.get_mut(&id).unwrap(),
                    None => self.add(name),
                };
                let default = |c: &Config| {
                    c.rules.iter().filter(|r| r.labels.is_empty()).max_by_key(|r| r.priority).map(|r| r.version)
                };
                let latest = config.versions.len() as u64;
                if latest > 0 && default(config) == Some(latest) && config.versions.last() == Some(&text) {
                    return Some((op, true));
                }
                config.versions.push(text);
                let version = latest + 1;
                match config.rules.iter_mut().filter(|r| r.labels.is_empty()).max_by_key(|r| r.priority) {
                    Some(rule) => rule.version = version,
                    None => config.rules.push(rule(&[], version, 0)),
                }
                (op, true)
            }
            Step::Create(n, c) => {
                let name = name(*n);
                let op = create(&name, &c.map(content).unwrap_or_default());
                let free = self.id_of(&name).is_none();
                if free {
                    self.add(name).versions.extend(c.map(content));
                }
                (op, free)
            }
            Step::AddVersion(id, c) => {
                let config = self.configs.get_mut(&u64::from(*id));
                let known = config.map(|config| config.versions.push(content(*c))).is_some();
                (add_version(u64::from(*id), &content(*c)), known)
            }
            Step::Release(id, given) => {
                let new = rules(given);
                let op = releases(u64::from(*id), new.clone());
                let Some(config) = self.configs.get_mut(&u64::from(*id)) else { return Some((op, false)) };
                let there = |r: &ReleaseRule| (1..=config.versions.len() as u64).contains(&r.version);
                let one_for_each = new.iter().enumerate().all(|(i, r)| new[..i].iter().all(|o| o.labels != r.labels));
                if !new.iter().all(there) || !one_for_each {
                    return Some((op, false));
                }
                if config.rules == new {
                    return Some((op, true));
                }
                config.rules = new;
                (op, true)
            }
            Step::Delete(id) => (delete(u64::from(*id)), self.configs.remove(&u64::from(*id)).is_some()),
            Step::Expire => return None,
        };
        self.revision += u64::from(changed);
        Some((op, changed))
    }

    fn served(&self, name: &str, label: Option<u8>) -> Option<(u64, String)> {
        let config = &self.configs[&self.id_of(name)?];
        let matches = |r: &&ReleaseRule| match r.labels.get("l") {
            None => true,
            Some(l) => label.is_some_and(|own| own.to_string() == *l),
        };
        let rule = config.rules.iter().filter(matches).max_by_key(|r| r.priority)?;
        Some((rule.version, config.versions[rule.version as usize - 1].clone()))
    }
}

fn compare(bench: &Bench, model: &Model) {
    assert_eq!(bench.row().revision, model.revision);
    assert_eq!(bench.row().configs, model.configs.len() as u64);
    bench.read(|view, row| {
        for n in 0..6 {
            for label in [None, Some(0), Some(1)] {
                let labels = Labels::new(label.map(|l: u8| ("l".to_owned(), l.to_string()))).unwrap();
                let found = query::fetch(view, row, "app", "env", &name(n), &labels).ok();
                let found = found.map(|f| (f.version, String::from_utf8(f.content.to_vec()).unwrap()));
                assert_eq!(found, model.served(&name(n), label), "{} with {label:?}", name(n));
            }
        }
        let mut expected: Vec<&str> = model.configs.values().map(|c| c.name.as_str()).collect();
        expected.sort_unstable();
        let (mut listed, mut cursor) = (Vec::new(), String::new());
        loop {
            let filter = Filter { app: "app".into(), ..Default::default() };
            let (page, next) = query::list(view, row, &filter, 2, &cursor, &|_, _, _| true).unwrap();
            listed.extend(page.into_iter().map(|c| c.name));
            cursor = next;
            if cursor.is_empty() {
                break;
            }
        }
        assert_eq!(listed, expected);
        let history = query::history(view, row, 0, 0, 0).unwrap();
        let told: Vec<u64> = history.revisions.iter().map(|r| r.revision).collect();
        assert_eq!(told, (1..=model.revision).collect::<Vec<_>>(), "revisions are dense");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    // Every answer and every read is what a naive reading of the commands gives, and a second replica has the same rows.
    #[test]
    fn the_machine_is_the_model(steps in proptest::collection::vec((step(), any::<bool>()), 1..60)) {
        let (mut bench, mut model) = (Bench::active(), Model::default());
        let mut log: Vec<(u64, ShardCommand)> = Vec::new();
        for (i, (step, repeat)) in steps.iter().enumerate() {
            bench.now_ms += 100;
            let Some((op, succeeds)) = model.take(step) else {
                let command = command(expire(3));
                bench.apply(&command);
                log.push((bench.now_ms, command));
                continue;
            };
            let command = keyed(&format!("k{i}"), op);
            let answer = bench.apply(&command);
            log.push((bench.now_ms, command.clone()));
            let refused = matches!(answer, conflux_proto::log::shard_answer::Result::Refusal(_));
            prop_assert_eq!(!refused, succeeds, "{:?}: {:?}", step, answer);
            if *repeat {
                prop_assert_eq!(&bench.apply(&command), &answer);
                log.push((bench.now_ms, command));
            }
            compare(&bench, &model);
        }
        let mut replica = Bench::active();
        for (now_ms, command) in log {
            replica.now_ms = now_ms;
            replica.apply(&command);
        }
        prop_assert_eq!(replica.rows(), bench.rows());
    }
}
