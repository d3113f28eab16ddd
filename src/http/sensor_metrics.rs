//! `GET /metrics/sensors`: values of single sensors, for Prometheus: filtered, cut into pages, and marked when there
//! are more.
//!
//! Prometheus follows no cursors, so a fleet beyond one page is scraped in parts (`part=1/4` to `part=4/4`, each a
//! scrape job) or by site; `fleetpulse_sensor_page_truncated` tells when that is due. Programs follow the `Link`
//! header. A page under way holds memory, so there is a bound on them; who reads slowly gives way to the next.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;

use super::app::App;
use super::connections::Connection;
use super::counters::count;
use super::metrics::{content_type, format_of};
use super::params::Params;
use super::problem::Problem;
use super::workers::{Places, work};
use crate::export::sensors::{SENSOR_METRICS, SensorFilter, SensorMetric, SensorPage};
use crate::health::OverallState;
use crate::limits::{
    SENSOR_METRICS_PAGE_DEFAULT, SENSOR_METRICS_PAGE_MAX, SENSOR_PAGE_GRACE, SENSOR_PAGES_MAX,
};
use crate::live::{SensorType, SlotIndex};
use crate::time::MonoNanos;
use crate::wire::id::SiteId;

const PARAMS: [&str; 7] = ["site", "type", "state", "part", "metrics", "limit", "cursor"];
/// Parts that a fleet can be scraped in.
const PARTS_MAX: u64 = 10_000;

#[utoipa::path(get, path = "/metrics/sensors", operation_id = "sensor-metrics", tag = "Metrics",
    summary = "Values of single sensors, for Prometheus",
    description = "In pages: the `Link` header names the next one. A fleet beyond one page is scraped in parts or by site.",
    params(
        ("site" = Option<String>, Query, format = Uuid, description = "Only sensors of this site"),
        ("type" = Option<String>, Query, description = "Only this type: ot-cloud, ot-local, enterprise-iot"),
        ("state" = Option<String>, Query, description = "Only sensors in this state, such as healthy or disconnected"),
        ("part" = Option<String>, Query, description = "One of equal parts of the fleet, such as 2/4"),
        ("metrics" = Option<String>, Query, description = "Only these metrics, with commas between"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 50_000, description = "Sensors on the page"),
        ("cursor" = Option<String>, Query, description = "From the `Link` header of the page before")),
    responses((status = 200, description = "A page of metrics", content(
        (String = "text/plain"), (String = "application/openmetrics-text")))))]
pub(super) async fn sensor_metrics(
    State(app): State<Arc<App>>,
    Extension(connection): Extension<Arc<Connection>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut params = Params::parse(query.as_deref())?;
    let site = params.read::<SiteId>("site")?;
    let filter = filter(&mut params)?;
    let limit = params.limit(SENSOR_METRICS_PAGE_MAX)?.unwrap_or(SENSOR_METRICS_PAGE_DEFAULT);
    let cursor = params.take("cursor")?;
    params.finish(&PARAMS)?;
    let after = cursor.map(|text| parse(&text, app.run)).transpose()?;
    let format = format_of(&headers);
    let Some(place) = Pages::enter(&app, &connection) else {
        count(&app.counters.busy);
        return Err(Problem::busy());
    };
    let page = work(&app, Places::Api, move |app| collect(app, site, filter, after, limit, format)).await?;
    let next = page.next_after().map(|slot| link(query.as_deref(), &show(slot, app.run)));
    let body = Body::new(PageBody { page, _place: place });
    let mut response = (content_type(format), body).into_response();
    if let Some(next) = next.and_then(|link| HeaderValue::try_from(link).ok()) {
        response.headers_mut().insert(header::LINK, next);
    }
    Ok(response)
}

fn filter(params: &mut Params) -> Result<SensorFilter, Problem> {
    let kind = params.choice(
        "type",
        |name| SensorType::ALL.into_iter().find(|kind| kind.as_str() == name),
        || SensorType::ALL.iter().map(|kind| kind.as_str()).collect(),
    )?;
    let state = params.choice("state", OverallState::from_name, || {
        OverallState::ALL.iter().map(|state| state.as_str()).collect()
    })?;
    let part = params.take("part")?.map(|text| part(&text)).transpose()?;
    let written = params.take_all("metrics");
    let mut filter = SensorFilter { site: None, kind, state, part, ..SensorFilter::default() };
    if !written.is_empty() {
        let names = written.iter().flat_map(|list| list.split(','));
        filter.metrics = names.map(metric).collect::<Result<_, _>>()?;
    }
    Ok(filter)
}

/// A metric by its name, with or without what all of them begin with.
fn metric(name: &str) -> Result<&'static SensorMetric, Problem> {
    const PREFIX: &str = "fleetpulse_sensor_";
    let bare = name.trim();
    let found = SENSOR_METRICS
        .iter()
        .find(|metric| metric.family.name == bare || metric.family.name.strip_prefix(PREFIX) == Some(bare));
    found.ok_or_else(|| {
        let names: Vec<&str> =
            SENSOR_METRICS.iter().filter_map(|metric| metric.family.name.strip_prefix(PREFIX)).collect();
        Problem::bad_value("metrics", name, &format!("some of {}, with commas between", names.join(", ")))
    })
}

