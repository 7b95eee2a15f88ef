//! A backup as one stream: frames of kind (1 byte), length (4 bytes, big endian) and payload. First the description,
//! then the packed checkpoint, then contents, then the end. A failure half way is a frame too, so that the reader can say why.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{Content, Description};

/// The largest payload.
pub const MAX_FRAME: usize = 16 << 20;
/// Contents in one frame.
const CONTENTS: usize = 1000;

/// A part of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// First, once.
    Description(Description),
    /// The next bytes of the packed checkpoint.
    Data(Bytes),
    /// What is in it.
    Contents(Vec<Content>),
    /// Last, once: SHA-256 over all data.
    End([u8; 32]),
    /// Nothing follows, and what came is of no use.
    Failed(String),
}

/// Bytes that are no backup stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the stream is none of a backup, or of a newer version: {0}")]
pub struct BadFrames(String);

#[derive(Serialize, Deserialize)]
struct End {
    sha256: String,
}

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Frame::Description(_) => 1,
            Frame::Data(_) => 2,
            Frame::Contents(_) => 3,
            Frame::End(_) => 4,
            Frame::Failed(_) => 5,
        }
    }

    /// As it is sent.
    pub fn encode(&self) -> Bytes {
        // Texts, numbers and lists of them: JSON has all of it.
        let payload = match self {
            Frame::Description(description) => serde_json::to_vec(description).unwrap_or_default().into(),
            Frame::Data(data) => data.clone(),
            Frame::Contents(contents) => serde_json::to_vec(contents).unwrap_or_default().into(),
            Frame::End(sum) => serde_json::to_vec(&End { sha256: hex::encode(sum) }).unwrap_or_default().into(),
            Frame::Failed(why) => Bytes::copy_from_slice(why.as_bytes()),
        };
        let mut out = BytesMut::with_capacity(5 + payload.len());
        out.put_u8(self.kind());
        out.put_u32(payload.len() as u32);
        out.put_slice(&payload);
        out.freeze()
    }

    /// Contents in frames of a bounded size.
    pub fn of_contents(contents: &[Content]) -> impl Iterator<Item = Frame> {
        contents.chunks(CONTENTS).map(|part| Frame::Contents(part.to_vec()))
    }

    fn decode(kind: u8, payload: Bytes) -> Result<Frame, BadFrames> {
        let bad = |e: serde_json::Error| BadFrames(e.to_string());
        Ok(match kind {
            1 => Frame::Description(serde_json::from_slice(&payload).map_err(bad)?),
            2 => Frame::Data(payload),
            3 => Frame::Contents(serde_json::from_slice(&payload).map_err(bad)?),
            4 => {
                let end: End = serde_json::from_slice(&payload).map_err(bad)?;
                let mut sum = [0; 32];
                hex::decode_to_slice(&end.sha256, &mut sum).map_err(|e| BadFrames(e.to_string()))?;
                Frame::End(sum)
            }
            5 => Frame::Failed(String::from_utf8_lossy(&payload).into_owned()),
            other => return Err(BadFrames(format!("a frame of kind {other}"))),
        })
    }
}

/// Frames out of bytes as they arrive.
#[derive(Debug, Default)]
pub struct FrameReader {
    waiting: BytesMut,
}

impl FrameReader {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// The next frame; none: more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, BadFrames> {
        let Some(head) = self.waiting.first_chunk::<5>() else { return Ok(None) };
        let (kind, length) = (head[0], u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize);
        if length > MAX_FRAME {
            return Err(BadFrames(format!("a frame of {length} bytes")));
        }
        if self.waiting.len() < 5 + length {
            return Ok(None);
        }
        self.waiting.advance(5);
        Frame::decode(kind, self.waiting.split_to(length).freeze()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // However the network cuts it, the frames are those that were sent.
    #[test]
    fn frames_arrive_whole() {
        let content = Content { id: 7, name: "acme".into(), ..Content::default() };
        let sent: Vec<Frame> = [Frame::Data(Bytes::from(vec![7; 3000])), Frame::Data(Bytes::new())]
            .into_iter()
            .chain(Frame::of_contents(&vec![content; 2500]))
            .chain([Frame::End([9; 32]), Frame::Failed("x".into())])
            .collect();
        let bytes: Vec<u8> = sent.iter().flat_map(|f| f.encode()).collect();
        for cut in [1, 5, 1000, bytes.len()] {
            let (mut reader, mut got) = (FrameReader::default(), Vec::new());
            for part in bytes.chunks(cut) {
                reader.push(part);
                while let Some(frame) = reader.next_frame().unwrap() {
                    got.push(frame);
                }
            }
            assert_eq!(got, sent);
        }
    }

    proptest! {
        // An answer that is something else (a page of a proxy) must be an error, not a panic or endless memory.
        #[test]
        fn any_bytes_are_frames_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = FrameReader::default();
            reader.push(&bytes);
            while let Ok(Some(_)) = reader.next_frame() {}
        }
    }
}
