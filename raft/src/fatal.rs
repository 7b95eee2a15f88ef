//! The one place where a failure that must stop the process is reported.

use std::sync::Arc;

use tokio::sync::watch;

use crate::error::FatalError;

/// Reports the first failure to whoever waits for it. Clones share one state.
#[derive(Debug, Clone)]
pub struct Fatal {
    first: Arc<watch::Sender<Option<FatalError>>>,
}

impl Fatal {
    /// Nothing has failed.
    pub fn new() -> Self {
        Self { first: Arc::new(watch::Sender::new(None)) }
    }

    /// Reports a failure: the first one stays. Gives the error back, for `map_err`.
    pub fn report(&self, error: FatalError) -> FatalError {
        self.first.send_if_modified(|first| {
            if first.is_some() {
                return false;
            }
            tracing::error!(%error, "this replica must stop");
            *first = Some(error.clone());
            true
        });
        error
    }

    /// Reports a failure and makes it an I/O error for openraft, which then stops as well.
    pub fn io(&self, error: impl Into<FatalError>) -> std::io::Error {
        std::io::Error::other(self.report(error.into()))
    }

    /// What failed, if something did.
    pub fn check(&self) -> Result<(), FatalError> {
        self.first.borrow().clone().map_or(Ok(()), Err)
    }

    /// Resolves once something has failed.
    pub async fn failed(&self) -> FatalError {
        let mut receiver = self.first.subscribe();
        let found = receiver.wait_for(Option::is_some).await.ok().and_then(|first| first.clone());
        // `self` holds the sender, so the channel cannot close while this waits.
        found.unwrap_or_else(|| FatalError("stopped".into()))
    }
}

impl Default for Fatal {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // What an operator must see is the cause, not what followed from it.
    #[tokio::test]
    async fn the_first_failure_stays() {
        let fatal = Fatal::new();
        assert!(fatal.check().is_ok());
        fatal.report(FatalError("cause".into()));
        fatal.report(FatalError("consequence".into()));
        assert_eq!(fatal.failed().await.0, "cause");
        assert_eq!(fatal.check().unwrap_err().0, "cause");
    }
}
