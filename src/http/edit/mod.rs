//! Resources that change the register: each request becomes commands, done whole or not at all.
//!
//! What all of them share stands here: ids in paths, who may reach what, a change under one lock with its `If-Match`
//! and the caller's rights, and the answer with the new entity tag. Rights and tags are looked at under the lock of the
//! change itself, so neither a demotion nor another editor can come between.

pub(super) mod activation;
mod documents;
pub(super) mod gateways;
pub(super) mod lifecycle;
pub(super) mod policy;
pub(super) mod quiet;
pub(super) mod sensors;
pub(super) mod sites;
pub(super) mod subscriptions;
pub(super) mod zones;

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer, Serialize};

use super::app::App;
use super::caller::Caller;
use super::change::apply;
use super::etag::ETag;
use super::params::{Params, path_id};
use super::problem::Problem;
use super::sight::{sees_gateway, sees_subscription};
use super::workers::{Places, work};
use crate::fleet::{Command, Permission, Place, RefusalCode, Register, Target};
use crate::time::UnixMillis;
use crate::wire::id::{GatewayId, SensorId, SiteId, SubscriptionId, ZoneId};

pub(super) use documents::{
    MuteDocument, Registration, ThreatIntelName, TypeName, WindowDocument, sensor_tag,
};

/// The id in a path with one.
pub(super) struct At<T>(pub(super) T);

/// Refuses query parameters: what writes takes none.
pub(super) struct NoQuery;

impl<T: FromStr<Err: Display>, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<At<T>, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = text.map_err(|_| Problem::bad_parameter("id", "not UTF-8", "an id"))?;
        path_id("id", &text).map(At)
    }
}

impl<S: Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<NoQuery, Problem> {
        Params::parse(parts.uri.query())?.finish(&[]).map(|()| NoQuery)
    }
}

/// An id in a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Id<T>(pub(super) T);

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Id<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id<T>, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Id).map_err(serde::de::Error::custom)
    }
}

/// A time in a body: RFC 3339 with any offset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time(pub(super) UnixMillis);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = |_| serde::de::Error::custom("no time: write it as 2026-11-24T16:00:00Z (RFC 3339)");
        text.parse::<jiff::Timestamp>().map(|at| Time(UnixMillis(at.as_millisecond()))).map_err(wrong)
    }
}

/// A field of a PATCH that may be left out, and is never null.
pub(super) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

/// A field of a PATCH that may be left out; null is its empty value.
pub(super) fn cleared<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    d: D,
) -> Result<Option<T>, D::Error> {
    Option::<T>::deserialize(d).map(|value| Some(value.unwrap_or_default()))
}

/// Something that a path can name.
pub(super) trait Thing: Copy + Display + Send + 'static {
    /// In a sentence.
    const WHAT: &str;

    /// As something that may be allowed.
    fn target(self) -> Target;

    /// Whether a caller sees it, as lists do: that can be more than what they may view all of.
    fn seen(self, register: &Register, caller: &Caller) -> bool {
        caller.may(register, Permission::View, self.target())
    }

    /// Whether the register has it; and if not, what more there is to say.
    fn there(self, register: &Register) -> Result<(), &'static str>;

    /// As a place at which something is said.
    fn place(self) -> Option<Place>;
}

macro_rules! things {
    ($($id:ident, $what:literal, $get:ident, $target:expr, $place:expr $(, $seen:expr)?;)+) => {$(
        impl Thing for $id {
            const WHAT: &str = $what;

            $(fn seen(self, register: &Register, caller: &Caller) -> bool {
                $seen(register, &caller.grants, self)
            })?

            fn target(self) -> Target {
                $target(self)
            }

            fn there(self, register: &Register) -> Result<(), &'static str> {
                register.$get(self).map(drop).ok_or("")
            }

            fn place(self) -> Option<Place> {
                $place(self)
            }
        }
    )+};
}

things! {
    SubscriptionId, "subscription", subscription, Target::Subscription, |id| Some(Place::Subscription(id)),
        sees_subscription;
    SiteId, "site", site, Target::Site, |id| Some(Place::Site(id));
    ZoneId, "zone", zone, Target::Zone, |id| Some(Place::Zone(id));
    GatewayId, "gateway", gateway, |_| Target::Everything, |_| None,
        |register: &Register, grants, id| {
            register.gateway(id).is_some_and(|gateway| sees_gateway(register, grants, gateway))
        };
}

