//! `GET /api/v1/messages`: health messages that are active now.
//!
//! The sweep is not held up: which sensors have messages is read from the columns of live state, and the engine is
//! asked for one page only. So the order is that of slots, after the messages of sites and gateways: a message
//! that stays active through all pages is on exactly one of them. Slots belong to one run of the server, and so
//! does a cursor.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::caller::Caller;
use super::documents::{self, MessageDocument};
use super::params::Params;
use super::problem::Problem;
use super::sight::Sight;
use super::workers::{Places, work};
use crate::health::{CATALOGUE, RuleId, Severity, Subject, rules_of};
use crate::limits::MESSAGES_SCAN_MAX;
use crate::live::{LiveState, SiteIndex, SlotIndex};
use crate::wire::id::{GatewayId, SensorId, SiteId};

/// One page.
#[derive(Serialize, ToSchema)]
#[schema(as = MessagePage)]
struct Page {
    items: Vec<MessageDocument>,
    /// Cursor of the page after this one. A page can be short, even empty, and still have one.
    next: Option<String>,
}

const PARAMS: [&str; 7] = ["sensor", "gateway", "site", "code", "severity", "limit", "cursor"];

/// What to look for.
struct Filter {
    sensor: Option<SensorId>,
    gateway: Option<GatewayId>,
    site: Option<SiteId>,
    /// Rules of the code and severity that were asked for.
    rules: u64,
}

#[utoipa::path(get, path = "/api/v1/messages", operation_id = "list-messages", tag = "Messages",
    summary = "Health messages that are active now",
    params(
        ("sensor" = Option<String>, Query, format = Uuid, description = "Only of this sensor"),
        ("gateway" = Option<String>, Query, format = Uuid, description = "Only of this gateway"),
        ("site" = Option<String>, Query, format = Uuid, description = "Only of this site and its sensors"),
        ("code" = Option<String>, Query, description = "Only of this rule, such as disconnected"),
        ("severity" = Option<String>, Query, description = "Only of this severity: critical, warning, info"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000, description = "Items on the page; 100 when not given"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "A page of messages", body = Page)))]
pub(super) async fn messages(
    State(app): State<Arc<App>>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut params = Params::parse(query.as_deref())?;
    let filter = Filter::read(&mut params)?;
    let limit = params.page_limit()?;
    let cursor = params.take("cursor")?;
    params.finish(&PARAMS)?;
    let after = cursor.map(|text| Place::parse(&text, app.run)).transpose()?;
    let page = work(&app, Places::Api, move |app| {
        let sight = Sight::of(&app.backend.register(), &caller);
        page(app, &filter, &sight, after, limit)
    })
    .await?;
    Ok(Json(page).into_response())
}

impl Filter {
    fn read(params: &mut Params) -> Result<Filter, Problem> {
        let code = params.choice("code", documents::rule_of_code, documents::codes)?;
        let severity = params.choice(
            "severity",
            |name| Severity::ALL.into_iter().find(|severity| severity.as_str() == name),
            || Severity::ALL.iter().map(|severity| severity.as_str()).collect(),
        )?;
        let wanted = CATALOGUE.iter().filter(|rule| {
            code.is_none_or(|code| code.id == rule.id)
                && severity.is_none_or(|severity| severity == rule.severity)
        });
        Ok(Filter {
            sensor: params.read("sensor")?,
            gateway: params.read("gateway")?,
            site: params.read("site")?,
            rules: wanted.fold(0, |bits, rule| bits | rule.id.bit()),
        })
    }

    /// Whether sensors come into question.
    fn wants_sensors(&self) -> bool {
        self.gateway.is_none()
    }

    fn wants_place(&self, subject: Subject, rule: RuleId) -> bool {
        let right = match subject {
            Subject::Sensor(_) => false,
            Subject::Gateway(id) => {
                self.sensor.is_none() && self.site.is_none() && self.gateway.is_none_or(|wanted| wanted == id)
            }
            Subject::Site(id) => {
                self.sensor.is_none() && self.gateway.is_none() && self.site.is_none_or(|wanted| wanted == id)
            }
        };
        right && self.rules & rule.bit() != 0
    }
}

