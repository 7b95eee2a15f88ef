//! Whether a watch may go on: asked again with every change of the directory, and when a credential expires.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use conflux_common::{
    error::{ApiError, Code},
    grant::{Action, Principal},
    ids::TenantName,
};
use tokio::sync::watch;

use super::selection::Selection;
use crate::{
    directory::Directory,
    identity::{Credential, Identity, Refusal},
};

/// How often it is looked whether placement has been silent for too long: nothing else tells.
const LOOK: Duration = Duration::from_millis(250);

/// Tells all watchers at once to ask again.
pub struct Trust {
    directory: Directory,
    changed: watch::Sender<()>,
}

impl Trust {
    /// In this directory.
    pub fn new(directory: Directory) -> Arc<Self> {
        Arc::new(Self { directory, changed: watch::Sender::default() })
    }

    /// Wakes when answers of [`Trust::check`] may have changed (but for expiry, which has its time).
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Passes on `changes` of the directory, and that it has fallen (or is no longer) silent.
    pub async fn keep(&self, mut changes: watch::Receiver<u64>) {
        let mut look = tokio::time::interval(LOOK);
        let mut heard = self.directory.within_grace();
        loop {
            let tell = tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => true,
                    Err(_) => return,
                },
                _ = look.tick() => std::mem::replace(&mut heard, self.directory.within_grace()) != heard,
            };
            if tell {
                self.changed.send_replace(());
            }
        }
    }

    /// Whether this identity may watch that now; if so, for how long at most.
    pub fn check(
        &self,
        identity: &Identity,
        tenant: &TenantName,
        selection: &Selection,
    ) -> Result<Option<Duration>, ApiError> {
        let now = SystemTime::now();
        let principal = self.directory.recheck(identity, now).map_err(|refusal| match refusal {
            Refusal::Invalid => ApiError::new(Code::Unauthenticated, "the credential is not (or no longer) valid"),
            Refusal::Unknowable => {
                ApiError::new(Code::Unavailable, "identities cannot be checked at present: watch again later")
                    .retry_after(Duration::from_secs(1))
            }
        })?;
        permit(&principal, tenant, selection)?;
        Ok(self.expiry(&identity.credential).map(|at| at.duration_since(now).unwrap_or_default()))
    }

    fn expiry(&self, credential: &Credential) -> Option<SystemTime> {
        match credential {
            Credential::Key(id) => {
                let expires = self.directory.key(id).map_or(0, |record| record.expires_ms);
                (expires != 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(expires))
            }
            Credential::Token { expires, .. } => Some(*expires),
            Credential::Certificate(_) => None,
        }
    }
}

/// One must be allowed to read everything that the watch could speak of.
fn permit(principal: &Principal, tenant: &TenantName, selection: &Selection) -> Result<(), ApiError> {
    if principal.covers(tenant) && principal.may(Action::Read, selection.resource()) {
        return Ok(());
    }
    let why = "the credential may not read all that this watch selects: watch a narrower part (app, env, name)";
    Err(ApiError::new(Code::PermissionDenied, why))
}

#[cfg(test)]
mod tests {
    use conflux_proto::internal::{Grant, KeyRecord, RoleRecord, change::Change};

    use super::*;
    use crate::watch::selection::Wish;

    fn directory(pattern: &str, key: KeyRecord) -> Directory {
        let directory = Directory::new(Duration::from_secs(900));
        let grants = vec![Grant { action: "read".into(), pattern: pattern.into() }];
        let role = RoleRecord { tenant: "acme".into(), name: "r".into(), grants };
        directory.change(1, |c| {
            c.apply(&Change::Role(role));
            c.apply(&Change::Key(key));
        });
        directory
    }

    fn key() -> KeyRecord {
        KeyRecord { id: "k".into(), tenant: "acme".into(), roles: vec!["r".into()], ..Default::default() }
    }

    fn identity() -> Identity {
        let principal = Principal {
            name: "key:k".into(),
            tenant: Some("acme".parse().unwrap()),
            operator: false,
            grants: vec![],
            directory_seq: 0,
        };
        Identity { principal: Arc::new(principal), credential: Credential::Key("k".into()) }
    }

    fn check(directory: &Directory, tenant: &str, query: &str) -> Result<Option<Duration>, Code> {
        let selection = Wish::of_rest(Some(query), &http::HeaderMap::new()).unwrap().selection().unwrap();
        let trust = Trust::new(directory.clone());
        trust.check(&identity(), &tenant.parse().unwrap(), &selection).map_err(|e| e.code)
    }

    #[test]
    fn a_grant_must_cover_the_whole_selection() {
        // Filtering instead would tell of configs that exist, and hide a mistake in a role.
        let directory = directory("shop/dev/*", key());
        assert_eq!(check(&directory, "acme", "app=shop&env=dev"), Ok(None));
        assert_eq!(check(&directory, "acme", "app=shop&env=dev&name=x"), Ok(None));
        for wider in ["", "app=shop", "app=shop&env=prod"] {
            assert_eq!(check(&directory, "acme", wider), Err(Code::PermissionDenied), "{wider}");
        }
        assert_eq!(check(&directory, "other", "app=shop&env=dev"), Err(Code::PermissionDenied));
    }

    #[test]
    fn a_key_that_is_gone_or_past_its_time_is_refused() {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
        let soon = directory("*/*/*", KeyRecord { expires_ms: now + 60_000, ..key() });
        let left = check(&soon, "acme", "").unwrap().unwrap();
        assert!(left > Duration::from_secs(50) && left <= Duration::from_secs(60), "{left:?}");
        let past = directory("*/*/*", KeyRecord { expires_ms: now - 1, ..key() });
        assert_eq!(check(&past, "acme", ""), Err(Code::Unauthenticated));
        soon.change(2, |c| {
            c.apply(&Change::KeyGone("k".into()));
        });
        assert_eq!(check(&soon, "acme", ""), Err(Code::Unauthenticated));
        let never_heard = Directory::new(Duration::from_secs(900));
        assert_eq!(check(&never_heard, "acme", ""), Err(Code::Unavailable), "503, never 401");
    }
}
