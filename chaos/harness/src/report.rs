//! The report of a run: one JSON file, and the same for the eye as one HTML file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::Path,
};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    checks::Finding,
    history::{Call, Micros, Told},
    leaders::Led,
    nemesis::{Done, Moved},
};

/// All that is known of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub seed: u64,
    pub seconds: u64,
    /// Runs it again.
    pub command: String,
    /// The planted bug, where there is one.
    pub planted: Option<String>,
    /// Faults that this machine or this build does not allow.
    pub left_out: Vec<String>,
    /// `clean`, `VIOLATED`, `undecided` or `does not count`.
    pub verdict: String,
    pub calls: usize,
    pub calls_per_second: f64,
    /// Operations checked for linearizability.
    pub checked: usize,
    /// By what was asked and told.
    pub outcomes: BTreeMap<String, usize>,
    pub watch_events: usize,
    /// Writes that were open at the end of the load, and how many of them stayed so.
    pub open: usize,
    pub unsettled: usize,
    /// Of faults that landed, by kind.
    pub faults_by_kind: BTreeMap<&'static str, usize>,
    pub moves_done: usize,
    /// Of them those during which a fault went on.
    pub moves_under_fault: usize,
    pub moves_given_up: usize,
    pub findings: Vec<Finding>,
    pub faults: Vec<Done>,
    pub moves: Vec<Moved>,
    pub leaders: Vec<Led>,
    pub healed_at: Micros,
    pub seconds_line: Vec<Second>,
}

/// One second of the load.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Second {
    pub answered: usize,
    pub failed: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// How high a curve is at a second: 0 to 1.
type Height<'a> = &'a dyn Fn(&Second) -> f64;

/// What was asked and told, in words.
fn outcome(call: &Call) -> &'static str {
    use crate::history::Ask;
    match (call.ask, call.told) {
        (Ask::Put { .. }, Told::Wrote { .. }) => "put: written",
        (Ask::Swap { .. }, Told::Wrote { .. }) => "swap: written",
        (Ask::Put { .. } | Ask::Swap { .. }, Told::Refused) => "swap: refused (412)",
        (Ask::Put { .. } | Ask::Swap { .. }, Told::Open) => "write: stayed open",
        (Ask::Put { .. } | Ask::Swap { .. }, _) => "write: not applied",
        (Ask::Read, Told::Saw { .. }) => "linearizable read: answered",
        (Ask::Read, _) => "linearizable read: failed",
        (Ask::Stale { .. }, Told::Saw { .. }) => "stale read: answered",
        (Ask::Stale { .. }, _) => "stale read: failed",
    }
}

/// Whether the call got what it came for.
fn answered(call: &Call) -> bool {
    matches!(call.told, Told::Wrote { .. } | Told::Refused | Told::Saw { .. })
}

/// How often each outcome came about.
pub fn outcomes(calls: &[Call]) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for call in calls {
        *all.entry(outcome(call).to_owned()).or_default() += 1;
    }
    all
}

/// The load by seconds.
pub fn by_second(calls: &[Call], seconds: u64) -> Vec<Second> {
    let count = usize::try_from(seconds).unwrap_or(0) + 1;
    let mut latencies: Vec<Vec<f64>> = vec![Vec::new(); count];
    let mut line = vec![Second::default(); count];
    for call in calls {
        let at = usize::try_from(call.ended / 1_000_000).unwrap_or(usize::MAX);
        let Some(second) = line.get_mut(at) else { continue };
        if answered(call) {
            second.answered += 1;
            latencies[at].push((call.ended - call.began) as f64 / 1000.0);
        } else {
            second.failed += 1;
        }
    }
    for (second, latencies) in line.iter_mut().zip(&mut latencies) {
        latencies.sort_by(f64::total_cmp);
        let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or(0.0);
        (second.p50_ms, second.p99_ms) = (at(0.5), at(0.99));
    }
    line
}

