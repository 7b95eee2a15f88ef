//! Placement's end of the wire: answers look-ups from the records that a test sets, and hears reports.

use std::{collections::HashMap, net::SocketAddr, pin::Pin, sync::Arc};

use conflux_common::{
    serve::{ServeLimits, serve},
    testing::TestCa,
    tls::{Admission, Peers, Role},
};
use conflux_proto::internal::{
    AdoptTenantRequest, AdoptTenantResponse, ChangesRequest, ChangesResponse, GroupRecord, LookupTenantRequest,
    LookupTenantResponse, ReportGroupRequest, ReportGroupResponse, TenantRecord, TenantState,
    lookup_tenant_request::By,
    placement_service_server::{PlacementService, PlacementServiceServer},
};
use futures::Stream;
use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::watch};
use tonic::{Request, Response, Status};

pub struct Placement {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    tenants: Mutex<HashMap<u64, TenantRecord>>,
    lookups: Mutex<u64>,
    reported: watch::Sender<Option<GroupRecord>>,
}

impl Placement {
    pub async fn start(ca: &TestCa) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let service = axum::Router::new().route_service(
            "/conflux.internal.v1.PlacementService/{method}",
            PlacementServiceServer::new(Service(shared.clone())),
        );
        let admission = Admission { cluster: "test".parse().unwrap(), allowed: vec![Peers::Role(Role::Shard)] };
        let tls = ca.context("conflux://test/placement/placement/placement-1");
        tokio::spawn(serve(listener, tls, admission, ServeLimits::default(), service, std::future::pending()));
        Self { address, shared }
    }

    /// Sets placement's record of a tenant on this shard. In Creating, the shard takes it as a new one.
    pub fn set(&self, id: u64, name: &str, epoch: u64, state: TenantState) {
        self.set_on("shard-a", id, name, epoch, state);
    }

    /// Sets a tenant's record, active at epoch 1, with these quotas.
    pub fn set_quotas(&self, id: u64, name: &str, quotas: conflux_proto::v1::Quotas) {
        self.set(id, name, 1, TenantState::Creating);
        let mut tenants = self.shared.tenants.lock();
        let record = tenants.get_mut(&id).unwrap();
        record.quotas = Some(quotas);
        record.settings_seq += 1;
    }

    pub fn set_on(&self, shard: &str, id: u64, name: &str, epoch: u64, state: TenantState) {
        let mut record =
            TenantRecord { id, name: name.into(), incarnation: 1, shard: shard.into(), epoch, ..Default::default() };
        // Room for the largest content that there can be.
        record.quotas = Some(conflux_proto::v1::Quotas { config_bytes: 1 << 20, ..Default::default() });
        record.settings_seq = 1;
        record.set_state(state);
        self.shared.tenants.lock().insert(id, record);
    }

    /// How often it was asked.
    pub fn lookups(&self) -> u64 {
        *self.shared.lookups.lock()
    }

    /// Forgets what was reported.
    pub fn forget_reports(&self) {
        self.shared.reported.send_replace(None);
    }

    /// A report of the group that is like this, once its leader has sent one.
    pub async fn report(&self, like: impl FnMut(&GroupRecord) -> bool) -> GroupRecord {
        let mut like = like;
        let mut reported = self.shared.reported.subscribe();
        let found = reported.wait_for(|report| report.as_ref().is_some_and(&mut like)).await.unwrap();
        found.clone().unwrap()
    }
}

struct Service(Arc<Shared>);

#[tonic::async_trait]
impl PlacementService for Service {
    type ChangesStream = Pin<Box<dyn Stream<Item = Result<ChangesResponse, Status>> + Send>>;

    async fn changes(&self, _: Request<ChangesRequest>) -> Result<Response<Self::ChangesStream>, Status> {
        Err(Status::unimplemented("shards do not follow it"))
    }

    async fn lookup_tenant(
        &self,
        request: Request<LookupTenantRequest>,
    ) -> Result<Response<LookupTenantResponse>, Status> {
        *self.0.lookups.lock() += 1;
        let tenant = match request.into_inner().by {
            Some(By::Id(id)) => self.0.tenants.lock().get(&id).cloned(),
            _ => None,
        };
        Ok(Response::new(LookupTenantResponse { found: tenant.is_some(), tenant, source: None }))
    }

    async fn adopt_tenant(
        &self,
        request: Request<AdoptTenantRequest>,
    ) -> Result<Response<AdoptTenantResponse>, Status> {
        let mut tenant = request.into_inner().tenant.unwrap();
        tenant.epoch += 1;
        self.0.tenants.lock().insert(tenant.id, tenant.clone());
        Ok(Response::new(AdoptTenantResponse { tenant: Some(tenant) }))
    }

    async fn report_group(
        &self,
        request: Request<ReportGroupRequest>,
    ) -> Result<Response<ReportGroupResponse>, Status> {
        self.0.reported.send_replace(request.into_inner().group);
        Ok(Response::new(ReportGroupResponse {}))
    }
}
