//! Mutes and maintenance windows of sensors and sites: verdicts go on, nobody is notified, nothing counts as unhealthy.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    At, MuteDocument, NoQuery, Thing, Time, WindowDocument, change, gone, location, reach, sensor_tag, show,
    sites,
};
use crate::fleet::{Change, Command, Edit, Mute, Permission, Quiet, Register};
use crate::http::app::App;
use crate::http::body::Given;
use crate::http::caller::Caller;
use crate::http::change::change as change_for_batch;
use crate::http::etag::IfMatch;
use crate::http::params::path_id;
use crate::http::problem::Problem;
use crate::wire::id::{SensorId, SiteId};

/// Something that can be quiet.
trait Quietable: Thing {
    /// What its path begins with.
    const BELOW: &str;

    fn quiet(self, register: &Register) -> Option<&Quiet>;

    /// What a change leaves it with, when it is of this.
    fn quiet_after(self, change: &Change) -> Option<&Quiet>;

    fn check(self, register: &Register, if_match: &IfMatch) -> Result<(), Problem>;
}

impl Quietable for SensorId {
    const BELOW: &str = "sensors";

    fn quiet(self, register: &Register) -> Option<&Quiet> {
        register.sensor(self).map(|sensor| &sensor.more.quiet)
    }

    fn quiet_after(self, change: &Change) -> Option<&Quiet> {
        let Change::Sensor(Edit { after: Some(after), .. }) = change else { return None };
        (after.id == self).then_some(&after.more.quiet)
    }

    fn check(self, register: &Register, if_match: &IfMatch) -> Result<(), Problem> {
        register.sensor(self).map_or(Ok(()), |sensor| if_match.check(&sensor_tag(sensor)))
    }
}

impl Quietable for SiteId {
    const BELOW: &str = "sites";

    fn quiet(self, register: &Register) -> Option<&Quiet> {
        register.site(self).map(|site| &site.about.quiet)
    }

    fn quiet_after(self, change: &Change) -> Option<&Quiet> {
        let Change::Site(Edit { after: Some(after), .. }) = change else { return None };
        (after.id == self).then_some(&after.about.quiet)
    }

    fn check(self, register: &Register, if_match: &IfMatch) -> Result<(), Problem> {
        register.site(self).map_or(Ok(()), |site| if_match.check(&sites::tag(site)))
    }
}

/// A mute.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MuteGiven)]
pub(in crate::http) struct GivenMute {
    /// Until when; until somebody ends it when not given.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Time>,
    /// Why, for the next person.
    #[serde(default)]
    #[schema(max_length = 2_000)]
    reason: String,
}

/// A maintenance window.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WindowGiven)]
pub(in crate::http) struct GivenWindow {
    #[schema(value_type = String, format = DateTime)]
    from: Time,
    #[schema(value_type = String, format = DateTime)]
    until: Time,
    /// Why, for the next person.
    #[serde(default)]
    #[schema(max_length = 2_000)]
    reason: String,
}

/// All maintenance windows of a place.
#[derive(Serialize, ToSchema)]
#[schema(as = WindowPage)]
struct Windows {
    /// In order of their begin.
    items: Vec<WindowDocument>,
    /// Always none: a place has few.
    next: Option<String>,
}

/// Id and number of a window in a path.
pub(in crate::http) struct AtWindow<T>(T, u32);

impl<T: std::str::FromStr<Err: std::fmt::Display>, S: Send + Sync> FromRequestParts<S> for AtWindow<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<AtWindow<T>, Problem> {
        let texts = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((id, window)) = texts.map_err(|_| Problem::bad_parameter("id", "not UTF-8", "an id"))?;
        let number = window.parse();
        let number = number.map_err(|_| {
            Problem::bad_value("window", &window, "the number of a maintenance window, such as 1")
        })?;
        Ok(AtWindow(path_id("id", &id)?, number))
    }
}

async fn set_mute<T: Quietable>(
    app: &Arc<App>,
    caller: Caller,
    at: T,
    if_match: IfMatch,
    mute: Option<Mute>,
) -> Result<Response, Problem> {
    let Some(place) = at.place() else { return Err(Problem::internal("no place")) };
    let ends = mute.is_none();
    let may = move |register: &Register, caller: &Caller| {
        reach(caller, register, Permission::EditFleet, at)?;
        at.check(register, &if_match)
    };
    let answer = move |register: &Register, _| {
        let mute = at.quiet(register).and_then(|quiet| quiet.mute.as_ref()).map(MuteDocument::of);
        Ok(match mute {
            Some(mute) if !ends => Json(mute).into_response(),
            _ => StatusCode::NO_CONTENT.into_response(),
        })
    };
    change(app, caller, vec![Command::SetMute { place, mute }], may, answer).await
}

async fn list_windows<T: Quietable>(app: &Arc<App>, caller: Caller, at: T) -> Result<Response, Problem> {
    let answer = move |register: &Register, _| {
        let windows = at.quiet(register).map_or(&[][..], |quiet| &quiet.windows);
        Ok(Windows { items: windows.iter().map(WindowDocument::of).collect(), next: None })
    };
    Ok(Json(show(app, caller, at, answer).await?).into_response())
}

