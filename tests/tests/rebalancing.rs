//! A third shard group joins a running federation, gets its part, and goes again; the tenants are in use all the time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use conflux_tests::{
    Federation, Shape,
    client::{Client, Place},
    command::{conflux, done},
    until,
};
use serde_json::Value;

const NEW: &str = "shard-c";
const TENANTS: u32 = 6;

/// Writes one config of a tenant again and again; how many writes were acknowledged. Any other answer ends the test.
struct Writer {
    running: tokio::task::JoinHandle<()>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    place: Place,
    client: Client,
}

impl Writer {
    fn start(client: Client, tenant: &str) -> Self {
        let place = Place::new(tenant, "shop", "prod", "counter.txt");
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let running = {
            let (client, place, stop, acknowledged) =
                (client.clone(), place.clone(), stop.clone(), acknowledged.clone());
            tokio::spawn(async move {
                for n in 1.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    client.put(&place, n.to_string()).await.unwrap().expect(&[200, 201]).unwrap();
                    acknowledged.store(n, Ordering::SeqCst);
                }
            })
        };
        Self { running, stop, acknowledged, place, client }
    }

    /// The last write that was acknowledged is what is there, and the writes before are its versions.
    async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.running.await.expect("every write was acknowledged");
        let last = self.acknowledged.load(Ordering::SeqCst);
        let now = self.client.fetch(&self.place, "?consistency=linearizable").await.unwrap().expect(&[200]).unwrap();
        assert_eq!(now.text(), last.to_string(), "{}", self.place.put_path());
        assert_eq!(now.header("x-config-version"), Some(last.to_string().as_str()), "each write once");
    }
}

async fn by_shard(federation: &Federation, shard: &str) -> Vec<String> {
    let all = federation.operator().get("/api/v1/admin/tenants").await.unwrap().json();
    let tenants = all["tenants"].as_array().unwrap();
    tenants.iter().filter(|t| t["shard"] == shard).map(|t| t["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_group_is_rebalanced_onto_then_drained_and_removed() {
    let shape = Shape { shards: 2, replicas: 1, placement: 1, gateways: 1 };
    let mut federation = Federation::start(shape).await.unwrap();
    let mut writers = Vec::new();
    for n in 0..TENANTS {
        let (name, shard) = (format!("t{n}"), ["shard-a", "shard-b"][n as usize % 2]);
        let client = federation.tenant_on(&name, Some(shard), &["admin"]).await.unwrap();
        federation.raise_quotas(&name).await.unwrap();
        let place = Place::new(&name, "shop", "prod", "large.txt");
        client.put(&place, "x".repeat(200_000)).await.unwrap().expect(&[201]).unwrap();
        writers.push(Writer::start(client, &name));
    }
    let members = federation.plan_group("shard-a", NEW).await.unwrap();
    members.iter().for_each(|name| federation.restart(name));
    until("the new group is known", Duration::from_secs(60), || async {
        done(&federation, &["shard", "list"]).await.contains(NEW).then_some(())
    })
    .await;

    // It is shown, and nothing happens by that.
    let plan: Value = serde_json::from_str(&done(&federation, &["rebalance", "--plan", "-o", "json"]).await).unwrap();
    let planned = plan["moves"].as_array().unwrap();
    assert!(planned.iter().any(|m| m["to"] == NEW), "{plan}");
    let shown = done(&federation, &["rebalance", "--plan"]).await;
    assert!(shown.contains("LOAD %") && shown.contains("of its share"), "{shown}");
    assert!(by_shard(&federation, NEW).await.is_empty());

    let said = done(&federation, &["rebalance", "--execute", "--at-once", "2"]).await;
    assert!(said.contains("done") && said.contains("moved, 0 not"), "{said}");
    let moved = by_shard(&federation, NEW).await;
    assert!(!moved.is_empty(), "{said}");

    // Not while it has tenants; then it is emptied, and forgotten.
    assert_eq!(conflux(&federation, &["shard", "remove", NEW]).await.code, 5);
    let said = done(&federation, &["shard", "drain", NEW]).await;
    assert!(said.contains("shard-c is empty"), "{said}");
    assert!(by_shard(&federation, NEW).await.is_empty());
    let again = done(&federation, &["shard", "drain", NEW]).await;
    assert!(again.contains("shard-c is empty"), "safe to repeat: {again}");
    done(&federation, &["shard", "remove", NEW]).await;
    let list = done(&federation, &["move", "list", "--state", "ended"]).await;
    assert!(moved.iter().all(|name| list.contains(name)), "{list}");
    for writer in writers {
        writer.end().await;
    }
}
