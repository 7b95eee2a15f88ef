//! What the commands mean, read naively: maps in memory, no rows, no log.

use std::collections::{BTreeMap, BTreeSet};

use conflux_common::{
    labels::Labels,
    release::{self, Kind, Percentage, ReleaseRule, Strategy},
};
use proptest::{
    prelude::*,
    strategy::{BoxedStrategy, Strategy as _},
};
use proptest_state_machine::ReferenceStateMachine;

/// A write that may also be a step of a changeset. Ids and versions are small numbers that may not exist.
#[derive(Debug, Clone)]
pub enum Write {
    Put(u8, u8),
    Create(u8, Option<u8>),
    AddVersion(u64, u8),
    Release(u64, Vec<(Option<u8>, u64)>),
    Delete(u64),
    Update(u64, Option<u8>, Option<u8>),
    Publish(u64, What, How, u32),
    Rollback(u64, u64),
}

/// What a write demands of the config that it is of.
#[derive(Debug, Clone, Copy)]
pub enum Condition {
    None,
    /// `If-Match` with what a client has just read; nothing where there is no config.
    Present,
    /// `If-Match` with any revision.
    Revision(u64),
    /// `If-None-Match: *`.
    Absent,
}

/// A write under a condition.
#[derive(Debug, Clone)]
pub struct Demanding {
    pub write: Write,
    pub condition: Condition,
}

/// An application (no second part), or an environment of it.
pub type ScopeName = (&'static str, Option<&'static str>);

#[derive(Debug, Clone)]
pub enum What {
    Content(u8),
    Draft(u64),
    Version(u64),
}

#[derive(Debug, Clone, Copy)]
pub enum How {
    All,
    Canary(u32),
    Targeted(u8),
}

/// One thing that happens.
#[derive(Debug, Clone)]
pub enum Step {
    Write(Demanding),
    Changeset(Vec<Demanding>),
    /// Its description, and whether it must be there.
    PutScope(ScopeName, u8, bool),
    DeleteScope(ScopeName),
    /// Retention gives these versions of a config up.
    Prune(u64, Vec<u64>),
    SaveDraft(u64, u64, u8),
    DropDraft(u64, u64),
    Cancel(u64),
    /// Minutes pass, and the leader logs what is due.
    Pass(u8),
    Expire,
}

/// What a config is to a user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    pub name: String,
    /// None: pruned.
    pub versions: Vec<Option<String>>,
    /// Of the last change.
    pub revision: u64,
    pub rules: Vec<ReleaseRule>,
    pub previous: u64,
    /// The version; and when: the minute, and which step asked for it.
    pub promotion: Option<(u64, (u64, u64))>,
    pub drafts: BTreeMap<u64, String>,
    pub next_draft: u64,
    pub description: String,
    pub tags: Vec<String>,
}

#[derive(Debug, Clone, Default)]
pub struct Model {
    pub configs: BTreeMap<u64, Config>,
    pub next_id: u64,
    pub revision: u64,
    pub minutes: u64,
    pub steps: u64,
    /// With their descriptions.
    pub scopes: BTreeMap<ScopeName, String>,
    /// Whether the last step was accepted.
    pub accepted: bool,
}

/// Refused; else whether anything changed.
type Outcome = Result<bool, ()>;

pub fn name(n: u8) -> String {
    // Names that begin alike, so that prefixes and the order of the listing matter.
    ["a", "a.b", "ab", "a-b", "B", "b"][usize::from(n)].to_owned()
}

pub fn content(c: u8) -> String {
    format!("value: {c}")
}

pub fn tags(t: u8) -> Vec<String> {
    (0..t).map(|i| format!("t{i}")).collect()
}

pub fn described(d: u8) -> String {
    if d == 0 { String::new() } else { format!("number {d}") }
}

pub fn label(value: u8) -> Labels {
    Labels::new([("l".to_owned(), value.to_string())]).unwrap()
}

/// The rules of a step: the default lowest, the others above in their order.
pub fn rules(given: &[(Option<u8>, u64)]) -> Vec<ReleaseRule> {
    let of = |(i, (value, version)): (i32, &(Option<u8>, u64))| ReleaseRule {
        labels: value.map(label).unwrap_or_default(),
        version: *version,
        priority: if value.is_some() { 10 + i } else { 0 },
        percentage: None,
    };
    (0..).zip(given).map(of).collect()
}

pub fn strategy(how: How) -> Strategy {
    match how {
        How::All => Strategy::all(),
        How::Canary(basis_points) => {
            let share = Percentage { basis_points, sticky_label: "client".into() };
            Strategy::new(Kind::Canary, Labels::default(), Some(share), None).unwrap()
        }
        How::Targeted(value) => Strategy::new(Kind::Targeted, label(value), None, None).unwrap(),
    }
}