/// Where a page ended: at a message of a site or gateway, or at one of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Of(Subject, RuleId),
    Slot {
        index: u32,
        rule: RuleId,
    },
    /// After all rules of a slot.
    Through {
        index: u32,
    },
}

impl Place {
    fn parse(text: &str, run: u32) -> Result<Place, Problem> {
        let bad = || Problem::bad_cursor(text);
        let mut parts = text.split('.');
        let mut part = || parts.next().ok_or_else(bad);
        if part()? != format!("{run:08x}") {
            return Err(bad());
        }
        let kind = part()?;
        let value = part()?;
        let rule =
            parts.next().map(|number| number.parse().ok().and_then(RuleId::from_number).ok_or_else(bad));
        let rule = rule.transpose()?;
        if parts.next().is_some() {
            return Err(bad());
        }
        let index = || u32::from_str_radix(value, 16).map_err(|_| bad());
        match (kind, rule) {
            ("g", Some(rule)) => Ok(Place::Of(Subject::Gateway(value.parse().map_err(|_| bad())?), rule)),
            ("p", Some(rule)) => Ok(Place::Of(Subject::Site(value.parse().map_err(|_| bad())?), rule)),
            ("s", Some(rule)) => Ok(Place::Slot { index: index()?, rule }),
            ("t", None) => Ok(Place::Through { index: index()? }),
            _ => Err(bad()),
        }
    }

    fn show(self, run: u32) -> String {
        match self {
            Place::Of(Subject::Gateway(id), rule) => format!("{run:08x}.g.{id}.{}", rule as u8),
            Place::Of(Subject::Site(id), rule) => format!("{run:08x}.p.{id}.{}", rule as u8),
            Place::Of(Subject::Sensor(id), rule) => format!("{run:08x}.p.{id}.{}", rule as u8),
            Place::Slot { index, rule } => format!("{run:08x}.s.{index:x}.{}", rule as u8),
            Place::Through { index } => format!("{run:08x}.t.{index:x}"),
        }
    }
}

fn page(app: &App, filter: &Filter, sight: &Sight, after: Option<Place>, limit: usize) -> Page {
    let mut found = Vec::new();
    let mut next = None;
    if !matches!(after, Some(Place::Slot { .. } | Place::Through { .. })) {
        let after = match after {
            Some(Place::Of(subject, rule)) => Some((subject, rule)),
            _ => None,
        };
        found = app.backend.active_places(after, limit, &|subject, rule| {
            filter.wants_place(subject, rule) && sight.place(subject)
        });
        if found.len() == limit {
            next = found.last().map(|message| Place::Of(message.subject, message.rule));
        }
    }
    if next.is_none() && filter.wants_sensors() {
        let slots = match filter.sensor {
            Some(id) => one_sensor(app, filter, sight, id, after, limit - found.len()),
            None => scan(app.backend.live(), filter, &app.sites(filter, sight), after, limit - found.len()),
        };
        found.extend(app.backend.active(&slots.keys));
        next = slots.next;
    }
    let register = app.backend.register();
    Page {
        items: found.iter().map(|message| documents::message(&register, message)).collect(),
        next: next.map(|place| place.show(app.run)),
    }
}

impl App {
    /// The numbers of the sites in question; a site without a sensor has none, and so no slot.
    fn sites(&self, filter: &Filter, sight: &Sight) -> SiteFilter {
        let index = |id: &SiteId| self.backend.site_index(*id);
        match (filter.site, sight) {
            (None, Sight::Everything) => SiteFilter::All,
            (None, Sight::Part { sites, .. }) => SiteFilter::Some(sites.iter().filter_map(index).collect()),
            (Some(id), sight) if sight.site(id) => SiteFilter::Some(index(&id).into_iter().collect()),
            (Some(_), _) => SiteFilter::Some(HashSet::default()),
        }
    }
}

enum SiteFilter {
    All,
    Some(HashSet<SiteIndex, ahash::RandomState>),
}

/// Messages of sensors to ask the engine for.
#[derive(Default)]
struct Slots {
    keys: Vec<(Subject, RuleId)>,
    next: Option<Place>,
}