impl Thing for SensorId {
    const WHAT: &str = "sensor";

    fn target(self) -> Target {
        Target::Sensor(self)
    }

    fn there(self, register: &Register) -> Result<(), &'static str> {
        match (register.sensor(self), register.deleted_sensor(self)) {
            (Some(_), _) => Ok(()),
            (None, Some(_)) => Err("; it was deleted"),
            (None, None) => Err(""),
        }
    }

    fn place(self) -> Option<Place> {
        Some(Place::Sensor(self))
    }
}

/// What the path names must be there for this caller, and they must have this right over it. To view it is to see
/// anything of it; what is told of it leaves out the rest.
pub(super) fn reach<T: Thing>(
    caller: &Caller,
    register: &Register,
    permission: Permission,
    thing: T,
) -> Result<(), Problem> {
    let missing = |more: &str| Problem::not_found(T::WHAT, &thing.to_string(), more);
    if !thing.seen(register, caller) {
        return Err(missing(""));
    }
    thing.there(register).map_err(missing)?;
    if permission == Permission::View {
        return Ok(());
    }
    caller.check(register, permission, thing.target())
}

/// What a body names must be there for this caller, and they must have this right over it.
pub(super) fn reach_named<T: Thing>(
    caller: &Caller,
    register: &Register,
    permission: Permission,
    field: &str,
    thing: T,
) -> Result<(), Problem> {
    if thing.there(register).is_err() || !thing.seen(register, caller) {
        return Err(unknown::<T>(field, &thing.to_string()));
    }
    caller.check(register, permission, thing.target())
}

/// A body names something that is not there.
pub(super) fn unknown<T: Thing>(field: &str, id: &str) -> Problem {
    let code = match T::WHAT {
        "subscription" => RefusalCode::UnknownSubscription,
        "site" => RefusalCode::UnknownSite,
        "zone" => RefusalCode::UnknownZone,
        "gateway" => RefusalCode::UnknownGateway,
        _ => RefusalCode::UnknownSensor,
    };
    let valid = format!("the id of a {}", T::WHAT);
    let detail = format!("`{field}` is {id}, and there is no such {}; give {valid}", T::WHAT);
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code.as_str(), detail).field(field, valid)
}

/// Does all of `commands`, if `expect` holds then, and answers from the register as it is after them.
pub(super) async fn change<A: Send + 'static>(
    app: &Arc<App>,
    caller: Caller,
    commands: Vec<Command>,
    expect: impl Fn(&Register, &Caller) -> Result<(), Problem> + Send + 'static,
    answer: impl FnOnce(&Register, UnixMillis) -> Result<A, Problem> + Send + 'static,
) -> Result<A, Problem> {
    let job = move |app: &App| {
        let applied = apply(app, &caller, &commands, expect);
        applied.map_err(|error| Problem::not_applied(&error, &[RefusalCode::UnknownWindow]))?;
        answer(&app.backend.register(), app.clock.unix())
    };
    work(app, Places::Api, job).await?
}

/// For answers after a change without one of their own.
pub(super) fn gone(_: &Register, _: UnixMillis) -> Result<StatusCode, Problem> {
    Ok(StatusCode::NO_CONTENT)
}

/// Reads something of the register that the path names.
pub(super) async fn show<T: Thing, A: Send + 'static>(
    app: &Arc<App>,
    caller: Caller,
    thing: T,
    answer: impl FnOnce(&Register, UnixMillis) -> Result<A, Problem> + Send + 'static,
) -> Result<A, Problem> {
    let job = move |app: &App| {
        let register = app.backend.register();
        reach(&caller, &register, Permission::View, thing)?;
        answer(&register, app.clock.unix())
    };
    work(app, Places::Api, job).await?
}

/// A document with its entity tag.
pub(super) struct Tagged<T> {
    pub(super) tag: ETag,
    pub(super) document: T,
}

impl<T: Serialize> Tagged<T> {
    /// 201 with the place of what is new.
    pub(super) fn created(self, at: String) -> Response {
        (StatusCode::CREATED, [self.tag.header(), location(&at)], Json(self.document)).into_response()
    }
}

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        ([self.tag.header()], Json(self.document)).into_response()
    }
}

/// A path of ours: made of letters, digits and `/-`.
pub(super) fn location(at: &str) -> (HeaderName, HeaderValue) {
    (header::LOCATION, HeaderValue::from_str(at).unwrap_or(HeaderValue::from_static("/")))
}
