//! One watch, whatever its transport: gives its frames one by one, as fast as its client takes them.
//!
//! It holds no queue of its own, only a [`Cursor`] into what the tenant's hub holds, so that a slow client costs
//! nobody anything: it falls behind, and once what it needs is let go, it is cut with the token to resume from.

use std::{sync::Arc, time::Duration};

use conflux_common::{
    error::{ApiError, Code},
    ids::RevisionMark,
    planted,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    Lane,
    cursor::{Cursor, Step},
    hub::Presence,
    revision::{Change, Held},
    seats::Seat,
    selection::{Selection, Wish},
    start::{begin, gone, other_life},
    token::Scope,
};
use crate::{identity::Identity, routes::TenantRoute};

/// A watcher is told at least so often up to where it has everything.
const PROGRESS: Duration = Duration::from_secs(5);
/// A credential that ends is looked at again at least so often, whatever the wall clock does.
const RECHECK: Duration = Duration::from_secs(5);
/// The history is tried for so long before the watch is given up.
const HISTORY: Duration = Duration::from_secs(30);
/// Between two tries.
const HISTORY_PAUSE: Duration = Duration::from_millis(250);
/// Revisions that are looked at in a row without giving others a turn.
const IN_A_ROW: u32 = 256;

/// What a watcher says next.
#[derive(Debug)]
pub enum Output {
    /// The events of one revision that are selected.
    Change(Told),
    /// Everything up to [`Watcher::at`] has been said.
    Progress,
    /// The last words.
    End(Box<ApiError>),
}

/// The part of a revision that a watcher is told.
#[derive(Debug, Clone)]
pub struct Told {
    /// The whole revision.
    pub held: Arc<Held>,
    /// The selected ones, when that is not all.
    pub part: Option<Vec<usize>>,
}

impl Told {
    /// The selected changes.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        let changes = &self.held.changes;
        let part = self.part.as_ref();
        (0..changes.len()).filter(move |i| part.is_none_or(|p| p.contains(i))).map(|i| &changes[i])
    }
}

/// Who asks for what.
pub struct Opening {
    /// Who.
    pub identity: Identity,
    /// Where the tenant is.
    pub route: TenantRoute,
    /// What.
    pub wish: Wish,
    /// By which transport.
    pub transport: &'static str,
}

/// See the module.
pub struct Watcher {
    lane: Arc<Lane>,
    hub: Presence,
    identity: Identity,
    route: TenantRoute,
    selection: Selection,
    scope: Scope,
    cursor: Cursor,
    wake: watch::Receiver<()>,
    trust: watch::Receiver<()>,
    /// When the credential is to be looked at again.
    recheck: Option<Instant>,
    progress_due: Instant,
    history_failing: Option<Instant>,
    transport: &'static str,
    events: metrics::Counter,
    _seat: Seat,
}

impl Watcher {
    /// Joins the tenant's changes where the client wishes. Refuses before anything is said.
    pub async fn open(lane: &Arc<Lane>, opening: Opening) -> Result<Self, ApiError> {
        let Opening { identity, route, wish, transport } = opening;
        let selection = wish.selection()?;
        let scope = Scope::new(&lane.handles.cluster, route.id);
        let mut from = read_from(&scope, &wish)?;
        if let Some(from) = from.as_mut().filter(|_| planted::has("repeated_event")) {
            from.revision.0 = from.revision.0.saturating_sub(1);
        }
        let trust = lane.trust.changes();
        let left = lane.trust.check(&identity, &route.name, &selection)?;
        let seat = lane.seats.take(&identity.principal.name, transport)?;
        let hub = lane.hubs.enter(route.clone());
        let wake = hub.changes();
        let start = begin(&hub, &lane.history, from).await?;
        let mut watcher = Self {
            lane: lane.clone(),
            hub,
            identity,
            route,
            selection,
            scope,
            cursor: Cursor::new(start),
            wake,
            trust,
            recheck: left.map(soon),
            progress_due: Instant::now() + PROGRESS,
            history_failing: None,
            transport,
            events: metrics::counter!("conflux_gateway_watch_events_total", "transport" => transport),
            _seat: seat,
        };
        watcher.first_page().await?;
        Ok(watcher)
    }

    /// Everything up to here has been said.
    pub fn at(&self) -> RevisionMark {
        self.cursor.at()
    }

    /// Resumes after [`Watcher::at`].
    pub fn token(&self) -> String {
        let mut at = self.at();
        at.revision.0 += u64::from(planted::has("early_mark"));
        self.scope.token(at)
    }

    /// The gateway is being stopped: another one, or this one after its start, goes on.
    pub fn is_draining(&self) -> bool {
        self.lane.handles.draining.is_cancelled()
    }

    /// Which tenant's tokens these are.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Goes on with another selection: from where it is, or from where the wish says. Refused, it goes on as it was.
    pub async fn change(&mut self, wish: &Wish) -> Result<(), ApiError> {
        let selection = wish.selection()?;
        let from = read_from(&self.scope, wish)?;
        let left = self.lane.trust.check(&self.identity, &self.route.name, &selection)?;
        if let Some(from) = from {
            let start = begin(&self.hub, &self.lane.history, Some(from)).await?;
            self.cursor = Cursor::new(start);
        }
        self.selection = selection;
        self.recheck = left.map(soon);
        self.cursor.rewind();
        Ok(())
    }

