//! `/api/v1/{subscriptions,sites,zones,sensors}/{id}/policy`: numbers said at one level. The nearest level that says a
//! number wins: sensor, zone, site, subscription, the server's own policy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::documents::policy_tag;
use super::{At, NoQuery, Tagged, Thing, change, reach};
use crate::fleet::{Command, Overrides, Permission, Place, RefusalCode, Register};
use crate::health::PolicyPatch;
use crate::http::app::App;
use crate::http::backend::{Applied, AppliedNumber};
use crate::http::body::Given;
use crate::http::caller::Caller;
use crate::http::etag::{ETag, IfMatch};
use crate::http::problem::Problem;
use crate::http::workers::{Places, work};
use crate::limits::{INTERVAL_MAX, INTERVAL_MIN};
use crate::wire::id::{SensorId, SiteId, SubscriptionId, ZoneId};

/// Numbers said at one level.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Policy)]
pub(in crate::http) struct PolicyDocument {
    /// Heartbeat interval; none = another level says it.
    interval_seconds: Option<f64>,
    /// By code of a rule and name of the number, such as `disk-almost-full` and `percent`.
    #[serde(default)]
    numbers: BTreeMap<String, BTreeMap<String, f64>>,
}

impl PolicyDocument {
    pub(in crate::http) fn of(said: &Overrides) -> PolicyDocument {
        let mut numbers: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
        for (setting, value) in said.numbers.iter() {
            let rule = numbers.entry(setting.rule().code().to_owned()).or_default();
            rule.insert(setting.key().to_owned(), value);
        }
        PolicyDocument { interval_seconds: said.interval.map(|interval| interval.as_secs_f64()), numbers }
    }

    /// As the register takes it. `field` is where the document stands in the request: empty, or its path and a dot.
    pub(in crate::http) fn read(&self, field: &str) -> Result<Overrides, Problem> {
        let invalid = |place: String, detail: String, valid: String| {
            let code = RefusalCode::PolicyInvalid.as_str();
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail).field(place, valid)
        };
        let mut patch = PolicyPatch::new();
        for (code, rule) in &self.numbers {
            for (key, &value) in rule {
                patch.set_named(code, key, value).map_err(|error| {
                    // What may stand there is said by the error; the names come from the request.
                    let place: String = format!("{field}numbers.{code}.{key}").chars().take(120).collect();
                    invalid(place, error.to_string(), "a number within its range".to_owned())
                })?;
            }
        }
        let interval =
            self.interval_seconds.map(Duration::try_from_secs_f64).transpose().map_err(|error| {
                let valid =
                    format!("{} to {} seconds", INTERVAL_MIN.as_secs_f64(), INTERVAL_MAX.as_secs_f64());
                invalid(format!("{field}interval_seconds"), error.to_string(), valid)
            })?;
        Ok(Overrides { numbers: patch, interval })
    }
}

/// What is said at one level, and what applies there.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PolicyAt)]
struct PolicyAt {
    /// What is said at this very level.
    said: PolicyDocument,
    /// What applies here, by rule and number, each with who said it.
    applies: BTreeMap<&'static str, BTreeMap<&'static str, AppliesDocument>>,
    /// The heartbeat interval that sensors here are told to keep; zero = the one that they have.
    interval_seconds: AppliesDocument,
}

/// A number, and why it is this one.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PolicyNumber)]
struct AppliesDocument {
    value: f64,
    unit: &'static str,
    /// Who said it: `sensor`, `zone`, `site`, `subscription` or `default`.
    from: &'static str,
    /// What it is where nobody says anything.
    default: f64,
    min: f64,
    max: f64,
}

fn applies(applied: &Applied) -> BTreeMap<&'static str, BTreeMap<&'static str, AppliesDocument>> {
    let mut rules: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for &AppliedNumber { setting, value, from, default } in &applied.numbers {
        let ((min, max), unit, from) = (setting.range(), setting.unit(), from.as_str());
        let number = AppliesDocument { value, unit, from, default, min, max };
        rules.entry(setting.rule().code()).or_default().insert(setting.key(), number);
    }
    rules
}

fn interval(applied: &Applied) -> AppliesDocument {
    AppliesDocument {
        value: applied.interval.as_secs_f64(),
        unit: "s",
        from: applied.interval_from.as_str(),
        default: applied.interval_default.as_secs_f64(),
        min: INTERVAL_MIN.as_secs_f64(),
        max: INTERVAL_MAX.as_secs_f64(),
    }
}

