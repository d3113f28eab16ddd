//! The description of the API, made from the code: `GET /api/v1/openapi.json` (OpenAPI 3.1), and `GET /api/v1/docs`
//! for people ([`super::docs`]).
//!
//! Each handler says what it takes and gives (`#[utoipa::path]`); its operation is listed in [`Declared`]. What follows
//! from the table of routes is added here, so that it can't be forgotten: who may, and the refusals that the gate, the
//! body and the workers can answer with.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::bulk::{self, jobs};
use super::edit::{activation, gateways, lifecycle, policy, quiet, sensors, sites, subscriptions, zones};
use super::router::{Access, Operation, Route};
use super::routes::table;
use super::{
    attempts, audit, backups, docs, endpoints, engine, events, fleet, grid, import, message_history,
    messages, metrics, oidc, places, probes, problem, sensor, sensor_metrics, series, session, setup,
    signatures, tokens, users,
};

/// What the handlers declare. One line an operation; a test holds it against the table of routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Fleetpulse",
        description = "The fleet's register, health and the server itself. Errors are `application/problem+json` with a \
            `code` that stays. Lists come in pages: `next` of one page is the `cursor` of the next. Times are RFC 3339 in UTC.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        probes::livez,
        probes::readyz,
        metrics::metrics,
        sensor_metrics::sensor_metrics,
        engine::engine,
        fleet::fleet,
        messages::messages,
        message_history::message_history,
        places::subscriptions,
        places::sites,
        places::zones,
        places::gateways,
        grid::sensors,
        sensor::sensor,
        series::series,
        events::sensors,
        events::messages,
        openapi,
        docs::docs,
        subscriptions::create,
        subscriptions::one,
        subscriptions::edit,
        subscriptions::delete,
        sites::create,
        sites::one,
        sites::edit,
        sites::delete,
        zones::create,
        zones::one,
        zones::edit,
        zones::delete,
        gateways::create,
        gateways::one,
        gateways::edit,
        gateways::delete,
        sensors::create,
        sensors::edit,
        sensors::delete,
        activation::file,
        activation::command,
        activation::many,
        activation::response,
        attempts::refused,
        lifecycle::reactivate,
        lifecycle::revoke,
        lifecycle::mark_active,
        policy::of_subscription::get,
        policy::of_subscription::put,
        policy::of_site::get,
        policy::of_site::put,
        policy::of_zone::get,
        policy::of_zone::put,
        policy::of_sensor::get,
        policy::of_sensor::put,
        quiet::of_site::mute,
        quiet::of_site::unmute,
        quiet::of_site::windows,
        quiet::of_site::add,
        quiet::of_site::remove,
        quiet::of_sensor::mute,
        quiet::of_sensor::unmute,
        quiet::of_sensor::windows,
        quiet::of_sensor::add,
        quiet::of_sensor::remove,
        setup::page,
        setup::by_form,
        setup::setup,
        session::session,
        session::sign_in,
        session::sign_out,
        session::change_password,
        oidc::begin,
        oidc::callback,
        users::list,
        users::add,
        users::user,
        users::edit,
        users::remove,
        tokens::list,
        tokens::add,
        tokens::token,
        tokens::remove,
        import::import,
        bulk::bulk,
        jobs::list,
        jobs::one,
        jobs::cancel,
        jobs::items,
        endpoints::endpoints,
        signatures::signature,
        audit::audit,
        backups::make,
        backups::list,
        backups::download,
        backups::remove,
    ),
    components(schemas(problem::Document))
)]
struct Declared;

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);
static TEXT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(DOCUMENT.to_string()));

/// The whole document.
pub(super) fn shared() -> &'static Value {
    &DOCUMENT
}

#[utoipa::path(get, path = "/api/v1/openapi.json", operation_id = "get-openapi", tag = "Description",
    summary = "This description, as OpenAPI 3.1",
    responses((status = 200, description = "The document", body = Object)))]
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], TEXT.clone()).into_response()
}

