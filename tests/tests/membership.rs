//! Members of a group come and go while clients write: nothing acknowledged is lost, and no client sees an error.

use std::time::Duration;

use conflux_tests::{
    Federation, Shape,
    command::{conflux, done},
    federation::free_port,
    load::{self, Writers},
    replica, until,
};
use serde_json::Value;

const GROUP: &str = "shard-a";

fn voters(status: &Value) -> Vec<String> {
    let members = status["members"].as_array().unwrap();
    members.iter().filter(|m| m["voter"] == true).map(|m| m["member"].as_str().unwrap().to_owned()).collect()
}

async fn some_load(load: &Writers) {
    let before = load.count();
    until("the load runs", Duration::from_secs(60), || async { (load.count() > before + 20).then_some(()) }).await;
}

/// Ends the load and checks that every acknowledged write is there once, and that no client saw an error.
async fn verify(federation: &Federation, load: Writers) {
    let (acknowledged, refused) = load.finish().await;
    assert!(refused.is_empty(), "{} writes were refused: {:?}", refused.len(), &refused[..refused.len().min(5)]);
    println!("{} writes acknowledged, none refused", acknowledged.len());
    load::verify(&federation.demo(), "demo", &acknowledged).await;
    replica::verify_on_each(federation, GROUP, "demo", &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_grows_to_five_and_shrinks_to_three_under_load() {
    let mut federation = Federation::start(Shape::ONE_GROUP).await.unwrap();
    federation.raise_quotas("demo").await.unwrap();
    let load = Writers::start(&federation.demo(), "demo", "w", 4, 1 << 10);
    some_load(&load).await;
    for name in ["shard-a-4", "shard-a-5"] {
        federation.add_member(GROUP, name).await.unwrap();
        let said = conflux(&federation, &["cluster", GROUP, "add-node", name]).await;
        assert_eq!(said.code, 0, "{}", said.err);
        assert!(said.err.contains("admitted"), "{}", said.err);
        assert!(said.out.contains(&format!("{name} is a voter")), "{}", said.out);
    }
    some_load(&load).await;
    let grown = federation.status(GROUP).await.unwrap();
    assert_eq!(voters(&grown).len(), 5, "{grown:#}");
    // Twice is as good as once.
    done(&federation, &["cluster", GROUP, "add-node", "shard-a-5"]).await;

    // The leader goes first, so that a removal has to hand over.
    let leader = federation.leader(GROUP).await.member;
    let other = voters(&grown).into_iter().find(|name| *name != leader).unwrap();
    for name in [&leader, &other] {
        let said = done(&federation, &["cluster", GROUP, "remove-node", name]).await;
        assert!(said.contains("stop its process"), "{said}");
        federation.stop(name).await;
        some_load(&load).await;
    }
    let shrunk = federation.status(GROUP).await.unwrap();
    assert_eq!(voters(&shrunk).len(), 3, "{shrunk:#}");
    assert!(!voters(&shrunk).contains(&leader) && !voters(&shrunk).contains(&other));
    federation.description.members.retain(|m| m.member != leader && m.member != other);
    verify(&federation, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_is_wiped_and_another_is_replaced_under_load() {
    let mut federation = Federation::start(Shape::ONE_GROUP).await.unwrap();
    federation.raise_quotas("demo").await.unwrap();
    let load = Writers::start(&federation.demo(), "demo", "w", 4, 1 << 10);
    some_load(&load).await;

    // A lost disk under the same name: no call is needed.
    let leader = federation.leader(GROUP).await.member;
    let mut others = federation.members(GROUP).into_iter().map(|m| m.member).filter(|name| *name != leader);
    let (wiped, replaced) = (others.next().unwrap(), others.next().unwrap());
    federation.kill(&wiped).await;
    std::fs::remove_dir_all(federation.member(&wiped).data_dir).unwrap();
    federation.restart(&wiped);
    until("the wiped member votes under a new id", Duration::from_secs(60), || async {
        let status = federation.status(GROUP).await.ok()?;
        let members = status["members"].as_array()?.clone();
        members
            .iter()
            .any(|m| m["member"] == wiped.as_str() && m["voter"] == true && m["node_id"].as_u64() > Some(1000))
            .then_some(())
    })
    .await;
    some_load(&load).await;

    // One that is gone for good, by another name.
    federation.kill(&replaced).await;
    federation.add_member(GROUP, "shard-a-4").await.unwrap();
    let said = done(&federation, &["cluster", GROUP, "replace-node", &replaced, "--with", "shard-a-4"]).await;
    assert!(said.contains("has taken the place"), "{said}");
    done(&federation, &["cluster", GROUP, "replace-node", &replaced, "--with", "shard-a-4"]).await;
    federation.description.members.retain(|m| m.member != replaced);
    let status = federation.status(GROUP).await.unwrap();
    let mut names = voters(&status);
    names.sort();
    let mut expected = vec![leader, wiped, "shard-a-4".to_owned()];
    expected.sort();
    assert_eq!(names, expected);
    some_load(&load).await;
    verify(&federation, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_transferred_fifty_times_and_no_client_sees_an_error() {
    let federation = Federation::start(Shape::ONE_GROUP).await.unwrap();
    federation.raise_quotas("demo").await.unwrap();
    // With the gateway's idempotency keys, and with the clients' own.
    let load = Writers::start(&federation.demo(), "demo", "w", 4, 1 << 10);
    let keyed = Writers::start_keyed(&federation.demo(), "demo", "k", (4, 1 << 10), true);
    for n in 0..50 {
        some_load(&load).await;
        some_load(&keyed).await;
        let leader = federation.leader(GROUP).await.member;
        let names: Vec<String> = federation.members(GROUP).into_iter().map(|m| m.member).collect();
        let to = names.iter().filter(|name| **name != leader).nth(n % 2).unwrap();
        let said = done(&federation, &["cluster", GROUP, "transfer-leader", "--to", to]).await;
        assert!(said.contains("leads shard-a"), "{said}");
    }
    verify(&federation, load).await;
    verify(&federation, keyed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_would_cost_the_quorum_is_refused_with_the_reason() {
    let mut federation = Federation::start(Shape::ONE_GROUP).await.unwrap();
    let leader = federation.leader(GROUP).await.member;
    let names: Vec<String> = federation.members(GROUP).into_iter().map(|m| m.member).collect();
    let others: Vec<&String> = names.iter().filter(|name| **name != leader).collect();
    federation.kill(others[0]).await;
    let status = done(&federation, &["cluster", GROUP, "status"]).await;
    assert!(status.contains("2 of 3 voters answer: none of them may fail now"), "{status}");
    for name in [others[1], &leader] {
        let said = conflux(&federation, &["cluster", GROUP, "remove-node", name]).await;
        assert_eq!(said.code, 5, "{}{}", said.out, said.err);
        assert!(said.err.contains("no quorum") && said.err.contains(others[0]), "{}", said.err);
    }
    let plan = conflux(&federation, &["cluster", GROUP, "restart-plan"]).await;
    assert_eq!(plan.code, 6, "{}{}", plan.out, plan.err);
    assert!(plan.err.contains("not whole"), "{}", plan.err);
    // Nothing was changed; the one that is down may go.
    assert_eq!(voters(&federation.status(GROUP).await.unwrap()).len(), 3);
    done(&federation, &["cluster", GROUP, "remove-node", others[0]]).await;
    assert_eq!(voters(&federation.status(GROUP).await.unwrap()).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_moved_is_reached_at_its_new_address() {
    let mut federation = Federation::start(Shape::ONE_GROUP).await.unwrap();
    let moved = federation.leader(GROUP).await.member;
    federation.stop(&moved).await;
    let (raft, service) = (free_port().unwrap(), free_port().unwrap());
    let change = |member: &mut toml::Table| {
        for (key, address) in [("raft", &raft), ("service", &service)] {
            member.insert(format!("{key}_listen"), address.clone().into());
            member.insert(format!("{key}_advertise"), address.clone().into());
        }
    };
    federation.rewrite(&moved, change).unwrap();
    federation.restart(&moved);
    until("the gateway has its answer from there", Duration::from_secs(60), || async {
        let status = federation.status(GROUP).await.ok()?;
        let members = status["members"].as_array()?.clone();
        let member = members.into_iter().find(|m| m["member"] == moved.as_str())?;
        let there = member["service_address"] == service.as_str() && member["raft_address"] == raft.as_str();
        (there && member["status"]["state"] == "follower" && member["node_id"].as_u64() < Some(1000)).then_some(())
    })
    .await;
    done(&federation, &["cluster", GROUP, "transfer-leader", "--to", &moved]).await;
    assert_eq!(federation.leader(GROUP).await.member, moved);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_members_are_restarted_by_the_plan_under_load() {
    let mut federation = Federation::start(Shape::ONE_GROUP).await.unwrap();
    federation.raise_quotas("demo").await.unwrap();
    let load = Writers::start(&federation.demo(), "demo", "w", 4, 1 << 10);
    some_load(&load).await;
    let leader = federation.leader(GROUP).await.member;
    let plan =
        done(&federation, &["cluster", GROUP, "restart-plan", "--restart-with", "restart {member}", "-o", "json"]);
    let plan: Value = serde_json::from_str(&plan.await).unwrap();
    let steps = plan["steps"].as_array().unwrap();
    assert_eq!((steps.len(), &steps[2]["member"], &steps[2]["leads"]), (3, &leader.as_str().into(), &true.into()));
    for step in steps {
        for command in step["commands"].as_array().unwrap() {
            let words: Vec<&str> = command.as_str().unwrap().split(' ').collect();
            match words[0] {
                "restart" => {
                    federation.stop(words[1]).await;
                    federation.restart(words[1]);
                }
                _ => drop(done(&federation, &words[1..]).await),
            }
        }
    }
    verify(&federation, load).await;
}
