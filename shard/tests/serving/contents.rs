//! Formats, schemas, comparing: what a caller is told of a content. And real files come back as they were.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    caller::{Answer, fetch, file},
    member::Member,
};

const CONFIGS: &str = "/api/v1/mgt/acme/configs";

fn details(answer: &Answer) -> Vec<(String, String)> {
    let text = |d: &Value, name: &str| d[name].as_str().unwrap().to_owned();
    let all = answer.json()["error"]["details"].as_array().unwrap().clone();
    all.iter().map(|d| (text(d, "field"), text(d, "description"))).collect()
}

fn fields(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.code(), (400, "INVALID_ARGUMENT".into()), "{answer:?}");
    details(answer).into_iter().map(|(field, _)| field).collect()
}

/// The config's schema guards every way in; a version may have its own; each violation is told with its place.
#[tokio::test]
async fn a_content_must_fit_its_schema() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let body = |content: &str, schema: &str| json!({"app": "shop", "env": "prod", "name": "app.env", "content": content, "schema": schema});
    let schema = "PORT: integer 1..65535\nMODE: one of a, b\n";
    let wrong = admin.post(CONFIGS, &body("PORT=80\nMODE=a\n", "PORT: integr")).await;
    assert_eq!(fields(&wrong), ["schema"]);
    assert!(details(&wrong)[0].1.starts_with("line 1, column 7: "), "{wrong:?}");
    assert_eq!(fields(&admin.post(CONFIGS, &body("PORT=0\nMODE=c\n", schema)).await), ["/PORT", "/MODE"]);
    let made = admin.post(CONFIGS, &body("PORT=80\nMODE=a\n", schema)).await;
    assert_eq!(made.status, 201, "{made:?}");

    let put = admin.put(&file("shop", "app.env"), "MODE=b\nPORT=many\n").await;
    assert_eq!(details(&put), [("/PORT".into(), "line 2, column 1: \"many\" is not of type \"integer\"".into())]);
    assert_eq!(admin.put(&file("shop", "app.env"), "MODE=b\nPORT=81\n").await.status, 200);

    let versions = format!("{CONFIGS}/{}/versions", made.json()["config_id"].as_str().unwrap());
    assert_eq!(fields(&admin.post(&versions, &json!({"content": "PORT=1\n"})).await), ["content"]);
    let own = json!({"content": "PORT=1\n", "schema": "PORT: integer"});
    assert_eq!(admin.post(&versions, &own).await.status, 201);
    assert_eq!(fields(&admin.post(&versions, &json!({"content": "PORT=1\n", "schema": "{"})).await), ["schema"]);
}

/// A call that is repeated under its key gets its first answer, whatever the schema has become since; another call does not slip in by that.
#[tokio::test]
async fn a_repeated_call_is_not_held_against_a_newer_schema() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let place = file("shop", "app.env");
    let keyed = admin.with_key("deploy-1");
    let first = keyed.put(&place, "PORT=80\n").await;
    assert_eq!(first.status, 201, "{first:?}");
    let config = format!("{CONFIGS}/{}", first.json()["config_id"].as_str().unwrap());
    let changes = json!({"changes": [{"publish": {"id": first.json()["config_id"], "content": "PORT=81\n", "strategy": {"type": "all"}}}]});
    let changeset = keyed.post("/api/v1/mgt/acme/changesets", &changes).await;
    assert_eq!(changeset.status, 200, "{changeset:?}");
    let schema = json!({"schema": "PORT: integer 1000..65535"}).to_string();
    assert_eq!(admin.send("PATCH", &config, schema.into()).await.status, 200);

    let again = keyed.put(&place, "PORT=80\n").await;
    assert_eq!((again.status, again.json()), (first.status, first.json()), "its first answer");
    let again = keyed.post("/api/v1/mgt/acme/changesets", &changes).await;
    assert_eq!((again.status, again.json()), (changeset.status, changeset.json()), "its first answer");
    // The same key for something else is a conflict, and what does not fit stays outside.
    assert_eq!(keyed.put(&place, "PORT=82\n").await.code(), (409, "ABORTED".into()));
    assert_eq!(fields(&admin.with_key("deploy-2").put(&place, "PORT=80\n").await), ["/PORT"]);
    assert_eq!(fields(&admin.put(&place, "PORT=80\n").await), ["/PORT"]);
    let versions = admin.get(&format!("{config}/versions")).await;
    assert_eq!(versions.json()["versions"].as_array().unwrap().len(), 2, "{versions:?}");
}

