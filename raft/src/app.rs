//! What a replicated application is to the node.

use bytes::Bytes;

use crate::{
    backup::Content,
    error::FatalError,
    view::{Tx, View},
};

/// A deterministic state machine. Every replica calls [`App::apply`] with the same entries in the same order, and must
/// come to the same rows and answers: no clock, no random number, no hash-map order, no I/O but the [`Tx`].
pub trait App: Send + Sync + 'static {
    /// What an applied command tells this process, once its batch is committed.
    type Notice: Send + 'static;

    /// The highest replicated level that this binary can apply (DESIGN section 3). Starts at 1.
    const LEVEL: u32;

    /// Applies one command. What it puts into `tx` is committed in one batch with the Raft bookkeeping.
    ///
    /// A refusal is an answer, not an error; an error here stops the process.
    fn apply(&self, entry: &Entry<'_>, tx: &mut Tx<'_>) -> Result<Applied<Self::Notice>, FatalError>;

    /// Called after the batch is committed and before its writers are answered, in log order. Must not block.
    fn committed(&self, notices: Vec<Self::Notice>);

    /// The whole state was replaced by a snapshot: whoever follows changes must join anew.
    fn replaced(&self, view: &View<'_>);

    /// What the state holds, tenant by tenant, for backups and for comparing two states. Reads everything: for checkpoints.
    fn contents(&self, view: &View<'_>) -> Result<Vec<Content>, FatalError> {
        let _ = view;
        Ok(Vec::new())
    }

    /// Checks what must hold of the rows that `tx` touched; called after each apply in debug builds and on a sample in
    /// release builds. The text says which invariant fails.
    fn check(&self, tx: &Tx<'_>) -> Result<(), String>;
}

/// A committed command.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Its index in the log.
    pub index: u64,
    /// Group time in milliseconds since the Unix epoch: never less than that of an earlier entry.
    pub stamp_ms: u64,
    /// The replicated level under which every replica applies it.
    pub level: u32,
    /// The command as it was proposed.
    pub command: &'a [u8],
}

/// What became of a command.
#[derive(Debug)]
pub struct Applied<N> {
    /// For the one who proposed it.
    pub answer: Bytes,
    /// For this process, see [`App::committed`].
    pub notices: Vec<N>,
}