/// Refusals that are the same everywhere: status, name among the components, meaning.
const REFUSALS: [(u16, &str, &str); 14] = [
    (
        400,
        "BadRequest",
        "A parameter, header or body that can't be read; `field` and `valid` say which and what is right",
    ),
    (401, "NotSignedIn", "Nobody is signed in: give a token or a session"),
    (403, "NotAllowed", "Who is signed in may not do this; `detail` names the role that may"),
    (404, "NotFound", "Nothing has this id, as far as the caller may see"),
    (408, "TooSlow", "The body did not come in time"),
    (
        409,
        "Conflict",
        "The present state is in the way; or the same `Idempotency-Key` is under way, or was answered with a secret \
            that is not kept",
    ),
    (412, "Stale", "It was changed since it was read: `If-Match` names another `ETag` than the present one"),
    (413, "TooLarge", "The body is too large"),
    (415, "NotJson", "The `Content-Type` is none that this takes, such as application/json"),
    (
        422,
        "NotAccepted",
        "What is asked for is readable and can't be done; `field` and `valid` say what is right",
    ),
    (429, "TooManyRequests", "Too many requests; `Retry-After` says when the next one is welcome"),
    (500, "Internal", "Something failed in the server; its log says what"),
    (
        503,
        "Busy",
        "Workers or the store are not to be had now; `Retry-After` says when to try again. `outcome-unknown`: it \
            was begun, goes on, and may be done by now",
    ),
    (507, "NoRoom", "The server has no room for it; `detail` says what makes some"),
];

