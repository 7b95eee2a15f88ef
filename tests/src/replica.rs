//! One replica asked directly, past the gateway, with a gateway's certificate that the test issues to itself.

use std::{collections::BTreeMap, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Result, ensure};
use conflux_common::{
    dial::MtlsConnector,
    grant::{Action, Grant, Principal},
    ids::{Epoch, GroupName, MemberName, TenantId},
    settings::TlsFiles,
    tls::{Admission, Peers, Role, TlsContext},
};
use conflux_proto::{
    context::CallContext,
    internal::{self, shard_service_client::ShardServiceClient},
    v1::{self, config_service_client::ConfigServiceClient},
};
use tonic::transport::{Channel, Endpoint};

use crate::{
    Federation,
    client::Place,
    federation::{Member, binary, runs},
    load::Acknowledged,
    until,
};

/// Issues a certificate with the federation's own CA, by the command that operators use.
pub async fn issue(federation: &Federation, role: &str, group: Option<&str>, member: &str) -> Result<TlsFiles> {
    let pki = pki_dir(federation);
    let out = federation.directory().join("issued").join(format!("{role}-{}-{member}", group.unwrap_or("none")));
    let mut command = tokio::process::Command::new(binary());
    command.args(["pki", "issue", "--replace", "--role", role, "--member", member]);
    command.arg("--dir").arg(&pki).arg("--out").arg(&out);
    if let Some(group) = group {
        command.args(["--group", group]);
    }
    let done = command.stdin(Stdio::null()).output().await?;
    ensure!(done.status.success(), "conflux pki issue: {}", String::from_utf8_lossy(&done.stderr));
    Ok(files(&out, &pki))
}

/// The file names that `conflux pki` uses.
pub fn files(dir: &std::path::Path, pki: &std::path::Path) -> TlsFiles {
    TlsFiles {
        cert: dir.join("cert.pem"),
        key: dir.join("key.pem"),
        ca: pki.join("ca.pem"),
        crl: Some(pki.join("crl.pem")),
    }
}

/// A connection to this member's service port.
pub async fn connect(federation: &Federation, files: TlsFiles, member: &Member) -> Result<Channel> {
    let role = if member.role == "placement" { Role::Placement } else { Role::Shard };
    let peers = Peers::Member(role, Some(GroupName::new(&member.group)?), MemberName::new(&member.member)?);
    let cluster = federation.description.cluster_id.parse()?;
    let expected = Admission { cluster, allowed: vec![peers] };
    let connector = MtlsConnector { tls: TlsContext::load(files)?, expected };
    let endpoint = Endpoint::from_shared(format!("https://{}", member.address))?.timeout(Duration::from_secs(30));
    Ok(endpoint.connect_with_connector(connector).await?)
}

/// Whether the member answers at all on this connection: a refusal of its own is an answer.
pub async fn is_heard(channel: Channel) -> bool {
    let mut client = ShardServiceClient::new(channel);
    match client.history(internal::HistoryRequest::default()).await {
        Ok(_) => true,
        // What the connection said has a cause here, what the member said has none.
        Err(status) => std::error::Error::source(&status).is_none(),
    }
}

/// A tenant keeps at least 10,000 events: of a longer history only the end can be asked for.
const RETAINED: u64 = 9_000;

/// The revisions of a tenant after this one as the replica has them: revision -> hash of the content of its first event.
pub async fn history(channel: Channel, tenant_id: u64, epoch: u64, after: u64) -> Result<BTreeMap<u64, String>> {
    let mut client = ShardServiceClient::new(channel).max_decoding_message_size(64 << 20);
    let (mut all, mut after) = (BTreeMap::new(), after);
    loop {
        let request = internal::HistoryRequest { tenant_id, epoch, after, to: u64::MAX, limit: 1000 };
        let page = client.history(request).await?.into_inner();
        for r in &page.revisions {
            let hash = r.events.first().and_then(|e| e.event.as_ref()).map(|e| e.hash.clone()).unwrap_or_default();
            all.insert(r.revision, hash);
            after = r.revision;
        }
        if page.revisions.is_empty() || after >= page.revision {
            return Ok(all);
        }
    }
}