impl Report {
    /// Writes `report.json` and `report.html`.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self)?;
        std::fs::write(directory.join("report.json"), json).context("writing report.json")?;
        std::fs::write(directory.join("report.html"), self.html()).context("writing report.html")
    }

    fn html(&self) -> String {
        let mut page = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_html(&mut page);
        page
    }

    fn write_html(&self, page: &mut String) -> std::fmt::Result {
        let class = if self.verdict == "clean" { "good" } else { "bad" };
        write!(
            page,
            "<!doctype html><html lang=en><meta charset=utf-8><title>Conflux under faults, seed {}</title>",
            self.seed
        )?;
        write!(
            page,
            "<style>{STYLE}</style><h1>Conflux under faults: <span class={class}>{}</span></h1>",
            self.verdict
        )?;
        write!(
            page,
            "<p>Seed {}, {} s, {} calls ({:.0}/s), {} of them checked for linearizability, {} watch events, {} faults, \
             {} moves done ({} under fault) and {} given up.",
            self.seed,
            self.seconds,
            self.calls,
            self.calls_per_second,
            self.checked,
            self.watch_events,
            self.faults_by_kind.values().sum::<usize>(),
            self.moves_done,
            self.moves_under_fault,
            self.moves_given_up,
        )?;
        write!(page, " Writes left open: {}; after asking again under their keys: {}.", self.open, self.unsettled)?;
        if let Some(planted) = &self.planted {
            write!(page, " <b>Planted bug: {}</b>", escaped(planted))?;
        }
        for what in &self.left_out {
            write!(page, "<br>Left out: {}", escaped(what))?;
        }
        write!(page, "</p><p>Again: <code>{}</code></p>", escaped(&self.command))?;
        self.verdicts(page)?;
        self.chart(page)?;
        self.tables(page)
    }

    fn verdicts(&self, page: &mut String) -> std::fmt::Result {
        page.push_str(
            "<h2>Verdicts</h2><table><tr><th>checker<th>looked at<th>violations<th>undecided<th>first at</tr>",
        );
        for f in &self.findings {
            let class = if f.passed() { "good" } else { "bad" };
            let (checker, looked_at) = (f.checker, escaped(&f.looked_at));
            let at = f.first_at.map(|at| format!("{:.1} s", at as f64 / 1e6)).unwrap_or_default();
            let (wrong, open) = (f.violations, f.undecided);
            write!(page, "<tr><td>{checker}<td>{looked_at}<td class={class}>{wrong}<td>{open}<td>{at}</tr>")?;
        }
        page.push_str("</table>");
        for f in self.findings.iter().filter(|f| !f.passed()) {
            write!(page, "<h3>{}</h3><ul>", f.checker)?;
            for words in &f.words {
                write!(page, "<li><code>{}</code>", escaped(words))?;
            }
            page.push_str("</ul>");
            if !f.history.is_empty() {
                page.push_str("<p>The smallest history found that shows it:</p>");
                history(page, &f.history)?;
            }
        }
        Ok(())
    }

    fn chart(&self, page: &mut String) -> std::fmt::Result {
        let end = self.seconds_line.len().max(1) as f64;
        let x = |seconds: f64| GUTTER + seconds / end * (WIDTH - GUTTER - 10.0);
        let kinds: Vec<&str> = self.faults_by_kind.keys().copied().collect();
        let groups: Vec<&str> = self.leaders.iter().map(|l| &*l.group).collect::<BTreeSet<_>>().into_iter().collect();
        let movers = self.moves.iter().map(|m| m.tenant + 1).max().unwrap_or(0);
        let lanes = kinds.len() + movers + groups.len();
        let height = LANES + lanes as f64 * LANE + 24.0;
        write!(page, "<h2>Timeline</h2><svg viewBox='0 0 {WIDTH} {height}' width='100%'>")?;
        self.axis(page, &x, height)?;
        self.curves(page, &x)?;
        let seconds = |t: Micros| t as f64 / 1e6;
        let bar = |page: &mut String, lane: usize, (from, to): (Micros, Micros), colour: &str, title: &str| {
            let (from, to) = (x(seconds(from)), x(seconds(to)));
            let (y, wide) = (LANES + lane as f64 * LANE + 2.0, (to - from).max(2.0));
            let title = escaped(title);
            write!(
                page,
                "<rect x={from:.1} y={y} width={wide:.1} height=12 fill='{colour}'><title>{title}</title></rect>"
            )
        };
        for (lane, kind) in kinds.iter().enumerate() {
            label(page, lane, kind)?;
            for f in self.faults.iter().filter(|f| f.landed && f.kind == *kind) {
                bar(page, lane, (f.began, f.ended), "#d55", &f.what)?;
            }
        }
        for lane in kinds.len()..kinds.len() + movers {
            let tenant = lane - kinds.len();
            label(page, lane, &format!("moves of tenant {tenant}"))?;
            for m in self.moves.iter().filter(|m| m.tenant == tenant) {
                let colour = if m.state == "done" { "#48c" } else { "#e93" };
                let title = format!("move {} to {}: {}", m.id, m.to, m.state);
                bar(page, lane, (m.began, m.ended.unwrap_or(self.healed_at)), colour, &title)?;
            }
        }
        for (n, group) in groups.into_iter().enumerate() {
            let lane = kinds.len() + movers + n;
            label(page, lane, &format!("leader of {group}"))?;
            for l in self.leaders.iter().filter(|l| l.group == group) {
                bar(page, lane, (l.began, l.ended), colour_of(&l.member), &l.member)?;
            }
        }
        for f in &self.findings {
            let Some(at) = f.first_at else { continue };
            let at = x(seconds(at));
            write!(page, "<line x1={at:.1} x2={at:.1} y1=0 y2={height} stroke='#b11' stroke-width=2>")?;
            write!(page, "<title>first violation: {}</title></line>", f.checker)?;
        }
        let healed = x(seconds(self.healed_at));
        write!(page, "<line x1={healed:.1} x2={healed:.1} y1=0 y2={height} stroke='#555' stroke-dasharray=4 /></svg>")?;
        page.push_str("<p class=note>Dashed: from here on all is healed. Moves: blue if done, orange if given up. ");
        page.push_str("A red line is the first violation that a checker can date. Point at a bar for whom it met, or who led: each leader has its colour.</p>");
        Ok(())
    }

    /// Seconds, and a band for every other lane.
    fn axis(&self, page: &mut String, x: &dyn Fn(f64) -> f64, height: f64) -> std::fmt::Result {
        let end = self.seconds_line.len().max(1);
        let step = [5, 10, 20, 30, 60, 120, 300, 600].into_iter().find(|s| end / s <= 14).unwrap_or(1200);
        for second in (0..=end).step_by(step) {
            let at = x(second as f64);
            write!(page, "<line x1={at:.1} x2={at:.1} y1=0 y2={:.1} stroke='#eee'/>", height - 18.0)?;
            write!(page, "<text x={at:.1} y={:.1} text-anchor=middle>{second} s</text>", height - 5.0)?;
        }
        Ok(())
    }

    fn curves(&self, page: &mut String, x: &dyn Fn(f64) -> f64) -> std::fmt::Result {
        let most = self.seconds_line.iter().map(|s| s.answered).max().unwrap_or(1).max(1) as f64;
        let slowest = self.seconds_line.iter().map(|s| s.p99_ms).fold(1.0, f64::max);
        let points = |value: Height<'_>, top: f64| {
            let at = |(n, s): (usize, &Second)| format!("{:.1},{:.1}", x(n as f64), top + 115.0 - value(s) * 110.0);
            self.seconds_line.iter().enumerate().map(at).collect::<Vec<_>>().join(" ")
        };
        let lines: [(Height<'_>, f64, &str); 4] = [
            (&|s| s.answered as f64 / most, 0.0, "#2a6"),
            (&|s| (s.failed as f64 / most).min(1.0), 0.0, "#c33"),
            (&|s| (1.0 + s.p50_ms).ln() / (1.0 + slowest).ln(), 130.0, "#36c"),
            (&|s| (1.0 + s.p99_ms).ln() / (1.0 + slowest).ln(), 130.0, "#a5c"),
        ];
        for (value, top, colour) in lines {
            write!(page, "<polyline fill=none stroke='{colour}' points='{}'/>", points(value, top))?;
        }
        let words = [
            (10.0, "calls a second".to_owned(), "#222"),
            (24.0, format!("top: {most}"), "#888"),
            (40.0, "answered".into(), "#2a6"),
            (54.0, "failed".into(), "#c33"),
            (140.0, "latency, logarithmic".into(), "#222"),
            (154.0, format!("top: {slowest:.0} ms"), "#888"),
            (170.0, "half of the calls".into(), "#36c"),
            (184.0, "99 of 100".into(), "#a5c"),
        ];
        for (y, text, colour) in words {
            write!(page, "<text x=0 y={y} style='fill:{colour}'>{text}</text>")?;
        }
        Ok(())
    }

    fn tables(&self, page: &mut String) -> std::fmt::Result {
        page.push_str("<div class=columns><div><h2>Answers</h2><table>");
        for (outcome, count) in &self.outcomes {
            write!(page, "<tr><td>{outcome}<td class=number>{count}</tr>")?;
        }
        page.push_str("</table></div><div class=wide><h2>Faults by kind</h2><ul class=kinds>");
        for (kind, count) in &self.faults_by_kind {
            write!(page, "<li>{kind}: {count}")?;
        }
        page.push_str("</ul></div></div><h2>Each fault</h2><table><tr><th>from<th>for<th>fault<th>whom</tr>");
        for f in &self.faults {
            let (class, what) = (if f.landed { "" } else { " class=not" }, escaped(&f.what));
            let (from, lasted) = (f.began as f64 / 1e6, (f.ended - f.began) as f64 / 1e6);
            write!(page, "<tr{class}><td>{from:.2} s<td>{lasted:.2} s<td>{}<td>{what}</tr>", f.kind)?;
        }
        page.push_str("</table><h2>Each move</h2><table>");
        for m in &self.moves {
            let took = m.ended.map_or("has not ended".to_owned(), |e| format!("{:.1} s", (e - m.began) as f64 / 1e6));
            write!(
                page,
                "<tr><td>{:.2} s<td>move {} of tenant {} to {}",
                m.began as f64 / 1e6,
                m.id,
                m.tenant,
                escaped(&m.to)
            )?;
            write!(page, "<td>{}<td>{took}<td>writes waited {} ms</tr>", escaped(&m.state), m.pause_ms)?;
        }
        page.push_str("</table></html>");
        Ok(())
    }
}

