//! `/api/v1/zones` and `/api/v1/sites/{id}/zones`: segments in a place.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::documents::policy_tag;
use super::{At, NoQuery, Tagged, change, gone, reach, show};
use crate::fleet::{Command, Permission, Register, Zone};
use crate::http::app::App;
use crate::http::body::Given;
use crate::http::caller::Caller;
use crate::http::documents::{self, Reference};
use crate::http::etag::{ETag, IfMatch};
use crate::http::problem::Problem;
use crate::wire::id::{SiteId, ZoneId};

/// A segment in a place.
#[derive(Serialize, ToSchema)]
#[schema(as = Zone)]
struct ZoneDocument {
    id: String,
    name: String,
    site: Reference,
    sensors: usize,
}

/// What a zone is called.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ZoneGiven)]
pub(in crate::http) struct GivenZone {
    #[schema(min_length = 1, max_length = 128)]
    name: String,
}

pub(super) fn tag(zone: &Zone) -> ETag {
    ETag::of(&(&*zone.name, zone.site.0, policy_tag(&zone.policy)))
}

fn document(register: &Register, id: ZoneId) -> Result<Tagged<ZoneDocument>, Problem> {
    let zone = register.zone(id).ok_or_else(|| Problem::not_found("zone", &id.to_string(), ""))?;
    let document = ZoneDocument {
        id: id.to_string(),
        name: zone.name.to_string(),
        site: documents::site(register, zone.site),
        sensors: register.sensors_of_zone_count(id),
    };
    Ok(Tagged { tag: tag(zone), document })
}

#[utoipa::path(post, path = "/api/v1/sites/{id}/zones", operation_id = "create-zone", tag = "Zones",
    summary = "A new zone in a site", request_body = GivenZone,
    params(("id" = String, Path, format = Uuid, description = "Id of the site")),
    responses((status = 201, description = "It is there; `Location` says where", body = ZoneDocument)))]
pub(in crate::http) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(site): At<SiteId>,
    _: NoQuery,
    Given(GivenZone { name }): Given<GivenZone>,
) -> Result<Response, Problem> {
    let id = ZoneId::fresh();
    let may =
        move |register: &Register, caller: &Caller| reach(caller, register, Permission::EditFleet, site);
    let commands = vec![Command::AddZone { id, site, name }];
    let made = change(&app, caller, commands, may, move |register, _| document(register, id)).await?;
    Ok(made.created(format!("/api/v1/zones/{id}")))
}

#[utoipa::path(get, path = "/api/v1/zones/{id}", operation_id = "get-zone", tag = "Zones",
    summary = "One zone", params(("id" = String, Path, format = Uuid, description = "Id of the zone")),
    responses((status = 200, description = "The zone, with its `ETag`", body = ZoneDocument)))]
pub(in crate::http) async fn one(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<ZoneId>,
    _: NoQuery,
) -> Result<impl axum::response::IntoResponse, Problem> {
    show(&app, caller, id, move |register, _| document(register, id)).await
}

#[utoipa::path(patch, path = "/api/v1/zones/{id}", operation_id = "edit-zone", tag = "Zones",
    summary = "Another name for a zone", request_body = GivenZone,
    params(("id" = String, Path, format = Uuid, description = "Id of the zone")),
    responses((status = 200, description = "As it is now", body = ZoneDocument)))]
pub(in crate::http) async fn edit(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<ZoneId>,
    _: NoQuery,
    if_match: IfMatch,
    Given(GivenZone { name }): Given<GivenZone>,
) -> Result<impl axum::response::IntoResponse, Problem> {
    let may = move |register: &Register, caller: &Caller| editable(register, caller, id, &if_match);
    let commands = vec![Command::RenameZone { id, name }];
    change(&app, caller, commands, may, move |register, _| document(register, id)).await
}

#[utoipa::path(delete, path = "/api/v1/zones/{id}", operation_id = "delete-zone", tag = "Zones",
    summary = "Deletes a zone without sensors",
    params(("id" = String, Path, format = Uuid, description = "Id of the zone")),
    responses((status = 204, description = "Gone")))]
pub(in crate::http) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<ZoneId>,
    _: NoQuery,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    let may = move |register: &Register, caller: &Caller| editable(register, caller, id, &if_match);
    change(&app, caller, vec![Command::DeleteZone { id }], may, gone).await
}

fn editable(register: &Register, caller: &Caller, id: ZoneId, if_match: &IfMatch) -> Result<(), Problem> {
    reach(caller, register, Permission::EditFleet, id)?;
    register.zone(id).map_or(Ok(()), |found| if_match.check(&tag(found)))
}
