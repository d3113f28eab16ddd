//! What must not be taken: told with a code, the field and what would be right, and nothing half-applied.

use serde_json::{Value, json};

use super::rig::{Api, problem};

/// Texts that hide, reorder or break what stands around them.
const HOSTILE: [(&str, &str); 7] = [
    ("", "name-empty"),
    (" \u{3000}", "name-empty"),
    ("nul\u{0}byte", "name-forbidden-character"),
    ("pay\u{202e}exe", "name-forbidden-character"),
    ("two\nlines", "name-forbidden-character"),
    ("zero\u{200b}width", "name-forbidden-character"),
    (" edge", "name-outer-space"),
];

#[test]
fn hostile_names_are_refused_everywhere_and_change_nothing() {
    let api = Api::start();
    let (subscription, site, zone) = api.ground();
    let sensor = api.sensor(&zone, "press");
    let before = api.register();
    let long = "x".repeat(129);
    let texts = HOSTILE.into_iter().chain([(long.as_str(), "name-too-long")]);
    for (text, code) in texts {
        let named = |more: Value| {
            let mut body = more;
            body["name"] = text.into();
            body
        };
        let answers = [
            api.post("/api/v1/subscriptions", &named(json!({}))),
            api.patch(&format!("/api/v1/subscriptions/{subscription}"), &named(json!({}))),
            api.post("/api/v1/sites", &named(json!({"subscription": subscription, "tags": {"a": "b"}}))),
            api.patch(&format!("/api/v1/sites/{site}"), &named(json!({"owners": ["ann@example.com"]}))),
            api.post(&format!("/api/v1/sites/{site}/zones"), &named(json!({}))),
            api.patch(&format!("/api/v1/zones/{zone}"), &named(json!({}))),
            api.post("/api/v1/gateways", &named(json!({"sites": [site]}))),
            api.post("/api/v1/sensors", &named(json!({"type": "ot-cloud", "zone": zone, "notes": "n"}))),
            api.patch(
                &format!("/api/v1/sensors/{sensor}"),
                &named(json!({"notes": "n", "type": "ot-local"})),
            ),
        ];
        for answer in answers {
            assert_eq!(problem(&answer), (422, code.into(), "name".into()), "{text:?}");
        }
    }
    assert_eq!(api.register(), before);
    // Markup and formulas are ordinary text; who writes HTML or CSV makes them harmless.
    for text in ["<script>alert(1)</script>", "=HYPERLINK(\"http://x\")", "@SUM(1)", "'; DROP TABLE x;--"] {
        assert_eq!(
            api.patch(&format!("/api/v1/sensors/{sensor}"), &json!({"name": text})).json()["name"],
            text
        );
    }
}

#[test]
fn names_are_one_of_a_kind_where_they_must_be() {
    let api = Api::start();
    let (subscription, site, zone) = api.ground();
    let sensor = api.sensor(&zone, "press");
    let second = api.made(&format!("/api/v1/sites/{site}/zones"), &json!({"name": "Line 2"}));
    let taken = |answer| assert_eq!(problem(&answer), (409, "name-taken".into(), "name".into()));
    taken(api.post("/api/v1/subscriptions", &json!({"name": "Contoso"})));
    taken(api.post("/api/v1/sites", &json!({"name": "Lyon", "subscription": subscription})));
    taken(api.post(&format!("/api/v1/sites/{site}/zones"), &json!({"name": "Line 1"})));
    // Within a site, also in another zone.
    taken(api.post("/api/v1/sensors", &json!({"name": "press", "type": "ot-cloud", "zone": second["id"]})));
    // In another site it is free; only there the two can't come together.
    let other = api.made("/api/v1/sites", &json!({"name": "Metz", "subscription": subscription}));
    let other =
        api.made(&format!("/api/v1/sites/{}/zones", other["id"].as_str().unwrap()), &json!({"name": "A"}));
    let twin = api.sensor(other["id"].as_str().unwrap(), "press");
    let before = api.register();
    taken(api.patch(&format!("/api/v1/sensors/{twin}"), &json!({"zone": zone, "notes": "moved"})));
    assert_eq!(api.register(), before);
    let both = api.patch(&format!("/api/v1/sensors/{twin}"), &json!({"zone": zone, "name": "press 2"}));
    assert_eq!((both.status, &both.json()["zone"]["id"]), (200, &json!(zone)));
    taken(api.patch(&format!("/api/v1/sensors/{twin}"), &json!({"name": "press"})));
    assert_eq!(api.patch(&format!("/api/v1/sensors/{sensor}"), &json!({"name": "press"})).status, 200);
}

