//! What those ask who manage configuration. One function for each call, by topic; REST and gRPC are skins.

mod archives;
mod audit;
mod changesets;
mod checked;
mod comparing;
mod configs;
mod content;
mod drafts;
mod environments;
mod publishing;
mod releases;
mod scopes;
mod seen;
mod steps;
mod usage;
mod versions;

use conflux_common::{
    error::ApiError,
    grant::Action,
    ids::{AppName, ConfigName, EnvName},
};

pub use archives::{Destination, Imported, Outcome, Selection, export, import};
pub use audit::{list_audit, verify_audit};
pub use changesets::{Planned, apply_changeset};
pub use comparing::{ComparedVersions, diff_versions, validate};
pub use configs::{Change, Creation, config, create_config, delete_config, list_configs, put_config, update_config};
pub use content::{Sent, content_too_large};
pub use drafts::{SavedDraft, draft, drafts, drop_draft, save_draft};
pub use environments::{Compared, Pair, Promoted, Promotion, Relation, Side, compare, promote};
pub use publishing::{Preview, Publication, Source, cancel_promotion, preview, publish, rollback};
pub use releases::{releases, resolve, set_releases};
pub use scopes::{ScopeName, delete_scope, describe_scope, list_scopes, make_scope, scope};
pub use usage::{Proposed, UsedConfig, impact, impact_of, unused, usage};
pub use versions::{create_version, list_versions, version};

use super::call::Call;

/// Where a config is.
#[derive(Debug, Clone)]
pub struct Place {
    /// The application.
    pub app: AppName,
    /// The environment.
    pub env: EnvName,
    /// The config's name.
    pub name: ConfigName,
}

impl Place {
    /// Checks the three names.
    pub fn new(app: &str, env: &str, name: &str) -> Result<Self, ApiError> {
        Ok(Self { app: app.parse()?, env: env.parse()?, name: name.parse()? })
    }

    fn require(&self, call: &Call, actions: &[Action]) -> Result<(), ApiError> {
        call.require(actions, self.app.as_str(), self.env.as_str(), self.name.as_str())
    }
}

/// Which page of a listing.
#[derive(Debug, Clone, Default)]
pub struct PageAsked {
    /// 0: the default.
    pub limit: u32,
    /// Of the page before; empty: the first.
    pub cursor: String,
}
