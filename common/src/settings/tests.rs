//! Which source wins, and what an operator reads when something is wrong.

use std::path::{Path, PathBuf};

use super::{load::load_with, *};

const FILE: &str = r#"cluster = "test"
group = "s1"
member = "s1-a"
data_dir = "/var/lib/conflux"
raft_listen = "127.0.0.1:7001"
service_listen = "127.0.0.1:7002"
metrics_listen = "127.0.0.1:7003"

[tls]
cert = "cert.pem"
key = "key.pem"
ca = "ca.pem"

[[founders]]
member = "s1-a"
raft_address = "a:7001"
service_address = "a:7002"

[[founders]]
member = "s1-b"
raft_address = "b:7001"
service_address = "b:7002"

[raft]
heartbeat_ms = 50
election_min_ms = 200
"#;

struct Source {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn file(text: &str) -> Source {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("member.toml");
    std::fs::write(&path, text).unwrap();
    Source { _dir: dir, path }
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn read(text: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<MemberSettings, String> {
    let source = file(text);
    let loaded = load_with(&source.path, "CONFLUX", pairs(environment).into_iter(), &pairs(flags));
    loaded.map_err(|error| error.to_string().replace(&source.path.display().to_string(), "member.toml"))
}

/// Defaults < file < environment < flags, each field by itself.
#[test]
fn the_later_source_wins() {
    let plain = read(FILE, &[], &[]).unwrap();
    assert_eq!((plain.raft.heartbeat_ms, plain.raft.election_max_ms), (50, 600));
    let environment =
        [("CONFLUX__RAFT__HEARTBEAT_MS", "60"), ("CONFLUX__RAFT__ELECTION_MIN_MS", "201"), ("HOME", "/x")];
    let changed = read(FILE, &environment, &[("raft.heartbeat_ms", "70"), ("log.format", "text")]).unwrap();
    assert_eq!((changed.raft.heartbeat_ms, changed.raft.election_min_ms), (70, 201));
    assert_eq!(changed.log.format, LogFormat::Text);
    assert_eq!(changed.founders, plain.founders);
}

/// A value is what its field wants: a name may look like a number, a list may be given whole or by element.
#[test]
fn values_fit_their_fields() {
    let one = r#"[{member = "x", raft_address = "x:1", service_address = "x:2"}]"#;
    let environment = [("CONFLUX__MEMBER", "12"), ("CONFLUX__GROUP", "2026-01-01"), ("CONFLUX__FOUNDERS", one)];
    let read_back = read(FILE, &environment, &[("cluster", "true"), ("founders.0.raft_address", "y:1")]).unwrap();
    assert_eq!(read_back.member.as_str(), "12");
    assert_eq!(read_back.group.as_str(), "2026-01-01");
    assert_eq!(read_back.cluster.as_str(), "true");
    assert_eq!(read_back.founders.len(), 1);
    assert_eq!(read_back.founders[0].raft_address, "y:1");
}

/// The operator is told the place: file and line, variable or flag, and the field.
#[test]
fn errors_name_the_place() {
    let broken = FILE.replace("heartbeat_ms = 50", "heartbeat_ms = \"often\"");
    type Pairs<'a> = &'a [(&'a str, &'a str)];
    let cases: [(&str, Pairs, Pairs, &str); 9] = [
        (&broken, &[], &[], "member.toml:25: raft.heartbeat_ms: invalid type: string \"often\", expected u64"),
        (&FILE.replace("heartbeat_ms", "hartbeat_ms"), &[], &[], "member.toml:25: raft.hartbeat_ms: unknown field"),
        (
            &FILE.replace("\"s1-b\"", "\"s1/b\""),
            &[],
            &[],
            "member.toml:20: founders.1.member: member \"s1/b\" is not valid",
        ),
        (&FILE.replace("group = \"s1\"\n", ""), &[], &[], "member.toml: .: missing field `group`"),
        (&FILE.replace("[raft]", "[raft"), &[], &[], "member.toml:24: this is not TOML:"),
        (
            FILE,
            &[("CONFLUX__RAFT__HEARTBEAT_MS", "often")],
            &[],
            "environment variable CONFLUX__RAFT__HEARTBEAT_MS: raft.heartbeat_ms: invalid type",
        ),
        (FILE, &[("CONFLUX__RAFT__X", "1")], &[], "environment variable CONFLUX__RAFT__X: raft.x: unknown field"),
        (FILE, &[], &[("raft_listen", "nowhere")], "flag raft_listen: raft_listen: invalid socket address"),
        (FILE, &[], &[("cluster.x", "1")], "flag cluster.x: cluster is a single value and has no parts"),
    ];
    for (text, environment, flags, wanted) in cases {
        let error = read(text, environment, flags).unwrap_err();
        assert!(error.starts_with(wanted), "wanted {wanted}\n   got {error}");
    }
    let error = load::<MemberSettings>(Path::new("/nowhere/member.toml"), "CONFLUX", &[]).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the settings /nowhere/member.toml:"), "{error}");
}

/// What is right alone and wrong together is told at once, every field of it.
#[test]
fn everything_wrong_is_listed() {
    assert_eq!(read(FILE, &[], &[]).unwrap().problems(), vec![]);
    let flags = [
        ("data_dir", "data"),
        ("service_listen", "0.0.0.0:7001"),
        ("raft_advertise", "here"),
        ("founders.1.member", "s1-a"),
        ("founders.1.raft_address", "a:7001"),
        ("founders.0.service_address", "a:0"),
        ("tls.ca", "cert.pem"),
        ("raft.election_min_ms", "100"),
        ("raft.election_max_ms", "100"),
        ("raft.max_in_flight", "0"),
        ("raft.max_in_flight_bytes", "1"),
        ("raft.state_cache_bytes", "1048576"),
        ("raft.confirm_every_ms", "0"),
        ("raft.snapshot_after_bytes", "0"),
        ("log.filter", "x=loudly"),
    ];
    let problems = read(FILE, &[], &flags).unwrap().problems();
    let mut fields: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    fields.sort_unstable();
    let mut wanted: Vec<&str> = flags.iter().map(|(path, _)| *path).collect();
    // Others cannot dial 0.0.0.0 either.
    wanted.push("service_advertise");
    wanted.sort_unstable();
    assert_eq!(fields, wanted, "{problems:#?}");
    assert_eq!(read(FILE, &[], &[("founders", "[]")]).unwrap().problems().len(), 1);
    assert_eq!(read(FILE, &[], &[("raft.heartbeat_ms", "0")]).unwrap().problems().len(), 1);
}

/// A start with wrong settings fails with the file and the list.
#[test]
fn a_start_is_refused_with_the_list() {
    let source = file(&FILE.replace("/var/lib", "var/lib").replace("= 200", "= 20"));
    let error = load_valid::<MemberSettings>(&source.path, "CONFLUX_TEST_NOT_SET", &[]).unwrap_err().to_string();
    assert!(
        error.contains("member.toml: data_dir: var/lib/conflux is not an absolute path; raft.election_min_ms:"),
        "{error}"
    );
}

/// The lists of placement's addresses in the settings of others are checked alike.
#[test]
fn placement_addresses_are_checked() {
    let one =
        |member, address: &str| PlacementAddress { member: MemberName::new(member).unwrap(), address: address.into() };
    let paths = |list: &[PlacementAddress]| list.problems().into_iter().map(|problem| problem.path).collect::<Vec<_>>();
    assert_eq!(paths(&[one("a", "a:1"), one("b", "b:1")]), Vec::<String>::new());
    assert_eq!(paths(&[one("a", "a:1"), one("a", "a:1"), one("c", "c")]), ["2.address", "1.member", "1.address"]);
}

/// A member with somebody else's certificate says so before it starts.
#[test]
fn the_certificate_must_be_the_members() {
    let settings = read(FILE, &[], &[]).unwrap();
    assert!(settings.check_certificate(&"conflux://test/shard/s1/s1-a".parse().unwrap(), Role::Shard).is_ok());
    for other in ["conflux://test/shard/s1/s1-b", "conflux://prod/shard/s1/s1-a", "conflux://test/placement/s1/s1-a"] {
        let error = settings.check_certificate(&other.parse().unwrap(), Role::Shard).unwrap_err();
        assert!(error.contains(other) && error.contains("conflux://test/shard/s1/s1-a"), "{error}");
    }
}