fn one_sensor(
    app: &App,
    filter: &Filter,
    sight: &Sight,
    id: SensorId,
    after: Option<Place>,
    limit: usize,
) -> Slots {
    let live = app.backend.live();
    let site = {
        let register = app.backend.register();
        let there = documents::site_of(&register, Subject::Sensor(id));
        sight.sensor(&register, id) && filter.site.is_none_or(|wanted| there == Some(wanted))
    };
    let Some(index) = live.find(id).filter(|_| site).map(|handle| handle.index) else {
        return Slots::default();
    };
    let bits = live.verdict(index).active & filter.rules;
    let left = match after {
        None => bits,
        Some(Place::Slot { index: of, rule }) if of == index.0 => bits & !through(rule),
        // The sensor was removed and added again since the page before.
        Some(_) => 0,
    };
    let keys: Vec<_> = rules_of(left).map(|rule| (Subject::Sensor(id), rule)).take(limit).collect();
    let last = keys.last().filter(|_| keys.len() < left.count_ones() as usize);
    let next = last.map(|&(_, rule)| Place::Slot { index: index.0, rule });
    Slots { keys, next }
}

/// The bits of a rule and of those before it.
fn through(rule: RuleId) -> u64 {
    rule.bit() | (rule.bit() - 1)
}

/// Goes through the columns from where the page before ended.
fn scan(live: &LiveState, filter: &Filter, sites: &SiteFilter, after: Option<Place>, limit: usize) -> Slots {
    let (first, mut done) = match after {
        // The rules of this slot that the pages before had.
        Some(Place::Slot { index, rule }) => (index, through(rule)),
        Some(Place::Through { index }) => (index.saturating_add(1), 0),
        _ => (0, 0),
    };
    let mut slots = Slots::default();
    if matches!(sites, SiteFilter::Some(sites) if sites.is_empty()) {
        return slots;
    }
    let mut looked_at = 0;
    for columns in live.columns() {
        if columns.first.0 as usize + columns.len() <= first as usize {
            continue;
        }
        let skipped = (first as usize).saturating_sub(columns.first.0 as usize);
        for place in skipped..columns.len() {
            let index = columns.index(place);
            let bits = live.verdict(index).active & filter.rules & !std::mem::take(&mut done);
            if bits == 0 {
                continue;
            }
            looked_at += 1;
            let Some(id) = occupant(live, index, sites) else { continue };
            for rule in rules_of(bits) {
                slots.keys.push((Subject::Sensor(id), rule));
                if slots.keys.len() == limit {
                    slots.next = Some(Place::Slot { index: index.0, rule });
                    return slots;
                }
            }
            if looked_at == MESSAGES_SCAN_MAX {
                slots.next = Some(Place::Through { index: index.0 });
                return slots;
            }
        }
    }
    slots
}

/// Who has a slot, if it stands in one of the sites.
fn occupant(live: &LiveState, index: SlotIndex, sites: &SiteFilter) -> Option<SensorId> {
    let (id, facts) = live.occupant(index)?;
    match sites {
        SiteFilter::Some(wanted) if !wanted.contains(&facts.site) => None,
        _ => Some(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_in_its_own_run_only() {
        let rule = RuleId::NoTraffic;
        for place in [
            Place::Of(Subject::Gateway(GatewayId::from_number(3)), rule),
            Place::Of(Subject::Site(SiteId::from_number(4)), rule),
            Place::Slot { index: u32::MAX, rule },
            Place::Through { index: 0 },
        ] {
            let text = place.show(7);
            assert_eq!(Place::parse(&text, 7).unwrap(), place);
            assert!(Place::parse(&text, 8).is_err());
        }
    }

    #[test]
    fn hostile_cursors_are_refused() {
        for text in [
            "",
            ".",
            "00000007",
            "00000007.s",
            "00000007.s.zz.2",
            "00000007.s.0.255",
            "00000007.s.0",
            "00000007.t.0.1",
            "00000007.s.100000000.2",
            "00000007.g.0.2",
            "00000007.s.0.2.3",
            "\u{0}",
            "7.s.0.2",
            "00000007.s.-1.2",
            "00000007.s.+1.+2x",
        ] {
            assert!(Place::parse(text, 7).is_err(), "{text}");
        }
    }
}
