//! Each resource from its making to its end.

use serde_json::json;

use super::rig::{Api, problem};

#[test]
fn a_site_is_made_edited_together_and_deleted_when_empty() {
    let api = Api::start();
    let (subscription, _, _) = api.ground();
    let body = json!({"name": "Werk 7", "subscription": subscription, "tags": {"country": "DE", "old": ""},
        "owners": ["ann@example.com", "bob@example.com", "ann@example.com"]});
    let site = api.made("/api/v1/sites", &body);
    assert_eq!(site["owners"], json!(["ann@example.com", "bob@example.com"]));
    assert_eq!(site["subscription"]["name"], "Contoso");
    let path = format!("/api/v1/sites/{}", site["id"].as_str().unwrap());
    let read = api.get(&path);
    assert_eq!(read.json(), site);

    let edit = json!({"name": "Werk 8", "tags": {"country": "FR"}, "owners": null});
    let edited = api.patch(&path, &edit);
    assert_eq!(edited.status, 200, "{edited:?}");
    assert_eq!((&edited.json()["name"], &edited.json()["owners"]), (&json!("Werk 8"), &json!([])));
    assert_eq!(edited.json()["tags"], json!({"country": "FR"}));
    assert_ne!(edited.header("etag"), read.header("etag"));
    // What is left out stays, and nothing at all is no change.
    assert_eq!(api.patch(&path, &json!({})).json(), edited.json());

    let zone = api.made(&format!("{path}/zones"), &json!({"name": "A"}));
    assert_eq!(problem(&api.delete(&path)), (409, "not-empty".into(), "id".into()));
    let zone_path = format!("/api/v1/zones/{}", zone["id"].as_str().unwrap());
    assert_eq!(api.patch(&zone_path, &json!({"name": "B"})).json()["name"], "B");
    assert_eq!(api.delete(&zone_path).status, 204);
    assert_eq!(api.delete(&path).status, 204);
    assert_eq!(problem(&api.get(&path)), (404, "not-found".into(), String::new()));
    assert_eq!(problem(&api.delete(&path)).0, 404);
}

#[test]
fn a_sensor_keeps_its_identity_through_rename_move_and_mode() {
    let api = Api::start();
    let (subscription, site, zone) = api.ground();
    let id = api.sensor(&zone, "press");
    let path = format!("/api/v1/sensors/{id}");
    let there = api.get(&path).json();
    assert_eq!((&there["lifecycle"], &there["site"]["id"]), (&json!("pending-activation"), &json!(site)));

    let other = api.made("/api/v1/sites", &json!({"name": "Metz", "subscription": subscription}));
    let other =
        api.made(&format!("/api/v1/sites/{}/zones", other["id"].as_str().unwrap()), &json!({"name": "Hall"}));
    let edit = json!({"name": "press 2", "notes": "moved\nin May", "zone": other["id"], "type": "ot-local",
        "threat_intel_mode": "manual"});
    let edited = api.patch(&path, &edit);
    assert_eq!(edited.status, 200, "{edited:?}");
    let document = edited.json();
    for (field, value) in
        [("id", &id[..]), ("name", "press 2"), ("type", "ot-local"), ("notes", "moved\nin May")]
    {
        assert_eq!(document[field], value);
    }
    assert_eq!(
        (&document["site"]["name"], &document["threat_intel_mode"]),
        (&json!("Metz"), &json!("manual"))
    );
    assert_eq!(api.patch(&path, &json!({"notes": null})).json()["notes"], "");

    let marked = api.request("POST", &format!("{path}/mark-active")).send();
    assert_eq!((marked.status, &marked.json()["lifecycle"]), (200, &json!("active")));
    // Without a certificate it can't just go back to the cloud.
    assert_eq!(api.patch(&path, &json!({"type": "ot-cloud"})).json()["lifecycle"], "pending-reactivation");
    let refused = api.request("POST", &format!("{path}/mark-active")).send();
    assert_eq!(problem(&refused), (422, "wrong-mode".into(), "id".into()));
    let again = api.request("POST", &format!("{path}/reactivate")).send();
    assert_eq!(again.status, 200, "{again:?}");
    let revoked = api.request("POST", &format!("{path}/revoke")).send();
    assert_eq!(revoked.json()["lifecycle"], "pending-reactivation");

    assert_eq!(api.delete(&path).status, 204);
    let gone = api.get(&path);
    assert_eq!(gone.status, 404);
    assert!(gone.json()["detail"].as_str().unwrap().contains("it was deleted"), "{gone:?}");
    // Onboarding again is a new identity under the free name.
    assert_ne!(api.sensor(other["id"].as_str().unwrap(), "press 2"), id);
}