/// Schemas change while contents are written: whatever got in is what the schema of that revision allows.
#[tokio::test(flavor = "multi_thread")]
async fn no_content_slips_in_beside_a_change_of_its_schema() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let place = file("shop", "app.env");
    let made = admin.put(&place, "PORT=0\n").await;
    let config = format!("{CONFIGS}/{}", made.json()["config_id"].as_str().unwrap());
    let revision = |answer: &Answer| -> u64 {
        let mark = answer.json()["revision"].as_str().unwrap().to_owned();
        mark.split_once('.').unwrap().1.parse().unwrap()
    };
    // Even numbers are allowed by the one, odd ones by the other.
    let schema = |odd: bool| format!("PORT: string /^[0-9]*[{}]$/", if odd { "13579" } else { "02468" });
    let changer = async {
        let mut changes = Vec::new();
        for i in 0..60 {
            let odd = i % 2 == 1;
            let changed = admin.send("PATCH", &config, json!({"schema": schema(odd)}).to_string().into()).await;
            assert_eq!(changed.status, 200, "{changed:?}");
            changes.push((revision(&changed), odd));
        }
        changes
    };
    let writer = async |offset: u64| {
        let mut written = Vec::new();
        for i in 0..60 {
            let number = 2 * i + offset;
            let put = admin.put(&place, format!("PORT={number}\n")).await;
            match put.status.as_u16() {
                200 => written.push((revision(&put), number % 2 == 1)),
                400 => {}
                _ => assert_eq!(put.code(), (409, "ABORTED".into()), "{put:?}"),
            }
        }
        written
    };
    let (changes, even, odd) = tokio::join!(changer, writer(1_000), writer(1_001));
    assert!(even.len() + odd.len() > 10, "something was written");
    for (at, is_odd) in even.into_iter().chain(odd) {
        let counted = changes.iter().rev().find(|(changed, _)| *changed < at);
        assert!(counted.is_none_or(|(_, odd)| *odd == is_odd), "revision {at} against {counted:?}");
    }
}

/// A look before the write: the same checks, nothing written.
#[tokio::test]
async fn a_content_can_be_looked_at() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let look = async |body: Value| admin.post(&format!("{CONFIGS}/validate"), &body).await;
    let broken = look(json!({"name": "a.yaml", "content": "a: 1\n b: 2\n"})).await.json();
    assert_eq!(
        (&broken["valid"], &broken["format"], &broken["violations"][0]["line"]),
        (&json!(false), &json!("yaml"), &json!(2))
    );
    let schema = json!({"properties": {"a": {"type": "integer"}}}).to_string();
    let wrong = look(json!({"format": "toml", "content": "a = 'x'", "schema": schema})).await;
    assert_eq!(wrong.status, 200);
    assert_eq!(wrong.json()["violations"][0]["path"], "/a");
    let right = look(json!({"format": "toml", "content": "a = 1", "schema": schema})).await.json();
    assert_eq!(right, json!({"valid": true, "format": "toml", "violations": []}));
    assert_eq!(fields(&look(json!({"content": "a", "schema": "x"})).await), ["schema"]);
    assert_eq!(fields(&look(json!({"content": "a", "shcema": "x"})).await), ["shcema"]);
    assert_eq!(admin.get(CONFIGS).await.json()["configs"], json!([]));
    // Another tenant's credential is refused here as anywhere.
    let path = "/api/v1/mgt/other/configs/validate";
    assert_eq!(admin.post(path, &json!({"content": "a"})).await.status, 404);
}

/// What changed between two versions, as text and by value.
#[tokio::test]
async fn versions_are_compared() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let path = file("shop", "app.yaml");
    let id = admin.put(&path, "a: 1\nb: [1, 2]\n").await.json()["config_id"].as_str().unwrap().to_owned();
    admin.put(&path, "# new\nb: [2]\na: 1\n").await;
    admin.put(&path, "b: [2]\na: {}\n").await;
    let diff = |query: &str| format!("{CONFIGS}/{id}/diff{query}");
    let first = admin.get(&diff("?from=1&to=2")).await.json();
    assert_eq!(first["changes"], json!([{"path": "/b/0", "kind": "removed", "from": 1}]));
    assert!(first["text"].as_str().unwrap().starts_with("--- version 1\n+++ version 2\n@@ "), "{first}");
    let last = admin.get(&diff("")).await.json();
    assert_eq!((&last["from"], &last["to"]), (&json!(2), &json!(3)));
    assert_eq!(last["changes"], json!([{"path": "/a", "kind": "changed", "from": 1, "to": {}}]));
    assert_eq!(admin.get(&diff("?from=1&to=9")).await.code().0, 404);
    assert_eq!(fields(&admin.get(&diff("?from=0")).await), ["from"]);
    let stranger = member.caller(&[("list", "shop/*/*")]);
    assert_eq!(stranger.get(&diff("")).await.code().0, 403, "a diff shows contents");
}