/// The chart's width, the room for names at its left, where its lanes begin and how high each is.
const WIDTH: f64 = 1200.0;
const GUTTER: f64 = 175.0;
const LANES: f64 = 262.0;
const LANE: f64 = 17.0;

/// The same for a member each time it leads.
fn colour_of(member: &str) -> &'static str {
    const COLOURS: [&str; 7] = ["#4a8", "#a86", "#86c", "#c68", "#68b", "#9a4", "#777"];
    // Members are numbered from 1; those that came later have names of their own.
    let number: usize = member.bytes().map(usize::from).sum();
    COLOURS[number % COLOURS.len()]
}

/// The name of a lane, on a band that leads the eye.
fn label(page: &mut String, lane: usize, name: &str) -> std::fmt::Result {
    let y = LANES + lane as f64 * LANE;
    if lane.is_multiple_of(2) {
        write!(page, "<rect x=0 y={y} width={WIDTH} height={LANE} fill='#000' fill-opacity='.035'/>")?;
    }
    write!(page, "<text x=4 y={}>{name}</text>", y + 12.0)
}

/// Calls as bars over time, with what was asked and told.
fn history(page: &mut String, calls: &[Call]) -> std::fmt::Result {
    let from = calls.iter().map(|c| c.began).min().unwrap_or(0);
    let to = calls.iter().map(|c| c.ended).max().unwrap_or(0).max(from + 1);
    let x = |t: Micros| 10.0 + (t - from) as f64 / (to - from) as f64 * 560.0;
    write!(page, "<svg viewBox='0 0 1100 {}' width='100%'>", calls.len() * 20 + 10)?;
    for (n, call) in calls.iter().enumerate() {
        let (y, left) = (n * 20 + 4, x(call.began));
        let wide = (x(call.ended) - left).max(2.0);
        write!(page, "<rect x={left:.1} y={y} width={wide:.1} height=13 fill='#48c'/>")?;
        let (ask, told) = (format!("{:?}", call.ask), format!("{:?}", call.told));
        let at = call.began as f64 / 1e6;
        write!(
            page,
            "<text x=580 y={}>{at:.3} s, client {}: {} → {}</text>",
            y + 11,
            call.client,
            escaped(&ask),
            escaped(&told)
        )?;
    }
    page.push_str("</svg>");
    Ok(())
}

