//! A restored state becomes that of a new group: its one voter is the member that has it.

use std::collections::BTreeMap;

use rocksdb::WriteBatch;

use super::{Current, Shared, StateHandle, meta};
use crate::{
    app::App,
    codec,
    error::FatalError,
    types::{Membership, Node, StoredMembership, Vote},
};

impl<A: App> StateHandle<A> {
    /// Makes `own` the only member, lets in the others of these names when they ask, and gives the node id that no member
    /// of the old group can have had, with the vote that the log must hold: whatever comes next is of a higher term than
    /// what is applied. Nothing runs yet; done again, it does the same.
    pub(crate) async fn refound(&self, own: Node, others: Vec<String>) -> Result<(u64, Vote), FatalError> {
        let shared = self.shared.clone();
        let done = conflux_common::blocking::spawn_blocking(move || shared.refound(own, &others)).await;
        done.unwrap_or_else(|e| Err(FatalError(format!("beginning a new group panicked: {e}"))))
    }
}

impl<A: App> Shared<A> {
    fn refound(&self, own: Node, others: &[String]) -> Result<(u64, Vote), FatalError> {
        let Current { generation, meta: before } = self.current.read().clone();
        let last = before.last.ok_or_else(|| FatalError("a restored state in which nothing is applied".into()))?;
        let db = generation.db();
        let mut batch = WriteBatch::default();
        let node_id = meta::admit(db, &mut batch, last.index(), &codec::node_to_proto(&own))?;
        for member in others {
            // A permission is an admission without addresses (`membership.rs`).
            let permitted = Node { member: member.clone(), ..Node::default() };
            meta::admit(db, &mut batch, last.index(), &codec::node_to_proto(&permitted))?;
        }
        let nodes: BTreeMap<u64, Node> = [(node_id, own)].into();
        let membership = Membership::new(vec![[node_id].into()], nodes)
            .map_err(|e| FatalError(format!("the membership of a restored group: {e}")))?;
        let mut after = (*before).clone();
        after.membership = StoredMembership::new(Some(last), membership);
        after.store(db, &mut batch)?;
        db.write(batch)?;
        db.flush_wal(true)?;
        self.current.write().meta = after.into();
        Ok((node_id, Vote::new(last.committed_leader_id().term + 1, node_id)))
    }
}
