//! Endpoint details: what the configuration at work makes of them.

use serde_json::{Value, json};

use crate::export::rig::Rig;

fn rig() -> Rig {
    Rig::start_with(|config| {
        config.ingest.server_names = vec!["fleet.example".into(), "192.0.2.1".into()];
        config.http.oidc_issuer = Some("https://idp.example:8443/realms/plant".into());
    })
}

fn row<'d>(document: &'d Value, purpose: &str) -> &'d Value {
    let items = document["items"].as_array().unwrap();
    items.iter().find(|item| item["purpose"] == purpose).unwrap_or_else(|| panic!("{purpose}: {document}"))
}

#[test]
fn endpoints_are_those_that_are_bound_and_configured() {
    let rig = rig();
    let answer = rig.get("/api/v1/endpoints");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let document = answer.json();
    for (purpose, address) in
        [("heartbeats", rig.server.ingest_addr()), ("enrolment", rig.server.enrol_addr())]
    {
        let row = row(&document, purpose);
        assert_eq!((&row["protocol"], &row["direction"]), (&json!("udp"), &json!("to-server")));
        assert_eq!(row["port"], address.port());
        assert_eq!(row["listens_on"], address.to_string());
        assert_eq!(row["hosts"], json!(["fleet.example", "192.0.2.1"]));
        assert_eq!(
            (&row["required"], &row["sensor_types"]),
            (&json!(true), &json!(["ot-cloud", "enterprise-iot"]))
        );
        assert!(row["note"].as_str().unwrap().contains("this machine only"), "it listens on loopback: {row}");
    }
    for purpose in ["api", "metrics"] {
        let row = row(&document, purpose);
        assert_eq!((&row["protocol"], &row["application"]), (&json!("tcp"), &json!("HTTP")));
        assert_eq!(row["port"], rig.server.http_addr().port());
        assert_eq!((&row["hosts"], &row["required"]), (&json!(["127.0.0.1"]), &json!(false)));
    }
    let provider = row(&document, "identity-provider");
    assert_eq!(
        (&provider["direction"], &provider["hosts"]),
        (&json!("from-server"), &json!(["idp.example"]))
    );
    assert_eq!(provider["port"], 8_443);
    assert_eq!(
        (&row(&document, "time")["port"], &row(&document, "time")["hosts"]),
        (&json!(123), &json!([]))
    );
    assert_eq!(row(&document, "name-resolution")["required"], false, "sensors have an address to go to");
    let plain = Rig::start().get("/api/v1/endpoints").json();
    let purposes = plain["items"].as_array().unwrap().iter().map(|item| item["purpose"].as_str().unwrap());
    assert!(purposes.into_iter().all(|purpose| !purpose.contains("provider")), "none is configured");
}

#[test]
fn what_stands_in_front_is_what_others_see() {
    let rig = Rig::start_with(|config| {
        config.http.public_url = Some("https://console.example".into());
        config.http.metrics_without_sign_in = fleetpulse::http::MetricsAccess::Everywhere;
    });
    let document = rig.get("/api/v1/endpoints").json();
    let api = row(&document, "api");
    assert_eq!((&api["hosts"], &api["port"]), (&json!(["console.example"]), &json!(443)));
    assert_eq!((&api["application"], &api["required"]), (&json!("HTTPS"), &json!(true)));
    assert!(api["note"].as_str().unwrap().contains(&rig.server.http_addr().to_string()), "{api}");
    assert!(row(&document, "metrics")["note"].as_str().unwrap().contains("without sign-in"));
}

#[test]
fn the_csv_says_the_same_and_a_type_narrows_both() {
    let rig = rig();
    let document = rig.get("/api/v1/endpoints").json();
    let file = rig.get_as("/api/v1/endpoints", "text/csv");
    let name = file.header("content-disposition").unwrap();
    assert!(name.contains("fleetpulse-endpoints-") && name.ends_with(".csv\""), "{name}");
    let mut reader = csv::Reader::from_reader(file.body.as_bytes());
    let rows: Vec<std::collections::BTreeMap<String, String>> =
        reader.deserialize().map(|row| row.unwrap()).collect();
    let items = document["items"].as_array().unwrap();
    assert_eq!(rows.len(), items.len());
    for (row, item) in rows.iter().zip(items) {
        for (column, cell) in row {
            let said = match &item[column] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                Value::Array(list) => {
                    list.iter().map(|text| text.as_str().unwrap()).collect::<Vec<_>>().join("; ")
                }
                other => other.to_string(),
            };
            assert_eq!(*cell, said, "{column}");
        }
    }
    let of = |kind: &str| rig.get(&format!("/api/v1/endpoints?type={kind}"));
    let cloud = of("ot-cloud").json();
    assert!(
        cloud["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|item| { item["sensor_types"].as_array().unwrap().contains(&json!("ot-cloud")) })
    );
    assert_eq!(row(&cloud, "heartbeats")["port"], rig.server.ingest_addr().port());
    assert_eq!(of("ot-local").json()["items"], json!([]), "those never connect");
    let refused = of("toaster");
    assert_eq!((refused.status, &refused.json()["field"]), (400, &json!("type")));
    assert_eq!(rig.get("/api/v1/endpoints?colour=red").json()["code"], "unknown-parameter");
}