#[test]
fn bodies_are_refused_by_field() {
    let api = Api::start();
    let (subscription, site, zone) = api.ground();
    let before = api.register();
    let sites = "/api/v1/sites";
    let ghost = "00000000-0000-4000-8000-000000000000";
    for (body, code, field) in [
        (json!({"name": "a", "subscription": subscription, "colour": 1}), "unknown-field", "colour"),
        (json!({"name": "a"}), "missing-field", "subscription"),
        (json!({"name": 1, "subscription": subscription}), "bad-field", "name"),
        (json!({"name": "a", "subscription": "1"}), "bad-field", "subscription"),
        (json!({"name": "a", "subscription": ghost}), "unknown-subscription", "subscription"),
        (json!({"name": "a", "subscription": subscription, "owners": ["ann"]}), "email-invalid", "owners"),
        (
            json!({"name": "a", "subscription": subscription, "owners": ["ann@example.com\nBcc: x@example.com"]}),
            "email-invalid",
            "owners",
        ),
        (json!({"name": "a", "subscription": subscription, "tags": {"": "x"}}), "tag-invalid", "tags"),
        (json!({"name": "a", "subscription": subscription, "tags": {"a\u{0}": "x"}}), "tag-invalid", "tags"),
        (json!([]), "bad-field", "body"),
    ] {
        let answer = api.post(sites, &body);
        assert_eq!(problem(&answer), (422, code.into(), field.into()), "{body}");
    }
    for (body, code, field) in [
        (json!({"name": null}), "bad-field", "name"),
        (json!({"tags": {"a": null}}), "bad-field", "tags.a"),
        (json!({"owners": ["ann@example.com", "bob"]}), "email-invalid", "owners"),
        (json!({"kind": "enterprise"}), "unknown-field", "kind"),
    ] {
        assert_eq!(
            problem(&api.patch(&format!("{sites}/{site}"), &body)),
            (422, code.into(), field.into()),
            "{body}"
        );
    }
    for (body, code, field) in [
        (json!({"name": "a", "type": "ot", "zone": zone}), "bad-field", "type"),
        (json!({"name": "a", "type": "ot-cloud", "zone": ghost}), "unknown-zone", "zone"),
        (
            json!({"name": "a", "type": "ot-cloud", "zone": zone, "notes": "a\u{202e}b"}),
            "text-forbidden-character",
            "notes",
        ),
        (
            json!({"name": "a", "type": "ot-cloud", "zone": zone, "notes": "x".repeat(2_001)}),
            "text-too-long",
            "notes",
        ),
    ] {
        assert_eq!(problem(&api.post("/api/v1/sensors", &body)), (422, code.into(), field.into()), "{body}");
    }
    let text = api.request("POST", sites).body("text/plain", b"{}".to_vec()).send();
    assert_eq!(problem(&text).0, 415);
    let broken = api.request("POST", sites).body("application/json", b"{\"name\":".to_vec()).send();
    assert_eq!(problem(&broken), (400, "bad-json".into(), "body".into()));
    let large = api.request("POST", sites).body("application/json", vec![b' '; 70_000]).send();
    assert_eq!(problem(&large), (413, "body-too-large".into(), "body".into()));
    assert_eq!(
        problem(&api.post(&format!("{sites}?dry=1"), &json!({}))),
        (400, "unknown-parameter".into(), "dry".into())
    );
    assert_eq!(api.register(), before);
}

