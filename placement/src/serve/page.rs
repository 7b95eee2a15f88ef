//! Lists in pages: `?limit=&cursor=`; the answer's `next_cursor` is there while more follows.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use conflux_common::error::ApiError;
use conflux_raft::{FatalError, Read};
use prost::Message;

use crate::store::rows::list;

/// Without `limit`.
const DEFAULT_LIMIT: u32 = 100;
/// The largest page.
const MAX_LIMIT: u32 = 1000;

/// Where a page begins and how long it may be.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    limit: usize,
    after: Option<Vec<u8>>,
}

/// How long a page may be.
pub fn limit(asked: Option<u32>) -> Result<usize, ApiError> {
    let limit = asked.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::invalid("limit", format!("1 to {MAX_LIMIT}")));
    }
    Ok(limit as usize)
}

/// It comes from nowhere.
pub fn wrong_cursor() -> ApiError {
    ApiError::invalid("cursor", "not the next_cursor of an earlier page")
}

impl Page {
    /// Reads `limit` and `cursor`.
    pub fn new(limit: Option<u32>, cursor: Option<&str>) -> Result<Page, ApiError> {
        let limit = self::limit(limit)?;
        let after = cursor
            .filter(|c| !c.is_empty())
            .map(|c| URL_SAFE_NO_PAD.decode(c))
            .transpose()
            .map_err(|_| wrong_cursor())?;
        Ok(Page { limit, after })
    }

    /// The rows of `from..to` on this page, and the cursor of the next one. A cursor cannot lead out of the range.
    pub fn of<M: Message + Default>(
        &self,
        rows: &impl Read,
        (from, to): (Vec<u8>, Vec<u8>),
    ) -> Result<(Vec<M>, Option<String>), FatalError> {
        let start = match &self.after {
            // The next key in order: the same with a zero byte more.
            Some(after) => [after.as_slice(), &[0]].concat().max(from),
            None => from,
        };
        let mut found = list(rows, (&start, &to), self.limit + 1)?;
        let more = found.len() > self.limit;
        found.truncate(self.limit);
        let next = found.last().filter(|_| more).map(|(key, _)| URL_SAFE_NO_PAD.encode(key));
        Ok((found.into_iter().map(|(_, message)| message).collect(), next))
    }
}

#[cfg(test)]
mod tests {
    use conflux_proto::internal::TenantRecord;
    use conflux_raft::view::MemoryState;

    use super::*;
    use crate::store::{Family, Key, rows::save};

    /// Pages in a row are the whole list, each row once, and no cursor shows rows of another family.
    #[test]
    fn pages_join_to_the_list() {
        let mut state = MemoryState::new();
        state.apply(|tx| {
            for id in 1..=7 {
                save(tx, &Key::Tenant(id), &TenantRecord { id, ..Default::default() });
            }
            save(tx, &Key::Group("g".into()), &TenantRecord::default());
        });
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let page = Page::new(Some(3), cursor.as_deref()).unwrap();
            let (rows, next) = state.read(|v| page.of::<TenantRecord>(v, Family::Tenant.range())).unwrap();
            seen.extend(rows.into_iter().map(|t| t.id));
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, (1..=7).collect::<Vec<_>>());
        let stray = Page::new(None, Some(&URL_SAFE_NO_PAD.encode([0]))).unwrap();
        let (rows, _) = state.read(|v| stray.of::<TenantRecord>(v, Family::Tenant.range())).unwrap();
        assert_eq!(rows.len(), 7);
        assert!(Page::new(Some(0), None).is_err() && Page::new(Some(1001), None).is_err());
        assert!(Page::new(None, Some("%")).is_err());
    }
}
