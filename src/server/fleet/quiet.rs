//! Quiet times at work: which places are quiet, and when that may change next.
//!
//! What says when it is quiet is kept in order of its next change, so that the sweep asks for one number each time and
//! nobody walks the fleet. The wall clock decides, as in what people wrote; when it goes backwards, all places are
//! looked at again.
//!
//! Cost: about 100 bytes a sensor or site that has a mute or a window.

use std::collections::BTreeSet;

use ahash::AHashMap;

use crate::fleet::Quiet;
use crate::time::UnixMillis;
use crate::wire::id::{SensorId, SiteId};

/// What can be quiet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum QuietPlace {
    Site(SiteId),
    Sensor(SensorId),
}

/// Places that say when they are quiet.
#[derive(Debug, Default)]
pub(super) struct QuietTimes {
    places: AHashMap<QuietPlace, Option<UnixMillis>>,
    due: BTreeSet<(UnixMillis, QuietPlace)>,
}

impl QuietTimes {
    /// What a place says now; `None` when it is gone.
    pub(super) fn keep(&mut self, place: QuietPlace, quiet: Option<&Quiet>, at: UnixMillis) {
        if let Some(Some(before)) = self.places.remove(&place) {
            self.due.remove(&(before, place));
        }
        let Some(quiet) = quiet.filter(|quiet| !quiet.is_empty()) else { return };
        let next = quiet.next_change(at);
        self.places.insert(place, next);
        self.due.extend(next.map(|next| (next, place)));
    }

    /// Places that may have become quiet, or stopped to be, by now. What is said of each must be kept again.
    pub(super) fn take_due(&mut self, now: UnixMillis) -> Vec<QuietPlace> {
        let mut due = Vec::new();
        while let Some(&(at, place)) = self.due.first()
            && at <= now
        {
            self.due.pop_first();
            due.push(place);
        }
        due
    }

    /// All places, after the clock was set back. What is said of each must be kept again.
    pub(super) fn take_all(&mut self) -> Vec<QuietPlace> {
        self.due.clear();
        self.places.keys().copied().collect()
    }

    /// The first instant at which something may change.
    pub(super) fn next(&self) -> Option<UnixMillis> {
        self.due.first().map(|&(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fleet::{Mute, Window};

    fn window(from: i64, until: i64) -> Quiet {
        let window =
            Window { id: 1, from: UnixMillis(from), until: UnixMillis(until), reason: Arc::from("") };
        Quiet { mute: None, windows: vec![window] }
    }

    const SITE: QuietPlace = QuietPlace::Site(SiteId([1; 16]));
    const SENSOR: QuietPlace = QuietPlace::Sensor(SensorId([2; 16]));

    #[test]
    fn a_place_is_due_at_each_edge_and_not_before() {
        let (site, mut times) = (window(100, 200), QuietTimes::default());
        times.keep(SITE, Some(&site), UnixMillis(0));
        let ends = Mute { until: Some(UnixMillis(150)), reason: Arc::from("") };
        let sensor = Quiet { mute: Some(ends), windows: Vec::new() };
        times.keep(SENSOR, Some(&sensor), UnixMillis(0));
        assert_eq!(times.next(), Some(UnixMillis(100)));
        assert!(times.take_due(UnixMillis(99)).is_empty());
        assert_eq!(times.take_due(UnixMillis(100)), [SITE]);
        times.keep(SITE, Some(&site), UnixMillis(100));
        assert_eq!(times.take_due(UnixMillis(170)), [SENSOR]);
        times.keep(SENSOR, Some(&sensor), UnixMillis(170));
        assert_eq!(times.take_due(UnixMillis(5_000)), [SITE]);
        times.keep(SITE, Some(&site), UnixMillis(5_000));
        assert_eq!(times.next(), None);
    }

    #[test]
    fn after_a_clock_was_set_back_a_place_whose_time_was_over_is_due_again() {
        let (site, mut times) = (window(100, 200), QuietTimes::default());
        times.keep(SITE, Some(&site), UnixMillis(300));
        assert_eq!(times.next(), None);
        assert_eq!(times.take_all(), [SITE]);
        times.keep(SITE, Some(&site), UnixMillis(150));
        assert_eq!(times.next(), Some(UnixMillis(200)));
    }

    #[test]
    fn what_says_nothing_any_more_is_forgotten() {
        let mut times = QuietTimes::default();
        times.keep(SITE, Some(&window(100, 200)), UnixMillis(0));
        times.keep(SITE, Some(&Quiet::default()), UnixMillis(0));
        assert_eq!((times.next(), times.places.len(), times.due.len()), (None, 0, 0));
    }
}
