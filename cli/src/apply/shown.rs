//! A plan as people read it.

use std::{fmt::Write, io::IsTerminal};

use serde_json::Value;
use similar::TextDiff;

use super::plan::{Plan, Step, Todo};
use crate::output::plain;

/// Whether to paint lines: on a terminal, unless the user does not want it (no-color.org).
#[derive(Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    pub fn of_stdout() -> Self {
        Self(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()))
    }

    fn line(self, line: &str) -> String {
        let colour = match line.as_bytes().first() {
            Some(b'+') => "32",
            Some(b'-') => "31",
            Some(b'@') => "36",
            _ => return line.to_owned(),
        };
        if self.0 { format!("\x1b[{colour}m{line}\x1b[0m") } else { line.to_owned() }
    }
}

/// Everything that would be done, with the differences.
pub fn plan(plan: &Plan, paint: Paint) -> String {
    if plan.is_empty() {
        return "nothing to do".into();
    }
    let mut out = String::new();
    for step in &plan.steps {
        let mark = match step.action() {
            "create" => '+',
            "delete" => '-',
            _ => '~',
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{}",
            paint.line(&format!("{mark} {} {}/{}/{}", step.action(), step.app, step.env, step.name))
        );
        details(&mut out, step, paint);
    }
    let count = |action: &str| plan.steps.iter().filter(|step| step.action() == action).count();
    let _ =
        writeln!(out, "{} to create, {} to update, {} to delete", count("create"), count("update"), count("delete"));
    out
}

fn details(out: &mut String, step: &Step, paint: Paint) {
    let Todo::Change { content, fields, releases, .. } = &step.todo else { return };
    for (key, from, to) in fields {
        let _ = writeln!(out, "    {key}: {} -> {}", short(from), short(to));
    }
    if let Some(rules) = releases {
        let _ = writeln!(out, "    releases: {}", short(&serde_json::json!(rules)));
    }
    let Some((from, to)) = content else { return };
    let (Ok(from), Ok(to)) = (std::str::from_utf8(from), std::str::from_utf8(to)) else {
        let _ = writeln!(out, "    {} bytes -> {} bytes", from.len(), to.len());
        return;
    };
    let difference = TextDiff::from_lines(from, to);
    for line in difference.unified_diff().context_radius(3).to_string().lines() {
        let line: String = line.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect();
        let _ = writeln!(out, "    {}", paint.line(&line));
    }
}

fn short(value: &Value) -> String {
    let text = match value {
        Value::Null => "(none)".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let text = plain(&text);
    if text.chars().count() > 80 { format!("{}..", text.chars().take(80).collect::<String>()) } else { text }
}
