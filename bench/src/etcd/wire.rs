//! The few messages of etcd's public v3 API that are spoken here, and gRPC's framing.

use anyhow::{Result, bail};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bool, tag = "7")]
    pub serializable: bool,
    #[prost(bool, tag = "8")]
    pub keys_only: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub struct Header {
    #[prost(uint64, tag = "2")]
    pub member_id: u64,
    #[prost(int64, tag = "3")]
    pub revision: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct PutResponse {
    #[prost(message, optional, tag = "1")]
    pub header: Option<Header>,
}

#[derive(Clone, PartialEq, Message)]
pub struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    pub create_request: Option<WatchCreateRequest>,
}

#[derive(Clone, PartialEq, Message)]
pub struct WatchCreateRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub range_end: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub struct WatchResponse {
    #[prost(bool, tag = "3")]
    pub created: bool,
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<Event>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Event {
    #[prost(message, optional, tag = "2")]
    pub kv: Option<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(int64, tag = "3")]
    pub mod_revision: i64,
    #[prost(bytes = "bytes", tag = "5")]
    pub value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
pub struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    pub header: Option<Header>,
    #[prost(uint64, tag = "4")]
    pub leader: u64,
}

/// A message behind gRPC's five bytes: not compressed, its length.
pub fn framed(message: &impl Message) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.encoded_len());
    frame.put_u8(0);
    frame.put_u32(message.encoded_len() as u32);
    // A BytesMut takes whatever comes.
    let _ = message.encode(&mut frame);
    frame.freeze()
}

/// Takes the next whole message off what has come so far.
pub fn next<M: Message + Default>(buffer: &mut BytesMut) -> Result<Option<M>> {
    let Some(head) = buffer.first_chunk::<5>() else { return Ok(None) };
    if head[0] != 0 {
        bail!("a compressed message, which nobody asked for");
    }
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if buffer.len() < 5 + length {
        return Ok(None);
    }
    Ok(Some(M::decode(&buffer.split_to(5 + length)[5..])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_framed_is_read_once_it_is_whole() {
        let put = PutRequest { key: "k".into(), value: "v".into() };
        let frame = framed(&put);
        let mut buffer = BytesMut::from(&frame[..frame.len() - 1]);
        assert_eq!(next::<PutRequest>(&mut buffer).unwrap(), None);
        buffer.extend_from_slice(&frame[frame.len() - 1..]);
        assert_eq!(next::<PutRequest>(&mut buffer).unwrap(), Some(put));
        assert!(buffer.is_empty());
    }
}
