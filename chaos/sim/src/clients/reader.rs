//! Reads: linearizable ones and stale ones, some of which must have seen a revision.

use std::{rc::Rc, time::Duration};

use conflux_common::error::Code;
use conflux_proto::v1::{Consistency, FetchRequest, config_service_client::ConfigServiceClient};
use rand::{Rng, rngs::SmallRng};

use super::{
    APP, CONFIGS, ENV, Gateway, Phase, TENANTS,
    caller::{Failed, Wanted},
    config_name,
    routes::pause,
    writer::revision_of,
};
use crate::{
    history::{Ended, Fetch, Level, Register},
    world::trace,
};

const WITHIN: Duration = Duration::from_secs(3);
/// A tenant has one life here.
const INCARNATION: u64 = 1;

impl Gateway {
    /// Reads and notes what was answered. Whether it was.
    pub async fn fetch(&self, register: Register, level: Level, min_revision: u64) -> bool {
        let consistency = match level {
            Level::Stale => Consistency::Stale,
            Level::Linearizable => Consistency::Linearizable,
        };
        let body = FetchRequest {
            app: APP.into(),
            env: ENV.into(),
            name: config_name(register),
            consistency: consistency.into(),
            min_revision: if min_revision > 0 { format!("{INCARNATION}.{min_revision}") } else { String::new() },
            ..Default::default()
        };
        let wanted = Wanted {
            tenant: register.tenant,
            of_leader: level == Level::Linearizable,
            key: None,
            if_match: None,
            within: WITHIN,
        };
        let answered =
            self.call(wanted, body, async |channel, r| ConfigServiceClient::new(channel).fetch(r).await).await;
        let ended = self.shared.history.moment();
        match answered {
            Ok(answer) => {
                let body = answer.body;
                let content = String::from_utf8_lossy(&body.content).into_owned();
                trace::note(format_args!(
                    "fetch t{} c{} {level:?} min={min_revision} from {}: revision {} version {} {content} age {}",
                    register.tenant, register.config, answer.member, body.revision, body.version, body.age_ms
                ));
                self.shared.history.fetches.borrow_mut().push(Fetch {
                    register,
                    level,
                    min_revision,
                    began: answer.sent,
                    ended,
                    member: answer.member,
                    revision: revision_of(&body.revision),
                    age_ms: body.age_ms,
                    found: Some((body.version, content)),
                });
                true
            }
            Err(Failed::Refused(error)) if error.code == Code::NotFound => true,
            Err(failed) => {
                trace::note(format_args!("fetch t{} c{} {level:?}: {failed:?}", register.tenant, register.config));
                false
            }
        }
    }

    /// The highest revision of this tenant that a write was told.
    fn last_revision(&self, tenant: usize) -> u64 {
        let puts = self.shared.history.puts.borrow();
        let revisions = puts.iter().filter(|put| put.register.tenant == tenant).filter_map(|put| match &put.outcome {
            Ended::Done(written) => Some(written.revision),
            _ => None,
        });
        revisions.max().unwrap_or(0)
    }
}

/// Reads until there is to be no more load.
pub async fn run(gateway: Rc<Gateway>, mut random: SmallRng) {
    while gateway.shared.phase.get() < Phase::Quiet {
        pause(100).await;
        if gateway.shared.phase.get() == Phase::Boot {
            continue;
        }
        let register = Register { tenant: random.random_range(0..TENANTS), config: random.random_range(0..CONFIGS) };
        let level = if random.random_bool(0.5) { Level::Stale } else { Level::Linearizable };
        let demanded = level == Level::Stale && random.random_bool(0.4);
        let min_revision = if demanded { gateway.last_revision(register.tenant) } else { 0 };
        gateway.fetch(register, level, min_revision).await;
    }
    trace::note("reads no more");
}