    /// What to say next. Cancelling loses nothing.
    pub async fn next(&mut self) -> Output {
        let mut row = 0;
        loop {
            if let Some(why) = self.must_end() {
                return self.end(why);
            }
            if Instant::now() >= self.progress_due {
                self.spoken();
                return Output::Progress;
            }
            self.wake.borrow_and_update();
            let step = self.hub.with_ring(|ring| self.cursor.step(ring));
            match step {
                Step::Give(held) if held.mark.revision.0 % 500 == 0 && planted::has("lost_event") => {}
                Step::Give(held) => {
                    if let Some(told) = self.select(held) {
                        self.spoken();
                        self.events.increment(told.changes().count() as u64);
                        return Output::Change(told);
                    }
                    row += 1;
                    if row % IN_A_ROW == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                Step::Read { after, to } => {
                    // Boxed: an idle watcher must not keep room for calls that it does not make.
                    if let Err(error) = Box::pin(self.read_on(after, to)).await {
                        return self.end(error);
                    }
                }
                Step::Wait => self.wait(None).await,
                Step::Overrun => return self.end(overrun()),
                Step::Ended(_) => return self.end(gone()),
                Step::OtherLife => {
                    let present = self.hub.with_ring(|ring| ring.position()).unwrap_or(self.at());
                    let error = Box::pin(other_life(&self.hub, &self.lane.history, present)).await;
                    return self.end(error);
                }
            }
        }
    }

    fn select(&self, held: Arc<Held>) -> Option<Told> {
        let all = held.changes.len();
        let told = if planted::has("torn_changeset") { all.min(1) } else { all };
        let selected: Vec<usize> = (0..told).filter(|i| self.selection.selects(&held.changes[*i])).collect();
        match selected.len() {
            0 => None,
            n if n == all => Some(Told { held, part: None }),
            _ => Some(Told { held, part: Some(selected) }),
        }
    }

    /// Whether the gateway stops or the credential does not (or no longer) allow this watch.
    fn must_end(&mut self) -> Option<ApiError> {
        if self.lane.handles.draining.is_cancelled() {
            let text = "this gateway is shutting down: resume at another one";
            return Some(ApiError::new(Code::Unavailable, text).retry_after(Duration::from_millis(100)));
        }
        let changed = self.trust.has_changed().unwrap_or(true);
        if !changed && self.recheck.is_none_or(|at| Instant::now() < at) {
            return None;
        }
        self.trust.borrow_and_update();
        match self.lane.trust.check(&self.identity, &self.route.name, &self.selection) {
            Ok(left) => {
                self.recheck = left.map(soon);
                None
            }
            Err(error) => Some(error),
        }
    }

    /// The first page before the first word: that the history is compacted is then an answer, not an end.
    async fn first_page(&mut self) -> Result<(), ApiError> {
        match self.hub.with_ring(|ring| self.cursor.needs(ring)) {
            Some((after, to)) => self.read(after, to).await,
            None => Ok(()),
        }
    }

    async fn read(&mut self, after: u64, to: u64) -> Result<(), ApiError> {
        let Self { lane, hub, cursor, selection, .. } = self;
        lane.history.page(hub, after, to, |page| cursor.page(page, |change| selection.selects(change))).await
    }

    /// Reads a page, unless something happens that matters more; tries again when nobody could give it.
    async fn read_on(&mut self, after: u64, to: u64) -> Result<(), ApiError> {
        let (mut trust, draining) = (self.trust.clone(), self.lane.handles.draining.clone());
        let due = self.recheck.map_or(self.progress_due, |at| at.min(self.progress_due));
        let outcome = tokio::select! {
            outcome = self.read(after, to) => outcome,
            _ = trust.changed() => return Ok(()),
            () = draining.cancelled() => return Ok(()),
            () = sleep_until(due) => return Ok(()),
        };
        match outcome {
            Err(error) if error.code == Code::Unavailable => {
                let since = *self.history_failing.get_or_insert_with(Instant::now);
                if since.elapsed() > HISTORY {
                    return Err(error);
                }
                self.wait(Some(Instant::now() + HISTORY_PAUSE)).await;
                Ok(())
            }
            outcome => {
                self.history_failing = None;
                outcome
            }
        }
    }

    /// Until there may be something to do.
    async fn wait(&mut self, until: Option<Instant>) {
        let mut due = self.progress_due;
        due = self.recheck.map_or(due, |at| at.min(due));
        due = until.map_or(due, |at| at.min(due));
        let draining = self.lane.handles.draining.cancelled();
        tokio::select! {
            _ = self.wake.changed(), if until.is_none() => {}
            _ = self.trust.changed() => self.trust.mark_changed(),
            () = draining => {}
            () = sleep_until(due) => {}
        }
    }

    fn spoken(&mut self) {
        self.progress_due = Instant::now() + PROGRESS;
    }

    fn end(&self, why: ApiError) -> Output {
        metrics::counter!("conflux_gateway_watch_ends_total", "code" => why.code.name(), "transport" => self.transport)
            .increment(1);
        // Whoever may come back is told from where, whatever the transport.
        let why = if why.retryable() { why.with_detail("resume", self.token()) } else { why };
        Output::End(Box::new(why))
    }
}

fn read_from(scope: &Scope, wish: &Wish) -> Result<Option<RevisionMark>, ApiError> {
    if wish.from.is_empty() { Ok(None) } else { scope.read(&wish.from).map(Some) }
}

fn soon(left: Duration) -> Instant {
    Instant::now() + left.min(RECHECK)
}

fn overrun() -> ApiError {
    let text =
        "the watch is too slow: its next changes are no longer held here; resume, and they come from the history";
    ApiError::new(Code::ResourceExhausted, text).retry_after(Duration::from_millis(100))
}
