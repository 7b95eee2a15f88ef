//! Reading bodies within the bounds of this replica. What is in them is described by the structs beside the handlers.

use std::sync::Arc;

use axum::body::Body;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use conflux_common::{
    body,
    error::{ApiError, Code},
};
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::call::Call;
use crate::shard::Shard;

/// Bytes of a JSON body: a content of 1 MiB in base64, and the rest.
pub const MAX_JSON: usize = 3 << 19;

/// Larger ones are read off the runtime.
const PARSE_INLINE: usize = 64 << 10;

/// A body with its place in the budget of this replica.
pub struct Collected {
    /// The bytes.
    pub bytes: Bytes,
    /// Held as long as they are worked on.
    pub room: Room,
}

/// A place in the budget of bodies.
pub type Room = OwnedSemaphorePermit;

/// Reads a body of at most `max` bytes within the caller's time.
pub async fn collect(
    shard: &Arc<Shard>,
    call: &Call,
    headers: &HeaderMap,
    body: Body,
    max: usize,
) -> Result<Collected, ApiError> {
    let too_large = || ApiError::too_large(format!("the body has more than {max} bytes"));
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    if declared.is_some_and(|length: usize| length > max) {
        return Err(too_large());
    }
    let room = shard.room_for(declared.unwrap_or(max))?;
    let late = |_| ApiError::new(Code::DeadlineExceeded, "the body did not arrive before the deadline");
    match timeout(call.left()?, Limited::new(body, max).collect()).await.map_err(late)? {
        Ok(whole) => Ok(Collected { bytes: whole.to_bytes(), room }),
        Err(e) if e.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
        Err(_) => Err(ApiError::invalid("body", "it ended early")),
    }
}

/// Reads a JSON body of at most [`MAX_JSON`] bytes into the struct that describes it; a large one off the runtime. Its
/// place in the budget is held as long as what it holds is worked on.
pub async fn read<T: DeserializeOwned + Send + 'static>(
    shard: &Arc<Shard>,
    call: &Call,
    headers: &HeaderMap,
    body: Body,
) -> Result<(T, Room), ApiError> {
    read_within(shard, call, headers, body, MAX_JSON).await
}

/// As [`read`], with another bound.
pub async fn read_within<T: DeserializeOwned + Send + 'static>(
    shard: &Arc<Shard>,
    call: &Call,
    headers: &HeaderMap,
    body: Body,
    max: usize,
) -> Result<(T, Room), ApiError> {
    let Collected { bytes, room } = collect(shard, call, headers, body, max).await?;
    let value = if bytes.len() <= PARSE_INLINE {
        body::json(&bytes)?
    } else {
        let task = conflux_common::blocking::spawn_blocking(move || body::json(&bytes));
        task.await.map_err(|e| ApiError::new(Code::Internal, format!("reading the body failed: {e}")))??
    };
    Ok((value, room))
}

/// The content of a body that has the fields `content` (text) and `content_base64`: one of them or neither. `at` is the
/// path of the object that holds them, empty for the body itself.
pub fn content(at: &str, text: Option<String>, base64: Option<String>) -> Result<Option<Bytes>, ApiError> {
    match (text, base64) {
        (Some(text), None) => Ok(Some(Bytes::from(text))),
        (None, Some(encoded)) => STANDARD
            .decode(encoded)
            .map(|bytes| Some(Bytes::from(bytes)))
            .map_err(|e| ApiError::invalid(below(at, "content_base64"), format!("no valid base64: {e}"))),
        (None, None) => Ok(None),
        (Some(_), Some(_)) => {
            Err(ApiError::invalid(below(at, "content"), "send only one of `content` and `content_base64`"))
        }
    }
}

/// The same where one of them must be there.
pub fn required_content(at: &str, text: Option<String>, base64: Option<String>) -> Result<Bytes, ApiError> {
    let missing = || ApiError::invalid(below(at, "content"), "missing: send `content` (text) or `content_base64`");
    content(at, text, base64)?.ok_or_else(missing)
}

/// The path of a field.
pub fn below(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text and base64 give the same bytes; both or none is a mistake that must not be guessed away.
    #[test]
    fn a_content_is_text_or_base64() {
        let given = |text: Option<&str>, base64: Option<&str>| {
            required_content("changes[2].put", text.map(str::to_owned), base64.map(str::to_owned))
        };
        assert_eq!(given(Some("a: 1"), None).unwrap(), given(None, Some("YTogMQ==")).unwrap());
        assert_eq!(given(None, Some("%")).unwrap_err().details[0].field, "changes[2].put.content_base64");
        assert_eq!(given(None, None).unwrap_err().details[0].field, "changes[2].put.content");
        assert!(given(Some("a"), Some("YQ==")).is_err());
        assert_eq!(content("", None, None).unwrap(), None);
    }
}