impl Config {
    fn default_version(&self) -> Option<u64> {
        self.rules.iter().find(|r| r.is_default()).map(|r| r.version)
    }

    fn has(&self, version: u64) -> bool {
        version > 0 && self.versions.get(version as usize - 1).is_some_and(Option::is_some)
    }

    /// The versions that are kept.
    pub fn kept(&self) -> usize {
        self.versions.iter().flatten().count()
    }

    fn latest_is(&self, text: &str) -> bool {
        self.versions.last().is_some_and(|last| last.as_deref() == Some(text))
    }

    /// What nobody is served, nobody is promised, no rollback finds and is not the latest goes.
    fn prune(&mut self, version: u64) {
        let promised = self.promotion.is_some_and(|(promised, _)| promised == version);
        let ruled = self.rules.iter().any(|r| r.version == version);
        if self.has(version) && version != self.versions.len() as u64 && version != self.previous && !promised && !ruled
        {
            self.versions[version as usize - 1] = None;
        }
    }

    fn set_rules(&mut self, rules: Vec<ReleaseRule>) {
        let was = self.default_version();
        self.rules = rules;
        self.promotion = None;
        if let Some(was) = was.filter(|was| self.default_version() != Some(*was)) {
            self.previous = was;
        }
    }

    /// Adds the content unless the latest version has it; answers its number.
    fn add(&mut self, text: &str) -> u64 {
        if !self.latest_is(text) {
            self.versions.push(Some(text.to_owned()));
        }
        self.versions.len() as u64
    }

    fn serve(&mut self, version: u64) -> Outcome {
        let mut rules = self.rules.clone();
        release::serve_by_default(&mut rules, version).map_err(drop)?;
        self.set_rules(rules);
        Ok(true)
    }

    fn publish(&mut self, what: &What, how: How, due: Option<(u64, u64)>) -> Outcome {
        let before = self.clone();
        let version = match what {
            What::Content(c) => self.add(&content(*c)),
            What::Version(v) if self.has(*v) => *v,
            What::Version(_) => return Err(()),
            What::Draft(d) => {
                let text = self.drafts.remove(d).ok_or(())?;
                self.add(&text)
            }
        };
        let rules = release::plan(&self.rules, version, &strategy(how)).map_err(drop)?;
        let only_a_draft_went = Config { drafts: self.drafts.clone(), ..before.clone() } == *self;
        if only_a_draft_went && rules == before.rules && before.promotion.is_none() && due.is_none() {
            return Ok(false);
        }
        self.set_rules(rules);
        self.promotion = due.map(|due| (version, due));
        Ok(true)
    }
}

impl Model {
    pub fn id_of(&self, name: &str) -> Option<u64> {
        self.configs.iter().find(|(_, c)| c.name == name).map(|(id, _)| *id)
    }

    fn add(&mut self, name: String) -> &mut Config {
        for scope in [("app", None), ("app", Some("env"))] {
            self.scopes.entry(scope).or_default();
        }
        self.next_id += 1;
        self.configs.entry(self.next_id).or_insert(Config { name, ..Default::default() })
    }

    fn config(&mut self, id: u64) -> Result<&mut Config, ()> {
        self.configs.get_mut(&id).ok_or(())
    }

    /// How many things are in it.
    pub fn members(&self, scope: ScopeName) -> usize {
        match scope {
            ("app", Some("env")) => self.configs.len(),
            (_, Some(_)) => 0,
            (app, None) => self.scopes.keys().filter(|(of, env)| *of == app && env.is_some()).count(),
        }
    }

    fn put_scope(&mut self, scope: ScopeName, description: u8, existing: bool) -> Outcome {
        let text = described(description);
        match self.scopes.get_mut(&scope) {
            Some(_) if !existing => Err(()),
            None if existing => Err(()),
            Some(found) => Ok(std::mem::replace(found, text.clone()) != text),
            None => {
                self.scopes.entry((scope.0, None)).or_default();
                self.scopes.insert(scope, text);
                Ok(true)
            }
        }
    }

    fn delete_scope(&mut self, scope: ScopeName) -> Outcome {
        if self.members(scope) > 0 {
            return Err(());
        }
        self.scopes.remove(&scope).map(|_| true).ok_or(())
    }

    /// A write, if what it demands holds; the config that it changed has the revision that the whole will have.
    fn write(&mut self, asked: &Demanding) -> Outcome {
        let name = self.place(&asked.write)?;
        let found = self.id_of(&name).map(|id| self.configs[&id].revision);
        match (asked.condition, found) {
            (Condition::Absent, Some(_)) | (Condition::Revision(_), None) => return Err(()),
            (Condition::Revision(wanted), Some(revision)) if wanted != revision => return Err(()),
            _ => {}
        }
        let changed = self.perform(&asked.write)?;
        let revision = self.revision + 1;
        if let (true, Some(id)) = (changed, self.id_of(&name)) {
            self.config(id)?.revision = revision;
        }
        Ok(changed)
    }

