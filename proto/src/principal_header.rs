//! The principal as a header. A few principals make nearly all calls and each has dozens of grants, so that both ends remember
//! what they wrote and read last: writing and reading anew took a tenth of a proxied fetch.

use std::sync::{Arc, LazyLock};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use conflux_common::{error::ApiError, grant::Principal, headers};
use http::HeaderValue;
use prost::Message;
use quick_cache::sync::Cache;

use crate::{internal, principal};

/// Principals that each end remembers; one takes some kilobytes.
const REMEMBERED: usize = 512;

/// By the address of a principal, which the entry itself keeps from being given to another.
static WRITTEN: LazyLock<Cache<usize, (Arc<Principal>, HeaderValue)>> = LazyLock::new(|| Cache::new(REMEMBERED));
static READ: LazyLock<Cache<HeaderValue, Arc<Principal>>> = LazyLock::new(|| Cache::new(REMEMBERED));

/// The header's value. None cannot be: base64 is fit for headers.
pub(crate) fn of(principal: &Arc<Principal>) -> Option<HeaderValue> {
    let address = Arc::as_ptr(principal).addr();
    if let Some((_, value)) = WRITTEN.get(&address) {
        return Some(value);
    }
    let text = URL_SAFE_NO_PAD.encode(principal::to_wire(principal).encode_to_vec());
    let value = HeaderValue::from_str(&text).ok()?;
    WRITTEN.insert(address, (principal.clone(), value.clone()));
    Some(value)
}

/// Reads the header's value; only a broken gateway gets an error here.
pub(crate) fn read(value: Option<&HeaderValue>) -> Result<Arc<Principal>, ApiError> {
    let unreadable = || ApiError::invalid(headers::PRINCIPAL, "missing or unreadable");
    let value = value.ok_or_else(unreadable)?;
    if let Some(principal) = READ.get(value) {
        return Ok(principal);
    }
    let bytes = URL_SAFE_NO_PAD.decode(value.as_bytes()).map_err(|_| unreadable())?;
    let wire = internal::Principal::decode(bytes.as_slice()).map_err(|_| unreadable())?;
    let principal = principal::from_wire(&wire).map_err(|e| ApiError::invalid(headers::PRINCIPAL, e.to_string()))?;
    let principal = Arc::new(principal);
    READ.insert(value.clone(), principal.clone());
    Ok(principal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(n: u64) -> Arc<Principal> {
        let tenant = Some("acme".parse().unwrap());
        Arc::new(Principal { name: format!("key:{n}"), tenant, operator: false, grants: vec![], directory_seq: n })
    }

    /// Principals come and go at the same addresses: none may ever speak for another.
    #[test]
    fn each_principal_is_its_own_whatever_was_remembered() {
        for n in 0..4 * REMEMBERED as u64 {
            let said = principal(n);
            for _ in 0..2 {
                let value = of(&said).unwrap();
                assert_eq!(*read(Some(&value)).unwrap(), *said);
            }
        }
    }

    #[test]
    fn what_no_gateway_writes_is_refused() {
        for broken in [None, Some("%"), Some("AAAA")] {
            let value = broken.map(HeaderValue::from_static);
            assert!(read(value.as_ref()).is_err(), "{broken:?}");
        }
    }
}
