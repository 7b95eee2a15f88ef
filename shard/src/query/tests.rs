//! Reads as callers see them, over rows that the machine made.

use conflux_common::error::Code;
use conflux_proto::log::{CreateConfig, shard_command::Op};

use super::{Filter, MAX_PAGE, ShownVersion, get_version, history, list, list_versions};
use crate::machine::tests::bench::*;

fn at(app: &str, env: &str, name: &str, tags: &[&str]) -> Op {
    Op::CreateConfig(CreateConfig {
        app: app.into(),
        env: env.into(),
        name: name.into(),
        format: "json".into(),
        tags: tags.iter().map(|t| t.to_string()).collect(),
        ..Default::default()
    })
}

fn names(bench: &Bench, filter: &Filter) -> Vec<String> {
    let page = bench.read(|rows, tenant| list(rows, tenant, filter, 0, "", &|_, _, _| true)).unwrap();
    assert_eq!(page.1, "");
    page.0.into_iter().map(|c| format!("{}/{}/{}", c.app, c.env, c.name)).collect()
}

fn filled() -> Bench {
    let mut bench = Bench::active();
    for (app, env, name, tags) in [
        ("shop", "prod", "db.yaml", ["x"].as_slice()),
        ("shop", "prod", "cache", &["y"]),
        ("shop", "dev", "db.yaml", &["x", "y"]),
        ("shop-2", "prod", "db.yaml", &[]),
        ("sho", "prod", "db.yaml", &[]),
        ("shop", "prod-2", "db.yaml", &[]),
    ] {
        bench.write(at(app, env, name, tags)).unwrap();
    }
    bench
}

/// A filter must not leak its neighbours: `shop` is not `shop-2`.
#[test]
fn filters_select_exactly() {
    let bench = filled();
    let filter = |app: &str, env: &str, name: &str, tag: &str| Filter {
        app: app.into(),
        env: env.into(),
        name: name.into(),
        tag: tag.into(),
        ..Default::default()
    };
    assert_eq!(
        names(&bench, &Filter::default()),
        [
            "sho/prod/db.yaml",
            "shop/dev/db.yaml",
            "shop/prod/cache",
            "shop/prod/db.yaml",
            "shop/prod-2/db.yaml",
            "shop-2/prod/db.yaml"
        ]
    );
    assert_eq!(names(&bench, &filter("shop", "prod", "", "")), ["shop/prod/cache", "shop/prod/db.yaml"]);
    assert!(names(&bench, &filter("shop", "", "db", "")).is_empty(), "the name is exact");
    assert_eq!(names(&bench, &filter("shop", "", "db.yaml", "")).len(), 3);
    let prefix = Filter { prefix: "db".into(), ..filter("shop", "", "", "") };
    assert_eq!(names(&bench, &prefix).len(), 3);
    assert!(names(&bench, &Filter { format: "toml".into(), ..Default::default() }).is_empty());
    assert_eq!(names(&bench, &Filter { format: "json".into(), ..Default::default() }).len(), 6);
    assert_eq!(names(&bench, &filter("", "dev", "", "")), ["shop/dev/db.yaml"]);
    assert_eq!(names(&bench, &filter("", "", "", "y")), ["shop/dev/db.yaml", "shop/prod/cache"]);
    assert!(names(&bench, &filter("none", "", "", "")).is_empty());
}

/// What a reader may not list takes no place on a page and leaves no trace in the cursor.
#[test]
fn the_invisible_is_not_listed() {
    let bench = filled();
    let visible = |app: &str, _: &str, _: &str| app == "sho";
    let (page, next) = bench.read(|rows, tenant| list(rows, tenant, &Filter::default(), 1, "", &visible)).unwrap();
    assert_eq!((page.len(), page[0].app.as_str(), next.as_str()), (1, "sho", ""));
}

