//! Asking the shard that rows are copied from: its members in turn.

use std::time::Duration;

use conflux_common::{
    dial::MtlsConnector,
    error::{ApiError, Code, Hint},
    ids::GroupName,
    tls::{Admission, Peers, Role, TlsContext},
};
use conflux_proto::{
    internal::{ExportRowsRequest, ExportRowsResponse, GroupRecord, shard_service_client::ShardServiceClient},
    status::from_status,
};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

/// One member has so long to answer.
const ANSWER: Duration = Duration::from_secs(3);
/// An answer is a page and one row more at most; a row holds a content.
const MAX_MESSAGE: usize = 8 << 20;

/// The members of a group.
pub(super) struct Source {
    members: Vec<(String, ShardServiceClient<Channel>)>,
    at: usize,
}

impl Source {
    /// Dials nothing yet. The leader comes first: it knows of a move before the others do.
    pub(super) fn new(group: &GroupRecord, tls: &TlsContext) -> Result<Self, ApiError> {
        let allowed = vec![Peers::Group(Role::Shard, GroupName::new(group.name.as_str())?)];
        let expected = Admission { cluster: tls.own_id().cluster, allowed };
        let mut named: Vec<_> = group.members.iter().collect();
        named.sort_by_key(|member| member.node_id != group.leader);
        let client = |address: &str| {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|e| {
                ApiError::new(Code::Unavailable, format!("{address:?} of shard {} cannot be called: {e}", group.name))
            })?;
            let connector = MtlsConnector { tls: tls.clone(), expected: expected.clone() };
            let channel = endpoint.connect_with_connector_lazy(connector);
            Ok::<_, ApiError>(ShardServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE))
        };
        let members = named.into_iter().map(|m| Ok((m.name.clone(), client(&m.service_address)?)));
        Ok(Self { members: members.collect::<Result<_, ApiError>>()?, at: 0 })
    }

    /// The next page, from the member that answered last, or the next one that does.
    pub(super) async fn page(&mut self, asked: &ExportRowsRequest) -> Result<ExportRowsResponse, ApiError> {
        let mut last = ApiError::new(Code::Unavailable, "the shard that the tenant comes from has no members");
        for _ in 0..self.members.len() {
            let (name, client) = &mut self.members[self.at];
            let wait = ANSWER + Duration::from_millis(asked.wait_ms.into());
            let error = match timeout(wait, client.export_rows(asked.clone())).await {
                Ok(Ok(page)) => return Ok(page.into_inner()),
                Ok(Err(status)) => from_status(&status),
                Err(_) => ApiError::new(Code::DeadlineExceeded, format!("no answer within {wait:?}")),
            };
            let hinted = match &error.hint {
                Some(Hint::NotLeader(Some(leader))) => leader.clone(),
                _ => String::new(),
            };
            last = ApiError { message: format!("{name}: {}", error.message), ..error };
            let next = (self.at + 1) % self.members.len();
            self.at = self.members.iter().position(|(name, _)| *name == hinted).unwrap_or(next);
        }
        Err(last)
    }
}
