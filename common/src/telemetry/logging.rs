//! Log lines to standard error, panics among them.

use std::{any::Any, backtrace::Backtrace, io, panic, thread};

use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use super::{lines::Lines, request_line};
use crate::settings::{LogFormat, LogSettings};

/// Starts logging to standard error, and the counting of metrics. Called once by each process, first thing; a second call
/// changes nothing. `RUST_LOG`, where set, replaces the filter of the settings. From here on a panic is a log line too.
pub fn start_logging(settings: &LogSettings) {
    let (filter, wrong) = filter(std::env::var("RUST_LOG").ok().as_deref(), &settings.filter);
    let to = Lines::new(io::stderr());
    let lines = match settings.format {
        LogFormat::Json => {
            let json = tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(true);
            json.with_span_list(false).with_writer(to.clone()).boxed()
        }
        LogFormat::Text => tracing_subscriber::fmt::layer().with_ansi(false).with_writer(to.clone()).boxed(),
    };
    if tracing_subscriber::registry().with(filter).with(lines).try_init().is_err() {
        return;
    }
    request_line::start(settings.format, to);
    log_panics();
    if let Some(wrong) = wrong {
        tracing::warn!(filter = wrong, "the log filter cannot be read; `info` is used");
    }
    // What is counted before a recorder is there is lost.
    if let Err(error) = super::install_metrics() {
        tracing::warn!(%error, "metrics are not recorded");
    }
}

/// The filter to use, and the text that could not be read, if so: a typo must not keep a process from starting.
fn filter(environment: Option<&str>, settings: &str) -> (EnvFilter, Option<String>) {
    let wanted = environment.filter(|text| !text.trim().is_empty()).unwrap_or(settings);
    match EnvFilter::try_new(wanted) {
        Ok(filter) => (filter, None),
        Err(_) => (EnvFilter::new("info"), Some(wanted.to_owned())),
    }
}

/// A panic is a defect, and its line must be where operators look.
fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let thread = thread::current();
        tracing::error!(
            thread = thread.name().unwrap_or("unnamed"),
            location = info.location().map(ToString::to_string).unwrap_or_default(),
            backtrace = %Backtrace::capture(),
            "panic: {}", message(info.payload()),
        );
    }));
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The environment wins, an empty one does not, and a typo is told instead of fatal.
    #[test]
    fn the_filter_is_chosen() {
        assert_eq!(filter(Some("conflux_raft=debug"), "info").0.to_string(), "conflux_raft=debug");
        assert_eq!(filter(Some(" "), "warn").0.to_string(), "warn");
        let (used, wrong) = filter(None, "info,=,x=loudly");
        assert_eq!((used.to_string().as_str(), wrong.as_deref()), ("info", Some("info,=,x=loudly")));
    }

    /// Both kinds of panic message reach the log.
    #[test]
    fn panic_messages_are_read() {
        assert_eq!(message(&"fixed"), "fixed");
        assert_eq!(message(&String::from("made")), "made");
        assert_eq!(message(&1), "without a message");
    }
}