#[test]
fn paths_lead_nowhere_else() {
    let api = Api::start();
    let (_, site, _) = api.ground();
    let before = api.register();
    for id in ["x", "..", "%2e%2e%2f", "%00", "%ff", "1", "'%20or%201=1"] {
        for (method, path) in [
            ("GET", format!("/api/v1/sites/{id}")),
            ("DELETE", format!("/api/v1/sites/{id}")),
            ("GET", format!("/api/v1/sensors/{id}")),
            ("DELETE", format!("/api/v1/sensors/{id}/mute")),
            ("GET", format!("/api/v1/zones/{id}/policy")),
            ("DELETE", format!("/api/v1/sites/{site}/windows/{id}")),
        ] {
            let answer = api.request(method, &path).send();
            let (status, ..) = problem(&answer);
            assert!((400..405).contains(&status), "{method} {path}: {answer:?}");
        }
    }
    assert_eq!(api.register(), before);
    let not = api.request("PUT", &format!("/api/v1/sites/{site}")).send();
    assert_eq!((problem(&not).0, not.header("allow")), (405, Some("GET, HEAD, PATCH, DELETE")));
}

#[test]
fn a_stale_tag_is_refused_on_every_kind_of_change() {
    let api = Api::start();
    let (subscription, site, zone) = api.ground();
    let sensor = api.sensor(&zone, "press");
    let gateway = api.made("/api/v1/gateways", &json!({"name": "relay"}))["id"].as_str().unwrap().to_owned();
    for (path, other) in [
        (format!("/api/v1/subscriptions/{subscription}"), "Other"),
        (format!("/api/v1/sites/{site}"), "Other"),
        (format!("/api/v1/zones/{zone}"), "Other"),
        (format!("/api/v1/sensors/{sensor}"), "Other"),
        (format!("/api/v1/gateways/{gateway}"), "Other"),
    ] {
        let tag = api.get(&path).header("etag").unwrap_or_else(|| panic!("{path}")).to_owned();
        let rename = |tag: &str, name: &str| {
            api.request("PATCH", &path).header("If-Match", tag).json(&json!({"name": name})).send()
        };
        let first = rename(&tag, other);
        assert_eq!(first.status, 200, "{first:?}");
        assert_eq!(problem(&rename(&tag, "Third")), (412, "etag-mismatch".into(), "If-Match".into()));
        let gone = api.request("DELETE", &path).header("If-Match", &tag).send();
        assert_eq!(problem(&gone).0, 412);
        assert_eq!(api.get(&path).json()["name"], other);
        let bad = api.request("DELETE", &path).header("If-Match", "W/\"x\"").send();
        assert_eq!(problem(&bad).0, 400);
        assert_eq!(rename(first.header("etag").unwrap(), "Fourth").status, 200);
    }
}

#[test]
fn a_post_sent_again_is_done_once() {
    let api = Api::start();
    let (subscription, ..) = api.ground();
    let body = json!({"name": "Metz", "subscription": subscription});
    let send = |key: &str, body: &Value| {
        api.request("POST", "/api/v1/sites").header("Idempotency-Key", key).json(body).send()
    };
    let (first, second) = (send("k1", &body), send("k1", &body));
    assert_eq!((first.status, second.status), (201, 201));
    assert_eq!(first.json(), second.json());
    assert_eq!(second.header("idempotency-replayed"), Some("true"));
    let other = json!({"name": "Nancy", "subscription": subscription});
    assert_eq!(problem(&send("k1", &other)).1, "idempotency-key-reused");
    assert_eq!(problem(&send("k2", &body)).1, "name-taken");
    assert_eq!(problem(&send("", &body)).1, "bad-idempotency-key");
}
