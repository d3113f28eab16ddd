//! `/api/v1/sites`: places. Name, tags and owners are edited together; owners are told when something happens there.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::documents::{QuietDocument, policy_tag, quiet_tag};
use super::{At, Id, NoQuery, Tagged, change, cleared, given, gone, reach, reach_named, show};
use crate::fleet::{Command, Permission, Register, Site, SiteEdit, SiteKind};
use crate::http::app::App;
use crate::http::body::Given;
use crate::http::caller::Caller;
use crate::http::documents::Reference;
use crate::http::etag::{ETag, IfMatch};
use crate::http::problem::Problem;
use crate::time::UnixMillis;
use crate::wire::id::{SiteId, SubscriptionId};

/// A place.
#[derive(Serialize, ToSchema)]
#[schema(as = Site)]
struct SiteDocument {
    id: String,
    name: String,
    /// `ot`, or `enterprise` for the built-in one.
    kind: &'static str,
    subscription: Reference,
    tags: BTreeMap<String, String>,
    /// E-mail addresses.
    owners: Vec<String>,
    quiet: QuietDocument,
    zones: Vec<Reference>,
    sensors: usize,
}

/// A new site.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SiteGiven)]
pub(in crate::http) struct GivenSite {
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    #[schema(value_type = String, format = Uuid)]
    subscription: Id<SubscriptionId>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    /// E-mail addresses.
    #[serde(default)]
    owners: Vec<String>,
}

/// What changes of a site; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SitePatch)]
pub(in crate::http) struct PatchSite {
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_length = 1, max_length = 128)]
    name: Option<String>,
    /// All of them; null for none.
    #[serde(default, deserialize_with = "cleared")]
    tags: Option<BTreeMap<String, String>>,
    /// E-mail addresses, all of them; null for none.
    #[serde(default, deserialize_with = "cleared")]
    owners: Option<Vec<String>>,
}

pub(in crate::http) fn tag(site: &Site) -> ETag {
    let about = &site.about;
    let texts = about.tags.iter().map(|(key, value)| (&**key, &**value));
    let owners = about.owners.iter().map(|owner| &**owner);
    let said = (texts.collect::<Vec<_>>(), owners.collect::<Vec<_>>());
    ETag::of(&(&*site.name, site.subscription.0, said, quiet_tag(&about.quiet), policy_tag(&about.policy)))
}

fn document(register: &Register, id: SiteId, at: UnixMillis) -> Result<Tagged<SiteDocument>, Problem> {
    let site = register.site(id).ok_or_else(|| Problem::not_found("site", &id.to_string(), ""))?;
    let owner = register.subscription(site.subscription).map_or("", |owner| &*owner.name);
    let about = &site.about;
    let document = SiteDocument {
        id: id.to_string(),
        name: site.name.to_string(),
        kind: match site.kind {
            SiteKind::Ot => "ot",
            SiteKind::Enterprise => "enterprise",
        },
        subscription: Reference::new(site.subscription, owner),
        tags: about.tags.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        owners: about.owners.iter().map(ToString::to_string).collect(),
        quiet: QuietDocument::of(&about.quiet, at),
        zones: register.zones_of(id).map(|zone| Reference::new(zone.id, &zone.name)).collect(),
        sensors: register.sensors_of_count(id),
    };
    Ok(Tagged { tag: tag(site), document })
}

#[utoipa::path(post, path = "/api/v1/sites", operation_id = "create-site", tag = "Sites",
    summary = "A new OT site in a subscription", request_body = GivenSite,
    responses((status = 201, description = "It is there; `Location` says where", body = SiteDocument)))]
pub(in crate::http) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    Given(GivenSite { name, subscription, tags, owners }): Given<GivenSite>,
) -> Result<Response, Problem> {
    let (id, subscription) = (SiteId::fresh(), subscription.0);
    let mut commands = vec![Command::AddSite { id, subscription, name }];
    if !tags.is_empty() || !owners.is_empty() {
        let edit = SiteEdit { name: None, tags: Some(tags), owners: Some(owners) };
        commands.push(Command::EditSite { id, edit });
    }
    let may = move |register: &Register, caller: &Caller| {
        reach_named(caller, register, Permission::EditFleet, "subscription", subscription)
    };
    let made = change(&app, caller, commands, may, move |register, at| document(register, id, at)).await?;
    Ok(made.created(format!("/api/v1/sites/{id}")))
}

#[utoipa::path(get, path = "/api/v1/sites/{id}", operation_id = "get-site", tag = "Sites",
    summary = "One site: name, tags, owners, zones",
    params(("id" = String, Path, format = Uuid, description = "Id of the site")),
    responses((status = 200, description = "The site, with its `ETag`", body = SiteDocument)))]
pub(in crate::http) async fn one(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<SiteId>,
    _: NoQuery,
) -> Result<impl axum::response::IntoResponse, Problem> {
    show(&app, caller, id, move |register, at| document(register, id, at)).await
}

#[utoipa::path(patch, path = "/api/v1/sites/{id}", operation_id = "edit-site", tag = "Sites",
    summary = "Another name, other tags, other owners, together", request_body = PatchSite,
    params(("id" = String, Path, format = Uuid, description = "Id of the site")),
    responses((status = 200, description = "As it is now", body = SiteDocument)))]
pub(in crate::http) async fn edit(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<SiteId>,
    _: NoQuery,
    if_match: IfMatch,
    Given(PatchSite { name, tags, owners }): Given<PatchSite>,
) -> Result<impl axum::response::IntoResponse, Problem> {
    let commands = vec![Command::EditSite { id, edit: SiteEdit { name, tags, owners } }];
    let may = move |register: &Register, caller: &Caller| editable(register, caller, id, &if_match);
    change(&app, caller, commands, may, move |register, at| document(register, id, at)).await
}

#[utoipa::path(delete, path = "/api/v1/sites/{id}", operation_id = "delete-site", tag = "Sites",
    summary = "Deletes a site without zones that no gateway speaks for",
    params(("id" = String, Path, format = Uuid, description = "Id of the site")),
    responses((status = 204, description = "Gone")))]
pub(in crate::http) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<SiteId>,
    _: NoQuery,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    let may = move |register: &Register, caller: &Caller| editable(register, caller, id, &if_match);
    change(&app, caller, vec![Command::DeleteSite { id }], may, gone).await
}

/// The site is there for this caller, who may edit it, and it is the version that they mean.
pub(super) fn editable(
    register: &Register,
    caller: &Caller,
    id: SiteId,
    if_match: &IfMatch,
) -> Result<(), Problem> {
    reach(caller, register, Permission::EditFleet, id)?;
    register.site(id).map_or(Ok(()), |found| if_match.check(&tag(found)))
}