#[test]
fn an_enterprise_sensor_stands_in_the_built_in_site() {
    let api = Api::start();
    let (subscription, _, zone) = api.ground();
    let body = json!({"name": "office", "type": "enterprise-iot", "subscription": subscription});
    let sensor = api.made("/api/v1/sensors", &body);
    assert_eq!(sensor["site"]["name"], "Enterprise network");
    let wrong = api.post("/api/v1/sensors", &json!({"name": "x", "type": "enterprise-iot", "zone": zone}));
    assert_eq!(problem(&wrong), (422, "wrong-site-kind".into(), "zone".into()));
    for (body, code, field) in [
        (json!({"name": "x", "type": "enterprise-iot"}), "missing-field", "zone"),
        (json!({"name": "x", "type": "ot-cloud", "subscription": subscription}), "missing-field", "zone"),
        (
            json!({"name": "x", "type": "ot-cloud", "zone": zone, "subscription": subscription}),
            "bad-field",
            "subscription",
        ),
    ] {
        assert_eq!(problem(&api.post("/api/v1/sensors", &body)), (422, code.into(), field.into()));
    }
    let built_in = api.delete(&format!("/api/v1/sites/{}", sensor["site"]["id"].as_str().unwrap()));
    assert_eq!(problem(&built_in), (409, "built-in".into(), "id".into()));
}

#[test]
fn a_gateway_has_sites_and_keeps_them_from_being_deleted() {
    let api = Api::start();
    let (subscription, site, zone) = api.ground();
    let gateway = api.made("/api/v1/gateways", &json!({"name": "relay", "sites": [site, site]}));
    assert_eq!(gateway["sites"].as_array().unwrap().len(), 1);
    let path = format!("/api/v1/gateways/{}", gateway["id"].as_str().unwrap());
    assert_eq!(api.delete(&format!("/api/v1/zones/{zone}")).status, 204);
    assert_eq!(problem(&api.delete(&format!("/api/v1/sites/{site}"))).1, "not-empty");
    let edited = api.patch(&path, &json!({"name": "relay 2", "sites": []}));
    assert_eq!((edited.status, &edited.json()["sites"]), (200, &json!([])));
    assert_eq!(api.delete(&format!("/api/v1/sites/{site}")).status, 204);
    assert_eq!(api.delete(&path).status, 204);
    assert_eq!(api.get(&path).status, 404);
    let path = format!("/api/v1/subscriptions/{subscription}");
    assert_eq!(api.patch(&path, &json!({"name": "Fabrikam"})).json()["name"], "Fabrikam");
    assert_eq!(api.get(&path).json()["sites"], 1);
    assert_eq!(api.delete(&path).status, 204);
}

#[test]
fn numbers_are_said_at_every_level_and_read_back() {
    let api = Api::start();
    let (subscription, site, zone) = api.ground();
    let sensor = api.sensor(&zone, "press");
    for (place, id) in
        [("subscriptions", &subscription), ("sites", &site), ("zones", &zone), ("sensors", &sensor)]
    {
        let path = format!("/api/v1/{place}/{id}/policy");
        let nothing = api.get(&path);
        assert_eq!(nothing.json()["said"], json!({"interval_seconds": null, "numbers": {}}));
        let said = json!({"interval_seconds": 20.0, "numbers": {"disk-almost-full": {"percent": 91.0}}});
        let tag = nothing.header("etag").unwrap().to_owned();
        let put = api.request("PUT", &path).header("If-Match", &tag).json(&said).send();
        assert_eq!((put.status, &put.json()["said"]), (200, &said), "{place}");
        // The nearest level that says a number wins, and its name is told.
        let applies = &put.json()["applies"]["disk-almost-full"]["percent"];
        let layer = place.trim_end_matches('s');
        assert_eq!((&applies["value"], &applies["from"]), (&json!(91.0), &json!(layer)));
        let interval = &api.get(&format!("/api/v1/sensors/{sensor}/policy")).json()["interval_seconds"];
        assert_eq!((&interval["value"], &interval["from"]), (&json!(20.0), &json!(layer)));
        let stale = api.request("PUT", &path).header("If-Match", &tag).json(&said).send();
        assert_eq!(problem(&stale).1, "etag-mismatch");
        assert_eq!(api.get(&path).json()["said"], said);
        for (wrong, field) in [
            (
                json!({"numbers": {"disk-almost-full": {"percent": 1_000}}}),
                "numbers.disk-almost-full.percent",
            ),
            (json!({"numbers": {"disk-almost-full": {"pct": 1}}}), "numbers.disk-almost-full.pct"),
            (json!({"numbers": {"colour": {"percent": 1}}}), "numbers.colour.percent"),
            (json!({"interval_seconds": 1e300}), "interval_seconds"),
            (json!({"interval_seconds": -1}), "interval_seconds"),
            (json!({"interval_seconds": 0.0001}), "interval"),
        ] {
            assert_eq!(problem(&api.put(&path, &wrong)), (422, "policy-invalid".into(), field.into()));
        }
        assert_eq!(api.get(&path).json()["said"], said, "a refused one changes nothing");
    }
}

