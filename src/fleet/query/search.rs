//! One search: which rows pass, and the best of them.

use std::cmp::Ordering;
use std::sync::Arc;

use ahash::AHashMap;
use memchr::memmem::Finder;

use super::grid::{Grid, NOBODY, Row};
use super::{Filter, Health, Query, Readings, SortBy, Standing, WORDS_MAX, badness, fold};
use crate::health::{OverallState, Version};
use crate::live::{Lifecycle, SensorType, SlotIndex};
use crate::time::UnixMillis;
use crate::wire::heartbeat::{VERSION_BYTES, inline_str};
use crate::wire::id::{SensorId, SiteId, SubscriptionId};

/// By what a row is ordered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A number, a time, a place in a list.
    Number(u64),
    /// A version.
    Version(Option<Version>),
    /// A text, folded.
    Text(Arc<str>),
}

/// A key that was not copied.
#[derive(Clone, Copy)]
enum Borrowed<'k> {
    Number(u64),
    Version(Option<Version>),
    Text(&'k str),
}

impl Borrowed<'_> {
    fn cmp(self, other: &Key) -> Ordering {
        match (self, other) {
            (Borrowed::Number(a), Key::Number(b)) => a.cmp(b),
            (Borrowed::Version(a), Key::Version(b)) => a.cmp(b),
            (Borrowed::Text(a), Key::Text(b)) => a.cmp(&**b),
            // Another order's key: a mark that was made for another query, which its holder refuses.
            _ => Ordering::Equal,
        }
    }

    fn owned(self) -> Key {
        match self {
            Borrowed::Number(number) => Key::Number(number),
            Borrowed::Version(version) => Key::Version(version),
            Borrowed::Text(text) => Key::Text(text.into()),
        }
    }
}

/// Where a page ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Key of its last row.
    pub key: Key,
    /// Id of its last row.
    pub id: SensorId,
}

/// A row that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Who.
    pub id: SensorId,
    /// Where it lies in live state, as far as the grid knew.
    pub slot: SlotIndex,
}

/// All that pass, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facets {
    /// By the one word on them.
    pub states: [u32; OverallState::ALL.len()],
    /// Those that [`Health::Healthy`], [`Health::Unhealthy`], [`Health::Unsupported`], [`Health::Muted`] find.
    pub health: [u32; 4],
    /// By type.
    pub kinds: [u32; SensorType::ALL.len()],
    /// By lifecycle.
    pub lifecycles: [u32; Lifecycle::ALL.len()],
    /// By site.
    pub sites: AHashMap<SiteId, u32>,
    /// By version as reported.
    pub versions: AHashMap<[u8; VERSION_BYTES], u32>,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The page, in order.
    pub hits: Vec<Hit>,
    /// Where it ended, when more follow.
    pub next: Option<Mark>,
    /// All that pass, on whatever page.
    pub total: usize,
    /// They, counted; when that was asked for.
    pub facets: Option<Facets>,
}

/// What of a place decides about its sensors.
#[derive(Clone, Copy, Default)]
struct PlaceTest {
    wanted: bool,
    quiet: bool,
    /// Bit n: word n is in its name or its site's.
    words: u8,
}

/// Who may be seen: a site and its subscription in, whether it is shown out.
pub type Scope<'s> = &'s dyn Fn(SiteId, SubscriptionId) -> bool;

struct Found {
    key: Key,
    hit: Hit,
}

/// A search under way. It holds no lock: what it needs of a row is copied.
pub struct Search<'q> {
    query: &'q Query,
    scope: Scope<'q>,
    after: Option<&'q Mark>,
    limit: usize,
    now: UnixMillis,
    words: Vec<(Finder<'static>, String)>,
    owner: Option<String>,
    places: Vec<PlaceTest>,
    revision: Option<u64>,
    next_row: usize,
    /// At most twice the limit; the better half is kept when it is full.
    found: Vec<Found>,
    /// The found one at place `limit`: what is not better need not be looked at.
    bar: Option<(Key, SensorId)>,
    beyond: usize,
    total: usize,
    facets: Option<Facets>,
    versions: Versions,
}

/// Versions that are remembered with what a search makes of them: a fleet has few.
const VERSIONS_KNOWN: usize = 32;

