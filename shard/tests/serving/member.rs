//! One shard member, run as the binary runs it.

use conflux_common::{
    ids::MemberName,
    settings::{FounderSettings, LogSettings, MemberSettings, PlacementAddress, RaftTuning},
    testing::{TestCa, free_address},
    tls::{Admission, Peers, Role},
};
use conflux_proto::internal::{GroupRecord, TenantState};
use conflux_shard::{RunError, ShardSettings, retention::archive::ArchiveSettings, run};
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::transport::{Channel, Endpoint};

use crate::{caller::Caller, placement::Placement};

const GATEWAY: &str = "conflux://test/gateway/gateway-1";

type Running = JoinHandle<Result<(), RunError>>;

pub struct Member {
    pub placement: Placement,
    ca: TestCa,
    settings: Vec<ShardSettings>,
    running: Vec<Option<(oneshot::Sender<()>, Running)>>,
    _dir: tempfile::TempDir,
}

fn name(number: usize) -> MemberName {
    format!("shard-a-{number}").parse().unwrap()
}

impl Member {
    /// Starts a group of so many and waits until its leader has reported all of them to placement. What is not said
    /// of one of them is said of the first.
    pub async fn start_group(members: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = TestCa::new(&dir.path().join("ca"));
        let placement = Placement::start(&ca).await;
        let founder = |number| FounderSettings {
            member: name(number),
            raft_address: free_address().to_string(),
            service_address: free_address().to_string(),
        };
        let founders: Vec<FounderSettings> = (0..members).map(founder).collect();
        let settings = |(number, own): (usize, &FounderSettings)| ShardSettings {
            weight: 100,
            import_bytes_per_second: 1 << 30,
            member: MemberSettings {
                cluster: "test".parse().unwrap(),
                group: "shard-a".parse().unwrap(),
                member: own.member.clone(),
                data_dir: dir.path().join(format!("data-{number}")),
                raft_listen: own.raft_address.parse().unwrap(),
                service_listen: own.service_address.parse().unwrap(),
                metrics_listen: free_address(),
                raft_advertise: None,
                service_advertise: None,
                tls: ca.issue(&format!("conflux://test/shard/shard-a/{}", own.member)),
                founders: founders.clone(),
                raft: RaftTuning::default(),
                log: LogSettings::default(),
            },
            archive: Some(ArchiveSettings { directory: Some(dir.path().join("archive")), s3: None }),
            placement: vec![PlacementAddress {
                member: "placement-1".parse().unwrap(),
                address: placement.address.to_string(),
            }],
        };
        let settings: Vec<ShardSettings> = founders.iter().enumerate().map(settings).collect();
        let mut started = Self { placement, ca, settings, running: Vec::new(), _dir: dir };
        for number in 0..members {
            started.running.push(None);
            started.start(number);
        }
        let reported = async { started.placement.report(|group| group.members.len() == members).await };
        // A member that cannot run would leave the others, and this test, waiting for ever.
        let ended = async {
            let ended = started.running.iter_mut().flatten().map(|(_, running)| Box::pin(running));
            futures::future::select_all(ended).await.0
        };
        tokio::select! {
            _ = reported => {}
            ended = ended => panic!("a member ended at its start: {ended:?}"),
        }
        started
    }

    /// Starts a member that does not run, on the directory that it has.
    pub fn start(&mut self, number: usize) {
        let (stop, stopped) = oneshot::channel();
        let running = run(self.settings[number].clone(), async move { stopped.await.unwrap_or(()) });
        self.running[number] = Some((stop, tokio::spawn(running)));
    }

    /// A group of one with tenant 1, `acme`, at epoch 1, which placement has given to this shard.
    pub async fn with_acme() -> Self {
        Self::group_with_acme(1).await
    }

    pub async fn group_with_acme(members: usize) -> Self {
        let member = Self::start_group(members).await;
        member.placement.set(1, "acme", 1, TenantState::Creating);
        member
    }

    /// Where versions are archived.
    pub fn archive(&self) -> std::path::PathBuf {
        self.settings[0].archive.as_ref().and_then(|a| a.directory.clone()).unwrap()
    }

    /// Who leads, as it told placement; not `but`.
    pub async fn leader(&self, but: Option<usize>) -> usize {
        let number = |group: &GroupRecord| {
            let leader = group.members.iter().find(|m| m.node_id == group.leader);
            leader.and_then(|leader| (0..self.settings.len()).find(|n| name(*n).as_str() == leader.name))
        };
        let group = self.placement.report(|group| number(group).is_some_and(|n| Some(n) != but)).await;
        number(&group).unwrap()
    }

    /// Stops the first as SIGTERM does, and says how it ended.
    pub async fn stop(&mut self) -> Result<(), RunError> {
        self.stop_one(0).await
    }

    pub async fn stop_one(&mut self, number: usize) -> Result<(), RunError> {
        let (stop, running) = self.running[number].take().unwrap();
        let _ = stop.send(());
        running.await.unwrap()
    }

    /// Someone of `acme` who may do everything in it, at this member.
    pub fn admin_at(&self, number: usize) -> Caller {
        Caller { channel: self.channel_to(number, GATEWAY), ..self.admin() }
    }

    /// The service port, seen with a certificate of this URI.
    pub fn channel(&self, uri: &str) -> Channel {
        self.channel_to(0, uri)
    }

    pub fn channel_to(&self, number: usize, uri: &str) -> Channel {
        let connector = conflux_common::dial::MtlsConnector {
            tls: self.ca.context(uri),
            expected: Admission { cluster: "test".parse().unwrap(), allowed: vec![Peers::Role(Role::Shard)] },
        };
        let endpoint =
            Endpoint::from_shared(format!("http://{}", self.settings[number].member.service_listen)).unwrap();
        endpoint.connect_with_connector_lazy(connector)
    }

    /// The service port as a gateway sees it.
    pub fn gateway(&self) -> Channel {
        self.channel(GATEWAY)
    }

    /// Someone of `acme` who may do everything in it.
    pub fn admin(&self) -> Caller {
        let all = ["read", "write", "delete", "list", "publish"].map(|action| (action, "*/*/*"));
        self.caller(&all)
    }

    /// Someone of `acme` with these grants.
    pub fn caller(&self, grants: &[(&str, &str)]) -> Caller {
        Caller::new(self.gateway(), grants)
    }
}
