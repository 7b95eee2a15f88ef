//! Archives: an application or environment as a zip, and back.

use std::sync::Arc;

use axum::{body::Body, extract::State, response::Response};
use conflux_common::{error::ApiError, ids::InvalidName};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{asked::Asked, params::Demanded};
use crate::{
    archive::bounds,
    serve::{
        admission::Refused,
        answer,
        body::collect,
        conditions::Level,
        managing::{self, Destination, Outcome, Selection},
    },
    shard::Shard,
};

const MEDIA_TYPE: &str = "application/zip";

/// The calls below `/api/v1/mgt/{tenant}`.
pub fn routes() -> OpenApiRouter<Arc<Shard>> {
    OpenApiRouter::new().routes(routes!(export)).routes(routes!(import))
}

/// Export configs as an archive.
///
/// A zip with `manifest.json` and the content of each config that the caller may read: what its default rule serves, else its
/// latest version (`released` in the manifest says which). Rules with labels or a share, older versions and drafts are not in it.
/// At most 8 MiB, 2,000 entries and 64 MiB unpacked: 413 says to export less at once.
#[utoipa::path(
    get, path = "/export", tag = "archives",
    params(
        ("app" = Option<String>, Query, description = "Only this application."),
        ("env" = Option<String>, Query, description = "Only this environment; needs `app`."),
        ("prefix" = Option<String>, Query, description = "Only configs whose names begin so."),
        Demanded
    ),
    responses((status = 200, description = "The archive.", body = [u8], content_type = "application/zip"))
)]
async fn export(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let selection = Selection { app: asked.param("app"), env: asked.param("env"), prefix: asked.param("prefix") };
    if selection.app.is_empty() && !selection.env.is_empty() {
        return Err(ApiError::invalid("app", "`env` is of one application: name it").into());
    }
    let demand = asked.demand(Level::Leader)?;
    asked.no_more_params()?;
    let name = [selection.app.as_str(), selection.env.as_str()].into_iter().filter(|part| is_plain(part));
    let name = name.collect::<Vec<_>>().join("-");
    let (at, bytes) = managing::export(&shard, &asked.call, selection, demand).await?;
    let mut response = answer::json(&at, &());
    *response.body_mut() = Body::from(bytes);
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    let file = format!("attachment; filename=\"{}.zip\"", if name.is_empty() { "configs" } else { &name });
    if let Ok(file) = HeaderValue::from_str(&file) {
        out.insert(header::CONTENT_DISPOSITION, file);
    }
    Ok(response)
}

/// Whether it may stand in a file's name as it is. What cannot be a name finds nothing anyway.
fn is_plain(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// What an import did, or would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportReport {
    /// `app/env/name` of each config that is new.
    created: Vec<String>,
    /// Of each whose content, release or record is another.
    changed: Vec<String>,
    /// Of each that was like that already.
    unchanged: Vec<String>,
    /// Nothing was written.
    dry_run: bool,
}

/// Import an archive.
///
/// Puts each config of the archive in place, in changesets of at most 100 configs, each all or nothing: description, tags, schema and
/// retention; and its content, which is released by default where the archive says that it was. Rules with labels or a share, and
/// configs that are not in the archive, stay as they are. The same archive again changes nothing, so that an import that was
/// interrupted is simply repeated.
#[utoipa::path(
    post, path = "/import", tag = "archives",
    params(
        ("app" = Option<String>, Query, description = "In place of the archive's application."),
        ("env" = Option<String>, Query, description = "In place of the archive's environment."),
        ("dry_run" = Option<bool>, Query, description = "Only say what would be done.")
    ),
    request_body(content = [u8], content_type = "application/zip", description = "As `GET /export` gives it: at most 8 MiB."),
    responses((status = 200, description = "What was done.", body = ImportReport))
)]
async fn import(State(shard): State<Arc<Shard>>, mut asked: Asked, body: Body) -> Result<Response, Refused> {
    let name = |text: String| Some(text).filter(|text| !text.is_empty());
    let to = Destination {
        app: name(asked.param("app")).map(|app| app.parse()).transpose().map_err(|e: InvalidName| ApiError::from(e))?,
        env: name(asked.param("env")).map(|env| env.parse()).transpose().map_err(|e: InvalidName| ApiError::from(e))?,
        dry_run: asked.flag("dry_run")?,
    };
    asked.no_more_params()?;
    let whole = collect(&shard, &asked.call, &asked.headers, body, bounds::ARCHIVE).await?;
    let dry_run = to.dry_run;
    let imported = managing::import(&shard, &asked.call, whole.bytes.clone(), to).await?;
    let of = |outcome: Outcome| {
        let those = imported.iter().filter(|config| config.outcome == outcome);
        those.map(|c| format!("{}/{}/{}", c.app, c.env, c.name)).collect()
    };
    let report = ImportReport {
        created: of(Outcome::Created),
        changed: of(Outcome::Changed),
        unchanged: of(Outcome::Unchanged),
        dry_run,
    };
    Ok(answer::plain(StatusCode::OK, &report))
}