/// A version as reported, and what this search makes of it.
#[derive(Clone, Copy)]
struct Known {
    raw: [u8; VERSION_BYTES],
    read: Option<Version>,
    /// Passes the filter by version.
    passes: bool,
    /// Bit n: word n is in it.
    words: u8,
}

#[derive(Default)]
struct Versions(Vec<Known>);

impl Versions {
    fn known(&mut self, raw: [u8; VERSION_BYTES], make: impl FnOnce() -> Known) -> Known {
        let place = match self.0.iter().position(|known| known.raw == raw) {
            Some(place) => place,
            None if self.0.len() < VERSIONS_KNOWN => {
                self.0.push(make());
                self.0.len() - 1
            }
            // The last place is for all the others, one after the other.
            None => {
                let last = VERSIONS_KNOWN - 1;
                self.0[last] = make();
                last
            }
        };
        self.0[place]
    }
}

impl<'q> Search<'q> {
    /// Looks for the first `limit` rows behind `after` that `scope` shows. `usize::MAX` = all.
    pub fn new(
        query: &'q Query,
        scope: Scope<'q>,
        after: Option<&'q Mark>,
        limit: usize,
        now: UnixMillis,
    ) -> Search<'q> {
        let text = fold(&query.filter.text);
        let words = text.split_whitespace().take(WORDS_MAX);
        Search {
            query,
            scope,
            after,
            limit,
            now,
            words: words.map(|word| (Finder::new(word).into_owned(), word.to_owned())).collect(),
            owner: query.filter.owner.as_deref().map(fold),
            places: Vec::new(),
            revision: None,
            next_row: 0,
            found: Vec::new(),
            bar: None,
            beyond: 0,
            total: 0,
            facets: None,
            versions: Versions::default(),
        }
    }

    /// Counts all that pass as well.
    pub fn with_facets(mut self) -> Search<'q> {
        self.facets = Some(Facets::default());
        self
    }

    /// Goes through at most so many more rows. `false`: that was the end.
    pub fn step(&mut self, grid: &Grid, live: &impl Readings, rows: usize) -> bool {
        if self.revision != Some(grid.revision) {
            self.places = self.place_tests(grid);
            self.revision = Some(grid.revision);
        }
        let first = self.next_row.min(grid.rows.len());
        let end = first.saturating_add(rows).min(grid.rows.len());
        for (place, row) in grid.rows[first..end].iter().enumerate() {
            if row.zone != NOBODY {
                self.look_at(grid, live, row, SlotIndex((first + place) as u32));
            }
        }
        self.next_row = end;
        end < grid.rows.len()
    }

    /// The page.
    pub fn finish(mut self) -> Outcome {
        self.keep_best();
        let Search { query, mut found, beyond, total, facets, .. } = self;
        found.sort_unstable_by(|a, b| order(query, a, b));
        let last = found.last().filter(|_| beyond > found.len());
        let next = last.map(|last| Mark { key: last.key.clone(), id: last.hit.id });
        Outcome { hits: found.iter().map(|found| found.hit).collect(), next, total, facets }
    }

    fn look_at(&mut self, grid: &Grid, live: &impl Readings, row: &Row, slot: SlotIndex) {
        let filter = &self.query.filter;
        let Some(place) = self.places.get(row.zone as usize).copied().filter(|place| place.wanted) else {
            return;
        };
        if !declared(filter, row) {
            return;
        }
        let standing = live.standing(slot);
        let muted =
            standing.muted || place.quiet || row.more.as_ref().is_some_and(|more| more.quiet.holds(self.now));
        // The slot is opened once at most, and only when something of it decides.
        let mut version = None;
        if !stands(filter, standing, muted)
            || !self.has_words(live, row, place, slot, &mut version)
            || (filter.version.is_some() && !self.version(live, slot, &mut version).passes)
            || !(filter.threat_intel.is_empty() || filter.threat_intel.contains(&live.threat_intel(slot).1))
        {
            return;
        }
        self.total += 1;
        if self.facets.is_some() {
            let version = self.version(live, slot, &mut version).raw;
            self.count(grid, row, version, standing, muted);
        }
        let ti;
        let key = match self.query.sort {
            SortBy::Health => Borrowed::Number(badness(standing)),
            SortBy::Name => Borrowed::Text(&row.name),
            SortBy::Type => Borrowed::Number(row.kind as u64),
            SortBy::Lifecycle => Borrowed::Number(row.lifecycle as u64),
            SortBy::Zone => Borrowed::Text(zone_name(grid, row)),
            SortBy::Site => Borrowed::Text(site_name(grid, row)),
            SortBy::Subscription => Borrowed::Text(subscription_name(grid, row)),
            SortBy::LastConnected => Borrowed::Number(standing.last.0),
            SortBy::Version => Borrowed::Version(self.version(live, slot, &mut version).read),
            SortBy::ThreatIntelVersion => {
                ti = live.threat_intel(slot).0;
                Borrowed::Text(inline_str(&ti).unwrap_or(""))
            }
        };
        let behind = self.after.is_none_or(|mark| self.query.order(key, row.id, &mark.key, mark.id).is_gt());
        if !behind {
            return;
        }
        self.beyond += 1;
        let better = |(bar, id): &(Key, SensorId)| self.query.order(key, row.id, bar, *id).is_lt();
        if self.limit > 0 && self.bar.as_ref().is_none_or(better) {
            let key = key.owned();
            self.found.push(Found { key, hit: Hit { id: row.id, slot } });
            if self.found.len() >= self.limit.saturating_mul(2) {
                self.keep_best();
            }
        }
    }

    /// Throws away what can't be on the page.
    fn keep_best(&mut self) {
        if self.found.len() <= self.limit {
            return;
        }
        let query = self.query;
        self.found.select_nth_unstable_by(self.limit - 1, |a, b| order(query, a, b));
        self.found.truncate(self.limit);
        self.bar = self.found.last().map(|last| (last.key.clone(), last.hit.id));
    }

    fn place_tests(&self, grid: &Grid) -> Vec<PlaceTest> {
        let filter = &self.query.filter;
        let sites: Vec<PlaceTest> = grid
            .sites
            .rows
            .iter()
            .map(|site| {
                let Some(site) = site else { return PlaceTest::default() };
                let about = &site.about;
                let tagged = |tag: &super::TagTest| {
                    let value = about.tags.get(tag.key.as_str());
                    value.is_some_and(|value| tag.value.as_ref().is_none_or(|wanted| **wanted == **value))
                };
                let owned = |owner: &String| about.owners.iter().any(|known| fold(known) == *owner);
                PlaceTest {
                    wanted: any_of(&filter.sites, &site.id)
                        && any_of(&filter.subscriptions, &site.subscription)
                        && filter.tags.iter().all(tagged)
                        && self.owner.as_ref().is_none_or(owned)
                        && (self.scope)(site.id, site.subscription),
                    quiet: about.quiet.holds(self.now),
                    words: words_in(&self.words, &site.name),
                }
            })
            .collect();
        grid.zones
            .rows
            .iter()
            .map(|zone| {
                let Some(zone) = zone else { return PlaceTest::default() };
                let mut test = sites.get(zone.site as usize).copied().unwrap_or_default();
                test.wanted &= any_of(&filter.zones, &zone.id);
                test.words |= words_in(&self.words, &zone.name);
                test
            })
            .collect()
    }

    fn has_words(
        &mut self,
        live: &impl Readings,
        row: &Row,
        place: PlaceTest,
        slot: SlotIndex,
        version: &mut Option<Known>,
    ) -> bool {
        let mut missing = 0_u8;
        for (at, (finder, word)) in self.words.iter().enumerate() {
            let found = place.words >> at & 1 != 0
                || finder.find(row.name.as_bytes()).is_some()
                || row.more.as_ref().is_some_and(|more| finder.find(more.notes.as_bytes()).is_some())
                || (may_be_id(word) && row.id.to_string().contains(word.as_str()));
            // Every version has a digit.
            if !found && !word.bytes().any(|byte| byte.is_ascii_digit()) {
                return false;
            }
            missing |= u8::from(!found) << at;
        }
        missing == 0 || self.version(live, slot, version).words & missing == missing
    }

    /// What a sensor reports as its version; looked up when `known` does not say it yet.
    fn version(&mut self, live: &impl Readings, slot: SlotIndex, known: &mut Option<Known>) -> Known {
        let Search { query, words, versions, .. } = self;
        *known.get_or_insert_with(|| {
            let raw = live.version(slot);
            versions.known(raw, || {
                let text = inline_str(&raw).unwrap_or("");
                let test = query.filter.version.as_ref();
                Known {
                    raw,
                    read: Version::parse(text),
                    passes: test.is_none_or(|test| !text.is_empty() && test.holds(text)),
                    words: words_in(words, &fold(text)),
                }
            })
        })
    }

    fn count(
        &mut self,
        grid: &Grid,
        row: &Row,
        version: [u8; VERSION_BYTES],
        standing: Standing,
        muted: bool,
    ) {
        let Some(facets) = &mut self.facets else { return };
        facets.states[standing.overall as usize] += 1;
        for (count, health) in facets.health.iter_mut().zip([
            Health::Healthy,
            Health::Unhealthy,
            Health::Unsupported,
            Health::Muted,
        ]) {
            *count += u32::from(health.holds(standing, muted));
        }
        facets.kinds[row.kind as usize] += 1;
        facets.lifecycles[row.lifecycle as usize] += 1;
        let site = grid.zones.get(row.zone).and_then(|zone| grid.sites.get(zone.site));
        if let Some(site) = site {
            *facets.sites.entry(site.id).or_default() += 1;
        }
        // Sensors say what they like: what is beyond the bound counts as not known.
        let room = facets.versions.len() < crate::limits::FACET_VERSIONS_MAX;
        let key = if room || facets.versions.contains_key(&version) { version } else { [0; VERSION_BYTES] };
        *facets.versions.entry(key).or_default() += 1;
    }
}

