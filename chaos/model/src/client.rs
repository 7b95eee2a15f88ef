//! A client behind a gateway: writes one after another, each repeated under its key until it is answered.
//!
//! A gateway's route may be any that ever was: a write reaches whichever shard serves, whenever. What it must not do is have an effect at one that no
//! longer serves when the write is applied. Watchers need no state of their own: whoever serves watches has a history that the owner's
//! begins with, so that a watcher that goes from one to the other sees one sequence.

/// A write's number, which is its idempotency key too. The first is there at the beginning.
pub type Write = u8;