#[test]
fn sensors_and_sites_are_muted_and_have_windows() {
    let api = Api::start();
    let (_, site, zone) = api.ground();
    let sensor = api.sensor(&zone, "press");
    for path in [format!("/api/v1/sites/{site}"), format!("/api/v1/sensors/{sensor}")] {
        let mute = api
            .put(&format!("{path}/mute"), &json!({"until": "2099-01-01T00:00:00+01:00", "reason": "noisy"}));
        assert_eq!(mute.json(), json!({"until": "2098-12-31T23:00:00.000Z", "reason": "noisy"}));
        assert_eq!(api.get(&path).json()["quiet"]["now"], true);
        assert_eq!(api.delete(&format!("{path}/mute")).status, 204);
        assert_eq!(api.get(&path).json()["quiet"]["now"], false);
        assert_eq!(api.put(&format!("{path}/mute"), &json!({})).json(), json!({"until": null, "reason": ""}));
        let past = api.put(&format!("{path}/mute"), &json!({"until": "2001-01-01T00:00:00Z"}));
        assert_eq!(problem(&past), (422, "time-order".into(), "until".into()));
        let stale = api.request("DELETE", &format!("{path}/mute")).header("If-Match", "\"x\"").send();
        assert_eq!(problem(&stale).0, 412);

        let windows = format!("{path}/windows");
        let day = |n: u32| json!({"from": format!("2098-05-0{n}T00:00:00Z"), "until": format!("2098-05-0{n}T08:00:00Z")});
        assert_eq!(api.post(&windows, &day(3)).json()["id"], 1);
        assert_eq!(api.post(&windows, &day(2)).json()["id"], 2);
        let ids: Vec<_> =
            api.get(&windows).json()["items"].as_array().unwrap().iter().map(|w| w["id"].clone()).collect();
        assert_eq!(ids, [2, 1], "in order of their begin");
        assert_eq!(api.delete(&format!("{windows}/1")).status, 204);
        assert_eq!(
            problem(&api.delete(&format!("{windows}/1"))),
            (404, "unknown-window".into(), "window".into())
        );
        assert_eq!(
            problem(&api.delete(&format!("{windows}/-1"))),
            (400, "bad-parameter".into(), "window".into())
        );
        let backwards = json!({"from": "2098-05-03T00:00:00Z", "until": "2098-05-02T00:00:00Z"});
        assert_eq!(problem(&api.post(&windows, &backwards)).1, "time-order");
    }
}

#[test]
fn what_was_made_is_there_after_a_restart_with_the_same_tags() {
    let api = Api::start();
    let (subscription, site, zone) = api.ground();
    let sensor = api.sensor(&zone, "press");
    let paths = [
        format!("/api/v1/subscriptions/{subscription}"),
        format!("/api/v1/sites/{site}"),
        format!("/api/v1/zones/{zone}"),
        format!("/api/v1/sensors/{sensor}"),
    ];
    let tags = |api: &Api| paths.each_ref().map(|path| api.get(path).header("etag").map(str::to_owned));
    let (before, register) = (tags(&api), api.register());
    let api = api.restart();
    assert!(before.iter().all(Option::is_some));
    assert_eq!((tags(&api), api.register()), (before, register));
}
