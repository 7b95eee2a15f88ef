//! What is counted, what is told of it, and what it costs.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use conflux_common::distinct::Distinct;
use conflux_proto::{internal::ConfigUse, v1::FetchRequest};
use http::Method;
use prost::Message;

use super::{
    sketch::{BYTES, CONFIGS_OF_TENANT, LABEL_SETS_OF_CONFIG, LABEL_SETS_OF_TENANT},
    *,
};
use crate::{call::classify, canonical::canonical, respond::Style};

fn principal() -> Principal {
    Principal { name: "key:a".into(), tenant: None, operator: false, grants: vec![], directory_seq: 0 }
}

fn address(n: u8) -> Option<IpAddr> {
    Some(Ipv4Addr::new(10, 0, 0, n).into())
}

fn labels_of(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))).unwrap()
}

fn fetch(tenant: u64, what: &str, labels: Labels, client: u64) -> Fetch {
    let client = distinct::hash([&client.to_be_bytes()[..]]);
    Fetch { tenant: TenantId(tenant), what: what.into(), labels, client }
}

/// All that is told of a tenant, as one config's use.
fn told(sketch: &Sketch, tenant: u64) -> Vec<ConfigUse> {
    sketch.told(TenantId(tenant), Instant::now(), usize::MAX).into_iter().flat_map(|part| part.configs).collect()
}

/// REST and gRPC ask for the same thing in two ways: a report must not tell them apart.
#[test]
fn a_fetch_is_read_alike_from_rest_and_grpc() {
    let target = canonical(b"/api/v1/fetch/config/acme/shop/prod/app.yaml?consistency=stale").unwrap();
    let call = classify(&Method::GET, &target, Style::Rest).unwrap().unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("x-client-label-region", "eu".parse().unwrap());
    headers.insert("accept", "*/*".parse().unwrap());
    let of = |headers: &HeaderMap, address| {
        Fetch::of(&call, &target, headers, b"", TenantId(3), &principal(), address).unwrap()
    };
    let rest = of(&headers, address(1));
    assert_eq!((rest.what.as_str(), &rest.labels), ("shop/prod/app.yaml", &labels_of(&[("region", "eu")])));

    let asked = FetchRequest {
        app: "shop".into(),
        env: "prod".into(),
        name: "app.yaml".into(),
        labels: [("region".to_owned(), "eu".to_owned())].into(),
        ..Default::default()
    };
    let mut framed = vec![0, 0, 0, 0, 0];
    asked.encode(&mut framed).unwrap();
    let path = canonical(b"/conflux.v1.ConfigService/Fetch").unwrap();
    let unary = classify(&Method::POST, &path, Style::Grpc).unwrap().unwrap();
    let grpc = Fetch::of(&unary, &path, &HeaderMap::new(), &framed, TenantId(3), &principal(), address(1)).unwrap();
    assert_eq!(grpc, rest);

    // Another machine, or other labels, is another client.
    assert_ne!(of(&headers, address(2)).client, rest.client);
    assert_ne!(of(&HeaderMap::new(), address(1)).client, rest.client);

    let whole = canonical(b"/api/v1/fetch/configs/acme/shop/prod").unwrap();
    let call = classify(&Method::GET, &whole, Style::Rest).unwrap().unwrap();
    let all = Fetch::of(&call, &whole, &HeaderMap::new(), b"", TenantId(3), &principal(), address(1)).unwrap();
    assert_eq!(all.what, "shop/prod");
    let list = canonical(b"/api/v1/mgt/acme/configs").unwrap();
    let call = classify(&Method::GET, &list, Style::Rest).unwrap().unwrap();
    assert_eq!(Fetch::of(&call, &list, &HeaderMap::new(), b"", TenantId(3), &principal(), address(1)), None);
}

#[test]
fn fetches_are_counted_by_tenant_config_and_labels() {
    let usage = Usage::default();
    let eu = labels_of(&[("region", "eu")]);
    for client in 0..50 {
        usage.count(&fetch(1, "shop/prod/a", eu.clone(), client));
        usage.count(&fetch(1, "shop/prod/a", eu.clone(), client));
        usage.count(&fetch(1, "shop/prod/a", Labels::default(), client));
    }
    usage.count(&fetch(2, "shop/prod", Labels::default(), 1));
    let sketch = usage.take();
    let one = told(&sketch, 1);
    assert_eq!(one.len(), 1);
    assert_eq!((one[0].app.as_str(), one[0].env.as_str(), one[0].name.as_str()), ("shop", "prod", "a"));
    assert_eq!((one[0].fetches, one[0].labels.len(), one[0].dropped), (150, 2, 0));
    let of_eu = one[0].labels.iter().find(|l| !l.labels.is_empty()).unwrap();
    assert_eq!(of_eu.fetches, 100);
    let clients = Distinct::try_from(of_eu.clients.as_ref()).unwrap().estimate();
    assert!((40..=60).contains(&clients), "about {clients} of 50");
    let whole = told(&sketch, 2);
    assert_eq!((whole[0].env.as_str(), whole[0].name.as_str()), ("prod", ""));
    assert!(usage.take().is_empty(), "what was taken is not told again");
}

