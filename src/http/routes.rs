//! The one table of what the HTTP side answers: path, name under which it is counted, methods, and who may.
//!
//! A new resource is a row here, its name in [`crate::export::table::ROUTES`], its operations in [`super::openapi`], and
//! who may use them once more in `tests/it/http/roles.rs`. A route without a permission can't be written down. One whose
//! answer holds a secret says so (`secret()`), so that the answer is not kept.

use super::bulk::{self, jobs};
use super::edit::{activation, gateways, lifecycle, policy, quiet, sensors, sites, subscriptions, zones};
use super::router::Access::{Metrics, Needs, NeedsAll, Probe, Public, SignedIn};
use super::router::{Route, delete, get, patch, post, put, route};
use super::{
    attempts, audit, backups, docs, endpoints, engine, events, fleet, grid, import, message_history,
    messages, metrics, oidc, openapi, places, probes, sensor, sensor_metrics, series, session, setup,
    signatures, tokens, users,
};
use crate::fleet::Permission::{EditFleet, ManageAccess, ManageServer, ReadAudit, View};
use crate::limits::HTTP_LARGE_BODY_BYTES_MAX;

/// Every route there is.
pub(super) fn table() -> Vec<Route> {
    vec![
        route("/livez", "livez", [get(Probe, probes::livez)]),
        route("/readyz", "readyz", [get(Probe, probes::readyz)]),
        route("/metrics", "metrics", [get(Metrics, metrics::metrics)]),
        route("/metrics/sensors", "sensor_metrics", [get(Metrics, sensor_metrics::sensor_metrics)]),
        route("/api/v1/engine", "engine", [get(Metrics, engine::engine)]),
        route("/api/v1/fleet", "fleet", [get(NeedsAll(View), fleet::fleet)]),
        route("/api/v1/messages", "messages", [get(Needs(View), messages::messages)]),
        route(
            "/api/v1/messages/history",
            "message_history",
            [get(Needs(View), message_history::message_history)],
        ),
        route(
            "/api/v1/subscriptions",
            "subscriptions",
            [get(Needs(View), places::subscriptions), post(Needs(ManageServer), subscriptions::create)],
        ),
        route(
            "/api/v1/subscriptions/{id}",
            "subscriptions",
            [
                get(Needs(View), subscriptions::one),
                patch(Needs(ManageServer), subscriptions::edit),
                delete(Needs(ManageServer), subscriptions::delete),
            ],
        ),
        route(
            "/api/v1/sites",
            "sites",
            [get(Needs(View), places::sites), post(Needs(EditFleet), sites::create)],
        ),
        route(
            "/api/v1/sites/{id}",
            "sites",
            [
                get(Needs(View), sites::one),
                patch(Needs(EditFleet), sites::edit),
                delete(Needs(EditFleet), sites::delete),
            ],
        ),
        route("/api/v1/sites/{id}/zones", "zones", [post(Needs(EditFleet), zones::create)]),
        route("/api/v1/zones", "zones", [get(Needs(View), places::zones)]),
        route(
            "/api/v1/zones/{id}",
            "zones",
            [
                get(Needs(View), zones::one),
                patch(Needs(EditFleet), zones::edit),
                delete(Needs(EditFleet), zones::delete),
            ],
        ),
        route(
            "/api/v1/gateways",
            "gateways",
            [get(Needs(View), places::gateways), post(Needs(ManageServer), gateways::create)],
        ),
        route(
            "/api/v1/gateways/{id}",
            "gateways",
            [
                get(Needs(View), gateways::one),
                patch(Needs(ManageServer), gateways::edit),
                delete(Needs(ManageServer), gateways::delete),
            ],
        ),
        route(
            "/api/v1/sensors",
            "sensors",
            [get(Needs(View), grid::sensors), post(Needs(EditFleet), sensors::create)],
        ),
        route(
            "/api/v1/sensors/import",
            "import",
            [post(Needs(EditFleet), import::import).large(HTTP_LARGE_BODY_BYTES_MAX)],
        ),
        route(
            "/api/v1/sensors/{id}",
            "sensor",
            [
                get(Needs(View), sensor::sensor),
                patch(Needs(EditFleet), sensors::edit),
                delete(Needs(EditFleet), sensors::delete),
            ],
        ),
        route(
            "/api/v1/sensors/{id}/reactivate",
            "sensor_steps",
            [post(Needs(EditFleet), lifecycle::reactivate)],
        ),
        route("/api/v1/enrolment-attempts", "enrolment_attempts", [get(NeedsAll(View), attempts::refused)]),
        route("/api/v1/activations", "activation", [post(Needs(EditFleet), activation::many).secret()]),
        route(
            "/api/v1/sensors/{id}/activation",
            "activation",
            [post(Needs(EditFleet), activation::file).secret()],
        ),
        route(
            "/api/v1/sensors/{id}/activation-command",
            "activation",
            [post(Needs(EditFleet), activation::command).secret()],
        ),
        route("/api/v1/sensors/{id}/response", "activation", [post(Needs(EditFleet), activation::response)]),
        route("/api/v1/sensors/{id}/revoke", "sensor_steps", [post(Needs(EditFleet), lifecycle::revoke)]),
        route(
            "/api/v1/sensors/{id}/mark-active",
            "sensor_steps",
            [post(Needs(EditFleet), lifecycle::mark_active)],
        ),
        route(
            "/api/v1/subscriptions/{id}/policy",
            "policy",
            [
                get(Needs(View), policy::of_subscription::get),
                put(Needs(EditFleet), policy::of_subscription::put),
            ],
        ),
        route(
            "/api/v1/sites/{id}/policy",
            "policy",
            [get(Needs(View), policy::of_site::get), put(Needs(EditFleet), policy::of_site::put)],
        ),
        route(
            "/api/v1/zones/{id}/policy",
            "policy",
            [get(Needs(View), policy::of_zone::get), put(Needs(EditFleet), policy::of_zone::put)],
        ),
        route(
            "/api/v1/sensors/{id}/policy",
            "policy",
            [get(Needs(View), policy::of_sensor::get), put(Needs(EditFleet), policy::of_sensor::put)],
        ),
        route(
            "/api/v1/sites/{id}/mute",
            "quiet",
            [put(Needs(EditFleet), quiet::of_site::mute), delete(Needs(EditFleet), quiet::of_site::unmute)],
        ),
        route(
            "/api/v1/sites/{id}/windows",
            "quiet",
            [get(Needs(View), quiet::of_site::windows), post(Needs(EditFleet), quiet::of_site::add)],
        ),
        route(
            "/api/v1/sites/{id}/windows/{window}",
            "quiet",
            [delete(Needs(EditFleet), quiet::of_site::remove)],
        ),
        route(
            "/api/v1/sensors/{id}/mute",
            "quiet",
            [
                put(Needs(EditFleet), quiet::of_sensor::mute),
                delete(Needs(EditFleet), quiet::of_sensor::unmute),
            ],
        ),
        route(
            "/api/v1/sensors/{id}/windows",
            "quiet",
            [get(Needs(View), quiet::of_sensor::windows), post(Needs(EditFleet), quiet::of_sensor::add)],
        ),
        route(
            "/api/v1/sensors/{id}/windows/{window}",
            "quiet",
            [delete(Needs(EditFleet), quiet::of_sensor::remove)],
        ),
        route("/api/v1/sensors/{id}/series", "sensor_series", [get(Needs(View), series::series)]),
        route("/api/v1/events/sensors", "sensor_events", [get(Needs(View), events::sensors)]),
        route("/api/v1/events/messages", "message_events", [get(Needs(View), events::messages)]),
        route("/api/v1/bulk", "bulk", [post(Needs(EditFleet), bulk::bulk).large(HTTP_LARGE_BODY_BYTES_MAX)]),
        route("/api/v1/jobs", "jobs", [get(Needs(View), jobs::list)]),
        route("/api/v1/jobs/{id}", "jobs", [get(Needs(View), jobs::one), delete(Needs(View), jobs::cancel)]),
        route("/api/v1/jobs/{id}/items", "jobs", [get(Needs(View), jobs::items)]),
        route("/api/v1/endpoints", "endpoints", [get(Needs(View), endpoints::endpoints)]),
        route("/api/v1/signatures/{id}", "signature", [get(Needs(View), signatures::signature)]),
        route("/api/v1/openapi.json", "openapi", [get(Public, openapi::openapi)]),
        route("/api/v1/docs", "docs", [get(Public, docs::docs)]),
        route("/setup", "setup_page", [get(Public, setup::page), post(Public, setup::by_form)]),
        route("/api/v1/setup", "setup", [post(Public, setup::setup)]),
        route(
            "/api/v1/session",
            "session",
            [
                get(SignedIn, session::session),
                post(Public, session::sign_in),
                delete(SignedIn, session::sign_out),
            ],
        ),
        route("/api/v1/sign-in/oidc", "oidc", [get(Public, oidc::begin)]),
        route("/api/v1/sign-in/oidc/callback", "oidc_callback", [get(Public, oidc::callback)]),
        route("/api/v1/session/password", "password", [put(SignedIn, session::change_password)]),
        route(
            "/api/v1/users",
            "users",
            [get(NeedsAll(ManageAccess), users::list), post(NeedsAll(ManageAccess), users::add)],
        ),
        route(
            "/api/v1/users/{id}",
            "user",
            [
                get(NeedsAll(ManageAccess), users::user),
                patch(NeedsAll(ManageAccess), users::edit),
                delete(NeedsAll(ManageAccess), users::remove),
            ],
        ),
        route(
            "/api/v1/tokens",
            "tokens",
            [get(SignedIn, tokens::list), post(SignedIn, tokens::add).secret()],
        ),
        route("/api/v1/audit", "audit", [get(Needs(ReadAudit), audit::audit)]),
        route("/api/v1/backup", "backups", [post(NeedsAll(ManageServer), backups::make)]),
        route("/api/v1/backups", "backups", [get(NeedsAll(ManageServer), backups::list)]),
        route(
            "/api/v1/backups/{name}",
            "backups",
            [get(NeedsAll(ManageServer), backups::download), delete(NeedsAll(ManageServer), backups::remove)],
        ),
        route(
            "/api/v1/tokens/{id}",
            "token",
            [get(SignedIn, tokens::token), delete(SignedIn, tokens::remove)],
        ),
    ]
}
