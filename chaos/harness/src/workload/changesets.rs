//! Changesets: several registers written at once, all or nothing. A set's registers always have one value, so that whoever reads
//! one of them tells what all of them had.

use rand::Rng;
use serde_json::{Value, json};

use super::{Shared, Unsettled, Worker, read_failure, read_written};
use crate::{
    history::{Ask, Call, Told, document},
    workload::GENERATION_US,
};
use conflux_tests::client::{Answer, Client};

/// Sets of a tenant in use at a time.
const SETS: u64 = 2;
/// Registers of each.
const PARTS: u64 = 3;

/// A register of a set: `s<generation>-<set>-<part>`.
fn name(generation: u64, set: u64, part: u64) -> String {
    format!("s{generation}-{set}-{part}")
}

/// What is put in order as one register: all registers of a set, which have one value at every moment.
pub fn of_set(register: &str) -> &str {
    match register.starts_with('s') {
        true => register.rsplit_once('-').map_or(register, |(set, _)| set),
        false => register,
    }
}

impl Unsettled {
    /// What it did to each register.
    pub(super) fn calls(self) -> Vec<Call> {
        let mut calls = vec![self.call];
        for (n, (register, told)) in self.others.into_iter().enumerate() {
            // What stays open stays so for all of them.
            let told = if matches!(calls[0].told, Told::Wrote { .. }) { told } else { calls[0].told };
            calls.push(Call { register, told, part: n + 1, ..calls[0].clone() });
        }
        calls
    }

    fn body(&self, value: u64) -> Value {
        let registers = std::iter::once(&self.call.register).chain(self.others.iter().map(|(register, _)| register));
        let put = |register: &String| {
            let (name, content) = (format!("{register}.json"), document(value));
            json!({"put": {"app": "chaos", "env": "test", "name": name, "content": content}})
        };
        json!({ "description": "a set", "changes": registers.map(put).collect::<Vec<_>>() })
    }
}

/// Sends a changeset once.
pub(super) async fn send(client: &Client, tenant: &str, open: &Unsettled, value: u64) -> anyhow::Result<Answer> {
    let path = format!("/api/v1/mgt/{tenant}/changesets");
    let request = client.request(reqwest::Method::POST, &path).json(&open.body(value));
    client.send(request.header("idempotency-key", &open.key)).await
}

/// What its answer says of all attempts under its key; also of each register.
pub(super) fn read(shared: &Shared, open: &mut Unsettled, answer: &Answer) -> Told {
    if answer.status != 200 {
        return read_failure(shared, &open.call, answer);
    }
    let json = answer.json();
    let results = json["results"].as_array().cloned().unwrap_or_default();
    if results.len() != open.others.len() + 1 || results.iter().any(|r| r["revision"] != json["revision"]) {
        shared.odd.lock().push(format!("a changeset that is not one: {}", answer.text()));
        return Told::Open;
    }
    let told = read_written(shared, &open.call, &results[0]);
    for ((register, theirs), result) in open.others.iter_mut().zip(&results[1..]) {
        *theirs = read_written(shared, &Call { register: register.clone(), ..open.call.clone() }, result);
    }
    told
}

impl Worker {
    /// Writes all registers of a set.
    pub(super) async fn changeset(&mut self) -> Option<Unsettled> {
        let (generation, set) = (self.shared.clock.now() / GENERATION_US, self.rng.random_range(0..SETS));
        let value = self.value();
        let call = self.call(name(generation, set, 0), Ask::Put { value });
        let others = (1..PARTS).map(|part| (name(generation, set, part), Told::Open)).collect();
        self.carry_out(Unsettled { call, key: uuid::Uuid::new_v4().to_string(), if_match: None, others }).await
    }

    /// One of a set's registers, to be read.
    pub(super) fn register_of_a_set(&mut self) -> String {
        let (set, part) = (self.rng.random_range(0..SETS), self.rng.random_range(0..PARTS));
        name(self.shared.clock.now() / GENERATION_US, set, part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Registers of one set are one for the search, and no other register is drawn into it.
    #[test]
    fn a_set_is_one_register() {
        assert_eq!(of_set(&name(3, 1, 2)), "s3-1");
        assert_eq!(of_set("r3-1"), "r3-1");
    }
}