fn said(register: &Register, place: Place) -> Option<&Overrides> {
    match place {
        Place::Subscription(id) => register.subscription(id).map(|found| &found.policy),
        Place::Site(id) => register.site(id).map(|found| &found.about.policy),
        Place::Zone(id) => register.zone(id).map(|found| &found.policy),
        Place::Sensor(id) => register.sensor(id).map(|found| &found.more.policy),
    }
}

fn missing() -> Problem {
    Problem::not_found("policy", "of this place", "; it was removed meanwhile")
}

fn document(app: &App, place: Place) -> Result<Tagged<PolicyAt>, Problem> {
    // Before the register is locked here: it locks the register itself.
    let applied = app.backend.numbers_at(place).ok_or_else(missing)?;
    let register = app.backend.register();
    let said = said(&register, place).ok_or_else(missing)?;
    let document = PolicyAt {
        said: PolicyDocument::of(said),
        applies: applies(&applied),
        interval_seconds: interval(&applied),
    };
    Ok(Tagged { tag: ETag::of(&policy_tag(said)), document })
}

fn place_of<T: Thing>(at: T) -> Result<Place, Problem> {
    at.place().ok_or_else(missing)
}

async fn read<T: Thing>(app: &Arc<App>, caller: Caller, at: T) -> Result<Tagged<PolicyAt>, Problem> {
    let place = place_of(at)?;
    let job = move |app: &App| {
        reach(&caller, &app.backend.register(), Permission::View, at)?;
        document(app, place)
    };
    work(app, Places::Api, job).await?
}

async fn write<T: Thing>(
    app: &Arc<App>,
    caller: Caller,
    at: T,
    if_match: IfMatch,
    given: PolicyDocument,
) -> Result<Tagged<PolicyAt>, Problem> {
    let place = place_of(at)?;
    let policy = given.read("")?;
    let may = move |register: &Register, caller: &Caller| {
        reach(caller, register, Permission::EditFleet, at)?;
        said(register, place).map_or(Ok(()), |said| if_match.check(&ETag::of(&policy_tag(said))))
    };
    change(app, caller, vec![Command::SetPolicy { place, policy }], may, |_, _| Ok(())).await?;
    work(app, Places::Api, move |app| document(app, place)).await?
}

macro_rules! policy_routes {
    ($($module:ident, $id:ident, $tag:literal, $path:literal, $one:literal, $get:literal, $put:literal;)+) => {$(
        pub(in crate::http) mod $module {
            use super::*;

            #[utoipa::path(get, path = $path, operation_id = $get, tag = $tag,
                summary = "Health thresholds and heartbeat interval: what is said here, what applies here, and who said it",
                params(("id" = String, Path, format = Uuid, description = $one)),
                responses((status = 200, description = "Said and applying, with the `ETag` of what is said", body = PolicyAt)))]
            pub(in crate::http) async fn get(
                State(app): State<Arc<App>>,
                caller: Caller,
                At(id): At<$id>,
                _: NoQuery,
            ) -> Result<impl IntoResponse, Problem> {
                super::read(&app, caller, id).await
            }

            #[utoipa::path(put, path = $path, operation_id = $put, tag = $tag,
                summary = "Says all numbers of this level; what is not said comes from the level above",
                request_body = PolicyDocument, params(("id" = String, Path, format = Uuid, description = $one)),
                responses((status = 200, description = "Said and applying now", body = PolicyAt), (status = 507, description = "")))]
            pub(in crate::http) async fn put(
                State(app): State<Arc<App>>,
                caller: Caller,
                At(id): At<$id>,
                _: NoQuery,
                if_match: IfMatch,
                Given(given): Given<PolicyDocument>,
            ) -> Result<impl IntoResponse, Problem> {
                super::write(&app, caller, id, if_match, given).await
            }
        }
    )+};
}

policy_routes! {
    of_subscription, SubscriptionId, "Subscriptions", "/api/v1/subscriptions/{id}/policy", "Id of the subscription",
        "get-subscription-policy", "set-subscription-policy";
    of_site, SiteId, "Sites", "/api/v1/sites/{id}/policy", "Id of the site", "get-site-policy", "set-site-policy";
    of_zone, ZoneId, "Zones", "/api/v1/zones/{id}/policy", "Id of the zone", "get-zone-policy", "set-zone-policy";
    of_sensor, SensorId, "Sensors", "/api/v1/sensors/{id}/policy", "Id of the sensor", "get-sensor-policy",
        "set-sensor-policy";
}
