//! `/api/v1/gateways`: relays, and the sites that each may speak for.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{At, Id, NoQuery, Tagged, change, cleared, given, gone, reach, show};
use crate::fleet::{Command, Gateway, Permission, Register, Target};
use crate::http::app::App;
use crate::http::body::Given;
use crate::http::caller::Caller;
use crate::http::documents::Reference;
use crate::http::etag::{ETag, IfMatch};
use crate::http::problem::Problem;
use crate::http::sight::sees;
use crate::wire::id::{GatewayId, SiteId};

/// A relay.
#[derive(Serialize, ToSchema)]
#[schema(as = Gateway)]
struct GatewayDocument {
    id: String,
    name: String,
    /// Sites whose sensors' heartbeats it may send, of those that the caller may see.
    sites: Vec<Reference>,
}

/// A new gateway.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GatewayGiven)]
pub(in crate::http) struct GivenGateway {
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    sites: Vec<Id<SiteId>>,
}

/// What changes of a gateway; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GatewayPatch)]
pub(in crate::http) struct PatchGateway {
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_length = 1, max_length = 128)]
    name: Option<String>,
    /// Ids of sites, all of them; null for none.
    #[serde(default, deserialize_with = "cleared")]
    #[schema(value_type = Option<Vec<String>>)]
    sites: Option<Vec<Id<SiteId>>>,
}

fn tag(gateway: &Gateway) -> ETag {
    ETag::of(&(&*gateway.name, gateway.sites.iter().map(|site| site.0).collect::<Vec<_>>()))
}

fn document(register: &Register, caller: &Caller, id: GatewayId) -> Result<Tagged<GatewayDocument>, Problem> {
    let gateway = register.gateway(id).ok_or_else(|| Problem::not_found("gateway", &id.to_string(), ""))?;
    let sites = gateway.sites.iter().filter_map(|&id| register.site(id));
    let seen = sites.filter(|site| sees(&caller.grants, site.id, site.subscription));
    let document = GatewayDocument {
        id: id.to_string(),
        name: gateway.name.to_string(),
        sites: seen.map(|site| Reference::new(site.id, &site.name)).collect(),
    };
    Ok(Tagged { tag: tag(gateway), document })
}

#[utoipa::path(post, path = "/api/v1/gateways", operation_id = "create-gateway", tag = "Gateways",
    summary = "A new gateway", request_body = GivenGateway,
    responses((status = 201, description = "It is there; `Location` says where", body = GatewayDocument),
        (status = 507, description = "")))]
pub(in crate::http) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    Given(GivenGateway { name, sites }): Given<GivenGateway>,
) -> Result<Response, Problem> {
    let id = GatewayId::fresh();
    let sites = sites.into_iter().map(|Id(site)| site).collect();
    let may = |register: &Register, caller: &Caller| {
        caller.check(register, Permission::ManageServer, Target::Everything)
    };
    let commands = vec![Command::AddGateway { id, name, sites }];
    let by = caller.clone();
    let made = change(&app, caller, commands, may, move |register, _| document(register, &by, id)).await?;
    Ok(made.created(format!("/api/v1/gateways/{id}")))
}

#[utoipa::path(get, path = "/api/v1/gateways/{id}", operation_id = "get-gateway", tag = "Gateways",
    summary = "One gateway and its sites",
    params(("id" = String, Path, format = Uuid, description = "Id of the gateway")),
    responses((status = 200, description = "The gateway, with its `ETag`", body = GatewayDocument)))]
pub(in crate::http) async fn one(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<GatewayId>,
    _: NoQuery,
) -> Result<impl axum::response::IntoResponse, Problem> {
    let by = caller.clone();
    show(&app, caller, id, move |register, _| document(register, &by, id)).await
}

#[utoipa::path(patch, path = "/api/v1/gateways/{id}", operation_id = "edit-gateway", tag = "Gateways",
    summary = "Another name, other sites; takes effect on its connection at once", request_body = PatchGateway,
    params(("id" = String, Path, format = Uuid, description = "Id of the gateway")),
    responses((status = 200, description = "As it is now", body = GatewayDocument)))]
pub(in crate::http) async fn edit(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<GatewayId>,
    _: NoQuery,
    if_match: IfMatch,
    Given(PatchGateway { name, sites }): Given<PatchGateway>,
) -> Result<impl axum::response::IntoResponse, Problem> {
    let rename = name.map(|name| Command::RenameGateway { id, name });
    let sites = sites.map(|sites| sites.into_iter().map(|Id(site)| site).collect());
    let set = sites.map(|sites| Command::SetGatewaySites { id, sites });
    let may = move |register: &Register, caller: &Caller| editable(register, caller, id, &if_match);
    let commands = rename.into_iter().chain(set).collect();
    let by = caller.clone();
    change(&app, caller, commands, may, move |register, _| document(register, &by, id)).await
}

#[utoipa::path(delete, path = "/api/v1/gateways/{id}", operation_id = "delete-gateway", tag = "Gateways",
    summary = "Deletes a gateway; its connection ends",
    params(("id" = String, Path, format = Uuid, description = "Id of the gateway")),
    responses((status = 204, description = "Gone")))]
pub(in crate::http) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<GatewayId>,
    _: NoQuery,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    let may = move |register: &Register, caller: &Caller| editable(register, caller, id, &if_match);
    change(&app, caller, vec![Command::DeleteGateway { id }], may, gone).await
}

fn editable(register: &Register, caller: &Caller, id: GatewayId, if_match: &IfMatch) -> Result<(), Problem> {
    reach(caller, register, Permission::ManageServer, id)?;
    register.gateway(id).map_or(Ok(()), |found| if_match.check(&tag(found)))
}
