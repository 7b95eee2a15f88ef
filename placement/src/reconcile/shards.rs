//! Calls to the leader of a shard group, over kept connections.

use std::{collections::HashMap, time::Duration};

use conflux_common::{
    dial::MtlsConnector,
    error::{ApiError, Code, Hint},
    ids::{ClusterName, GroupName},
    tls::{Admission, Peers, Role, TlsContext},
};
use conflux_proto::{
    internal::{
        EnsureTenantRequest, EnsureTenantResponse, GroupMember, GroupRecord, LoadsRequest, LoadsResponse,
        shard_service_client::ShardServiceClient,
    },
    status::from_status,
};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};

use crate::service::left;

/// Members asked for one call, hints included.
const HOPS: usize = 8;
/// Of the answer with all loads of a shard: some fifty bytes for a tenant.
const MAX_LOADS: usize = 64 << 20;
/// One member's answer.
const PER_HOP: Duration = Duration::from_secs(3);
/// Kept connections; the whole lot is dropped beyond it, which costs a handshake each.
const MAX_CHANNELS: usize = 4096;
/// A connection that is silent so long is asked whether it lives.
const PING: Duration = Duration::from_secs(5);

/// With what and as whom shards are called.
pub struct ShardPeers {
    /// Own certificate and trust.
    pub tls: TlsContext,
    /// The federation.
    pub cluster: ClusterName,
}

/// Connections to members of shards.
pub struct Shards {
    peers: ShardPeers,
    /// By group and address.
    channels: Mutex<HashMap<(String, String), Channel>>,
}

impl Shards {
    /// None yet.
    pub fn new(peers: ShardPeers) -> Self {
        Self { peers, channels: Mutex::default() }
    }

    /// Has the group's leader follow placement's record of this tenant; says where it stands then.
    pub async fn ensure(&self, group: &GroupRecord, id: u64, until: Instant) -> Result<EnsureTenantResponse, ApiError> {
        let ask = move |mut client: ShardServiceClient<Channel>, left| async move {
            let mut request = Request::new(EnsureTenantRequest { tenant_id: id });
            request.set_timeout(left);
            client.ensure_tenant(request).await
        };
        self.ask_leader(group, until, ask).await
    }

    /// Size and load of the group's tenants, by its leader.
    pub async fn loads(&self, group: &GroupRecord, until: Instant) -> Result<LoadsResponse, ApiError> {
        let ask = |client: ShardServiceClient<Channel>, left| async move {
            let mut request = Request::new(LoadsRequest {});
            request.set_timeout(left);
            client.max_decoding_message_size(MAX_LOADS).loads(request).await
        };
        self.ask_leader(group, until, ask).await
    }

    /// Asks one member after another until one answers. No one gets more than a third of what is left of the time: a member
    /// that hangs must leave some for the others.
    async fn ask_leader<R, F: Future<Output = Result<Response<R>, Status>>>(
        &self,
        group: &GroupRecord,
        until: Instant,
        ask: impl Fn(ShardServiceClient<Channel>, Duration) -> F,
    ) -> Result<R, ApiError> {
        let mut order = Order::new(group);
        let mut last = ApiError::new(Code::Unavailable, "the shard has no members");
        while let Some(member) = order.next() {
            let by = until.min(Instant::now() + (left(until) / 3).min(PER_HOP));
            let client = ShardServiceClient::new(self.channel(&group.name, &member.service_address)?);
            let answer = match timeout_at(by, ask(client, left(by))).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => from_status(&status),
                Err(_) => ApiError::new(Code::DeadlineExceeded, format!("{} does not answer", member.name)),
            };
            order.refused(&answer);
            last = answer;
            if Instant::now() >= until {
                break;
            }
        }
        Err(last)
    }

    fn channel(&self, group: &str, address: &str) -> Result<Channel, ApiError> {
        let mut channels = self.channels.lock();
        let key = (group.to_owned(), address.to_owned());
        if let Some(channel) = channels.get(&key) {
            return Ok(channel.clone());
        }
        let expected = Admission {
            cluster: self.peers.cluster.clone(),
            allowed: vec![Peers::Group(Role::Shard, GroupName::new(group)?)],
        };
        let connector = MtlsConnector { tls: self.peers.tls.clone(), expected };
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|e| ApiError::new(Code::Unavailable, format!("{address:?} cannot be called: {e}")))?
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        let channel = endpoint.connect_with_connector_lazy(connector);
        if channels.len() >= MAX_CHANNELS {
            channels.clear();
        }
        channels.insert(key, channel.clone());
        Ok(channel)
    }
}

/// In which order the members of a group are asked: the reported leader, whom a refusal names, then the rest.
struct Order<'a> {
    members: Vec<&'a GroupMember>,
    hinted: Option<&'a GroupMember>,
    asked: Vec<&'a str>,
}

impl<'a> Order<'a> {
    fn new(group: &'a GroupRecord) -> Self {
        let mut members: Vec<&GroupMember> = group.members.iter().collect();
        members.sort_by_key(|m| (m.node_id != group.leader, !m.voter));
        Self { members, hinted: None, asked: Vec::new() }
    }

    fn next(&mut self) -> Option<&'a GroupMember> {
        if self.asked.len() >= HOPS {
            return None;
        }
        let fresh = || self.members.iter().copied().find(|m| !self.asked.contains(&m.name.as_str()));
        let next = self.hinted.or_else(fresh);
        self.hinted = None;
        let next = next?;
        self.asked.push(&next.name);
        Some(next)
    }

    /// A named leader is asked next, also once more: it may have been elected since. Not the one that just refused.
    fn refused(&mut self, error: &ApiError) {
        let Some(Hint::NotLeader(Some(leader))) = &error.hint else { return };
        let just_asked = self.asked.last().copied();
        self.hinted = self.members.iter().copied().find(|m| m.name == *leader && just_asked != Some(m.name.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> GroupRecord {
        let member = |n: u64| GroupMember {
            node_id: n,
            name: format!("a-{n}"),
            service_address: format!("h:{n}"),
            voter: n != 4,
        };
        GroupRecord { name: "a".into(), leader: 2, members: (1..=4).map(member).collect(), ..Default::default() }
    }

    /// The leader is found by report, by hint or by asking all; and asking ends.
    #[test]
    fn members_are_asked_in_a_useful_order() {
        let group = group();
        let mut order = Order::new(&group);
        assert_eq!(order.next().unwrap().name, "a-2");
        order.refused(&ApiError::elsewhere(Hint::NotLeader(Some("a-3".into())), ""));
        assert_eq!(order.next().unwrap().name, "a-3");
        // It says that it is not, and knows no other: the rest, learners last.
        order.refused(&ApiError::elsewhere(Hint::NotLeader(None), ""));
        assert_eq!(order.next().unwrap().name, "a-1");
        assert_eq!(order.next().unwrap().name, "a-4");
        assert!(order.next().is_none());
        // Two members that each name the other do not keep us for ever.
        let mut order = Order::new(&group);
        let mut asked = 0;
        while let Some(member) = order.next() {
            asked += 1;
            let other = if member.name == "a-2" { "a-3" } else { "a-2" };
            order.refused(&ApiError::elsewhere(Hint::NotLeader(Some(other.into())), ""));
        }
        assert_eq!(asked, HOPS);
    }
}
