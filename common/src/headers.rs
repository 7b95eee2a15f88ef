//! Header names. The internal ones are stripped by the gateway from whatever comes from outside.

use http::HeaderValue;

/// Chosen by the client or made by the gateway; on every answer.
pub const REQUEST_ID: &str = "x-request-id";
/// The tenant, where the path names none.
pub const TENANT: &str = "x-conflux-tenant";
/// A label of the client: the rest of the name is the label's.
pub const CLIENT_LABEL_PREFIX: &str = "x-client-label-";
/// Makes a write safe to repeat.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The other name of [`IDEMPOTENCY_KEY`].
pub const X_IDEMPOTENCY_KEY: &str = "x-idempotency-key";

/// The epoch that an answer is of.
pub const EPOCH: &str = "x-conflux-epoch";
/// `<incarnation>.<revision>` that an answer reflects.
pub const REVISION: &str = "x-conflux-revision";
/// How long ago, in milliseconds, a quorum confirmed the state that an answer reflects.
pub const AGE_MS: &str = "x-conflux-age-ms";
/// On an answer that is older than it may be, because the shard cannot be reached and the operator allows it: `outage`.
pub const STALE: &str = "x-conflux-stale";
/// The version of a fetched config.
pub const CONFIG_VERSION: &str = "x-config-version";
/// `sha256:<hex>` of a fetched content.
pub const CONFIG_HASH: &str = "x-config-hash";
/// gRPC errors: the JSON body that REST would answer.
pub const ERROR_BODY: &str = "x-conflux-error";

/// Internal: the verified principal, base64url of `conflux.internal.v1.Principal`.
pub const PRINCIPAL: &str = "x-conflux-principal";
/// Internal: the tenant's id that the gateway resolved.
pub const TENANT_ID: &str = "x-conflux-tenant-id";
/// Internal: the epoch that the gateway believes in.
pub const ROUTE_EPOCH: &str = "x-conflux-route-epoch";
/// Internal: milliseconds that are left for this call.
pub const DEADLINE_MS: &str = "x-conflux-deadline-ms";
/// Internal: the key that the gateway gave to a write without one.
pub const GATEWAY_KEY: &str = "x-conflux-gateway-key";
/// Internal, on answers: what the gateway can do about a refusal (one of [`retry`]).
pub const RETRY: &str = "x-conflux-retry";
/// Internal, on answers with [`RETRY`]: the member to ask instead, or the shard's epoch.
pub const RETRY_HINT: &str = "x-conflux-retry-hint";

/// Values of [`RETRY`].
pub mod retry {
    /// Not the leader; the hint names the leader's member where it is known. Nothing was proposed.
    pub const NOT_LEADER: &str = "not-leader";
    /// The tenant is not here under this epoch; the hint is the epoch that this shard knows. No effect.
    pub const WRONG_EPOCH: &str = "wrong-epoch";
    /// Busy or starting: another replica may do. Nothing was proposed.
    pub const TRY_OTHER: &str = "try-other";
    /// The tenant is being handed to another shard: hold the call and repeat it in a moment. No effect.
    pub const FROZEN: &str = "frozen";
    /// What the shard checked the call against has changed since. Inside a shard: it never leaves one.
    pub const RECHECK: &str = "recheck";
}

/// A value that is another one on nearly every message. h2 then does not keep it among the headers that it can repeat by number
/// (RFC 7541, 6.2.3), where it would only displace those that do come again.
pub fn unrepeated(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// Whether a header is internal: every `x-conflux-` but [`TENANT`].
pub fn is_internal(lower_case_name: &str) -> bool {
    lower_case_name.starts_with("x-conflux-") && lower_case_name != TENANT
}
