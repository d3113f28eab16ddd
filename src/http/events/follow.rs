//! The follower: looks at the ends of the logs, and once a second at the columns of live state.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use tokio_util::sync::CancellationToken;

use super::Topic;
use super::encode::{self, LiveNow};
use super::ring::{Entry, Ring};
use crate::fleet::Batch;
use crate::fleet::query::Readings;
use crate::http::app::App;
use crate::limits::{
    EVENT_LIVE_EVERY, EVENT_LIVE_SENSORS_MAX, EVENT_LOOK_EVERY, EVENT_READ_MAX, SENSORS_BATCH,
};
use crate::live::{SlotFlags, SlotIndex};
use crate::store::{Position, StoreError};
use crate::time::MonoNanos;
use crate::wire::id::SensorId;

/// Until `stop`. Works on a thread that may wait, and only when somebody listens.
pub(in crate::http) async fn follow(app: Arc<App>, stop: CancellationToken) {
    let mut follower = Follower::default();
    loop {
        if follower.has_work(&app) {
            let (app, mut working) = (Arc::clone(&app), std::mem::take(&mut follower));
            let turn = tokio::task::spawn_blocking(move || {
                working.turn(&app);
                working
            });
            match turn.await {
                Ok(working) => follower = working,
                Err(error) => tracing::error!(%error, "events could not be followed; trying again"),
            }
        }
        let pause: Duration = EVENT_LOOK_EVERY;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Wakes readers, until `stop`, when it has changed what somebody may do. Beside the follower, which may be busy with a
/// log: they are to end at once.
pub(in crate::http) async fn watch_access(app: Arc<App>, stop: CancellationToken) {
    let mut seen = app.access_changes();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVENT_LOOK_EVERY) => {}
        }
        let now = app.access_changes();
        if now != seen {
            seen = now;
            app.events.access_changed(now);
        }
    }
}

/// Begins both rings where the logs end now. Before anybody can ask: who comes back is to find the log.
pub(in crate::http) fn begin(app: &App) {
    let store = app.backend.store();
    app.events.ring(Topic::Sensors).begin_at(store.register.position());
    app.events.ring(Topic::Messages).begin_at(store.journal.position());
}

#[derive(Default)]
struct Follower {
    /// What was told of each slot, as one number; none while nobody listens.
    told: Option<Vec<u64>>,
    live_due: MonoNanos,
    failing: bool,
}

impl Follower {
    /// Cheap: two loads. Rings without readers are moved along here.
    fn has_work(&mut self, app: &App) -> bool {
        let store = app.backend.store();
        let ends = [(Topic::Sensors, store.register.position()), (Topic::Messages, store.journal.position())];
        let mut work = false;
        for (topic, end) in ends {
            let ring = app.events.ring(topic);
            if !ring.has_readers() && ring.begin_at(end) {
                continue;
            }
            work |= ring.reached() != Some(end);
        }
        if !app.events.ring(Topic::Sensors).has_readers() {
            self.told = None;
            return work;
        }
        work || self.told.is_none() || app.clock.mono() >= self.live_due
    }

    fn turn(&mut self, app: &App) {
        let (sensors, messages) = (app.events.ring(Topic::Sensors), app.events.ring(Topic::Messages));
        let result = catch_up(sensors, |after| batches(app, after, EVENT_READ_MAX))
            .and_then(|()| catch_up(messages, |after| entries(app, after, EVENT_READ_MAX)));
        match result {
            Ok(()) => self.failing = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "events can't be read from the store; streams stand still");
                }
            }
        }
        let now = app.clock.mono();
        if sensors.has_readers() && (now >= self.live_due || self.told.is_none()) {
            self.live_due = now.plus(EVENT_LIVE_EVERY);
            if let Some(entry) = self.live(app) {
                sensors.push(vec![entry]);
            }
        }
    }

    /// What changed of live values since the last look. After the first one those who came before it are told to read
    /// them: what they read may be older.
    fn live(&mut self, app: &App) -> Option<Entry> {
        let live = app.backend.live();
        let first_look = self.told.is_none();
        let told = self.told.get_or_insert_default();
        let mut changed = Vec::new();
        told.resize(live.slots() as usize, 0);
        for columns in live.columns() {
            for place in 0..columns.len() {
                let index = columns.index(place);
                let Some(told) = told.get_mut(index.0 as usize) else { continue };
                let occupied = columns.state(place).flags.has(SlotFlags::OCCUPIED);
                let now = if occupied { standing_of(live, index) } else { 0 };
                if std::mem::replace(told, now) != now && occupied {
                    changed.push(index);
                }
            }
        }
        if first_look || changed.len() > EVENT_LIVE_SENSORS_MAX {
            return Some(encode::live_reset_entry());
        }
        let mut by_site: AHashMap<_, Vec<LiveNow>> = AHashMap::new();
        for slots in changed.chunks(SENSORS_BATCH) {
            let seen: Vec<(SensorId, LiveNow)> = slots
                .iter()
                .filter_map(|&index| {
                    let (id, _) = live.occupant(index)?;
                    let connected = live.standing(index).connected;
                    Some((id, LiveNow::of(id, live.verdict(index), connected)))
                })
                .collect();
            let register = app.backend.register();
            for (id, now) in seen {
                let site = register.sensor(id).and_then(|sensor| register.site_of(sensor));
                if let Some(site) = site {
                    by_site.entry((site.id, site.subscription)).or_default().push(now);
                }
            }
        }
        (!by_site.is_empty()).then(|| encode::live(by_site))
    }
}

/// Everything that a `live` event says of a slot, as one number; never zero.
fn standing_of(live: &crate::live::LiveState, index: SlotIndex) -> u64 {
    let standing = live.standing(index);
    let hash = ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one((
        standing.active,
        standing.overall as u8,
        standing.connected,
    ));
    hash | 1
}

/// Reads on from where the ring ends until there is no more.
fn catch_up(
    ring: &Ring,
    read: impl Fn(Position) -> Result<Vec<Entry>, StoreError>,
) -> Result<(), StoreError> {
    while let Some(reached) = ring.reached() {
        let new = read(reached)?;
        if new.is_empty() {
            return Ok(());
        }
        ring.push(new);
    }
    Ok(())
}

/// Batches of the register's log after a place, as events.
pub(super) fn batches(app: &App, after: Position, most: usize) -> Result<Vec<Entry>, StoreError> {
    let batches = app.backend.store().register.read_from(after, most)?;
    let encode = |(place, batch): (Position, Batch)| {
        let mut events = Vec::new();
        // A large batch is ten thousand changes: commands get between.
        for changes in batch.changes.chunks(SENSORS_BATCH) {
            encode::changes(&app.backend.register(), changes, batch.at, &mut events);
        }
        Entry { position: Some(place), events }
    };
    Ok(batches.into_iter().map(encode).collect())
}

/// Entries of the journal after a place, as events.
pub(super) fn entries(app: &App, after: Position, most: usize) -> Result<Vec<Entry>, StoreError> {
    let entries = app.backend.store().journal.read_from(after, most)?;
    let register = app.backend.register();
    Ok(entries.iter().map(|(place, entry)| encode::message(&register, *place, entry)).collect())
}
