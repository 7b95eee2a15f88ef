//! Several writes that are done as one.

use std::sync::Arc;

use crate::{database::ColumnFamily, image::Rows};

#[derive(Clone)]
enum Write {
    Put(usize, Arc<[u8]>, Arc<[u8]>),
    Delete(usize, Arc<[u8]>),
    DeleteRange(usize, Arc<[u8]>, Arc<[u8]>),
}

/// Writes in order, all or nothing.
#[derive(Clone, Default)]
pub struct WriteBatch(Vec<Write>);

impl WriteBatch {
    /// Sets a row.
    pub fn put_cf(&mut self, family: &ColumnFamily, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.0.push(Write::Put(family.0, key.as_ref().into(), value.as_ref().into()));
    }

    /// Removes a row.
    pub fn delete_cf(&mut self, family: &ColumnFamily, key: impl AsRef<[u8]>) {
        self.0.push(Write::Delete(family.0, key.as_ref().into()));
    }

    /// Removes the rows from `from` to before `to`.
    pub fn delete_range_cf(&mut self, family: &ColumnFamily, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) {
        self.0.push(Write::DeleteRange(family.0, from.as_ref().into(), to.as_ref().into()));
    }

    pub(crate) fn apply(&self, families: &mut [Rows]) {
        for write in &self.0 {
            match write {
                Write::Put(family, key, value) => {
                    families[*family].insert(key.clone(), value.clone());
                }
                Write::Delete(family, key) => {
                    families[*family].remove(key);
                }
                Write::DeleteRange(family, from, to) if from < to => {
                    let rows = &mut families[*family];
                    let gone: Vec<_> = rows.range(from.clone()..to.clone()).map(|(key, _)| key.clone()).collect();
                    for key in gone {
                        rows.remove(&key);
                    }
                }
                Write::DeleteRange(..) => {}
            }
        }
    }
}
