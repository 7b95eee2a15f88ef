//! What was aimed at, beside what was measured. Medians, in one run with etcd on the same machine.

use super::{growth, line, mib};
use crate::{
    results::{Comparison, Results, Watches, Window},
    scenario::{CONFLUX, EDGE, change, fetch, proxy},
    statistics::{quantile, sorted},
};

/// Bytes of the caches that a shard member has without further settings: 64 MiB for the state, 8 MiB for the log.
const CACHES: u64 = 72 << 20;

/// What a member may need beside them.
const BESIDE_CACHES: u64 = 300 << 20;

/// One aim.
struct Target {
    /// As the list of aims counts it.
    number: &'static str,
    what: &'static str,
    wanted: String,
    /// None: not measured yet.
    found: Option<(String, bool)>,
}

/// All aims.
pub fn table(page: &mut String, r: &Results) {
    line!(page, "## What was aimed at\n");
    line!(page, "| | what | aim | measured | reached |\n|---|---|---|---|---|");
    for t in all(r) {
        let (found, reached) = match &t.found {
            Some((found, true)) => (found.as_str(), "yes"),
            Some((found, false)) => (found.as_str(), "**no**"),
            None => ("-", "not measured"),
        };
        line!(page, "| {} | {} | {} | {found} | {reached} |", t.number, t.what, t.wanted);
    }
    page.push('\n');
}

fn all(r: &Results) -> Vec<Target> {
    let mut all = reads(r);
    all.extend(writes(r));
    all.extend(watchers(r));
    all.extend(failures(r));
    all.extend(grown(r));
    all.extend(proxied(r));
    all
}

fn at<'a>(r: &'a Results, name: &str, concurrency: usize, offered: bool) -> Option<&'a Comparison> {
    let mut all = r.comparisons.iter().filter(|c| c.name == name && c.value_bytes == 1024);
    all.find(|c| c.concurrency == concurrency && c.offered.is_some() == offered)
}

/// The median ratio of a side to the peer.
fn ratio(c: Option<&Comparison>, side: &str, what: fn(&Window) -> f64) -> Option<f64> {
    let c = c?;
    c.ratio(c.side(side)?, what).map(|s| s.median)
}

fn least(number: &'static str, what: &'static str, wanted: f64, found: Option<f64>) -> Target {
    let found = found.map(|f| (format!("{f:.2}x"), f >= wanted));
    Target { number, what, wanted: format!("at least {wanted:.1}x"), found }
}

fn most(number: &'static str, what: &'static str, wanted: f64, found: Option<f64>) -> Target {
    let found = found.map(|f| (format!("{f:.2}x"), f <= wanted));
    Target { number, what, wanted: format!("at most {wanted:.1}x"), found }
}

fn reads(r: &Results) -> Vec<Target> {
    let (stale, offered) = (at(r, fetch::STALE, 64, false), at(r, fetch::STALE, 64, true));
    let p99 = |w: &Window| w.p99_us as f64;
    let linearizable = ratio(at(r, fetch::LINEARIZABLE, 64, false), CONFLUX, Window::rate);
    vec![
        least(
            "1",
            "fetch stale, 64 connections, by the edge, against a serializable range",
            3.0,
            ratio(stale, EDGE, Window::rate),
        ),
        least("1", "the same with edge reads off", 0.9, ratio(stale, CONFLUX, Window::rate)),
        most("1", "its p99 at an equal offered rate, by the edge", 1.0, ratio(offered, EDGE, p99)),
        most("1", "the same with edge reads off", 1.0, ratio(offered, CONFLUX, p99)),
        least("1", "fetch linearizable, 64 connections, against a linearizable range", 1.0, linearizable),
    ]
}

fn writes(r: &Results) -> Vec<Target> {
    let changes = at(r, change::NAME, 256, false);
    let own = changes.and_then(|c| c.side(CONFLUX));
    let floor = own.map(|side| {
        let (rate, p99) = (side.spread(Window::rate).least, side.spread(|w| w.p99_us as f64 / 1e3).most);
        (format!("{rate:.0}/s, p99 {p99:.0} ms in the worst rounds"), rate >= 2000.0 && p99 < 100.0)
    });
    let wanted = "2,000/s, p99 below 100 ms".to_owned();
    vec![
        least("2", "durable change, 1 KiB, 256 in flight, against a put", 1.0, ratio(changes, CONFLUX, Window::rate)),
        Target { number: "2", what: "never below", wanted, found: floor },
    ]
}