    fn perform(&mut self, write: &Write) -> Outcome {
        let now = self.minutes;
        let step = self.steps;
        match write {
            Write::Put(n, c) => {
                let (name, text) = (name(*n), content(*c));
                let config = match self.id_of(&name) {
                    Some(id) => self.config(id)?,
                    None => self.add(name),
                };
                let latest = config.versions.len() as u64;
                if latest > 0 && config.default_version() == Some(latest) && config.latest_is(&text) {
                    return Ok(false);
                }
                config.versions.push(Some(text));
                config.serve(latest + 1)
            }
            Write::Create(n, c) => {
                if self.id_of(&name(*n)).is_some() {
                    return Err(());
                }
                self.add(name(*n)).versions.extend(c.map(content).map(Some));
                Ok(true)
            }
            Write::AddVersion(id, c) => {
                self.config(*id)?.versions.push(Some(content(*c)));
                Ok(true)
            }
            Write::Release(id, given) => {
                let new = rules(given);
                let distinct: BTreeSet<&Labels> = new.iter().map(|r| &r.labels).collect();
                let clear = distinct.len() == new.len();
                let config = self.config(*id)?;
                if !clear || !new.iter().all(|r| config.has(r.version)) {
                    return Err(());
                }
                let changed = config.rules != new;
                if changed {
                    config.set_rules(new);
                }
                Ok(changed)
            }
            Write::Delete(id) => self.configs.remove(id).map(|_| true).ok_or(()),
            Write::Update(id, description, new) => {
                let config = self.config(*id)?;
                let before = config.clone();
                config.description = description.map_or(before.description.clone(), |d| d.to_string());
                config.tags = new.map_or(before.tags.clone(), tags);
                Ok(*config != before)
            }
            Write::Publish(id, what, how, minutes) => {
                if *minutes > 0 && matches!(how, How::All) {
                    return Err(());
                }
                let due = (*minutes > 0).then_some((now + u64::from(*minutes), step));
                self.config(*id)?.publish(what, *how, due)
            }
            Write::Rollback(id, version) => {
                let config = self.config(*id)?;
                let version = if *version == 0 { config.previous } else { *version };
                if !config.has(version) {
                    return Err(());
                }
                if config.default_version() == Some(version) { Ok(false) } else { config.serve(version) }
            }
        }
    }

    /// Of which config a step is, by its name.
    fn place(&self, write: &Write) -> Result<String, ()> {
        match write {
            Write::Put(n, _) | Write::Create(n, _) => Ok(name(*n)),
            Write::AddVersion(id, _)
            | Write::Release(id, _)
            | Write::Delete(id)
            | Write::Update(id, ..)
            | Write::Publish(id, ..)
            | Write::Rollback(id, _) => self.configs.get(id).map(|c| c.name.clone()).ok_or(()),
        }
    }

    fn changeset(&mut self, writes: &[Demanding]) -> Outcome {
        let mut places = BTreeSet::new();
        for asked in writes {
            if !places.insert(self.place(&asked.write)?) {
                return Err(());
            }
        }
        let mut changed = false;
        for write in writes {
            changed |= self.write(write)?;
        }
        Ok(changed)
    }

    fn happens(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Write(write) => self.write(write),
            Step::Changeset(writes) => self.changeset(writes),
            Step::PutScope(scope, description, existing) => self.put_scope(*scope, *description, *existing),
            Step::DeleteScope(scope) => self.delete_scope(*scope),
            Step::Prune(id, versions) => {
                if let Ok(config) = self.config(*id) {
                    versions.iter().for_each(|version| config.prune(*version));
                }
                Ok(false)
            }
            Step::SaveDraft(id, draft, c) => {
                let config = self.config(*id)?;
                if *draft == 0 {
                    config.next_draft += 1;
                    config.drafts.insert(config.next_draft, content(*c));
                } else {
                    *config.drafts.get_mut(draft).ok_or(())? = content(*c);
                }
                Ok(false)
            }
            Step::DropDraft(id, draft) => self.config(*id)?.drafts.remove(draft).map(|_| false).ok_or(()),
            Step::Cancel(id) => {
                let revision = self.revision + 1;
                let config = self.config(*id)?;
                config.promotion.take().ok_or(())?;
                config.revision = revision;
                Ok(true)
            }
            Step::Expire => Ok(false),
            Step::Pass(minutes) => {
                self.minutes += u64::from(*minutes);
                let now = self.minutes;
                let promised = self.configs.iter().filter_map(|(id, c)| Some((c.promotion?, *id)));
                let mut due: Vec<_> = promised.filter(|((_, (minute, _)), _)| *minute <= now).collect();
                due.sort_by_key(|((_, due), id)| (*due, *id));
                for ((version, _), id) in due {
                    self.revision += 1;
                    let revision = self.revision;
                    let config = self.config(id)?;
                    let rules = release::promote(&config.rules, version).map_err(drop)?;
                    config.set_rules(rules);
                    config.revision = revision;
                }
                Ok(false)
            }
        }
    }

    /// What a client without labels, or with this value of `l`, is served.
    pub fn served(&self, name: &str, value: Option<u8>) -> Option<(u64, String)> {
        let id = self.id_of(name)?;
        let config = &self.configs[&id];
        let version = release::evaluate(id, &config.rules, &value.map(label).unwrap_or_default())?;
        Some((version, config.versions[version as usize - 1].clone()?))
    }
}

