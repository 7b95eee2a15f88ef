//! How many watchers there may be: in all, and for each principal, so that one cannot take every place.

use std::{collections::HashMap, sync::Arc, time::Duration};

use conflux_common::error::{ApiError, Code};
use parking_lot::Mutex;

/// Counts watchers.
#[derive(Debug)]
pub struct Seats {
    all: usize,
    each: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<Arc<str>, usize>,
}

/// A watcher's place; dropping it frees it.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    who: Arc<str>,
    transport: &'static str,
}

impl Seats {
    /// At most `all`, and `each` of one principal.
    pub fn new(all: usize, each: usize) -> Arc<Self> {
        Arc::new(Self { all, each, taken: Mutex::default() })
    }

    /// Takes a place.
    pub fn take(self: &Arc<Self>, who: &str, transport: &'static str) -> Result<Seat, ApiError> {
        let full = |bound: usize, of: &str| {
            let text = format!("there are {bound} watches {of} already: close some, or watch through another gateway");
            ApiError::new(Code::ResourceExhausted, text).retry_after(Duration::from_secs(5))
        };
        let mut taken = self.taken.lock();
        if taken.all >= self.all {
            return Err(full(self.all, "on this gateway"));
        }
        let who: Arc<str> = match taken.by.get_key_value(who) {
            Some((known, count)) if *count < self.each => known.clone(),
            Some(_) => return Err(full(self.each, "of this credential")),
            None => who.into(),
        };
        *taken.by.entry(who.clone()).or_default() += 1;
        taken.all += 1;
        metrics::gauge!("conflux_gateway_watchers", "transport" => transport).increment(1.0);
        Ok(Seat { seats: self.clone(), who, transport })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock();
        taken.all -= 1;
        if let Some(count) = taken.by.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                taken.by.remove(&self.who);
            }
        }
        metrics::gauge!("conflux_gateway_watchers", "transport" => self.transport).decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_principal_cannot_take_every_place() {
        let seats = Seats::new(3, 2);
        let held = [seats.take("a", "sse").unwrap(), seats.take("a", "sse").unwrap()];
        assert_eq!(seats.take("a", "sse").unwrap_err().code, Code::ResourceExhausted);
        let other = seats.take("b", "sse").unwrap();
        assert!(seats.take("c", "sse").is_err(), "three in all");
        drop((held, other));
        assert!(seats.take("a", "sse").is_ok());
        assert_eq!(seats.taken.lock().by.len(), 0, "nothing is kept of those who left");
    }
}
