//! Which configs a caller may know of.

use conflux_common::{
    error::{ApiError, Code},
    grant::Action,
    ids::ConfigId,
};
use conflux_proto::store;
use conflux_raft::View;

use crate::{
    query::{self, TenantRow},
    serve::{call::Call, writing::no_config},
};

/// The config's record where the caller may see it: nobody else learns that it exists.
pub(super) fn visible(view: &View<'_>, row: &TenantRow, call: &Call, id: ConfigId) -> Result<store::Config, ApiError> {
    let found = query::get_config(view, row, id).map_err(|e| match e.code {
        Code::NotFound => no_config(id),
        _ => e,
    })?;
    if call.sees(&found.app, &found.env, &found.name) { Ok(found) } else { Err(no_config(id)) }
}

/// The same, and the caller may read what is in it.
pub(super) fn readable(view: &View<'_>, row: &TenantRow, call: &Call, id: ConfigId) -> Result<store::Config, ApiError> {
    let found = visible(view, row, call, id)?;
    call.require(&[Action::Read], &found.app, &found.env, &found.name)?;
    Ok(found)
}