fn any_write() -> impl proptest::strategy::Strategy<Value = Write> {
    let what = prop_oneof![
        3 => (0u8..4).prop_map(What::Content),
        2 => (1u64..3).prop_map(What::Draft),
        2 => (1u64..5).prop_map(What::Version),
    ];
    let how = prop_oneof![
        Just(How::All),
        prop_oneof![Just(1_000), Just(5_000)].prop_map(How::Canary),
        (0u8..2).prop_map(How::Targeted),
    ];
    let id = 1u64..6;
    prop_oneof![
        4 => (0u8..6, 0u8..4).prop_map(|(n, c)| Write::Put(n, c)),
        2 => (0u8..6, proptest::option::of(0u8..4)).prop_map(|(n, c)| Write::Create(n, c)),
        2 => (id.clone(), 0u8..4).prop_map(|(id, c)| Write::AddVersion(id, c)),
        2 => (id.clone(), proptest::collection::vec((proptest::option::of(0u8..2), 1u64..5), 0..4))
            .prop_map(|(id, rules)| Write::Release(id, rules)),
        1 => id.clone().prop_map(Write::Delete),
        2 => (id.clone(), proptest::option::of(0u8..2), proptest::option::of(0u8..3))
            .prop_map(|(id, d, t)| Write::Update(id, d, t)),
        6 => (id.clone(), what, how, prop_oneof![2 => Just(0u32), 1 => 1u32..4])
            .prop_map(|(id, what, how, mins)| Write::Publish(id, what, how, mins)),
        2 => (id, 0u64..4).prop_map(|(id, v)| Write::Rollback(id, v)),
    ]
}

fn any_demanding() -> impl proptest::strategy::Strategy<Value = Demanding> {
    let condition = prop_oneof![
        8 => Just(Condition::None),
        2 => Just(Condition::Present),
        1 => (1u64..30).prop_map(Condition::Revision),
        1 => Just(Condition::Absent),
    ];
    (any_write(), condition).prop_map(|(write, condition)| Demanding { write, condition })
}

fn any_scope() -> impl proptest::strategy::Strategy<Value = ScopeName> {
    proptest::sample::select(vec![
        ("app", None),
        ("app", Some("env")),
        ("app", Some("env-2")),
        ("other", None),
        ("other", Some("env")),
    ])
}

impl ReferenceStateMachine for Model {
    type State = Model;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Model> {
        Just(Model::default()).boxed()
    }

    fn transitions(_: &Model) -> BoxedStrategy<Step> {
        prop_oneof![
            12 => any_demanding().prop_map(Step::Write),
            3 => proptest::collection::vec(any_demanding(), 1..4).prop_map(Step::Changeset),
            2 => (any_scope(), 0u8..3, any::<bool>()).prop_map(|(scope, d, existing)| Step::PutScope(scope, d, existing)),
            1 => any_scope().prop_map(Step::DeleteScope),
            3 => (1u64..6, proptest::collection::vec(1u64..6, 1..5)).prop_map(|(id, versions)| Step::Prune(id, versions)),
            3 => (1u64..6, 0u64..3, 0u8..4).prop_map(|(id, draft, c)| Step::SaveDraft(id, draft, c)),
            1 => (1u64..6, 1u64..3).prop_map(|(id, draft)| Step::DropDraft(id, draft)),
            1 => (1u64..6).prop_map(Step::Cancel),
            2 => (1u8..4).prop_map(Step::Pass),
            1 => Just(Step::Expire),
        ]
        .boxed()
    }

    fn apply(state: Model, step: &Step) -> Model {
        let mut next = state.clone();
        next.steps += 1;
        let steps = next.steps;
        match next.happens(step) {
            Ok(changed) => Model { revision: next.revision + u64::from(changed), accepted: true, ..next },
            Err(()) => Model { accepted: false, steps, ..state },
        }
    }
}