/// Short pieces of hexadecimal digits are in nearly every id, and nobody means them.
fn may_be_id(word: &str) -> bool {
    word.len() >= 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

impl Query {
    fn order(&self, key: Borrowed<'_>, id: SensorId, other: &Key, other_id: SensorId) -> Ordering {
        let by_key = key.cmp(other);
        let by_key = if self.descending { by_key.reverse() } else { by_key };
        by_key.then_with(|| id.cmp(&other_id))
    }
}

fn order(query: &Query, a: &Found, b: &Found) -> Ordering {
    let by_key = a.key.cmp(&b.key);
    let by_key = if query.descending { by_key.reverse() } else { by_key };
    by_key.then_with(|| a.hit.id.cmp(&b.hit.id))
}

fn any_of<T: PartialEq>(wanted: &[T], have: &T) -> bool {
    wanted.is_empty() || wanted.contains(have)
}

/// What the register says.
fn declared(filter: &Filter, row: &Row) -> bool {
    any_of(&filter.kinds, &row.kind)
        && any_of(&filter.lifecycles, &row.lifecycle)
        && any_of(&filter.threat_intel_modes, &row.threat_intel)
}

/// What columns say.
fn stands(filter: &Filter, standing: Standing, muted: bool) -> bool {
    (filter.health.is_empty() || filter.health.iter().any(|health| health.holds(standing, muted)))
        && (filter.rules == 0 || filter.rules & standing.active != 0)
        && filter.connected.is_none_or(|wanted| wanted == standing.connected)
}

/// Bit n: word n is in the text.
fn words_in(words: &[(Finder<'static>, String)], text: &str) -> u8 {
    let found =
        |(_, (finder, _)): &(usize, &(Finder<'static>, String))| finder.find(text.as_bytes()).is_some();
    words.iter().enumerate().filter(found).fold(0, |bits, (word, _)| bits | 1 << word)
}

fn zone_name<'g>(grid: &'g Grid, row: &Row) -> &'g str {
    grid.zones.get(row.zone).map_or("", |zone| &zone.name)
}

fn site_name<'g>(grid: &'g Grid, row: &Row) -> &'g str {
    let zone = grid.zones.get(row.zone);
    zone.and_then(|zone| grid.sites.get(zone.site)).map_or("", |site| &site.name)
}

fn subscription_name<'g>(grid: &'g Grid, row: &Row) -> &'g str {
    let zone = grid.zones.get(row.zone);
    let site = zone.and_then(|zone| grid.sites.get(zone.site));
    site.and_then(|site| grid.subscriptions.get(&site.subscription)).map_or("", |name| name)
}
