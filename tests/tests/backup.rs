//! Backup and restore as an operator does them: with the command line, on real processes, while clients write.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use conflux_tests::{
    Federation, Shape,
    client::Client,
    federation::{binary, runs},
    load::{self, Writers},
    until,
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// The command line of an operator.
struct Operator {
    federation: PathBuf,
    backups: PathBuf,
}

/// What `backup create` answered.
struct Made {
    url: String,
    hash: String,
    json: Value,
}

impl Operator {
    fn of(federation: &Federation) -> Self {
        let directory = federation.directory();
        Self { federation: directory.join("federation.json"), backups: directory.join("backups") }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments).args(["-o", "json"]);
        if arguments[0] != "restore" {
            command.arg("--federation").arg(&self.federation);
        }
        command.output().expect("starting the command")
    }

    fn ok(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Standard error of a command that must fail.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn url(&self) -> String {
        format!("file://{}", self.backups.display())
    }

    fn backup(&self, more: &[&str]) -> Made {
        let json = self.ok(&[&["backup", "create", "--to", &self.url()], more].concat());
        let text = |key: &str| json[key].as_str().unwrap().to_owned();
        Made { url: text("url"), hash: text("manifest_hash"), json: json.clone() }
    }

    fn restoring<'a>(made: &'a Made, cluster: &'a str, group: &'a str, into: &'a str) -> Vec<&'a str> {
        vec![
            "restore",
            "--from",
            &made.url,
            "--manifest-hash",
            &made.hash,
            "--cluster",
            cluster,
            "--group",
            group,
            "--data-dir",
            into,
        ]
    }

    /// Into the directory of this member, which is gone.
    fn restore(&self, made: &Made, federation: &Federation, member: &str) {
        let member = federation.member(member);
        let into = member.data_dir.to_str().unwrap();
        self.ok(&Self::restoring(made, &federation.description.cluster_id, &member.group, into));
    }

    /// Group, tenant and hash of everything that a backup holds of tenants.
    fn contents(&self, made: &Made) -> Vec<(String, String, String)> {
        let shown = self.ok(&["backup", "show", &made.url]);
        let mut all = Vec::new();
        for group in shown["groups"].as_array().unwrap().iter().filter(|g| g["of"]["group"] != "placement") {
            for c in group["contents"].as_array().unwrap() {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                all.push((text(&group["of"]["group"]), text(&c["name"]), text(&c["sha256"])));
            }
        }
        all
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for found in fs::read_dir(from).unwrap() {
        let found = found.unwrap();
        let into = to.join(found.file_name());
        match found.file_type().unwrap().is_dir() {
            true => copy(&found.path(), &into),
            false => assert!(fs::copy(found.path(), into).is_ok()),
        }
    }
}

fn tail(federation: &Federation, member: &str) -> String {
    fs::read_to_string(federation.member(member).log_file).unwrap_or_default()
}

async fn served(client: &Client, tenant: &str) {
    until(&format!("{tenant} is served"), PATIENCE, || async {
        let answer = client.get(&format!("/api/v1/mgt/{tenant}/configs")).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_federation_comes_back_with_everything_that_was_acknowledged() {
    let mut federation = Federation::start(Shape::FULL).await.unwrap();
    let operator = Operator::of(&federation);
    let mut tenants = Vec::new();
    for (name, shard) in [("acme", "shard-a"), ("beta", "shard-b")] {
        let client = federation.tenant_on(name, Some(shard), &["admin"]).await.unwrap();
        federation.raise_quotas(name).await.unwrap();
        tenants.push((name, client.clone(), Writers::start(&client, name, "w", 4, 2000)));
    }
    until("the writers are under way", PATIENCE, || async {
        tenants.iter().all(|(_, _, writers)| writers.count() > 100).then_some(())
    })
    .await;

    let began = std::time::Instant::now();
    let made = operator.backup(&[]);
    let mut acknowledged = Vec::new();
    for (name, client, writers) in tenants {
        until("writes go on after the backup", PATIENCE, || async { (writers.last()? > began).then_some(()) }).await;
        let (all, refused) = writers.finish().await;
        assert_eq!(refused, Vec::<String>::new(), "nobody noticed the backup");
        let last = all.iter().max_by_key(|a| a.at).unwrap().revision.clone();
        acknowledged.push((name, client, all, last));
    }
    assert_eq!(made.json["manifest"]["groups"].as_array().unwrap().len(), 3);
    let before = operator.contents(&made);
    assert!(before.iter().any(|(group, name, _)| group == "shard-a" && name == "acme"), "{before:?}");
    operator.ok(&["backup", "verify", &made.url, "--manifest-hash", &made.hash]);

    federation.kill_all().await;
    for member in federation.description.members.clone() {
        fs::remove_dir_all(&member.data_dir).unwrap();
    }
    refusals(&federation, &operator, &made);
    for member in ["shard-a-2", "shard-b-1", "placement-3"] {
        operator.restore(&made, &federation, member);
    }
    federation.start_again(Shape::FULL).await.unwrap();

    for (name, client, all, last) in &acknowledged {
        served(client, name).await;
        let owed: Vec<_> = all.iter().filter(|a| a.at < began).cloned().collect();
        assert!(owed.len() > 100);
        load::verify(client, name, &owed).await;
        let chain = client.get(&format!("/api/v1/mgt/{name}/audit/verify")).await.unwrap().expect(&[200]).unwrap();
        assert_eq!(chain.json()["valid"], true, "{}", chain.text());
        // What was said in the old history must not be misread in the new one.
        let resumed = client.get(&format!("/api/v1/watch/{name}?from={last}")).await.unwrap();
        assert_eq!(resumed.status, 410, "{}", resumed.text());
        let waited = client.fetch(&all[0].place, &format!("?min_revision={last}")).await.unwrap();
        assert_eq!(waited.status, 412, "{}", waited.text());
        let matched = client.put_with(&all[0].place, "{}", &[("if-match", &format!("\"{}\"", all[0].revision))]).await;
        assert_eq!(matched.unwrap().status, 412);
    }
    // The same content, tenant by tenant, on what now runs.
    let again = operator.backup(&[]);
    assert_eq!(operator.contents(&again), before);
    assert_eq!(operator.ok(&["restored", "list"])["tenants"], serde_json::json!([]));
    // And it lives: tenants are made, under ids that nobody has had, and written to.
    let new = federation.tenant_on("gamma", Some("shard-a"), &["admin"]).await.unwrap();
    let writers = Writers::start(&new, "gamma", "n", 2, 200);
    until("a new tenant is written to", PATIENCE, || async { (writers.count() > 20).then_some(()) }).await;
    writers.finish().await;
}

/// Nothing of these may touch the directory.
fn refusals(federation: &Federation, operator: &Operator, made: &Made) {
    let into = federation.member("shard-a-2").data_dir;
    let (into, cluster) = (into.to_str().unwrap(), federation.description.cluster_id.as_str());
    let id = made.url.rsplit('/').next().unwrap();
    let refused = |made: &Made, cluster: &str, why: &str| {
        let said = operator.fails(&Operator::restoring(made, cluster, "shard-a", into));
        assert!(said.contains(why), "{why}: {said}");
        assert!(!Path::new(into).exists(), "{why}: something was written");
    };
    refused(made, "another", "is of federation");
    let other = Made { url: made.url.clone(), hash: "0".repeat(64), json: Value::Null };
    refused(&other, cluster, "it is another backup, or was changed");

    let largest = |folder: &Path| {
        let objects = fs::read_dir(folder.join("shard-a")).unwrap().map(|f| f.unwrap().path());
        objects.filter(|p| p.extension().is_none()).max_by_key(|p| p.metadata().unwrap().len()).unwrap()
    };
    let changed = |name: &str, change: &dyn Fn(&Path)| {
        let folder = operator.backups.join(name);
        copy(&operator.backups.join(id), &folder);
        change(&folder);
        Made { url: format!("{}/{name}", operator.url()), hash: made.hash.clone(), json: Value::Null }
    };
    let flipped = changed("flipped", &|folder| {
        let mut bytes = fs::read(largest(folder)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(largest(folder), bytes).unwrap();
    });
    refused(&flipped, cluster, "is damaged");
    let said = operator.fails(&["backup", "verify", &flipped.url]);
    assert!(said.contains("is damaged"), "{said}");
    let truncated = changed("truncated", &|folder| {
        let bytes = fs::read(largest(folder)).unwrap();
        fs::write(largest(folder), &bytes[..bytes.len() - 1]).unwrap();
    });
    refused(&truncated, cluster, "truncated or changed");
    let short = changed("short", &|folder| fs::remove_file(largest(folder)).unwrap());
    refused(&short, cluster, "is missing");
    // Whoever can write there can make hashes fit, but not the one that the operator has.
    let forged = changed("forged", &|folder| {
        let path = folder.join("manifest.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"made_by\"", "\"made_by_\"")).unwrap();
    });
    refused(&forged, cluster, "it is another backup, or was changed");
    let unfinished = changed("unfinished", &|folder| fs::remove_file(folder.join("manifest.json")).unwrap());
    refused(&unfinished, cluster, "has no manifest.json");
    for name in ["flipped", "truncated", "short", "forged", "unfinished"] {
        fs::remove_dir_all(operator.backups.join(name)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_rescued_from_its_lone_survivor_and_never_beside_a_living_one() {
    let mut federation = Federation::start(Shape::ONE_GROUP).await.unwrap();
    let operator = Operator::of(&federation);
    let demo = federation.demo();
    let writers = Writers::start(&demo, "demo", "w", 4, 500);
    until("writes", PATIENCE, || async { (writers.count() > 100).then_some(()) }).await;
    let made = operator.backup(&["--group", "shard-a"]);

    // Two of three live: the third is none of the restored.
    federation.kill("shard-a-1").await;
    fs::remove_dir_all(&federation.member("shard-a-1").data_dir).unwrap();
    operator.restore(&made, &federation, "shard-a-1");
    federation.restart("shard-a-1");
    let pid = federation.member("shard-a-1").pid;
    until("the restored member ends", PATIENCE, || async { (!runs(pid)).then_some(()) }).await;
    let said = tail(&federation, "shard-a-1");
    assert!(said.contains("has data of a group of this name"), "{said}");
    fs::remove_dir_all(&federation.member("shard-a-1").data_dir).unwrap();

    let count = writers.count();
    until("the others write on", PATIENCE, || async { (writers.count() > count + 20).then_some(()) }).await;
    let (acknowledged, _) = writers.finish().await;
    let survivor = federation.leader("shard-a").await.member;
    let directory = federation.member(&survivor).data_dir;
    let directory = directory.to_str().unwrap();
    let create = ["backup", "create", "--to", &operator.url(), "--from-data-dir", directory];
    let busy = operator.fails(&create);
    assert!(busy.contains("a process uses"), "{busy}");
    for member in ["shard-a-2", "shard-a-3"] {
        federation.kill(member).await;
    }
    let rescued = operator.backup(&["--from-data-dir", directory]);
    operator.ok(&["backup", "verify", &rescued.url]);
    for member in federation.members("shard-a") {
        let _ = fs::remove_dir_all(&member.data_dir);
    }
    operator.restore(&rescued, &federation, "shard-a-3");
    for member in ["shard-a-1", "shard-a-2", "shard-a-3"] {
        federation.restart(member);
    }
    // Placement never stopped: it gives the tenant to this shard as before.
    served(&demo, "demo").await;
    load::verify(&demo, "demo", &acknowledged).await;
    until("three voters", PATIENCE, || async {
        let status = federation.status("shard-a").await.ok()?;
        let members = status["members"].as_array()?.clone();
        (members.iter().filter(|m| m["voter"] == true).count() == 3).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_was_restored_alone_serves_only_what_placement_still_gives_it() {
    let mut federation = Federation::start(Shape { replicas: 1, ..Shape::ONE_GROUP }).await.unwrap();
    let operator = Operator::of(&federation);
    let gone = federation.tenant("gone", &["admin"]).await.unwrap();
    let place = conflux_tests::client::Place::new("gone", "a", "test", "x.json");
    gone.put(&place, "{}").await.unwrap().expect(&[201]).unwrap();
    let id = federation.operator().get("/api/v1/admin/tenants/gone").await.unwrap().json()["id"].to_string();
    let made = operator.backup(&["--group", "shard-a"]);
    federation.operator().delete("/api/v1/admin/tenants/gone").await.unwrap().expect(&[200, 202]).unwrap();
    let late = federation.tenant("late", &["admin"]).await.unwrap();
    let lost = conflux_tests::client::Place::new("late", "a", "test", "x.json");
    late.put(&lost, "{}").await.unwrap().expect(&[201]).unwrap();

    federation.kill("shard-a-1").await;
    fs::remove_dir_all(&federation.member("shard-a-1").data_dir).unwrap();
    operator.restore(&made, &federation, "shard-a-1");
    federation.restart("shard-a-1");
    served(&federation.demo(), "demo").await;

    let found = |name: &str| {
        let all = operator.ok(&["restored", "list"])["tenants"].clone();
        all.as_array().unwrap().iter().find(|t| t["name"] == name).map(|t| t["is"].as_str().unwrap().to_owned())
    };
    assert!(found("late").unwrap().contains("missing"), "{:?}", found("late"));
    assert!(found("gone").unwrap().contains("placement does not know it"), "{:?}", found("gone"));
    assert_eq!(found("demo"), None);
    // An empty tenant of that name would look as if everything in it had been deleted.
    let answer = late.fetch(&lost, "").await.unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    let refused = operator.fails(&["restored", "serve", &id, "--shard", "shard-a"]);
    assert!(refused.contains("was deleted after the backup"), "{refused}");
    operator.ok(&["restored", "drop", &id, "--shard", "shard-a", "--yes"]);
    assert_eq!(found("gone"), None);
    federation.operator().delete("/api/v1/admin/tenants/late").await.unwrap().expect(&[200, 202]).unwrap();
    until("nothing is left to decide", PATIENCE, || async { found("late").is_none().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_hold_tenants_as_they_are_and_old_ones_go() {
    let federation = Federation::start(Shape { replicas: 1, ..Shape::ONE_GROUP }).await.unwrap();
    let operator = Operator::of(&federation);
    let admin = federation.operator();
    let hold = serde_json::json!({ "purpose": "a test", "ttl_ms": 60_000 });
    let held = admin.post_json("/api/v1/admin/hold", &hold).await.unwrap().expect(&[201]).unwrap().json();
    let create = serde_json::json!({ "name": "acme" });
    let refused = admin.post_json("/api/v1/admin/tenants", &create).await.unwrap();
    assert_eq!(
        (refused.status, refused.json()["error"]["retryable"].as_bool()),
        (503, Some(true)),
        "{}",
        refused.text()
    );
    assert!(refused.text().contains("a test"), "{}", refused.text());
    assert_eq!(admin.delete("/api/v1/admin/tenants/demo").await.unwrap().status, 503);
    let busy = operator.fails(&["backup", "create", "--to", &operator.url()]);
    assert!(busy.contains("holds the tenants already"), "{busy}");
    let path = format!("/api/v1/admin/hold/{}", held["id"].as_str().unwrap());
    admin.delete(&path).await.unwrap().expect(&[200]).unwrap();
    let late = admin.put_json(&path, &serde_json::json!({})).await.unwrap();
    assert_eq!(late.status, 412, "what has ended is not renewed: {}", late.text());

    let first = operator.backup(&["--keep", "2"]);
    // A backup ends its hold.
    admin.post_json("/api/v1/admin/tenants", &create).await.unwrap().expect(&[201]).unwrap();
    let group = operator.backup(&["--group", "shard-a", "--keep", "1"]);
    let second = operator.backup(&["--keep", "2"]);
    let third = operator.backup(&["--keep", "2"]);
    let id = |made: &Made| made.url.rsplit('/').next().unwrap().to_owned();
    assert_eq!(third.json["deleted"], serde_json::json!([id(&first)]));
    let listed = operator.ok(&["backup", "list", &operator.url()]);
    let ids: Vec<String> = listed["backups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| b["manifest"]["id"].as_str().unwrap().to_owned())
        .collect();
    let mut kept = vec![id(&group), id(&second), id(&third)];
    kept.sort();
    assert_eq!(ids, kept);
    operator.ok(&["backup", "verify", &second.url]);
}