/// Checks that each replica of the group has every acknowledged write, each at its revision, and that all replicas
/// have the same history.
pub async fn verify_on_each(federation: &Federation, group: &str, tenant: &str, acknowledged: &[Acknowledged]) {
    let record = federation.operator().get(&format!("/api/v1/admin/tenants/{tenant}")).await.unwrap();
    let record = record.expect(&[200]).unwrap().json();
    let (id, epoch) = (record["id"].as_u64().unwrap(), record["epoch"].as_u64().unwrap());
    let certificate = issue(federation, "gateway", None, "test-reader").await.unwrap();
    let newest = acknowledged.iter().map(revision).max().unwrap_or_default();
    let mut first: Option<(String, BTreeMap<u64, String>)> = None;
    for member in federation.members(group) {
        let got = until("the replica has caught up", Duration::from_secs(60), || async {
            let channel = connect(federation, certificate.clone(), &member).await.ok()?;
            let got = history(channel, id, epoch, newest.saturating_sub(RETAINED)).await.ok()?;
            (got.keys().max().copied().unwrap_or_default() >= newest).then_some(got)
        })
        .await;
        let floor = got.keys().min().copied().unwrap_or_default();
        for ack in acknowledged.iter().filter(|a| revision(a) >= floor) {
            let hash = got.get(&revision(ack));
            let hash = hash.unwrap_or_else(|| panic!("{} lost revision {}", member.member, ack.revision));
            assert_eq!(hash.trim_start_matches("sha256:"), ack.sha256, "{} at {}", member.member, ack.revision);
        }
        for (a, b) in got.keys().zip(got.keys().skip(1)) {
            assert_eq!(a + 1, *b, "{}: revisions are dense", member.member);
        }
        match &first {
            None => first = Some((member.member.clone(), got)),
            Some((other, theirs)) => {
                let same = theirs.iter().all(|(r, h)| got.get(r).is_none_or(|mine| mine == h));
                assert!(same, "{} and {other} differ", member.member);
            }
        }
    }
}

/// For each member that runs, which version it serves each of these clients (by the label `client`) from its own state, once it
/// has seen the revision.
pub async fn versions_on_each(
    federation: &Federation,
    group: &str,
    tenant: &str,
    place: &Place,
    revision: &str,
    clients: &[&String],
) -> Vec<(String, Vec<u64>)> {
    let record = federation.operator().get(&format!("/api/v1/admin/tenants/{tenant}")).await.unwrap();
    let record = record.expect(&[200]).unwrap().json();
    let owned = (TenantId(record["id"].as_u64().unwrap()), Epoch(record["epoch"].as_u64().unwrap()));
    let certificate = issue(federation, "gateway", None, "test-fetcher").await.unwrap();
    let mut all = Vec::new();
    for member in federation.members(group).into_iter().filter(|m| runs(m.pid)) {
        let channel = connect(federation, certificate.clone(), &member).await.unwrap();
        let mut client = ConfigServiceClient::new(channel);
        let mut versions = Vec::new();
        for name in clients {
            let fetch = v1::FetchRequest {
                app: place.app.clone(),
                env: place.env.clone(),
                name: place.name.clone(),
                labels: [("client".to_owned(), (*name).clone())].into(),
                consistency: v1::Consistency::Stale.into(),
                min_revision: revision.to_owned(),
                ..Default::default()
            };
            versions.push(client.fetch(as_gateway(owned, tenant, fetch)).await.unwrap().into_inner().version);
        }
        all.push((member.member, versions));
    }
    all
}

/// The request with the headers in which a gateway vouches for a reader.
fn as_gateway<T>(owned: (TenantId, Epoch), tenant: &str, message: T) -> tonic::Request<T> {
    let grant = Grant { action: Action::Read, pattern: "*/*/*".parse().expect("a pattern") };
    let principal = Principal {
        name: "key:test-fetcher".into(),
        tenant: Some(tenant.parse().expect("a tenant's name")),
        operator: false,
        grants: vec![grant],
        directory_seq: 0,
    };
    let context = CallContext {
        principal: principal.into(),
        tenant: Some(owned),
        request_id: "test-fetcher".into(),
        deadline: Duration::from_secs(10),
        idempotency: None,
    };
    let mut headers = http::HeaderMap::new();
    context.write(&mut headers);
    let metadata = tonic::metadata::MetadataMap::from_headers(headers);
    tonic::Request::from_parts(metadata, tonic::Extensions::new(), message)
}

fn revision(ack: &Acknowledged) -> u64 {
    ack.revision.split('.').nth(1).and_then(|r| r.parse().ok()).expect("<incarnation>.<revision>")
}

/// Where the PKI of the federation is.
pub fn pki_dir(federation: &Federation) -> PathBuf {
    federation.directory().join("pki")
}
