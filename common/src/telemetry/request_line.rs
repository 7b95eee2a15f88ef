//! The line that says of a request how it was answered. Written here and not by `tracing`, which takes as long for it as a small
//! request takes to be answered; the form is that of all other lines, and their filter decides about it.

use std::{cell::RefCell, fmt, io, net::SocketAddr, sync::OnceLock, time::Duration};

use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime, SystemTime},
};

use super::lines::Lines;
use crate::settings::LogFormat;

/// What filters know these lines as.
const TARGET: &str = "conflux_gateway::door::access";

/// Where the lines go, once logging has started.
static TO: OnceLock<(LogFormat, Lines<io::Stderr>)> = OnceLock::new();

thread_local! {
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// See the module.
#[derive(Debug, Clone)]
pub struct RequestLine<'a> {
    /// As the answer names it.
    pub request_id: &'a str,
    /// Who asked; empty: nobody knows.
    pub principal: &'a str,
    /// For which tenant; empty: for none.
    pub tenant: &'a str,
    /// The method.
    pub method: &'a str,
    /// The route, without what is in the path.
    pub path: &'a str,
    /// How it was answered.
    pub status: u16,
    /// The name of the error, if it was one.
    pub code: Option<&'a str>,
    /// From where.
    pub client: Option<SocketAddr>,
    /// How long it took.
    pub took: Duration,
}

impl RequestLine<'_> {
    /// Writes the line, within a moment, if logging has started and its filter lets `conflux_gateway::door::access=info` pass.
    pub fn log(&self) {
        let Some((format, to)) = TO.get() else { return };
        if !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            return;
        }
        LINE.with_borrow_mut(|line| {
            line.clear();
            // Writing into memory does not fail.
            if self.write(*format, line).is_ok() {
                // Nobody is there to be told of it.
                let _ = to.give(line, true);
            }
        });
    }

    fn write(&self, format: LogFormat, line: &mut Vec<u8>) -> io::Result<()> {
        match format {
            LogFormat::Json => self.write_json(line),
            LogFormat::Text => self.write_text(line),
        }
    }

    fn texts(&self) -> [(&'static str, &str); 5] {
        [
            ("request_id", self.request_id),
            ("principal", self.principal),
            ("tenant", self.tenant),
            ("method", self.method),
            ("path", self.path),
        ]
    }

    /// Milliseconds, to the microsecond.
    fn millis(&self) -> (u128, u128) {
        let micros = self.took.as_micros();
        (micros / 1000, micros % 1000)
    }

    fn write_json(&self, line: &mut Vec<u8>) -> io::Result<()> {
        use io::Write;
        line.extend_from_slice(br#"{"timestamp":""#);
        stamp(line)?;
        line.extend_from_slice(br#"","level":"INFO","message":"request""#);
        for (name, text) in self.texts() {
            write!(line, r#","{name}":"#)?;
            serde_json::to_writer(&mut *line, text)?;
        }
        write!(line, r#","status":{}"#, self.status)?;
        if let Some(code) = self.code {
            write!(line, r#","code":"{code}""#)?;
        }
        if let Some(client) = self.client {
            write!(line, r#","client":"{client}""#)?;
        }
        let (millis, micros) = self.millis();
        writeln!(line, r#","ms":{millis}.{micros:03},"target":"{TARGET}"}}"#)
    }

    fn write_text(&self, line: &mut Vec<u8>) -> io::Result<()> {
        use io::Write;
        stamp(line)?;
        write!(line, "  INFO {TARGET}: request")?;
        for (name, text) in self.texts() {
            // Methods are words.
            match name {
                "method" => write!(line, " {name}={text}")?,
                _ => write!(line, " {name}={text:?}")?,
            }
        }
        write!(line, " status={}", self.status)?;
        if let Some(code) = self.code {
            write!(line, " code={code:?}")?;
        }
        if let Some(client) = self.client {
            write!(line, " client={client}")?;
        }
        let (millis, micros) = self.millis();
        writeln!(line, " ms={millis}.{micros:03}")
    }
}

/// From now on lines are written there.
pub(super) fn start(format: LogFormat, to: Lines<io::Stderr>) {
    // Logging starts once.
    let _ = TO.set((format, to));
}

/// The time, as `tracing` writes it.
fn stamp(line: &mut Vec<u8>) -> io::Result<()> {
    SystemTime.format_time(&mut Writer::new(&mut Text(line))).map_err(io::Error::other)
}

struct Text<'a>(&'a mut Vec<u8>);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: LogFormat, line: &RequestLine<'_>) -> String {
        let mut out = Vec::new();
        line.write(format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// One line of JSON, whatever the texts hold: a name with a quote or a line break must not make a second line.
    #[test]
    fn a_line_is_one_line() {
        let line = RequestLine {
            request_id: "r-1",
            principal: "jwt:https://id#a\"b\nc",
            tenant: "acme",
            method: "GET",
            path: "/api/v1/fetch/config/{t}",
            status: 404,
            code: Some("NOT_FOUND"),
            client: Some("127.0.0.1:5".parse().unwrap()),
            took: Duration::from_micros(12_034),
        };
        let json = written(LogFormat::Json, &line);
        assert_eq!(json.lines().count(), 1);
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["principal"], line.principal);
        assert_eq!((&read["status"], &read["code"], &read["ms"]), (&404.into(), &"NOT_FOUND".into(), &12.034.into()));
        assert_eq!((&read["client"], &read["target"]), (&"127.0.0.1:5".into(), &TARGET.into()));
        assert!(read["timestamp"].as_str().is_some_and(|t| t.ends_with('Z')), "{json}");

        let text = written(LogFormat::Text, &line);
        assert_eq!(text.lines().count(), 1);
        let end = "tenant=\"acme\" method=GET path=\"/api/v1/fetch/config/{t}\" status=404 code=\"NOT_FOUND\" client=127.0.0.1:5 ms=12.034\n";
        assert!(text.contains("  INFO conflux_gateway::door::access: request request_id=\"r-1\""), "{text}");
        assert!(text.ends_with(end), "{text}");

        let bare = RequestLine { code: None, client: None, ..line };
        let read: serde_json::Value = serde_json::from_str(&written(LogFormat::Json, &bare)).unwrap();
        assert!(read.get("code").is_none() && read.get("client").is_none());
    }
}
