//! A model of the move of a tenant between two shard groups (docs/adr/0003-moves.md), small enough to be explored whole.
//!
//! | part | stands for | file |
//! |---|---|---|
//! | placement | one record, changed by compare-and-set: the group is linearizable, so it is one value | [`placement`] |
//! | two shards | what their applied log has made of them, and a queue of entries that are proposed but not yet applied | [`shard`] |
//! | network | the set of all messages ever sent: each may arrive at any time, any number of times, or never | [`message`] |
//! | gateway and client | a route that may be old, writes that are repeated under their key, a watcher | [`client`] |
//!
//! A crash takes a shard's queue away: entries that were proposed and never replicated. The reconciler has no state of its own: every order that it
//! has ever sent stays in the network, which is what a deposed leader of placement amounts to. A look-up is atomic, and what came of it may be
//! applied much later: that gap is where such protocols fail.
//!
//! [`Rules`] can be taken away one by one; the tests show that each is needed.

pub mod client;
pub mod invariants;
pub mod message;
pub mod placement;
pub mod shard;
pub mod system;

pub use system::{Action, Moves, Rules, System};
