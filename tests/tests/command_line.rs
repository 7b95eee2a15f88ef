//! The command line against a real federation: what a user and an operator type, and what a script sees.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
    time::Duration,
};

use conflux_tests::{Federation, Shape, federation::binary, until};
use serde_json::Value;

struct CommandLine {
    federation: std::path::PathBuf,
}

impl CommandLine {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--federation").arg(&self.federation);
        command
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starting the command");
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Standard output of a command that must succeed.
    fn ok(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str], input: &str) -> Value {
        serde_json::from_str(&self.ok(&[arguments, &["-o", "json"]].concat(), input)).unwrap()
    }

    /// Exit code and standard error of a command that must fail.
    fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments, "x: 1\n");
        assert!(!output.status.success(), "{arguments:?} succeeded");
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_operators_get_their_work_done() {
    let federation = Federation::start(Shape::ONE_GROUP).await.unwrap();
    let line = CommandLine { federation: federation.directory().join("federation.json") };
    configs(&line);
    watching(&line).await;
    references(&line, federation.directory()).await;
    tenants_and_keys(&line, federation.directory()).await;
    environments(&line, federation.directory());
    the_state_of_the_federation(&line);
}

fn configs(line: &CommandLine) {
    // What was put comes back byte for byte, comments included.
    let content = "# a comment\na: 1   # and blanks\n";
    let put = line.json(&["config", "put", "cli/test/a.yaml"], content);
    assert_eq!(put["version"], 1);
    assert_eq!(line.ok(&["config", "get", "cli/test/a.yaml", "--consistency", "leader"], ""), content);
    let revision = line.json(&["config", "put", "cli/test/a.yaml"], "a: 2\n")["revision"].clone();
    let fetched = line.json(&["config", "get", "cli/test/a.yaml", "--min-revision", revision.as_str().unwrap()], "");
    assert_eq!((&fetched["version"], &fetched["content"]), (&2.into(), &"a: 2\n".into()));

    // A script tells what went wrong by the exit code, a person finds it by the request id.
    line.ok(&["config", "create", "cli/test/new.json", "--tag", "t1"], "{}");
    let (code, said) = line.fails(&["config", "create", "cli/test/new.json", "--format", "json"]);
    assert!(code == 5 || code == 2, "{said}");
    assert!(said.contains("request id: "), "{said}");
    assert_eq!(line.fails(&["config", "get", "cli/test/none.yaml"]).0, 3);
    assert_eq!(line.fails(&["config", "get", "no-path"]).0, 2);
    let (code, said) = line.fails(&["config", "put", "cli/test/bad.json"]);
    assert_eq!(code, 2, "{said}");

    let listed = line.json(&["config", "list", "--app", "cli", "--tag", "t1"], "");
    let names: Vec<_> = listed["configs"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["new.json"]);
    line.ok(&["config", "delete", "cli/test/new.json"], "");
    assert_eq!(line.fails(&["config", "delete", "cli/test/new.json"]).0, 3);
}