fn document() -> Value {
    // Made of texts, numbers and lists: it does not fail.
    let mut document = serde_json::to_value(Declared::openapi()).unwrap_or_default();
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    let problem = json!({"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}});
    for (status, name, description) in REFUSALS {
        let mut answer = json!({"description": description, "content": problem});
        if matches!(status, 429 | 503) {
            answer["headers"]["Retry-After"] =
                json!({"description": "Seconds", "schema": {"type": "integer"}});
        }
        document["components"]["responses"][name] = answer;
    }
    document["components"]["securitySchemes"] = json!({
        "token": {"type": "http", "scheme": "bearer", "description": "An API token: `Authorization: Bearer fp_...`"},
        "session": {"type": "apiKey", "in": "cookie", "name": "__Host-fleetpulse",
            "description": "The session of a browser (`fleetpulse` without TLS). Requests that write also need the header \
                `X-Fleetpulse-CSRF` with the value that `GET /api/v1/session` gives."},
    });
    for Route { path, operations, .. } in table() {
        for operation in operations {
            let method = operation.method.as_str().to_ascii_lowercase();
            if let Some(described) = document["paths"][path].get_mut(method.as_str()) {
                complete(described, path, &operation);
            }
        }
    }
    document
}

/// Adds to a described operation what follows from its row in the table.
fn complete(described: &mut Value, path: &str, operation: &Operation) {
    let probe = operation.access == Access::Probe;
    let takes_body = described.get("requestBody").is_some();
    // With a key it is done once.
    let keyed = operation.method == "POST" && operation.access != Access::Public;
    let changes = matches!(operation.method.as_str(), "PUT" | "PATCH" | "DELETE");
    let writes = operation.method != "GET";
    let needs = match operation.access {
        Access::Probe | Access::Public => None,
        Access::SignedIn => Some("Needs any sign-in.".to_owned()),
        Access::Metrics => Some(
            "Needs *view* over everything; without sign-in where `http.metrics_without_sign_in` allows it."
                .to_owned(),
        ),
        Access::NeedsAll(permission) => Some(format!(
            "Needs *{}* over everything (role {}).",
            permission.as_str(),
            permission.least_role().as_str()
        )),
        Access::Needs(permission) => {
            Some(format!("Needs *{}* (role {}).", permission.as_str(), permission.least_role().as_str()))
        }
    };
    described["security"] = match &needs {
        None => json!([]),
        Some(_) => json!([{"token": []}, {"session": []}]),
    };
    if let Some(needs) = needs.as_deref() {
        let before = described["description"].as_str().map_or_else(String::new, |text| format!("{text}\n\n"));
        described["description"] = format!("{before}{needs}").into();
    }
    let can = |status: u16| match status {
        400 => !probe && path != "/metrics" || takes_body,
        401 => needs.is_some(),
        // A page of another site may not write, whoever is signed in.
        403 => needs.is_some() || writes,
        404 => path.contains('{'),
        408 | 413 => takes_body || keyed,
        415 => takes_body,
        409 => keyed || changes,
        412 => changes,
        422 => takes_body || keyed,
        429 => !probe,
        500 | 503 => path != "/livez",
        _ => false,
    };
    for (status, name, _) in REFUSALS.into_iter() {
        let answers = &mut described["responses"];
        let declared = answers.get(status.to_string());
        // A handler that names one without a word means the shared one.
        if declared.map_or(can(status), |answer| answer["description"] == "") {
            answers[status.to_string()] = json!({"$ref": format!("#/components/responses/{name}")});
        }
    }
    let mut headers = Vec::new();
    if keyed {
        headers.push((
            "Idempotency-Key",
            "The same request with the same key is done once, and answered the same; an answer with a secret is not kept",
        ));
    }
    if described["responses"].get("412").is_some() {
        headers.push(("If-Match", "The `ETag` that the change is meant for; 412 when it is another by now"));
    }
    for (name, description) in headers {
        let header = json!({"name": name, "in": "header", "required": false, "description": description,
            "schema": {"type": "string"}});
        match described["parameters"].as_array_mut() {
            Some(parameters) => parameters.push(header),
            None => described["parameters"] = json!([header]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn operations(document: &Value) -> BTreeMap<(String, String), &Value> {
        let paths = document["paths"].as_object().unwrap();
        let of = |(path, item): (&String, &'_ Value)| -> Vec<((String, String), ())> {
            item.as_object().unwrap().keys().map(|method| ((path.clone(), method.clone()), ())).collect()
        };
        paths
            .iter()
            .flat_map(of)
            .map(|((path, method), ())| {
                let operation = &document["paths"][&path][&method];
                ((path, method), operation)
            })
            .collect()
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let described: BTreeSet<_> = operations(shared()).into_keys().collect();
        let mut routed = BTreeSet::new();
        for route in table() {
            for operation in route.operations {
                routed.insert((route.path.to_owned(), operation.method.as_str().to_ascii_lowercase()));
            }
        }
        assert_eq!(described, routed);
        assert_eq!(shared()["openapi"], "3.1.0");
    }

    #[test]
    fn operations_have_ids_summaries_and_answers() {
        let mut ids = BTreeSet::new();
        for ((path, method), operation) in operations(shared()) {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{id} twice");
            assert!(operation["summary"].is_string(), "{method} {path} has no summary");
            assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{method} {path}");
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers.keys().any(|status| status.starts_with(['2', '3'])), "{method} {path}");
            let in_path: BTreeSet<&str> =
                path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
            let declared = operation["parameters"].as_array().into_iter().flatten();
            let declared: BTreeSet<&str> = declared
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            assert_eq!(in_path, declared, "{method} {path}");
        }
    }

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(to)) = fields.get("$ref") {
                    found.insert(to.clone());
                }
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_schema_is_used_and_every_reference_leads_somewhere() {
        let mut found = BTreeSet::new();
        references(shared(), &mut found);
        for to in &found {
            assert!(shared().pointer(&to[1..]).is_some(), "{to} leads nowhere");
        }
        for name in shared()["components"]["schemas"].as_object().unwrap().keys() {
            assert!(found.contains(&format!("#/components/schemas/{name}")), "{name} is not used");
        }
    }

    /// Two types of one name would silently become one.
    #[test]
    fn schemas_have_names_of_their_own() {
        let mut names = BTreeSet::new();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
        let mut folders = vec![folder];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                for (at, _) in text.match_indices("ToSchema)]\n") {
                    let rest = &text[at..];
                    let item = rest.find("struct ").into_iter().chain(rest.find("enum ")).min().unwrap();
                    let given = rest[..item].split_once("as = ").map(|(_, name)| name);
                    let name = given.unwrap_or_else(|| rest[item..].split_once(' ').unwrap().1);
                    let name: String =
                        name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    assert!(names.insert(name.clone()), "{name} twice; the second in {}", path.display());
                }
            }
        }
        assert!(names.len() > 20, "{names:?}");
    }
}