/// Writes between two pages: what is there all the time is shown exactly once.
#[test]
fn pages_are_stable_under_writes() {
    let mut bench = filled();
    let page = |bench: &Bench, cursor: &str| {
        bench.read(|rows, tenant| list(rows, tenant, &Filter::default(), 3, cursor, &|_, _, _| true)).unwrap()
    };
    let (first, cursor) = page(&bench, "");
    assert_eq!(first[2].name, "cache");
    bench.write(at("a", "before", "new", &[])).unwrap();
    bench.write(delete(2)).unwrap();
    let (second, end) = page(&bench, &cursor);
    assert_eq!(second.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), ["c1", "c6", "c4"]);
    assert_eq!(end, "");
    let refused = bench.read(|rows, tenant| {
        let all = |_: &str, _: &str, _: &str| true;
        let forged = list(rows, tenant, &Filter::default(), 3, "forged", &all).unwrap_err();
        let many = list(rows, tenant, &Filter::default(), MAX_PAGE as u32 + 1, "", &all).unwrap_err();
        [forged.code, many.code]
    });
    assert_eq!(refused, [Code::InvalidArgument; 2]);
}

/// Newest first, page by page, and each with its own content.
#[test]
fn versions_page_from_the_newest() {
    let mut bench = Bench::active();
    bench.write(create("a", "v: 1")).unwrap();
    for i in 2..=5 {
        bench.write(add_version(1, &format!("v: {i}"))).unwrap();
    }
    let id = "c1".parse().unwrap();
    let mut cursor = String::new();
    let mut seen = Vec::new();
    loop {
        let (page, next) = bench.read(|rows, tenant| list_versions(rows, tenant, id, 2, &cursor)).unwrap();
        assert!(page.iter().all(|v| v.content.is_empty() && v.hash.starts_with("sha256:")));
        seen.push(page.iter().map(|v| v.number).collect::<Vec<_>>());
        cursor = next;
        if cursor.is_empty() {
            break;
        }
        // A version more between two pages moves nothing.
        bench.write(add_version(1, "more: 1")).unwrap();
    }
    assert_eq!(seen, [vec![5, 4], vec![3, 2], vec![1]]);
    let one = bench.read(|rows, tenant| get_version(rows, tenant, id, 2, ShownVersion::Whole)).unwrap();
    assert_eq!((one.content.as_ref(), one.size, one.created_by.as_str()), (b"v: 2".as_slice(), 4, "key:a"));
    let missing = bench.read(|rows, tenant| get_version(rows, tenant, id, 99, ShownVersion::Whole)).unwrap_err();
    assert_eq!(missing.code, Code::NotFound);
}

/// A reader of the history gets what it asked for, in messages of a bounded size.
#[test]
fn history_is_cut_by_number_and_by_bytes() {
    let mut bench = Bench::active();
    bench.write(put("a", "x: 1")).unwrap();
    let long = "v".repeat(120);
    for i in 0..60 {
        let rules =
            (0..90).map(|n: i32| rule(&[("a", &long), ("b", &long), ("n", &n.to_string())], 1, n + i)).collect();
        bench.write(releases(1, rules)).unwrap();
    }
    let revisions = |after, to, limit| {
        let response = bench.read(|rows, tenant| history(rows, tenant, after, to, limit)).unwrap();
        assert_eq!((response.revision, response.incarnation, response.floor), (61, 3, 0));
        response.revisions.iter().map(|r| r.revision).collect::<Vec<_>>()
    };
    assert_eq!(revisions(3, 5, 0), [4, 5]);
    assert_eq!(revisions(0, 0, 2), [1, 2]);
    assert_eq!(revisions(61, 0, 0), [0u64; 0]);
    assert_eq!(revisions(100, 0, 0), [0u64; 0]);
    let cut = revisions(0, 0, 0);
    assert!(cut.len() > 10 && cut.len() < 61, "{} revisions of about 50 KiB", cut.len());
    assert_eq!(revisions(*cut.last().unwrap(), 0, 1), [cut.len() as u64 + 1], "the next page goes on behind it");
}