/// What a person does between two environments: look, promote what was looked at, keep a copy, put it back.
fn environments(line: &CommandLine, directory: &std::path::Path) {
    for (place, content) in
        [("shop/dev/a.yaml", "a: 1\n"), ("shop/dev/b.yaml", "b: 1\n"), ("shop/test/a.yaml", "a: 0\n")]
    {
        line.ok(&["config", "put", place], content);
    }
    let pair = ["--app", "shop", "--from", "dev", "--to", "test"];
    let compared = line.ok(&[&["compare"], &pair[..]].concat(), "");
    assert!(compared.contains("differs") && compared.contains("only_in_from"), "{compared}");
    let diff = line.ok(&[&["compare", "--diff"], &pair[..]].concat(), "");
    assert!(diff.contains("-a: 0\n+a: 1\n"), "{diff}");

    // What does not fit where it would go is said before anything else, whatever it was where it comes from.
    let pair_promote = [&["promote"], &pair[..]].concat();
    let schema = directory.join("a.schema");
    std::fs::write(&schema, "a: string\n").unwrap();
    line.ok(&["config", "update", "shop/test/a.yaml", "--schema", schema.to_str().unwrap()], "");
    let dry = line.run(&[&pair_promote[..], &["--dry-run", "-o", "json"]].concat(), "");
    let told: Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!((dry.status.code(), &told["promoted"][0]["violations"][0]["field"]), (Some(2), &"/a".into()), "{told}");
    for more in [&[][..], &["--yes"]] {
        let refused = line.run(&[&pair_promote[..], more].concat(), "y\n");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && said.contains("a.yaml") && said.contains("/a"), "{said}");
        assert!(!said.contains("[y/N]"), "{said}");
    }
    assert_eq!(line.ok(&["config", "get", "shop/test/a.yaml", "--consistency", "leader"], ""), "a: 0\n");
    line.ok(&["config", "update", "shop/test/a.yaml", "--no-schema"], "");
    assert!(line.ok(&[&pair_promote[..], &["--dry-run"]].concat(), "").contains("2 config(s) would be promoted"));

    // Without a yes nothing is done, and what would be done was shown.
    let promote = [&["promote"], &pair[..]].concat();
    let asked = line.run(&promote, "\n");
    let shown = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(!asked.status.success() && shown.contains("+a: 1") && shown.contains("Promote 2 config(s)"), "{shown}");
    let one = line.json(&[&promote[..], &["--name", "b.yaml", "--yes"]].concat(), "");
    assert_eq!(one["promoted"][0]["name"], "b.yaml");
    assert_eq!(line.ok(&["config", "get", "shop/test/a.yaml", "--consistency", "leader"], ""), "a: 0\n");
    line.ok(&promote, "y\n");
    assert_eq!(line.ok(&["config", "get", "shop/test/a.yaml", "--consistency", "leader"], ""), "a: 1\n");
    assert!(line.ok(&promote, "").contains("nothing to promote"));

    let file = directory.join("shop.zip");
    let archive = file.to_str().unwrap();
    line.ok(&["export", "--app", "shop", "--env", "dev", "--file", archive], "");
    let dry = line.json(&["import", "--file", archive, "--env", "copy", "--dry-run"], "");
    assert_eq!(dry["created"].as_array().map(Vec::len), Some(2), "{dry}");
    line.ok(&["import", "--file", archive, "--env", "copy"], "");
    assert_eq!(line.ok(&["config", "get", "shop/copy/b.yaml", "--consistency", "leader"], ""), "b: 1\n");
    let again = line.ok(&["import", "--file", archive, "--env", "copy"], "");
    assert!(again.contains("unchanged") && !again.contains("created"), "{again}");
    assert_eq!(line.fails(&["import", "--file", "/etc/hostname"]).0, 2);

    // Who reads it, and whom a release would reach: tables and JSON.
    let usage = line.ok(&["config", "usage", "--app", "shop"], "");
    assert!(usage.contains("LAST FETCHED") && usage.contains("b.yaml"), "{usage}");
    line.ok(&["config", "unused", "--days", "60"], "");
    let impact = ["config", "impact", "shop/test/a.yaml", "--strategy", "canary", "--percent", "12.5"];
    assert!(line.json(&impact, "")["label_sets"].is_array());
    assert_eq!(line.fails(&["config", "impact", "shop/test/a.yaml", "--strategy", "some"]).0, 2);
}

