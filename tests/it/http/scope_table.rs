//! What each operation of the API is about, for `scopes`: a new one without a row here fails that test.

use fleetpulse::wire::id::{GatewayId, SensorId, SiteId, SubscriptionId, ZoneId};
use serde_json::{Value, json};

/// A site with everything that a site can have. Its name is in every name.
pub struct Side {
    pub name: &'static str,
    pub subscription: SubscriptionId,
    pub site: SiteId,
    pub zone: ZoneId,
    pub sensor: SensorId,
    pub local: SensorId,
    pub gateway: GatewayId,
    /// A bulk change by somebody who may.
    pub job: String,
    /// A token for it.
    pub token: String,
}

/// What an operation is about.
pub enum About {
    /// The thing of this kind in its path: of the own site it is reached, of another one it is not there. (A subscription
    /// is of all its sites.)
    Thing(Kind, Body),
    /// A thing that is for those who see everything, whatever site it belongs to.
    WholeThing(Kind, Body),
    /// Things that its body names.
    Body(Body),
    /// What its body names can't be of one site only: refused for both.
    WholeBody(Body),
    /// A list: these queries, each as JSON and as every other type that it has.
    List(&'static [&'static str]),
    /// Events.
    Stream,
    /// Everything at once: refused.
    Everything,
    /// Nothing in the fleet.
    Nothing,
}

use About::{Everything, List, Nothing, Stream, Thing, WholeBody, WholeThing};

#[derive(Clone, Copy)]
pub enum Kind {
    Subscription,
    Site,
    Zone,
    Sensor,
    Local,
    Gateway,
    Job,
    Token,
}

pub type Body = Option<fn(&Side) -> Value>;

const EMPTY: Body = Some(|_| json!({}));
const NAMED: Body = Some(|side| json!({"name": format!("new {}", side.name)}));
const POLICY: Body = Some(|_| json!({"numbers": {}}));
const WINDOW: Body =
    Some(|_| json!({"from": "2098-05-01T00:00:00Z", "until": "2098-05-01T08:00:00Z", "reason": "work"}));

