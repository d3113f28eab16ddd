//! `/api/v1/subscriptions`: who owns sites and sensors.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::documents::policy_tag;
use super::{At, NoQuery, Tagged, change, gone, reach, show};
use crate::fleet::{Command, Permission, Register, Subscription, Target, enterprise_site};
use crate::http::app::App;
use crate::http::body::Given;
use crate::http::caller::Caller;
use crate::http::documents::Reference;
use crate::http::etag::{ETag, IfMatch};
use crate::http::problem::Problem;
use crate::http::sight::sees;
use crate::wire::id::SubscriptionId;

/// A subscription.
#[derive(Serialize, ToSchema)]
#[schema(as = Subscription)]
struct SubscriptionDocument {
    id: String,
    name: String,
    /// The built-in site of its enterprise-IoT sensors.
    enterprise_site: Reference,
    /// Sites that the caller may see, the built-in one included.
    sites: usize,
}

/// What a subscription is called.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SubscriptionGiven)]
pub(in crate::http) struct GivenSubscription {
    #[schema(min_length = 1, max_length = 128)]
    name: String,
}

pub(super) fn tag(subscription: &Subscription) -> ETag {
    ETag::of(&(&*subscription.name, policy_tag(&subscription.policy)))
}

fn document(
    register: &Register,
    caller: &Caller,
    id: SubscriptionId,
) -> Result<Tagged<SubscriptionDocument>, Problem> {
    let missing = || Problem::not_found("subscription", &id.to_string(), "");
    let found = register.subscription(id).ok_or_else(missing)?;
    let built_in = enterprise_site(id);
    let name = register.site(built_in).map_or("", |site| &*site.name);
    let document = SubscriptionDocument {
        id: id.to_string(),
        name: found.name.to_string(),
        enterprise_site: Reference::new(built_in, name),
        sites: register.sites_of(id).filter(|site| sees(&caller.grants, site.id, id)).count(),
    };
    Ok(Tagged { tag: tag(found), document })
}

#[utoipa::path(post, path = "/api/v1/subscriptions", operation_id = "create-subscription", tag = "Subscriptions",
    summary = "A new subscription, with its built-in enterprise site", request_body = GivenSubscription,
    responses((status = 201, description = "It is there; `Location` says where", body = SubscriptionDocument)))]
pub(in crate::http) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    Given(GivenSubscription { name }): Given<GivenSubscription>,
) -> Result<Response, Problem> {
    let id = SubscriptionId::fresh();
    let commands = vec![Command::AddSubscription { id, name }];
    let may = |register: &Register, caller: &Caller| {
        caller.check(register, Permission::ManageServer, Target::Everything)
    };
    let by = caller.clone();
    let made = change(&app, caller, commands, may, move |register, _| document(register, &by, id)).await?;
    Ok(made.created(format!("/api/v1/subscriptions/{id}")))
}

#[utoipa::path(get, path = "/api/v1/subscriptions/{id}", operation_id = "get-subscription", tag = "Subscriptions",
    summary = "One subscription", params(("id" = String, Path, format = Uuid, description = "Id of the subscription")),
    responses((status = 200, description = "The subscription, with its `ETag`", body = SubscriptionDocument)))]
pub(in crate::http) async fn one(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<SubscriptionId>,
    _: NoQuery,
) -> Result<impl axum::response::IntoResponse, Problem> {
    let by = caller.clone();
    show(&app, caller, id, move |register, _| document(register, &by, id)).await
}

#[utoipa::path(patch, path = "/api/v1/subscriptions/{id}", operation_id = "edit-subscription", tag = "Subscriptions",
    summary = "Another name for a subscription", request_body = GivenSubscription,
    params(("id" = String, Path, format = Uuid, description = "Id of the subscription")),
    responses((status = 200, description = "As it is now", body = SubscriptionDocument)))]
pub(in crate::http) async fn edit(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<SubscriptionId>,
    _: NoQuery,
    if_match: IfMatch,
    Given(GivenSubscription { name }): Given<GivenSubscription>,
) -> Result<impl axum::response::IntoResponse, Problem> {
    let commands = vec![Command::RenameSubscription { id, name }];
    let may = move |register: &Register, caller: &Caller| {
        reach(caller, register, Permission::ManageServer, id)?;
        register.subscription(id).map_or(Ok(()), |found| if_match.check(&tag(found)))
    };
    let by = caller.clone();
    change(&app, caller, commands, may, move |register, _| document(register, &by, id)).await
}

#[utoipa::path(delete, path = "/api/v1/subscriptions/{id}", operation_id = "delete-subscription", tag = "Subscriptions",
    summary = "Deletes a subscription that holds nothing but its empty built-in site",
    params(("id" = String, Path, format = Uuid, description = "Id of the subscription")),
    responses((status = 204, description = "Gone")))]
pub(in crate::http) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<SubscriptionId>,
    _: NoQuery,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    let commands = vec![Command::DeleteSubscription { id }];
    let may = move |register: &Register, caller: &Caller| {
        reach(caller, register, Permission::View, id)?;
        caller.check(register, Permission::ManageServer, Target::Everything)?;
        register.subscription(id).map_or(Ok(()), |found| if_match.check(&tag(found)))
    };
    change(&app, caller, commands, may, gone).await
}