fn watchers(r: &Results) -> Vec<Target> {
    let own = |count: usize| r.watches.iter().filter(move |w| w.side == CONFLUX && w.watchers == count);
    let whole = |w: &Watches| w.error.is_none() && w.missing == 0 && w.ended == 0;
    let told = own(5000).find(|w| w.transport == "SSE" && w.per_connection == 1);
    let delay = told.map(|w| {
        let text = format!("{:.0} ms, {} changes, {} not delivered", w.last_p99_ms, w.changes, w.missing);
        (text, whole(w) && w.last_p99_ms < 100.0)
    });
    let many = own(20_000).next().map(|w| {
        let text = format!("{} not delivered, {} ended, {} on a connection", w.missing, w.ended, w.per_connection);
        (w.error.clone().unwrap_or(text), whole(w))
    });
    let kib = |w: &Watches| w.idle_bytes_per_watcher.values().sum::<f64>() / 1024.0;
    // As many as there are: with few, what a gateway needs once would be counted as theirs.
    let shared = r.watches.iter().filter(|w| w.side == CONFLUX && w.per_connection >= 100 && w.error.is_none());
    let shared = shared.max_by_key(|w| w.watchers);
    let memory = shared.map(|w| {
        let own = own(w.watchers).find(|o| o.transport == w.transport && o.per_connection == 1);
        let more =
            own.map(|o| format!("; a TLS connection of its own adds {:.1}", kib(o) - kib(w))).unwrap_or_default();
        (format!("{:.1} KiB on shared h2 connections{more}", kib(w)), kib(w) <= 24.0)
    });
    vec![
        Target { number: "3", what: "5,000 watchers, last delivery p99", wanted: "below 100 ms".into(), found: delay },
        Target { number: "3", what: "20,000 watchers on the machine", wanted: "no error".into(), found: many },
        Target {
            number: "3",
            what: "memory of an idle watcher, gateway and shard",
            wanted: "at most 24 KiB".into(),
            found: memory,
        },
    ]
}

fn failures(r: &Results) -> Vec<Target> {
    let gaps = r.leader_kills.iter().find(|k| k.side == CONFLUX).map(|k| sorted(k.gaps_ms.clone()));
    let found = gaps.filter(|g| !g.is_empty()).map(|gaps| {
        let (p50, p99) = (quantile(&gaps, 0.5), quantile(&gaps, 0.99));
        let text = format!("p50 {p50:.0} ms, p99 {p99:.0} ms of {} kills", gaps.len());
        (text, p50 <= 1300.0 && p99 <= 2000.0 && gaps.len() >= 50)
    });
    let wanted = "p50 at most 1,300 ms, p99 at most 2,000 ms of 50".into();
    vec![Target { number: "4", what: "leader kill to the first acknowledged write", wanted, found }]
}

fn grown(r: &Results) -> Vec<Target> {
    let all = growth::of(r, CONFLUX);
    let million = all.last().filter(|g| g.entries >= 1_000_000);
    let small = all.iter().find(|g| g.entries == 10_000).or(all.first());
    let slower = million
        .zip(small)
        .map(|(large, small)| growth::ms(&large.fetch, |w| w.p50_us) / growth::ms(&small.fetch, |w| w.p50_us));
    let memory = million.map(|g| {
        let text =
            format!("{:.0} MiB; {:.0} MiB after a restart", mib(g.resident as f64), mib(g.resident_restarted as f64));
        (text, g.resident <= CACHES + BESIDE_CACHES)
    });
    let restart = million.map(|g| (format!("{:.1} s", g.restart_s), g.restart_s < 10.0));
    let bound = format!("at most {} MiB", (CACHES + BESIDE_CACHES) >> 20);
    vec![
        most("5", "fetch p50 with 1 million configs, against that with 10 thousand", 1.3, slower),
        Target {
            number: "5",
            what: "memory of a shard member then: its caches and 300 MiB",
            wanted: bound,
            found: memory,
        },
        Target { number: "5", what: "its restart until it is ready", wanted: "below 10 s".into(), found: restart },
    ]
}