/// Files that people and programs use, as far as this machine has them; each is put and fetched.
fn real_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut of = |dir: &str, extension: &str, most: usize| {
        let entries = fs::read_dir(dir).into_iter().flatten().filter_map(|e| e.ok()).map(|e| e.path());
        let mut fitting: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == extension)).collect();
        fitting.sort();
        found.extend(fitting.into_iter().filter(|p| p.is_file()).take(most));
    };
    for dir in ["/lib/systemd/system", "/usr/lib/systemd/system", "/etc/systemd/system"] {
        ["service", "timer", "socket", "target"].iter().for_each(|extension| of(dir, extension, 8));
    }
    ["/etc", "/etc/sysctl.d", "/etc/systemd", "/etc/fonts"].iter().for_each(|dir| of(dir, "conf", 8));
    ["/etc/mysql", "/etc/php/8.2/cli", "/etc/xdg"].iter().for_each(|dir| of(dir, "ini", 4));
    of("/usr/share/mime/packages", "xml", 4);
    of("/usr/share/fontconfig/conf.avail", "conf", 4);
    let registry =
        std::env::var("CARGO_HOME").map_or_else(|_| home().join(".cargo"), PathBuf::from).join("registry/src");
    let indices = fs::read_dir(registry).into_iter().flatten().filter_map(|e| e.ok());
    let mut crates: Vec<PathBuf> = indices
        .flat_map(|e| fs::read_dir(e.path()).into_iter().flatten().filter_map(|e| e.ok()).map(|e| e.path()))
        .collect();
    crates.sort();
    for name in [
        "Cargo.toml",
        "Cargo.toml.orig",
        ".cargo_vcs_info.json",
        ".github/workflows/ci.yml",
        "rustfmt.toml",
        "package.json",
    ] {
        found.extend(crates.iter().map(|dir| dir.join(name)).filter(|p| p.is_file()).take(12));
    }
    found.extend(["/etc/os-release", "/usr/share/maven/conf/settings.xml", "/etc/gitconfig"].map(PathBuf::from));
    // A tenant's quota of a content is 102,400 bytes by default.
    found.retain(|path| fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() <= 102_400));
    found
}

fn home() -> PathBuf {
    std::env::var("HOME").map_or_else(|_| PathBuf::from("/"), PathBuf::from)
}

/// What the file is, where its name does not say it.
fn format_of(path: &Path) -> &'static str {
    match path.file_name().and_then(|n| n.to_str()).unwrap_or_default() {
        "os-release" => "keyvalue",
        "gitconfig" => "ini",
        name if name.ends_with(".toml.orig") => "toml",
        _ if path.starts_with("/etc/sysctl.d") => "keyvalue",
        _ if path.starts_with("/etc/systemd") => "ini",
        _ if path.starts_with("/usr/share/fontconfig") => "xml",
        _ => "",
    }
}

/// Files that no one here wrote are taken, and come back byte for byte. Which ones there are differs by machine; Cargo's are
/// wherever this was built.
#[tokio::test]
async fn real_files_pass_unchanged() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let (mut passed, files) = (Vec::new(), real_files());
    for (i, path) in files.iter().enumerate() {
        let Ok(content) = fs::read(path) else { continue };
        let name =
            path.file_name().unwrap().to_str().unwrap().replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "_");
        let name = format!("f{i}{name}");
        let query = format!("{}?format={}", file("shop", &name), format_of(path));
        let put = admin.put(query.trim_end_matches("?format="), content.clone()).await;
        assert!(put.status.is_success(), "{path:?}: {:?}", put.json());
        assert_eq!(admin.get(&fetch("shop", &name)).await.body, content, "{path:?}");
        passed.push(path.display().to_string());
    }
    println!("{} files: {passed:#?}", passed.len());
    assert!(passed.iter().any(|p| p.ends_with("Cargo.toml")), "{files:?}");
}
