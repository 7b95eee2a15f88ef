//! What can go wrong, by operation.

use std::time::Duration;

use conflux_common::error::{ApiError, Code, Hint};

/// The process must stop: storage failed or a state machine broke its rules. Never retried.
#[derive(Debug, Clone, thiserror::Error)]
#[error("fatal: {0}")]
pub struct FatalError(pub String);

impl From<rocksdb::Error> for FatalError {
    fn from(e: rocksdb::Error) -> Self {
        FatalError(format!("storage: {e}"))
    }
}

/// Why a node cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is another member's, of a newer format, or damaged. Says what to do.
    #[error("{0}")]
    Refused(String),
    /// Storage failed.
    #[error(transparent)]
    Fatal(#[from] FatalError),
    /// The file system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Why a proposal has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// Not the leader; nothing was proposed.
    #[error("not the leader")]
    NotLeader {
        /// The leader's member name, where it is known.
        leader: Option<String>,
    },
    /// The queue is full; nothing was proposed.
    #[error("too many writes in flight")]
    Overloaded,
    /// The command is larger than an entry may be; nothing was proposed.
    #[error("the command has {size} bytes, more than {max}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The bound in bytes.
        max: usize,
    },
    /// The disk is nearly full and the command grows the state; nothing was proposed.
    #[error("the disk is nearly full")]
    DiskFull,
    /// The answer was lost (leadership, deadline): it may still be applied.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// The node is stopping or has stopped; nothing was proposed.
    #[error("stopping")]
    Stopping,
    /// A membership change or hand-over that would do harm or cannot be done; nothing was proposed.
    #[error("{0}")]
    Refused(String),
}

/// Why a read cannot be served.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// Only the leader can serve it.
    #[error("not the leader")]
    NotLeader {
        /// The leader's member name, where it is known.
        leader: Option<String>,
    },
    /// No quorum answered within the deadline.
    #[error("no quorum within {0:?}")]
    NoQuorum(Duration),
    /// Starting, stopping, or a snapshot is being swapped in.
    #[error("not ready")]
    NotReady,
    /// Storage failed.
    #[error(transparent)]
    Fatal(#[from] FatalError),
}

impl From<ProposeError> for ApiError {
    fn from(e: ProposeError) -> Self {
        let text = e.to_string();
        match e {
            ProposeError::NotLeader { leader } => ApiError::elsewhere(Hint::NotLeader(leader), text),
            ProposeError::Overloaded => {
                ApiError::new(Code::ResourceExhausted, text).retry_after(Duration::from_millis(200))
            }
            ProposeError::TooLarge { .. } => ApiError::too_large(text),
            ProposeError::DiskFull => ApiError::new(Code::ResourceExhausted, format!("{text}: free space or delete")),
            ProposeError::Unknown(_) => ApiError::new(Code::Unavailable, text).outcome_unknown(),
            ProposeError::Stopping => ApiError::elsewhere(Hint::NotLeader(None), text),
            ProposeError::Refused(_) => ApiError::new(Code::FailedPrecondition, text),
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(e: ReadError) -> Self {
        let text = e.to_string();
        match e {
            ReadError::NotLeader { leader } => ApiError::elsewhere(Hint::NotLeader(leader), text),
            ReadError::NoQuorum(_) | ReadError::NotReady => ApiError::elsewhere(Hint::TryOther, text),
            ReadError::Fatal(_) => ApiError::new(Code::Internal, "storage failed on this replica"),
        }
    }
}