async fn add_window<T: Quietable>(
    app: &Arc<App>,
    caller: Caller,
    at: T,
    given: GivenWindow,
) -> Result<Response, Problem> {
    let Some(place) = at.place() else { return Err(Problem::internal("no place")) };
    let GivenWindow { from: Time(from), until: Time(until), reason } = given;
    let may = move |register: &Register, caller: &Caller| reach(caller, register, Permission::EditFleet, at);
    let command = Command::AddWindow { place, from, until, reason };
    // Of the batch, not of the register: there somebody else's may be the newest by now.
    let batch = change_for_batch(app, &caller, vec![command], &[], may).await?;
    let left = batch.changes.iter().find_map(|change| at.quiet_after(change));
    // Numbers grow: the greatest is the one that was made.
    let newest = left.and_then(|quiet| quiet.windows.iter().max_by_key(|window| window.id));
    let made = newest.map(WindowDocument::of).ok_or_else(|| Problem::internal("the window is not there"))?;
    let path = format!("/api/v1/{}/{at}/windows/{}", T::BELOW, made.id);
    Ok((StatusCode::CREATED, [location(&path)], Json(made)).into_response())
}

async fn remove_window<T: Quietable>(
    app: &Arc<App>,
    caller: Caller,
    at: T,
    if_match: IfMatch,
    id: u32,
) -> Result<StatusCode, Problem> {
    let Some(place) = at.place() else { return Err(Problem::internal("no place")) };
    let may = move |register: &Register, caller: &Caller| {
        reach(caller, register, Permission::EditFleet, at)?;
        at.check(register, &if_match)
    };
    change(app, caller, vec![Command::RemoveWindow { place, id }], may, gone).await
}

impl From<GivenMute> for Mute {
    fn from(given: GivenMute) -> Mute {
        Mute { until: given.until.map(|Time(until)| until), reason: given.reason.into() }
    }
}

macro_rules! quiet_routes {
    ($($module:ident, $id:ident, $tag:literal, $mute:literal, $windows:literal, $window:literal,
        $one:literal, $put:literal, $end:literal, $list:literal, $add:literal, $remove:literal;)+) => {$(
        pub(in crate::http) mod $module {
            use super::*;

            #[utoipa::path(put, path = $mute, operation_id = $put, tag = $tag,
                summary = "Mutes it: verdicts go on, nobody is notified", request_body = GivenMute,
                params(("id" = String, Path, format = Uuid, description = $one)),
                responses((status = 200, description = "The mute as it is now", body = MuteDocument)))]
            pub(in crate::http) async fn mute(
                State(app): State<Arc<App>>,
                caller: Caller,
                At(id): At<$id>,
                _: NoQuery,
                if_match: IfMatch,
                Given(given): Given<GivenMute>,
            ) -> Result<Response, Problem> {
                set_mute(&app, caller, id, if_match, Some(given.into())).await
            }

            #[utoipa::path(delete, path = $mute, operation_id = $end, tag = $tag, summary = "Ends its mute",
                params(("id" = String, Path, format = Uuid, description = $one)),
                responses((status = 204, description = "It is not muted by hand")))]
            pub(in crate::http) async fn unmute(
                State(app): State<Arc<App>>,
                caller: Caller,
                At(id): At<$id>,
                _: NoQuery,
                if_match: IfMatch,
            ) -> Result<Response, Problem> {
                set_mute(&app, caller, id, if_match, None).await
            }

            #[utoipa::path(get, path = $windows, operation_id = $list, tag = $tag,
                summary = "Its maintenance windows",
                params(("id" = String, Path, format = Uuid, description = $one)),
                responses((status = 200, description = "All of them", body = Windows)))]
            pub(in crate::http) async fn windows(
                State(app): State<Arc<App>>,
                caller: Caller,
                At(id): At<$id>,
                _: NoQuery,
            ) -> Result<Response, Problem> {
                super::list_windows(&app, caller, id).await
            }

            #[utoipa::path(post, path = $windows, operation_id = $add, tag = $tag,
                summary = "A maintenance window: it is quiet meanwhile", request_body = GivenWindow,
                params(("id" = String, Path, format = Uuid, description = $one)),
                responses((status = 201, description = "It is planned; `Location` says where", body = WindowDocument)))]
            pub(in crate::http) async fn add(
                State(app): State<Arc<App>>,
                caller: Caller,
                At(id): At<$id>,
                _: NoQuery,
                Given(given): Given<GivenWindow>,
            ) -> Result<Response, Problem> {
                add_window(&app, caller, id, given).await
            }

            #[utoipa::path(delete, path = $window, operation_id = $remove, tag = $tag,
                summary = "Removes a maintenance window",
                params(("id" = String, Path, format = Uuid, description = $one),
                    ("window" = u32, Path, description = "Number of the window")),
                responses((status = 204, description = "Gone")))]
            pub(in crate::http) async fn remove(
                State(app): State<Arc<App>>,
                caller: Caller,
                AtWindow(id, window): AtWindow<$id>,
                _: NoQuery,
                if_match: IfMatch,
            ) -> Result<StatusCode, Problem> {
                remove_window(&app, caller, id, if_match, window).await
            }
        }
    )+};
}

quiet_routes! {
    of_sensor, SensorId, "Sensors", "/api/v1/sensors/{id}/mute", "/api/v1/sensors/{id}/windows",
        "/api/v1/sensors/{id}/windows/{window}", "Id of the sensor", "mute-sensor", "unmute-sensor",
        "list-sensor-windows", "add-sensor-window", "remove-sensor-window";
    of_site, SiteId, "Sites", "/api/v1/sites/{id}/mute", "/api/v1/sites/{id}/windows",
        "/api/v1/sites/{id}/windows/{window}", "Id of the site", "mute-site", "unmute-site",
        "list-site-windows", "add-site-window", "remove-site-window";
}
