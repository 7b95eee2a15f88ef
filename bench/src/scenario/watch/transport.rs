//! The ways in which changes are told, and how little of a message must be read to know of which change it is.

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use prost::Message;

use crate::etcd::{self, wire};

/// How a watcher is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Sse,
    WebSocket,
    Grpc,
    Etcd,
}

impl Transport {
    /// Whose.
    pub fn side(self) -> &'static str {
        if self == Transport::Etcd { super::ETCD } else { super::CONFLUX }
    }

    /// As the page names it.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Sse => "SSE",
            Transport::WebSocket => "WebSocket",
            Transport::Grpc => "gRPC",
            Transport::Etcd => "etcd's watch",
        }
    }

    /// Takes the revisions of changes off what has come; an answer without any says that the watch is open.
    pub fn revisions(self, buffer: &mut BytesMut) -> Result<Vec<u64>> {
        let mut revisions = Vec::new();
        match self {
            Transport::Sse => return sse(buffer),
            // A frame of a WebSocket is whole.
            Transport::WebSocket => revisions.extend(of_frame(&buffer.split())?),
            Transport::Grpc => {
                while let Some(answer) = wire::next::<Told>(buffer)? {
                    revisions.extend(answer.events.first().map(|event| event.revision));
                }
            }
            Transport::Etcd => {
                while let Some(answer) = wire::next::<wire::WatchResponse>(buffer)? {
                    let changed = answer.events.iter().filter_map(|e| e.kv.as_ref());
                    revisions.extend(changed.map(|kv| kv.mod_revision as u64));
                }
            }
        }
        Ok(revisions)
    }

    /// The revision that a write made.
    pub fn of_answer(self, answer: Bytes) -> Result<u64> {
        if self == Transport::Etcd {
            return etcd::revision_of(answer);
        }
        let answer: serde_json::Value = serde_json::from_slice(&answer)?;
        let text = answer["revision"].as_str().context("a revision in the answer")?;
        Ok(text.split_once('.').context("<incarnation>.<revision>")?.1.parse()?)
    }
}

/// `conflux.v1.WatchResponse`, as far as it matters.
#[derive(Clone, PartialEq, Message)]
struct Told {
    #[prost(message, repeated, tag = "1")]
    events: Vec<Event>,
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(uint64, tag = "1")]
    revision: u64,
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|w| w == what)
}

/// The revision of a frame of JSON: a frame carries every event of one revision, or none.
fn of_frame(frame: &[u8]) -> Result<Option<u64>> {
    const EVENTS: &[u8] = b"\"events\":[{\"revision\":";
    let Some(at) = find(frame, EVENTS) else { return Ok(None) };
    let digits: Vec<u8> = frame[at + EVENTS.len()..].iter().copied().take_while(u8::is_ascii_digit).collect();
    Ok(Some(std::str::from_utf8(&digits)?.parse()?))
}

/// Whole blocks of SSE.
fn sse(buffer: &mut BytesMut) -> Result<Vec<u64>> {
    let mut revisions = Vec::new();
    while let Some(end) = find(buffer, b"\n\n") {
        let block = buffer.split_to(end + 2);
        if find(&block, b"event: error").is_some() {
            bail!("a watch ended: {}", String::from_utf8_lossy(&block));
        }
        revisions.extend(of_frame(&block)?);
    }
    Ok(revisions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_taken_off_a_stream_whatever_its_pieces() {
        let text = "retry: 1\n\nid: a\nevent: progress\ndata: {\"revision\":\"1.1\",\"progress\":true}\n\n\
                    id: b\nevent: change\ndata: {\"revision\":\"1.2\",\"events\":[{\"revision\":2,\"name\":\"n\"}]}\n\n";
        let mut buffer = BytesMut::from(&text.as_bytes()[..text.len() - 1]);
        assert_eq!(Transport::Sse.revisions(&mut buffer).unwrap(), Vec::<u64>::new());
        buffer.extend_from_slice(b"\n");
        assert_eq!(Transport::Sse.revisions(&mut buffer).unwrap(), [2]);
        assert!(Transport::Sse.revisions(&mut BytesMut::from("event: error\ndata: {}\n\n")).is_err());
    }

    #[test]
    fn a_revision_with_several_events_is_one_delivery() {
        let told = Told { events: vec![Event { revision: 7 }, Event { revision: 7 }] };
        let mut buffer = BytesMut::from(&wire::framed(&told)[..]);
        buffer.extend_from_slice(&wire::framed(&Told::default()));
        assert_eq!(Transport::Grpc.revisions(&mut buffer).unwrap(), [7]);
        let frame = "{\"revision\":\"1.9\",\"events\":[{\"revision\":9},{\"revision\":9}]}";
        assert_eq!(Transport::WebSocket.revisions(&mut BytesMut::from(frame)).unwrap(), [9]);
    }
}