/// Method, path, what it is about.
pub fn table() -> Vec<(&'static str, &'static str, About)> {
    use Kind::{Gateway, Job, Local, Sensor, Site, Subscription, Token, Zone};
    vec![
        ("GET", "/livez", Nothing),
        ("GET", "/readyz", Nothing),
        ("GET", "/metrics", Everything),
        ("GET", "/metrics/sensors", Everything),
        ("GET", "/api/v1/engine", Everything),
        ("GET", "/api/v1/fleet", Everything),
        ("GET", "/api/v1/messages", List(&["", "site={site}", "sensor={sensor}", "limit=1"])),
        (
            "GET",
            "/api/v1/messages/history",
            List(&["", "site={site}", "sensor={sensor}", "gateway={gateway}", "limit=1"]),
        ),
        ("GET", "/api/v1/subscriptions", List(&["", "limit=1"])),
        ("POST", "/api/v1/subscriptions", WholeBody(NAMED)),
        ("GET", "/api/v1/subscriptions/{id}", Thing(Subscription, None)),
        ("PATCH", "/api/v1/subscriptions/{id}", WholeThing(Subscription, NAMED)),
        ("DELETE", "/api/v1/subscriptions/{id}", WholeThing(Subscription, None)),
        ("GET", "/api/v1/subscriptions/{id}/policy", Thing(Subscription, None)),
        ("PUT", "/api/v1/subscriptions/{id}/policy", WholeThing(Subscription, POLICY)),
        ("GET", "/api/v1/sites", List(&["", "q={name}", "limit=1"])),
        (
            "POST",
            "/api/v1/sites",
            WholeBody(Some(|side| json!({"name": "new", "subscription": side.subscription.to_string()}))),
        ),
        ("GET", "/api/v1/sites/{id}", Thing(Site, None)),
        ("PATCH", "/api/v1/sites/{id}", Thing(Site, Some(|_| json!({"tags": {"a": "b"}})))),
        ("DELETE", "/api/v1/sites/{id}", Thing(Site, None)),
        ("POST", "/api/v1/sites/{id}/zones", Thing(Site, NAMED)),
        ("GET", "/api/v1/sites/{id}/policy", Thing(Site, None)),
        ("PUT", "/api/v1/sites/{id}/policy", Thing(Site, POLICY)),
        ("PUT", "/api/v1/sites/{id}/mute", Thing(Site, EMPTY)),
        ("DELETE", "/api/v1/sites/{id}/mute", Thing(Site, None)),
        ("GET", "/api/v1/sites/{id}/windows", Thing(Site, None)),
        ("POST", "/api/v1/sites/{id}/windows", Thing(Site, WINDOW)),
        ("DELETE", "/api/v1/sites/{id}/windows/{window}", Thing(Site, None)),
        ("GET", "/api/v1/zones", List(&["", "site={site}", "limit=1"])),
        ("GET", "/api/v1/zones/{id}", Thing(Zone, None)),
        (
            "PATCH",
            "/api/v1/zones/{id}",
            Thing(Zone, Some(|side| json!({"name": format!("Hall {}", side.name)}))),
        ),
        ("DELETE", "/api/v1/zones/{id}", Thing(Zone, None)),
        ("GET", "/api/v1/zones/{id}/policy", Thing(Zone, None)),
        ("PUT", "/api/v1/zones/{id}/policy", Thing(Zone, POLICY)),
        ("GET", "/api/v1/gateways", List(&["", "limit=1"])),
        (
            "POST",
            "/api/v1/gateways",
            WholeBody(Some(|side| json!({"name": "g", "sites": [side.site.to_string()]}))),
        ),
        ("GET", "/api/v1/gateways/{id}", Thing(Gateway, None)),
        ("PATCH", "/api/v1/gateways/{id}", WholeThing(Gateway, NAMED)),
        ("DELETE", "/api/v1/gateways/{id}", WholeThing(Gateway, None)),
        (
            "GET",
            "/api/v1/sensors",
            List(&[
                "",
                "facets=true",
                "site={site}&facets=true",
                "zone={zone}",
                "q={name}",
                "limit=1",
                "sort=-name",
            ]),
        ),
        (
            "POST",
            "/api/v1/sensors",
            About::Body(Some(
                |side| json!({"name": format!("made {}", side.name), "type": "ot-cloud", "zone": side.zone.to_string()}),
            )),
        ),
        (
            "POST",
            "/api/v1/sensors/import",
            About::Body(Some(|side| {
                json!([{"name": format!("brought {}", side.name), "subscription": side.subscription.to_string(),
                    "site": side.site.to_string(), "zone": side.zone.to_string()}])
            })),
        ),
        ("GET", "/api/v1/sensors/{id}", Thing(Sensor, None)),
        ("PATCH", "/api/v1/sensors/{id}", Thing(Sensor, Some(|_| json!({"notes": "n"})))),
        ("DELETE", "/api/v1/sensors/{id}", Thing(Local, None)),
        ("POST", "/api/v1/sensors/{id}/reactivate", Thing(Sensor, None)),
        ("POST", "/api/v1/sensors/{id}/revoke", Thing(Sensor, None)),
        ("POST", "/api/v1/sensors/{id}/mark-active", Thing(Local, None)),
        (
            "POST",
            "/api/v1/activations",
            About::Body(Some(|side| json!({"items": [side.sensor.to_string()]}))),
        ),
        ("POST", "/api/v1/sensors/{id}/activation", Thing(Sensor, None)),
        ("POST", "/api/v1/sensors/{id}/activation-command", Thing(Sensor, None)),
        ("POST", "/api/v1/sensors/{id}/response", Thing(Local, EMPTY)),
        ("GET", "/api/v1/sensors/{id}/policy", Thing(Sensor, None)),
        ("PUT", "/api/v1/sensors/{id}/policy", Thing(Sensor, POLICY)),
        ("PUT", "/api/v1/sensors/{id}/mute", Thing(Sensor, EMPTY)),
        ("DELETE", "/api/v1/sensors/{id}/mute", Thing(Sensor, None)),
        ("GET", "/api/v1/sensors/{id}/windows", Thing(Sensor, None)),
        ("POST", "/api/v1/sensors/{id}/windows", Thing(Sensor, WINDOW)),
        ("DELETE", "/api/v1/sensors/{id}/windows/{window}", Thing(Sensor, None)),
        ("GET", "/api/v1/sensors/{id}/series?metric=cpu-ratio", Thing(Sensor, None)),
        ("GET", "/api/v1/events/sensors", Stream),
        ("GET", "/api/v1/events/messages", Stream),
        (
            "POST",
            "/api/v1/bulk",
            About::Body(Some(|side| {
                json!({"action": "edit", "items": [side.sensor.to_string()], "arguments": {"notes": "bulk"},
                    "dry_run": true, "all_or_nothing": true})
            })),
        ),
        ("GET", "/api/v1/jobs", List(&[""])),
        ("GET", "/api/v1/jobs/{id}", Thing(Job, None)),
        ("GET", "/api/v1/jobs/{id}/items", Thing(Job, None)),
        ("DELETE", "/api/v1/jobs/{id}", Thing(Job, None)),
        ("GET", "/api/v1/endpoints", Nothing),
        ("GET", "/api/v1/signatures/{id}", Nothing),
        ("GET", "/api/v1/enrolment-attempts", Everything),
        ("GET", "/api/v1/audit", List(&["", "limit=1"])),
        ("POST", "/api/v1/backup", Everything),
        ("GET", "/api/v1/backups", Everything),
        ("GET", "/api/v1/backups/{name}", Everything),
        ("DELETE", "/api/v1/backups/{name}", Everything),
        ("GET", "/api/v1/openapi.json", Nothing),
        ("GET", "/api/v1/docs", Nothing),
        ("GET", "/setup", Nothing),
        ("POST", "/setup", Nothing),
        ("POST", "/api/v1/setup", Nothing),
        ("GET", "/api/v1/session", Nothing),
        ("POST", "/api/v1/session", Nothing),
        ("DELETE", "/api/v1/session", Nothing),
        ("PUT", "/api/v1/session/password", Nothing),
        ("GET", "/api/v1/sign-in/oidc", Nothing),
        ("GET", "/api/v1/sign-in/oidc/callback", Nothing),
        ("GET", "/api/v1/users", Everything),
        ("POST", "/api/v1/users", Everything),
        ("GET", "/api/v1/users/{id}", Everything),
        ("PATCH", "/api/v1/users/{id}", Everything),
        ("DELETE", "/api/v1/users/{id}", Everything),
        ("GET", "/api/v1/tokens", List(&["", "limit=1000"])),
        (
            "POST",
            "/api/v1/tokens",
            About::Body(Some(
                |side| json!({"name": format!("for {}", side.name), "grants": [{"role": "reader", "site": side.site.to_string()}]}),
            )),
        ),
        ("GET", "/api/v1/tokens/{id}", Thing(Token, None)),
        ("DELETE", "/api/v1/tokens/{id}", Thing(Token, None)),
    ]
}

/// The id of the thing of a kind.
pub fn id_of(kind: Kind, side: &Side) -> String {
    match kind {
        Kind::Subscription => side.subscription.to_string(),
        Kind::Site => side.site.to_string(),
        Kind::Zone => side.zone.to_string(),
        Kind::Sensor => side.sensor.to_string(),
        Kind::Local => side.local.to_string(),
        Kind::Gateway => side.gateway.to_string(),
        Kind::Job => side.job.clone(),
        Kind::Token => side.token.clone(),
    }
}