/// A content that refers to others is resolved by whoever fetches it, with what their own key may read.
async fn references(line: &CommandLine, directory: &std::path::Path) {
    let content = "# {{ .not.ours }}\nurl: \"postgres://{{ conflux:refs/prod/db.json#/hosts/0 }}:{{ conflux:refs/prod/db.json#/port }}\"\n\
        greeting: '{{ conflux:refs/prod/motd }}'\n";
    line.ok(&["config", "put", "refs/prod/app.yaml"], content);
    line.ok(&["config", "put", "refs/prod/db.json"], r#"{"hosts": ["db-{{ conflux:refs/prod/zone }}"], "port": 5432}"#);
    line.ok(&["config", "put", "refs/prod/motd"], "hello");
    line.ok(&["config", "put", "refs/prod/zone"], "eu");
    let get = |name: &str, more: &[&str]| -> Vec<String> {
        let all = [&["config", "get", name, "--consistency", "leader"], more].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    let run = |arguments: &[String]| line.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), "");
    let ok = |name: &str, more: &[&str]| {
        let output = run(&get(name, more));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    // What is stored and served stays as it was written.
    assert_eq!(ok("refs/prod/app.yaml", &[]), content);
    let resolved = "# {{ .not.ours }}\nurl: \"postgres://db-eu:5432\"\ngreeting: 'hello'\n";
    assert_eq!(ok("refs/prod/app.yaml", &["--resolve"]), resolved);
    let told: Value = serde_json::from_str(&ok("refs/prod/app.yaml", &["--resolve", "-o", "json"])).unwrap();
    assert_eq!(told["content"], resolved);
    assert_eq!(
        told["references"],
        serde_json::json!({"refs/prod/db.json": 1, "refs/prod/motd": 1, "refs/prod/zone": 1})
    );

    // Nothing is served half: what cannot be resolved is told with its place, and the exit code is that of the refusal.
    let fails = |name: &str, content: &str| {
        line.ok(&["config", "put", name], content);
        let output = run(&get(name, &["--resolve"]));
        assert!(output.stdout.is_empty(), "{name}: {}", String::from_utf8_lossy(&output.stdout));
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (name, content, code, why) in [
        (
            "refs/bad/none.yaml",
            "a:\n  \"{{ conflux:refs/prod/none }}\"\n",
            3,
            "line 2, column 4: {{ conflux:refs/prod/none }}",
        ),
        ("refs/bad/pointer.yaml", "a: '{{ conflux:refs/prod/db.json#/x }}'\n", 2, "nothing is at the pointer"),
        ("refs/bad/list.yaml", "a: '{{ conflux:refs/prod/db.json#/hosts }}'\n", 2, "point at one value"),
        ("refs/bad/flat.yaml", "a: '{{ conflux:refs/prod/motd#/x }}'\n", 2, "no values to point at"),
        ("refs/bad/self.yaml", "a: '{{ conflux:refs/bad/self.yaml#/a }}'\n", 2, "a circle of references"),
        ("refs/bad/open.yaml", "a: '{{ conflux:refs/prod/motd'\n", 2, "line 1, column 5: a reference that begins"),
    ] {
        let (exit, said) = fails(name, content);
        assert!(exit == code && said.contains(why) && said.contains(name), "{name}: {exit}: {said}");
    }
    // A referenced text cannot become a key of its own, nor end the quotes that it stands in.
    line.ok(&["config", "put", "refs/prod/evil.json"], r#"{"lines": "x\nadmin: true", "quote": "x', admin: 'true"}"#);
    let (code, said) = fails("refs/bad/lines.yaml", "a: '{{ conflux:refs/prod/evil.json#/lines }}'\n");
    assert!(code == 2 && said.contains("several lines"), "{said}");
    let (code, said) = fails("refs/bad/quote.yaml", "{a: '{{ conflux:refs/prod/evil.json#/quote }}'}\n");
    assert!(code == 2 && said.contains("would be read as something else"), "{said}");
    line.ok(
        &["config", "put", "refs/prod/quoted.json"],
        r#"{"a": "{{ conflux:refs/prod/evil.json#/quote }}\n{{ conflux:refs/prod/evil.json#/lines }}"}"#,
    );
    let quoted: Value = serde_json::from_str(&ok("refs/prod/quoted.json", &["--resolve"])).unwrap();
    assert_eq!(quoted["a"], "x', admin: 'true\nx\nadmin: true");

    // The reader's own rights: who may not read what is referred to is told that it is not there.
    line.ok(&["role", "set", "--tenant", "demo", "one-file", "--grant", "read=refs/prod/app.yaml"], "");
    let key_file = directory.join("one-file.key");
    let key_file = key_file.to_str().unwrap();
    line.ok(&["key", "create", "--tenant", "demo", "--role", "one-file", "--out", key_file], "");
    let narrow = ["--key-file", key_file];
    until("the new key is known", Duration::from_secs(20), || async {
        run(&get("refs/prod/app.yaml", &narrow)).status.success().then_some(())
    })
    .await;
    let output = run(&get("refs/prod/app.yaml", &["--resolve", "--key-file", key_file]));
    assert_eq!(
        (output.status.code(), output.stdout.len()),
        (Some(3), 0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

async fn watching(line: &CommandLine) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut watch = line
        .command(&["config", "watch", "cli/test", "-o", "json"])
        .stdin(Stdio::null())
        .stdout(file.reopen().unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It tells nothing until it is connected: changes are made until one is seen.
    let mut number = 10;
    until("the watch has seen a change", Duration::from_secs(30), || {
        number += 1;
        line.ok(&["config", "put", "cli/test/a.yaml"], &format!("a: {number}\n"));
        let seen = std::fs::read_to_string(file.path()).unwrap();
        async move { seen.contains("a.yaml").then_some(()) }
    })
    .await;
    watch.kill().unwrap();
    watch.wait().unwrap();
}

async fn tenants_and_keys(line: &CommandLine, directory: &std::path::Path) {
    line.ok(&["tenant", "create", "acme"], "");
    assert_eq!(line.fails(&["tenant", "create", "acme"]).0, 5);
    let listed = line.ok(&["tenant", "list"], "");
    assert!(listed.lines().any(|l| l.starts_with("acme ")), "{listed}");

    let key_file = directory.join("acme.key");
    let made = line.json(
        &[
            "key",
            "create",
            "--tenant",
            "acme",
            "--role",
            "writer",
            "--role",
            "reader",
            "--out",
            key_file.to_str().unwrap(),
        ],
        "",
    );
    assert!(made.get("key").is_none(), "a key that goes to a file is not shown");
    let as_acme = ["--tenant", "acme", "--key-file", key_file.to_str().unwrap()];
    let list = [&["config", "list"], &as_acme[..]].concat();
    until("the new key is known", Duration::from_secs(20), || async {
        line.run(&list, "").status.success().then_some(())
    })
    .await;
    // The key of one tenant opens no other, and no operator's command.
    let (code, said) = line.fails(&["config", "list", "--tenant", "demo", "--key-file", key_file.to_str().unwrap()]);
    assert_eq!(code, 4, "{said}");

    let id = made["id"].as_str().unwrap();
    assert!(line.ok(&["key", "list", "--tenant", "acme"], "").contains(id));
    line.ok(&["key", "revoke", id], "");
    until("the key is refused", Duration::from_secs(20), || async {
        (line.run(&list, "").status.code() == Some(4)).then_some(())
    })
    .await;
}

fn the_state_of_the_federation(line: &CommandLine) {
    let status = line.ok(&["status"], "");
    for member in ["placement-1", "shard-a-1", "shard-a-2", "shard-a-3"] {
        assert!(status.contains(member), "{status}");
    }
    assert_eq!(status.lines().filter(|l| l.contains(" leader ")).count(), 2, "{status}");
    let shards = line.ok(&["shard", "list"], "");
    assert!(shards.contains("shard-a-3"), "{shards}");
}
