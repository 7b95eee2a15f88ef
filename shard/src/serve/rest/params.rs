//! Parameters and headers that several calls take, for the document. The calls read them through
//! [`Asked`](super::asked::Asked) and [`Conditions`](crate::serve::conditions::Conditions), which refuse what they do not know.
#![expect(dead_code, reason = "these describe what `asked` reads by name")]

use utoipa::{IntoParams, ToSchema};

/// How current a read must be.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Consistency {
    /// Any replica's state, with its age.
    Stale,
    /// The leader's state; not linearizable.
    Leader,
    /// Everything that was acknowledged before.
    Linearizable,
}

/// What a read demands.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Demanded {
    /// How current the answer must be. Fetches are `stale` by default, other reads `leader`.
    #[param(inline)]
    consistency: Option<Consistency>,
    /// The answer must reflect this revision, as an earlier answer's X-Conflux-Revision showed it.
    #[param(pattern = r"^([1-9][0-9]*\.(0|[1-9][0-9]*))?$", example = "1.1")]
    min_revision: Option<String>,
}

/// Which page of a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Paged {
    /// At most so many; 100 by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// What a write demands of the config that it changes.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct Conditional {
    /// Only if the config's ETag is still this one, else 412.
    #[param(rename = "If-Match", pattern = r#"^("[0-9]+\.[0-9]+"|[0-9]+\.[0-9]+)$"#, example = "\"1.17\"")]
    if_match: Option<String>,
    /// Only if the config does not exist, else 412. Not together with If-Match.
    #[param(rename = "If-None-Match", pattern = r"^\*$")]
    if_none_match: Option<String>,
}

/// What the client has already.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct Known {
    /// ETags of earlier fetches: 304 where the content is still one of them.
    #[param(rename = "If-None-Match")]
    if_none_match: Option<String>,
}