/// `2/4`: the second of four.
fn part(text: &str) -> Result<(u64, u64), Problem> {
    let read = || {
        let (part, of) = text.split_once('/')?;
        let (part, of) = (part.parse::<u64>().ok()?, of.parse::<u64>().ok()?);
        ((1..=PARTS_MAX).contains(&of) && (1..=of).contains(&part)).then(|| (part - 1, of))
    };
    let valid = format!("such as 2/4, the second of four parts; at most {PARTS_MAX} parts");
    read().ok_or_else(|| Problem::bad_value("part", text, &valid))
}

fn collect(
    app: &App,
    site: Option<SiteId>,
    mut filter: SensorFilter,
    after: Option<SlotIndex>,
    limit: usize,
    format: crate::export::Format,
) -> SensorPage {
    let mut first = after;
    if let Some(id) = site {
        filter.site = app.backend.site_index(id);
        if filter.site.is_none() {
            // No sensor stands there: a page without sensors.
            first = Some(SlotIndex(u32::MAX));
        }
    }
    let with_register = |job: &mut dyn FnMut(&crate::fleet::Register)| job(&app.backend.register());
    SensorPage::collect(app.backend.live(), with_register, &filter, first, limit, app.clock.now(), format)
}

fn show(slot: SlotIndex, run: u32) -> String {
    format!("{run:08x}.{:x}", slot.0)
}

fn parse(text: &str, run: u32) -> Result<SlotIndex, Problem> {
    let slot = text
        .strip_prefix(&format!("{run:08x}."))
        .filter(|digits| digits.len() <= 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let index = slot.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    index.map(SlotIndex).ok_or_else(|| Problem::bad_cursor(text))
}

/// The same request with another cursor, for the `Link` header.
fn link(query: Option<&str>, cursor: &str) -> String {
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if name != "cursor" {
            pairs.append_pair(&name, &value);
        }
    }
    let query = pairs.append_pair("cursor", cursor).finish();
    format!("</metrics/sensors?{query}>; rel=\"next\"")
}

/// Pages under way.
#[derive(Default)]
pub(super) struct Pages(Mutex<Vec<(u64, MonoNanos)>>);

impl Pages {
    /// A place for one more page; `None` when all are taken by pages that have just begun.
    fn enter(app: &Arc<App>, connection: &Arc<Connection>) -> Option<PagePlace> {
        let now = app.clock.mono();
        let mut under_way = app.pages.lock();
        if under_way.len() >= SENSOR_PAGES_MAX {
            let (place, &(oldest, begun)) =
                under_way.iter().enumerate().min_by_key(|(_, (_, begun))| *begun)?;
            if now.since(begun) < SENSOR_PAGE_GRACE {
                return None;
            }
            under_way.remove(place);
            if let Some(slow) = app.connections.get(oldest) {
                slow.abort();
            }
            count(&app.counters.evicted);
        }
        under_way.push((connection.id(), now));
        drop(under_way);
        Some(PagePlace { app: Arc::clone(app), connection: connection.id(), begun: now })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, MonoNanos)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the pages under way; given back when dropped.
struct PagePlace {
    app: Arc<App>,
    connection: u64,
    begun: MonoNanos,
}

impl Drop for PagePlace {
    fn drop(&mut self) {
        let mine = (self.connection, self.begun);
        let mut under_way = self.app.pages.lock();
        if let Some(place) = under_way.iter().position(|page| *page == mine) {
            under_way.remove(place);
        }
    }
}

/// Pieces of a page, each written when the one before is sent.
struct PageBody {
    page: SensorPage,
    _place: PagePlace,
}

impl hyper::body::Body for PageBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.page.next_piece().map(|piece| Ok(Frame::data(Bytes::from(piece)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_cursors_are_read_or_refused() {
        assert_eq!(part("1/1").unwrap(), (0, 1));
        assert_eq!(part("4/4").unwrap(), (3, 4));
        for text in ["", "/", "0/4", "5/4", "1/0", "1/10001", "a/b", "-1/2", "1/2/3", "1"] {
            assert!(part(text).is_err(), "{text}");
        }
        let slot = SlotIndex(0xabc);
        assert_eq!(parse(&show(slot, 9), 9).unwrap(), slot);
        for text in ["", "00000009", "00000009.", "00000009.+1", "00000009.100000000", "00000008.1", "9.1"] {
            assert!(parse(text, 9).is_err(), "{text}");
        }
    }

    #[test]
    fn the_link_keeps_the_filter() {
        assert_eq!(
            link(Some("type=ot-cloud&cursor=old&metrics=a,b&x=%22%0d%0a"), "new"),
            "</metrics/sensors?type=ot-cloud&metrics=a%2Cb&x=%22%0D%0A&cursor=new>; rel=\"next\""
        );
    }
}