fn proxied(r: &Results) -> Vec<Target> {
    let c = at(r, proxy::NAME, 64, false);
    let per_core = ratio(c, CONFLUX, |w| 1.0 / (w.cpu_us_of("gateway") + w.cpu_us_of("nginx")));
    let alone = at(r, proxy::NAME, 1, false);
    let p50 = |side: &str| alone.and_then(|c| c.side(side)).map(|s| s.median(|w| w.p50_us as f64 / 1e3));
    let mut target = least("6", "gateway, requests/s for one processor, against nginx", 0.6, per_core);
    if let (Some(found), Some(own), Some(direct), Some(nginx)) =
        (&mut target.found, p50(CONFLUX), p50(proxy::DIRECT), p50(proxy::NGINX))
    {
        found.0 += &format!(
            "; one request alone takes {:.2} ms longer by the gateway, {:.2} ms by nginx",
            own - direct,
            nginx - direct
        );
    }
    vec![target]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        process::Usage,
        results::{LeaderKills, Measured},
        scenario::{ETCD, Kind},
    };

    fn side(name: &str, answered: u64, p99_us: u64) -> Measured {
        Measured { side: name.into(), windows: vec![Window { seconds: 1.0, answered, p99_us, ..Window::default() }; 3] }
    }

    fn comparison(name: &str, concurrency: usize, sides: Vec<Measured>) -> Comparison {
        Comparison { kind: Kind::Fetch, name: name.into(), concurrency, value_bytes: 1024, offered: None, sides }
    }

    fn reached(r: &Results, what: &str) -> Option<bool> {
        let all = all(r);
        all.iter().find(|t| t.what.contains(what)).unwrap().found.as_ref().map(|f| f.1)
    }

    #[test]
    fn nothing_is_reached_that_was_not_measured() {
        assert!(all(&Results::default()).iter().all(|t| t.found.is_none()));
    }

    #[test]
    fn an_aim_is_reached_at_its_bound_and_missed_below_it() {
        let mut r = Results::default();
        for (edge, expected) in [(300, true), (299, false)] {
            let sides = vec![side(EDGE, edge, 1), side(CONFLUX, 90, 1), side(ETCD, 100, 1)];
            r.comparisons = vec![comparison(fetch::STALE, 64, sides)];
            assert_eq!(reached(&r, "by the edge, against"), Some(expected));
        }
        let sides = vec![side(CONFLUX, 2000, 100_000), side(ETCD, 1, 1)];
        r.comparisons = vec![comparison(change::NAME, 256, sides)];
        assert_eq!((reached(&r, "durable change"), reached(&r, "never below")), (Some(true), Some(false)));
    }

    #[test]
    fn fifty_kills_are_needed() {
        let mut r = Results::default();
        for (count, expected) in [(50, true), (49, false)] {
            r.leader_kills = vec![LeaderKills { side: CONFLUX.into(), gaps_ms: vec![900.0; count] }];
            assert_eq!(reached(&r, "leader kill"), Some(expected));
        }
    }

    #[test]
    fn a_watch_that_ended_is_an_error() {
        let mut watches = Watches { side: CONFLUX.into(), watchers: 20_000, per_connection: 2, ..Watches::default() };
        let r = |w: &Watches| Results { watches: vec![w.clone()], ..Results::default() };
        assert_eq!(reached(&r(&watches), "20,000"), Some(true));
        watches.ended = 1;
        assert_eq!(reached(&r(&watches), "20,000"), Some(false));
    }

    #[test]
    fn proxies_are_held_against_each_other_by_their_own_processor_time() {
        let with = |name: &str, group: &str, cpu_s: f64| {
            let mut side = side(name, 1000, 1);
            for w in &mut side.windows {
                w.used = [
                    (group.to_owned(), Usage { cpu_s, ..Usage::default() }),
                    ("shard".to_owned(), Usage { cpu_s: 9.0, ..Usage::default() }),
                ]
                .into();
            }
            side
        };
        let sides =
            vec![with(proxy::DIRECT, "x", 1.0), with(CONFLUX, "gateway", 0.10), with(proxy::NGINX, "nginx", 0.07)];
        let r = Results { comparisons: vec![comparison(proxy::NAME, 64, sides)], ..Results::default() };
        assert_eq!(reached(&r, "gateway, requests"), Some(true));
    }
}
