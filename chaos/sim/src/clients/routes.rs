//! Where a tenant is, and the connections to members.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use conflux_common::{
    dial::MtlsConnector,
    error::ApiError,
    tls::{Admission, Peers, Role, TlsContext},
};
use conflux_proto::{
    internal::{LookupTenantRequest, lookup_tenant_request::By, placement_service_client::PlacementServiceClient},
    status::from_status,
};
use rand::{Rng, seq::IndexedRandom};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

use crate::world::hosts::{self, CLUSTER, SERVICE_PORT};

const CONNECT: Duration = Duration::from_millis(800);
/// A look-up at one member.
const LOOK_UP: Duration = Duration::from_millis(800);

/// A tenant's shard and epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The group.
    pub shard: String,
    /// Its epoch.
    pub epoch: u64,
}

/// What a gateway remembers.
#[derive(Default)]
pub struct Routes {
    channels: RefCell<BTreeMap<String, Channel>>,
    tenants: RefCell<BTreeMap<u64, Route>>,
    leaders: RefCell<BTreeMap<String, String>>,
}

/// Why there is no connection.
fn unusable(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(conflux_common::error::Code::Internal, error.to_string())
}

/// A connector to a member, whoever of its role answers there.
pub fn connector(tls: &TlsContext, member: &str) -> Result<MtlsConnector, ApiError> {
    let role = if hosts::group_of(member) == "placement" { Role::Placement } else { Role::Shard };
    let allowed = vec![Peers::Member(
        role,
        Some(hosts::group_of(member).parse().map_err(unusable)?),
        member.parse().map_err(unusable)?,
    )];
    Ok(MtlsConnector { tls: tls.clone(), expected: Admission { cluster: CLUSTER.parse().map_err(unusable)?, allowed } })
}

impl Routes {
    /// The kept connection to this member, or a new one that its first call dials.
    pub fn channel(&self, tls: &TlsContext, member: &str) -> Result<Channel, ApiError> {
        if let Some(kept) = self.channels.borrow().get(member) {
            return Ok(kept.clone());
        }
        let channel = Endpoint::from_shared(format!("http://{member}:{SERVICE_PORT}"))
            .map_err(unusable)?
            .connect_timeout(CONNECT)
            .connect_with_connector_lazy(connector(tls, member)?);
        self.channels.borrow_mut().insert(member.to_owned(), channel.clone());
        Ok(channel)
    }

    /// Something went wrong on it.
    pub fn forget(&self, member: &str) {
        self.channels.borrow_mut().remove(member);
        self.leaders.borrow_mut().retain(|_, leader| leader != member);
    }

    /// Whoever is believed to lead the group, or anybody.
    pub fn leader(&self, group: &str) -> String {
        let known = self.leaders.borrow().get(group).cloned();
        known.unwrap_or_else(|| self.any(group))
    }

    /// Any member of the group.
    pub fn any(&self, group: &str) -> String {
        hosts::members(group).choose(&mut rand::rng()).cloned().unwrap_or_default()
    }

    /// This member is said to lead its group; none: whoever was believed to does not.
    pub fn note_leader(&self, group: &str, leader: Option<&str>) {
        let mut leaders = self.leaders.borrow_mut();
        match leader {
            Some(leader) => leaders.insert(group.to_owned(), leader.to_owned()),
            None => leaders.remove(group),
        };
    }

    /// The tenant's route as it is known.
    pub fn known(&self, id: u64) -> Option<Route> {
        self.tenants.borrow().get(&id).cloned()
    }

    /// Asks placement, once; a hint at its leader is noted.
    pub async fn look_up(&self, tls: &TlsContext, id: u64) -> Option<Route> {
        let member = self.leader("placement");
        let channel = self.channel(tls, &member).ok()?;
        let request = LookupTenantRequest { by: Some(By::Id(id)) };
        let asked = timeout(LOOK_UP, async { PlacementServiceClient::new(channel).lookup_tenant(request).await }).await;
        match asked {
            Ok(Ok(answer)) => {
                self.note_leader("placement", Some(&member));
                let record = answer.into_inner().tenant?;
                let route = Route { shard: record.shard, epoch: record.epoch };
                let mut tenants = self.tenants.borrow_mut();
                // A look-up is linearizable, but an earlier one may be answered later.
                if tenants.get(&id).is_none_or(|known| known.epoch <= route.epoch) {
                    tenants.insert(id, route);
                }
                tenants.get(&id).cloned()
            }
            Ok(Err(status)) => {
                match from_status(&status).hint {
                    Some(conflux_common::error::Hint::NotLeader(leader)) => {
                        self.note_leader("placement", leader.as_deref());
                    }
                    _ => self.forget(&member),
                }
                None
            }
            Err(_) => {
                self.forget(&member);
                None
            }
        }
    }
}

/// A pause of about so long.
pub async fn pause(ms: u64) {
    let jittered = rand::rng().random_range(ms / 2..=ms);
    tokio::time::sleep(Duration::from_millis(jittered)).await;
}