/// Of every page.
pub const STYLE: &str = "body{font:14px system-ui,sans-serif;margin:2em auto;max-width:1250px;color:#222;padding:0 1em}\
table{border-collapse:collapse}td,th{border-bottom:1px solid #ddd;padding:3px 12px 3px 0;text-align:left}\
.good{color:#183}.bad{color:#b11;font-weight:bold}svg text{font:11px system-ui;fill:#444}\
h2{margin:1.6em 0 .5em;font-size:1.15em}.number{text-align:right;font-variant-numeric:tabular-nums}.not{color:#999}.note{color:#777}\
.columns{display:flex;gap:4em}.wide{flex:1}.kinds{columns:3;margin:0;padding-left:1.2em}td{vertical-align:top}\
code{background:#f4f4f4;overflow-wrap:anywhere}";

/// As text of a page.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Ask;

    fn read(began: u64, ended: u64, told: Told) -> Call {
        Call { client: 0, tenant: 0, register: "r".into(), ask: Ask::Read, told, began, ended, sent: 1, part: 0 }
    }

    /// The curves must not count what failed as served.
    #[test]
    fn the_load_is_told_by_seconds() {
        let saw = Told::Saw { value: 1, revision: 1, age_ms: 0 };
        let calls = [read(0, 500_000, saw), read(900_000, 1_100_000, saw), read(1_000_000, 1_200_000, Told::Open)];
        let line = by_second(&calls, 2);
        assert_eq!((line[0].answered, line[1].answered, line[1].failed), (1, 1, 1));
        assert!((line[0].p50_ms - 500.0).abs() < 1e-9);
        assert_eq!(outcomes(&calls)["linearizable read: failed"], 1);
    }

    /// What a server says must not become part of the page.
    #[test]
    fn words_are_escaped() {
        assert_eq!(escaped("<script>&"), "&lt;script&gt;&amp;");
    }
}
