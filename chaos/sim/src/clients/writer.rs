//! Writes: each of a content of its own under a key of its own, some only over the last known ETag, some repeated.

use std::{rc::Rc, time::Duration};

use conflux_proto::v1::{PutConfigRequest, management_service_client::ManagementServiceClient};
use rand::{Rng, rngs::SmallRng, seq::IndexedRandom};

use super::{
    APP, CONFIGS, ENV, Gateway, Phase, TENANTS,
    caller::{Failed, Wanted},
    config_name,
    routes::pause,
};
use crate::{
    history::{Ended, Put, Register, Written},
    world::{hosts, trace},
};

/// A write is tried so long.
const WITHIN: Duration = Duration::from_secs(4);

/// The revision in `<incarnation>.<revision>`, with or without quotes.
pub fn revision_of(mark: &str) -> u64 {
    mark.trim_matches('"').rsplit('.').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

impl Gateway {
    /// Writes and notes what came of it.
    pub async fn put(&self, register: Register, content: String, key: String, if_match: Option<String>) -> Ended {
        let began = self.shared.history.moment();
        let body = PutConfigRequest {
            app: APP.into(),
            env: ENV.into(),
            name: config_name(register),
            content: content.clone().into_bytes().into(),
            format: String::new(),
            description: String::new(),
        };
        let wanted = Wanted {
            tenant: register.tenant,
            of_leader: true,
            key: Some(key.clone()),
            if_match: if_match.clone(),
            within: WITHIN,
        };
        let answered =
            self.call(wanted, body, async |channel, r| ManagementServiceClient::new(channel).put_config(r).await).await;
        let outcome = match answered {
            Ok(answer) => Ended::Done(Written {
                revision: revision_of(&answer.body.revision),
                version: answer.body.version,
                etag: answer.body.etag,
                epoch: answer.body.epoch,
                shard: answer.alone.then(|| hosts::group_of(&answer.member).to_owned()),
            }),
            Err(Failed::Refused(error)) => Ended::Refused(error.code),
            Err(Failed::Unknown) => Ended::Unknown,
        };
        trace::note(format_args!(
            "put t{} c{} {content} if_match={if_match:?}: {outcome:?}",
            register.tenant, register.config
        ));
        let ended = self.shared.history.moment();
        let put = Put { register, content, key, if_match, began, ended, outcome: outcome.clone() };
        self.shared.history.puts.borrow_mut().push(put);
        outcome
    }

    /// An earlier write that was acknowledged here.
    fn acknowledged(&self, random: &mut SmallRng) -> Option<Put> {
        let puts = self.shared.history.puts.borrow();
        let done: Vec<&Put> = puts.iter().rev().take(40).filter(|put| matches!(put.outcome, Ended::Done(_))).collect();
        done.choose(random).map(|put| (*put).clone())
    }
}

/// Writes until there is to be no more load.
pub async fn run(gateway: Rc<Gateway>, number: usize, mut random: SmallRng) {
    let mut count = 0;
    while gateway.shared.phase.get() < Phase::Quiet {
        pause(120).await;
        if gateway.shared.phase.get() == Phase::Boot {
            continue;
        }
        if random.random_ratio(1, 12)
            && let Some(put) = gateway.acknowledged(&mut random)
        {
            gateway.put(put.register, put.content, put.key, put.if_match).await;
            continue;
        }
        let register = Register { tenant: random.random_range(0..TENANTS), config: random.random_range(0..CONFIGS) };
        let last = gateway.shared.history.puts.borrow().iter().rev().find_map(|put| match &put.outcome {
            Ended::Done(written) if put.register == register => Some(written.etag.clone()),
            _ => None,
        });
        let if_match = last.filter(|_| random.random_bool(0.3));
        count += 1;
        let content = format!("{}-w{number}-{count}", gateway.name);
        let key = format!("key-{content}");
        gateway.put(register, content, key, if_match).await;
    }
    trace::note("writes no more");
}
