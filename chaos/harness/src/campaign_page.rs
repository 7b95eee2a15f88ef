//! The page of a campaign: one JSON file, and the same for the eye as one HTML file that leads to the report of each run.

use std::{fmt::Write, path::Path};

use anyhow::{Context, Result};

use crate::{
    campaign::{Campaign, Row},
    report::{STYLE, escaped},
};

/// Writes `campaign.json` and `campaign.html`.
///
/// # Errors
/// Where they cannot be written.
pub fn write(campaign: &Campaign, directory: &Path) -> Result<()> {
    let json = serde_json::to_vec_pretty(campaign)?;
    std::fs::write(directory.join("campaign.json"), json).context("writing campaign.json")?;
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = html(campaign, &mut page);
    std::fs::write(directory.join("campaign.html"), page).context("writing campaign.html")
}

fn html(campaign: &Campaign, page: &mut String) -> std::fmt::Result {
    let (class, word) = if campaign.clean { ("good", "clean") } else { ("bad", "not clean") };
    let (seed, took, runs) = (campaign.seed, campaign.took_seconds, campaign.runs.len());
    write!(
        page,
        "<!doctype html><html lang=en><meta charset=utf-8><title>Conflux under faults, from seed {seed}</title>"
    )?;
    write!(page, "<style>{STYLE}</style><h1>Conflux under faults: <span class={class}>{word}</span></h1>")?;
    write!(page, "<p>{runs} seeds from {seed} on, in {} min {} s.</p>", took / 60, took % 60)?;
    write!(page, "<p>Again: <code>{}</code></p>", escaped(&campaign.command))?;
    page.push_str("<h2>All runs together</h2><table><tr><th>what<th>reached<th>wanted</tr>");
    for line in &campaign.lines {
        let class = if line.is_reached() { "good" } else { "bad" };
        let bound = if line.at_most { "at most" } else { "at least" };
        let (what, reached, wanted) = (line.what, grouped(line.reached), grouped(line.wanted));
        write!(page, "<tr><td>{what}<td class='number {class}'>{reached}<td class=number>{bound} {wanted}</tr>")?;
    }
    page.push_str("</table><h2>Each run</h2><table><tr><th>seed<th>verdict<th>harm<th>calls<th>a second<th>checked");
    page.push_str("<th>watch events<th>faults<th>power losses<th>moves<th>under fault<th>violated checkers</tr>");
    for row in &campaign.runs {
        run(row, page)?;
    }
    page.push_str("</table></html>");
    Ok(())
}

fn run(row: &Row, page: &mut String) -> std::fmt::Result {
    let Some(run) = &row.run else {
        return write!(page, "<tr><td><a href='{}'>{}</a><td class=bad>could not be done</tr>", row.log, row.seed);
    };
    let class = if run.verdict == "clean" { "good" } else { "bad" };
    write!(page, "<tr><td><a href='{}/report.html'>{}</a>", row.directory, row.seed)?;
    write!(page, "<td class={class}>{}<td class=number>{} s", escaped(&run.verdict), run.seconds)?;
    let numbers = [
        run.calls,
        run.calls_per_second as u64,
        run.checked,
        run.watch_events,
        run.faults(),
        run.power_losses(),
        run.moves_done,
        run.moves_under_fault,
    ];
    for number in numbers {
        write!(page, "<td class=number>{}", grouped(number as f64))?;
    }
    let violated: Vec<&str> = run.findings.iter().filter(|f| f.violations > 0).map(|f| f.checker.as_str()).collect();
    write!(page, "<td class=bad>{}</tr>", escaped(&violated.join(", ")))
}

/// `12,345`.
fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.floor());
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{campaign::Line, child::Summary};

    /// Whoever reads the page must get to the report of each run, and see at once what was not reached.
    #[test]
    fn the_page_leads_to_each_report() {
        let run = Summary { verdict: "clean".into(), calls: 54_321, ..Summary::default() };
        let row = Row { seed: 7, run: Some(run), directory: "seed-7".into(), log: "seed-7.log".into() };
        let none = Row { seed: 8, run: None, directory: "seed-8".into(), log: "seed-8.log".into() };
        let line = Line { what: "faults", reached: 299.0, wanted: 300.0, at_most: false };
        let command = "conflux-chaos campaign".into();
        let campaign =
            Campaign { seed: 7, command, took_seconds: 61, clean: false, lines: vec![line], runs: vec![row, none] };
        let mut page = String::new();
        html(&campaign, &mut page).unwrap();
        assert!(page.contains("href='seed-7/report.html'") && page.contains("54,321"), "{page}");
        assert!(page.contains("href='seed-8.log'") && page.contains("<td class='number bad'>299"), "{page}");
    }
}
