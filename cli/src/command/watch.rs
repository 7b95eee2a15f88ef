//! `conflux config watch`: server-sent events, taken up again after a break.

use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use reqwest::Method;
use serde_json::Value;

use super::{
    Session, cell,
    config::{Label, TenantArg},
    instant,
};
use crate::{
    client::Client,
    failure::Failure,
    output::{self, Output, plain},
};

/// Between two attempts to connect again.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// A stream sends at least a progress mark more often than this; silence means that it is dead.
const SILENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub struct WatchArgs {
    /// app, app/env or app/env/name [default: the whole tenant]
    #[arg(default_value = "")]
    scope: String,
    /// NAME=VALUE: speak only when what a client with these labels gets changes (may be repeated)
    #[arg(long = "label", value_name = "LABEL")]
    labels: Vec<Label>,
    /// Begin after this revision or token, as an earlier watch showed it [default: now]
    #[arg(long)]
    from: Option<String>,
    #[command(flatten)]
    tenant: TenantArg,
}

pub async fn run(args: WatchArgs, session: Session) -> anyhow::Result<()> {
    let (client, tenant) = session.user(args.tenant.tenant.as_deref())?;
    let parts: Vec<&str> = args.scope.split('/').filter(|part| !part.is_empty()).collect();
    if parts.len() > 3 {
        return Err(Failure::Usage("app, app/env or app/env/name is expected".into()).into());
    }
    let mut query: Vec<(String, String)> =
        ["app", "env", "name"].iter().zip(&parts).map(|(key, part)| ((*key).into(), (*part).into())).collect();
    query.extend(args.labels.into_iter().map(|label| (format!("label.{}", label.name), label.value)));
    let mut position = args.from;
    loop {
        match follow(&client, &tenant, &query, &mut position, session.output).await {
            Ok(()) => eprintln!("conflux: the stream has ended; connecting again"),
            Err(e) if e.may_pass() => eprintln!("conflux: {e}; connecting again"),
            Err(e) => return Err(e.into()),
        }
        // A gateway that restarts is back in a moment; there is nothing to subscribe to before that.
        tokio::time::sleep(RETRY_EVERY).await;
    }
}

/// Prints events until the stream ends. `position` is where the next one takes up.
async fn follow(
    client: &Client,
    tenant: &str,
    query: &[(String, String)],
    position: &mut Option<String>,
    output: Output,
) -> Result<(), Failure> {
    let mut query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    query.extend(position.as_deref().map(|position| ("from", position)));
    let mut call = client.call_with(Method::GET, &["api", "v1", "watch", tenant], &query);
    call = call.header(http::header::ACCEPT, "text/event-stream");
    if let Some(position) = position.as_deref() {
        call = call.header("last-event-id", position);
    }
    let mut stream = client.open(call).await?.bytes_stream();
    let mut events = Events::default();
    let broken = |why: String| Failure::NoAnswer { url: "the watch".into(), why };
    loop {
        let chunk = match tokio::time::timeout(SILENCE, stream.next()).await {
            Err(_) => return Err(broken("it has been silent for too long".into())),
            Ok(None) => return Ok(()),
            Ok(Some(chunk)) => chunk.map_err(|e| broken(e.to_string()))?,
        };
        for event in events.take(&chunk) {
            if event.kind == "error" {
                return Err(refused(&event.data));
            }
            print(&event, output).map_err(|e| broken(e.to_string()))?;
            // Only now: what could not be printed is asked for again.
            if let Some(id) = event.id {
                *position = Some(id);
            }
        }
    }
}

/// An `error` event holds the body that REST would answer.
fn refused(data: &str) -> Failure {
    match serde_json::from_str::<conflux_common::error::ErrorBody>(data) {
        Ok(body) => Failure::Refused { status: body.error.code.http_status(), info: Box::new(body.error) },
        Err(_) => Failure::NoAnswer { url: "the watch".into(), why: data.to_owned() },
    }
}

fn print(event: &SseEvent, output: Output) -> anyhow::Result<()> {
    if event.data.is_empty() {
        return Ok(());
    }
    if output == Output::Json {
        return output::line(&event.data);
    }
    let Ok(frame) = serde_json::from_str::<Value>(&event.data) else { return output::line(&plain(&event.data)) };
    let single = std::slice::from_ref(&frame);
    let events = match frame["events"].as_array() {
        Some(events) => events.as_slice(),
        None if frame["type"].is_string() => single,
        None => &[],
    };
    for event in events {
        let time = if event["time"].is_string() { cell(event, "time") } else { instant(event, "time_ms") };
        output::line(&plain(&format!(
            "{time}  {:<9} {}/{}/{}  version {}  revision {}",
            cell(event, "type"),
            cell(event, "app"),
            cell(event, "env"),
            cell(event, "name"),
            cell(event, "version"),
            cell(event, "revision"),
        )))?;
    }
    Ok(())
}

/// One server-sent event.
#[derive(Debug, Default, PartialEq, Eq)]
struct SseEvent {
    kind: String,
    id: Option<String>,
    data: String,
}

/// Splits the stream (WHATWG HTML, section "Server-sent events", as far as our servers use it).
#[derive(Default)]
struct Events {
    rest: Vec<u8>,
    current: SseEvent,
}

impl Events {
    fn take(&mut self, chunk: &[u8]) -> Vec<SseEvent> {
        self.rest.extend_from_slice(chunk);
        let mut done = Vec::new();
        while let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                let event = std::mem::take(&mut self.current);
                if event != SseEvent::default() {
                    done.push(event);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => self.current.kind = value.into(),
                "id" => self.current.id = Some(value.into()),
                "data" if self.current.data.is_empty() => self.current.data = value.into(),
                "data" => self.current.data = format!("{}\n{value}", self.current.data),
                _ => {}
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The network cuts a stream anywhere; an event that is torn or doubled would be a lost or repeated change.
    #[test]
    fn events_are_whole_wherever_the_stream_is_cut() {
        let text = b": hello\n\nid: t1\nevent: change\ndata: {\"a\":1}\ndata: x\r\n\nid: t2\n\nid: t3\ndata";
        for cut in 0..text.len() {
            let mut events = Events::default();
            let mut all = events.take(&text[..cut]);
            all.extend(events.take(&text[cut..]));
            let ids: Vec<_> = all.iter().map(|e| e.id.clone().unwrap()).collect();
            assert_eq!(ids, ["t1", "t2"], "cut at {cut}");
            assert_eq!((all[0].kind.as_str(), all[0].data.as_str()), ("change", "{\"a\":1}\nx"));
        }
    }
}
