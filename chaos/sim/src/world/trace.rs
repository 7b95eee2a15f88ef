//! What happened, line by line: simulated time, host, event. The same seed gives the same bytes.

use std::{cell::RefCell, fmt::Write};

use sha2::{Digest, Sha256};
use tracing::{Event, Subscriber, field::Visit};
use tracing_subscriber::layer::{Context, Layer};

use super::{libc, place};

thread_local! {
    static LINES: RefCell<Lines> = const { RefCell::new(Lines { text: String::new(), aloud: false }) };
}

struct Lines {
    text: String,
    aloud: bool,
}

/// Also writes each line to standard error from here on.
pub fn aloud() {
    LINES.with_borrow_mut(|lines| lines.aloud = true);
}

/// Adds a line.
pub fn note(what: impl std::fmt::Display) {
    let host = place::name();
    let host = host.as_deref().unwrap_or("-");
    let at = libc::time();
    LINES.with_borrow_mut(|lines| {
        let from = lines.text.len();
        // A String takes all that is written.
        let _ = writeln!(lines.text, "{:>6}.{:03} {host:<12} {what}", at.as_secs(), at.subsec_millis());
        if lines.aloud {
            eprint!("{}", &lines.text[from..]);
        }
    });
}

/// The whole text.
pub fn text() -> String {
    LINES.with_borrow(|lines| lines.text.clone())
}

/// SHA-256 of the text so far.
pub fn sha256() -> String {
    LINES.with_borrow(|lines| hex::encode(Sha256::digest(lines.text.as_bytes())))
}

/// Puts what is logged into the trace.
pub struct IntoTrace;

impl<S: Subscriber> Layer<S> for IntoTrace {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let meta = event.metadata();
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        note(format_args!("log {} {}:{}", meta.level(), meta.target(), fields.0));
    }
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// From here on panics are noted instead of printed.
pub fn note_panics() {
    std::panic::set_hook(Box::new(|panic| {
        note(format_args!("PANIC {panic}"));
        PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
    }));
}

/// Those so far.
pub fn panics() -> Vec<String> {
    PANICS.with_borrow(Vec::clone)
}
