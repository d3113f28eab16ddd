//! `/api/v1/sensors`: onboarding, and what people change of a sensor: name, notes, place, mode. Its identity and history
//! stay through all of it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::documents::{ThreatIntelName, TypeName};
use super::{
    At, Id, NoQuery, Registration, Tagged, change, cleared, given, gone, reach, reach_named, sensor_tag,
};
use crate::fleet::{Command, Permission, Register, SensorEdit, enterprise_zone};
use crate::http::app::App;
use crate::http::body::Given;
use crate::http::caller::Caller;
use crate::http::etag::IfMatch;
use crate::http::problem::Problem;
use crate::live::{Lifecycle, SensorType};
use crate::time::UnixMillis;
use crate::wire::id::{SensorId, SubscriptionId, ZoneId};

/// A new sensor.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SensorGiven)]
pub(in crate::http) struct GivenSensor {
    /// One of a kind in its site.
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    r#type: TypeName,
    /// Where it stands. Not needed for an enterprise-IoT sensor, which always stands in the built-in site.
    #[schema(value_type = Option<String>, format = Uuid)]
    zone: Option<Id<ZoneId>>,
    /// For an enterprise-IoT sensor without `zone`: whose it is.
    #[schema(value_type = Option<String>, format = Uuid)]
    subscription: Option<Id<SubscriptionId>>,
    #[serde(default)]
    #[schema(max_length = 2_000)]
    notes: Option<String>,
    #[serde(default)]
    threat_intel_mode: Option<ThreatIntelName>,
}

/// What changes of a sensor; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SensorPatch)]
pub(in crate::http) struct PatchSensor {
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_length = 1, max_length = 128)]
    name: Option<String>,
    /// Null for none.
    #[serde(default, deserialize_with = "cleared")]
    #[schema(max_length = 2_000)]
    notes: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    threat_intel_mode: Option<ThreatIntelName>,
    /// Where it stands, also in another site or subscription.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, value_type = Option<String>, format = Uuid)]
    zone: Option<Id<ZoneId>>,
    /// From cloud-connected to locally managed or back. Back without a certificate, it waits for reactivation.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    r#type: Option<TypeName>,
}

pub(super) fn document(
    register: &Register,
    id: SensorId,
    at: UnixMillis,
) -> Result<Tagged<Registration>, Problem> {
    let sensor = register.sensor(id).ok_or_else(|| Problem::not_found("sensor", &id.to_string(), ""))?;
    Ok(Tagged { tag: sensor_tag(sensor), document: Registration::of(register, sensor, at) })
}

impl GivenSensor {
    /// The zone that the sensor goes to, as far as the request alone says it.
    fn zone(&self) -> Result<ZoneId, Problem> {
        let one_of = |detail: &str| {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "missing-field", detail)
                .field("zone", "the id of a zone")
        };
        match (self.zone, self.subscription, SensorType::from(self.r#type)) {
            (Some(Id(zone)), None, _) => Ok(zone),
            (None, Some(Id(owner)), SensorType::EnterpriseIot) => Ok(enterprise_zone(owner)),
            (Some(_), Some(_), _) => Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "bad-field",
                "`zone` says already whose the sensor is; leave `subscription` out",
            )
            .field("subscription", "no field `subscription` beside `zone`")),
            (None, None, SensorType::EnterpriseIot) => {
                Err(one_of("say where the sensor stands with `zone`, or whose it is with `subscription`"))
            }
            (None, _, _) => Err(one_of("say where the sensor stands with `zone`")),
        }
    }
}

#[utoipa::path(post, path = "/api/v1/sensors", operation_id = "create-sensor", tag = "Sensors",
    summary = "Onboards a sensor: it waits for activation", request_body = GivenSensor,
    responses((status = 201, description = "It is there; `Location` says where", body = Registration),
        (status = 507, description = "")))]
pub(in crate::http) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    Given(given): Given<GivenSensor>,
) -> Result<Response, Problem> {
    let (id, zone, owner) = (SensorId::fresh(), given.zone()?, given.subscription);
    let GivenSensor { name, r#type, notes, threat_intel_mode, .. } = given;
    let lifecycle = Lifecycle::PendingActivation;
    let mut commands = vec![Command::AddSensor { id, zone, name, kind: r#type.into(), lifecycle }];
    let threat_intel = threat_intel_mode.map(Into::into);
    if notes.is_some() || threat_intel.is_some() {
        commands.push(Command::EditSensor { id, edit: SensorEdit { name: None, notes, threat_intel } });
    }
    let may = move |register: &Register, caller: &Caller| match owner {
        // The zone follows from it; what was given is named.
        Some(Id(owner)) => reach_named(caller, register, Permission::EditFleet, "subscription", owner),
        None => reach_named(caller, register, Permission::EditFleet, "zone", zone),
    };
    let made = change(&app, caller, commands, may, move |register, at| document(register, id, at)).await?;
    Ok(made.created(format!("/api/v1/sensors/{id}")))
}

#[utoipa::path(patch, path = "/api/v1/sensors/{id}", operation_id = "edit-sensor", tag = "Sensors",
    summary = "Renames, moves, annotates a sensor or changes its mode, together; identity and history stay",
    request_body = PatchSensor, params(("id" = String, Path, format = Uuid, description = "Id of the sensor")),
    responses((status = 200, description = "As it is declared now", body = Registration),
        (status = 507, description = "")))]
pub(in crate::http) async fn edit(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<SensorId>,
    _: NoQuery,
    if_match: IfMatch,
    Given(patch): Given<PatchSensor>,
) -> Result<impl axum::response::IntoResponse, Problem> {
    let PatchSensor { name, notes, threat_intel_mode, zone, r#type } = patch;
    let mut commands = Vec::new();
    let threat_intel = threat_intel_mode.map(Into::into);
    // The new name first: it is often changed because the old one is in use where the sensor goes.
    if name.is_some() || notes.is_some() || threat_intel.is_some() {
        commands.push(Command::EditSensor { id, edit: SensorEdit { name, notes, threat_intel } });
    }
    commands.extend(zone.map(|Id(zone)| Command::MoveSensor { id, zone }));
    commands.extend(r#type.map(|kind| Command::SetMode { id, kind: kind.into() }));
    let may = move |register: &Register, caller: &Caller| {
        editable(register, caller, id, &if_match)?;
        zone.map_or(Ok(()), |Id(zone)| reach_named(caller, register, Permission::EditFleet, "zone", zone))
    };
    change(&app, caller, commands, may, move |register, at| document(register, id, at)).await
}

#[utoipa::path(delete, path = "/api/v1/sensors/{id}", operation_id = "delete-sensor", tag = "Sensors",
    summary = "Deletes a sensor for ever: its certificate is void at once, its connection ends, its history stays",
    params(("id" = String, Path, format = Uuid, description = "Id of the sensor")),
    responses((status = 204, description = "Gone")))]
pub(in crate::http) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<SensorId>,
    _: NoQuery,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    let may = move |register: &Register, caller: &Caller| editable(register, caller, id, &if_match);
    change(&app, caller, vec![Command::DeleteSensor { id }], may, gone).await
}

/// The sensor is there for this caller, who may edit it, and it is the version that they mean.
pub(super) fn editable(
    register: &Register,
    caller: &Caller,
    id: SensorId,
    if_match: &IfMatch,
) -> Result<(), Problem> {
    reach(caller, register, Permission::EditFleet, id)?;
    register.sensor(id).map_or(Ok(()), |found| if_match.check(&sensor_tag(found)))
}
