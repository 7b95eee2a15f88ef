//! Applications and environments.

use std::sync::Arc;

use conflux_common::{
    error::{ApiError, Code},
    grant::{Action, Resource},
    ids::{AppName, EnvName},
};
use conflux_proto::{
    log::{self, shard_command::Op},
    v1,
};
use conflux_raft::View;

use super::PageAsked;
use crate::{
    query::{self, Scope, TenantRow},
    serve::{
        call::Call,
        conditions::{Conditions, Demand},
        reading::{Stamp, Weight, read},
        writing::{Target, write},
    },
    shard::Shard,
};

/// An application, or an environment of it.
#[derive(Debug, Clone)]
pub struct ScopeName {
    /// The application.
    pub app: AppName,
    /// The environment; none: the application itself.
    pub env: Option<EnvName>,
}

impl ScopeName {
    fn env(&self) -> Option<&str> {
        self.env.as_ref().map(EnvName::as_str)
    }

    fn parts(self) -> (String, String) {
        (self.app.into(), self.env.map(String::from).unwrap_or_default())
    }

    /// PERMISSION_DENIED unless the grant covers all that is in it; the same whether it is there or not.
    fn require(&self, call: &Call, action: Action) -> Result<(), ApiError> {
        let whole = Resource { app: Some(self.app.as_str()), env: self.env(), name: None };
        if call.principal.may(action, whole) {
            return Ok(());
        }
        let shown = match self.env() {
            Some(env) => format!("{}/{env}/*", self.app),
            None => format!("{}/*/*", self.app),
        };
        let text = format!("{} may not {action} {shown}: ask for a role with that grant", call.principal.name);
        Err(ApiError::new(Code::PermissionDenied, text))
    }
}

/// Whether the caller may know that it is there: something in it may be listed or read.
fn sees(call: &Call, app: &str, env: Option<&str>) -> bool {
    [Action::List, Action::Read].into_iter().any(|action| call.principal.may_within(action, app, env))
}

/// The applications, or the environments of one, and the cursor of the next page.
pub async fn list_scopes(
    shard: &Arc<Shard>,
    call: &Call,
    app: Option<AppName>,
    page: PageAsked,
    demand: Demand,
) -> Result<(Stamp, (Vec<Scope>, String)), ApiError> {
    let caller = call.clone();
    let from = move |view: &View<'_>, row: &TenantRow| {
        let app = app.as_ref().map(AppName::as_str);
        let visible = |name: &str| match app {
            Some(app) => sees(&caller, app, Some(name)),
            None => sees(&caller, name, None),
        };
        if let Some(app) = app {
            found(view, row, &caller, app, None)?;
        }
        query::list_scopes(view, row, app, page.limit, &page.cursor, &visible)
    };
    read(shard, call, demand, Weight::Scan, from).await
}

/// One of them.
pub async fn scope(
    shard: &Arc<Shard>,
    call: &Call,
    name: ScopeName,
    demand: Demand,
) -> Result<(Stamp, Scope), ApiError> {
    let caller = call.clone();
    let from = move |view: &View<'_>, row: &TenantRow| found(view, row, &caller, name.app.as_str(), name.env());
    read(shard, call, demand, Weight::Point, from).await
}

/// What one may not see answers like what is not there.
fn found(view: &View<'_>, row: &TenantRow, call: &Call, app: &str, env: Option<&str>) -> Result<Scope, ApiError> {
    let visible = sees(call, app, env);
    let found = query::scope(view, row, app, env);
    let missing = || match env {
        Some(env) => format!("environment {app}/{env} does not exist"),
        None => format!("application {app} does not exist"),
    };
    if visible { found } else { Err(ApiError::new(Code::NotFound, missing())) }
}

/// Makes one that is not there.
pub async fn make_scope(
    shard: &Arc<Shard>,
    call: &Call,
    name: ScopeName,
    description: String,
) -> Result<v1::WriteResponse, ApiError> {
    put(shard, call, name, description, false).await
}

/// Describes one that is there anew.
pub async fn describe_scope(
    shard: &Arc<Shard>,
    call: &Call,
    name: ScopeName,
    description: String,
) -> Result<v1::WriteResponse, ApiError> {
    put(shard, call, name, description, true).await
}

async fn put(
    shard: &Arc<Shard>,
    call: &Call,
    name: ScopeName,
    description: String,
    existing: bool,
) -> Result<v1::WriteResponse, ApiError> {
    name.require(call, Action::Write)?;
    let (app, env) = name.parts();
    let op = Op::PutScope(log::PutScope { app, env, description, existing });
    write(shard, call, Conditions::default(), Target::Named, op).await
}

/// Deletes one that has nothing in it.
pub async fn delete_scope(shard: &Arc<Shard>, call: &Call, name: ScopeName) -> Result<v1::WriteResponse, ApiError> {
    name.require(call, Action::Delete)?;
    let (app, env) = name.parts();
    let op = Op::DeleteScope(log::DeleteScope { app, env });
    write(shard, call, Conditions::default(), Target::Named, op).await
}