/// A client with a new label in each fetch must cost no more than the bounds, and the report must say that it was cut.
#[test]
fn floods_of_label_sets_and_configs_stay_within_bounds() {
    let mut sketch = Sketch::default();
    let now = Instant::now();
    for n in 0..1_000 {
        sketch.count(&fetch(1, "a/b/c", labels_of(&[("n", &n.to_string())]), n), now);
    }
    let config = &told(&sketch, 1)[0];
    assert_eq!((config.labels.len(), config.dropped, config.fetches), (LABEL_SETS_OF_CONFIG, 744, 1_000));
    let all = Distinct::try_from(config.clients.as_ref()).unwrap().estimate();
    assert!((800..1_200).contains(&all), "clients without room are counted with the config: about {all}");

    for n in 0..20_000u64 {
        let labels = labels_of(&[("n", &(n % 200).to_string())]);
        sketch.count(&fetch(2, &format!("a/b/{}", n / 100), labels, n), now);
    }
    let configs = told(&sketch, 2);
    assert_eq!(configs.iter().map(|c| c.labels.len()).sum::<usize>(), LABEL_SETS_OF_TENANT);
    for n in 0..5_000 {
        sketch.count(&fetch(3, &format!("a/b/{n}"), Labels::default(), n), now);
    }
    assert_eq!(told(&sketch, 3).len(), CONFIGS_OF_TENANT);
    let long = "x".repeat(128);
    for tenant in 4..100 {
        for n in 0..4_096u64 {
            let labels = labels_of(&[("n", &n.to_string()), ("long", &long)]);
            sketch.count(&fetch(tenant, &format!("a/b/{}", n / 256), labels, n), now);
        }
    }
    assert!((BYTES..BYTES + (64 << 10)).contains(&sketch.bytes()), "{} bytes", sketch.bytes());
}

/// A long report is told in parts that a member takes; together they must be the whole, with nothing counted twice.
#[test]
fn parts_are_bounded_and_add_up() {
    let mut sketch = Sketch::default();
    for n in 0..600u64 {
        let config = format!("a/b/{}", n % 3);
        sketch.count(&fetch(1, &config, labels_of(&[("n", &n.to_string())]), n), Instant::now());
    }
    let parts = sketch.told(TenantId(1), Instant::now(), 32 << 10);
    assert!(parts.len() > 3, "{}", parts.len());
    assert!(parts.iter().all(|part| part.encoded_len() < 48 << 10));
    let configs: Vec<&ConfigUse> = parts.iter().flat_map(|part| &part.configs).collect();
    assert_eq!(configs.iter().map(|c| c.fetches).sum::<u64>(), 600);
    assert_eq!(configs.iter().map(|c| c.labels.len()).sum::<usize>(), 600);
}

/// Each group is told of its own tenants only.
#[test]
fn a_sketch_is_split_by_tenant() {
    let mut sketch = Sketch::default();
    for tenant in 1..=4 {
        sketch.count(&fetch(tenant, "a/b/c", Labels::default(), tenant), Instant::now());
    }
    let whole = sketch.bytes();
    let odd = sketch.split(|tenant| tenant.0 % 2 == 1);
    assert_eq!(odd.tenants().count(), 2);
    assert_eq!(sketch.tenants().count(), 2);
    assert_eq!(odd.bytes() + sketch.bytes(), whole);
}

/// Not a test of speed: prints what a fetch pays, for the page that says so.
#[test]
#[ignore = "a measurement: make measure"]
fn what_counting_costs() {
    const EACH: u64 = 200_000;
    let usage = Arc::new(Usage::default());
    let target = canonical(b"/api/v1/fetch/config/acme/shop/prod/app.yaml").unwrap();
    let call = classify(&Method::GET, &target, Style::Rest).unwrap().unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("x-client-label-region", "eu".parse().unwrap());
    headers.insert("x-client-label-host", "a-17".parse().unwrap());
    for threads in [1u64, 2, 4] {
        let start = Instant::now();
        thread::scope(|scope| {
            for thread in 0..threads {
                let (usage, call, target, headers) = (&usage, &call, &target, &headers);
                scope.spawn(move || {
                    for n in 0..EACH {
                        let address = Some(Ipv4Addr::from((thread * EACH + n) as u32).into());
                        let fetch = Fetch::of(call, target, headers, b"", TenantId(1), &principal(), address);
                        usage.count(&fetch.unwrap());
                    }
                });
            }
        });
        let spent = start.elapsed();
        let each = spent.checked_div((EACH * threads) as u32).unwrap_or(Duration::ZERO);
        println!("{threads} threads: {each:?} of wall time a fetch");
    }
}
