//! Many sensors from one file.

use serde_json::{Value, json};

use super::rig::{Answer, Api, problem};

const IMPORT: &str = "/api/v1/sensors/import";

fn csv(api: &Api, query: &str, text: &str) -> Answer {
    api.request("POST", &format!("{IMPORT}{query}"))
        .body("text/csv; charset=utf-8", text.as_bytes().to_vec())
        .send()
}

/// Line, column and code of each row that is told.
fn told(rows: &Value) -> Vec<(u64, String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| (row["line"].as_u64().unwrap(), text(&row["column"]), text(&row["code"]))).collect()
}

const BROKEN: &str = "name,type,site,zone,notes,threat_intel_mode,tags,owners\n\
    press,ot-cloud,Lyon,Line 1,,,,\n\
    press,ot-cloud,Lyon,Line 1,the same name,,,\n\
    saw,ot,Lyon,Line 1,,,,\n\
    drill,ot-local,Paris,Hall,,,,\n\
    lathe,ot-cloud,Lyon,Line 9,,,,\n\
    mill,ot-cloud,Lyon,Line 1,,sometimes,,\n\
    short,row\n\
    \"bad\u{202e}name\",ot-cloud,Lyon,Line 1,,,,\n\
    crane,ot-cloud,,,,,,\n\
    robot,ot-cloud,Lyon,Line 1,\"kept, with a comma\",manual,,\n\
    office,enterprise-iot,,,,,,\n\
    oven,ot-cloud,Lyon,Line 1,,,a=b,\n";

fn expected() -> Vec<(u64, String, String)> {
    [
        (3, "name", "name-taken"),
        (4, "type", "bad-field"),
        (5, "site", "unknown-site"),
        (6, "zone", "unknown-zone"),
        (7, "threat_intel_mode", "bad-field"),
        (8, "", "field-count"),
        (9, "name", "name-forbidden-character"),
        (10, "site", "missing-field"),
        (13, "tags", "wrong-place"),
    ]
    .map(|(line, column, code)| (line, column.to_owned(), code.to_owned()))
    .into()
}

#[test]
fn a_file_with_broken_rows_is_told_row_by_row_and_nothing_is_done() {
    let api = Api::start();
    api.ground();
    let before = api.register();
    for query in ["", "?dry_run=true"] {
        let answer = csv(&api, query, BROKEN);
        assert_eq!(problem(&answer).1, "rows-refused");
        assert_eq!(told(&answer.json()["rows"]), expected());
        assert!(answer.json()["rows"].as_array().unwrap().iter().all(|row| row["valid"] != ""), "{answer:?}");
    }
    let dry = csv(&api, "?dry_run=true&partial=true", BROKEN);
    assert_eq!((dry.status, told(&dry.json()["left_out"])), (200, expected()));
    assert_eq!(api.register(), before);

    let done = csv(&api, "?partial=true", BROKEN).json();
    assert_eq!((told(&done["left_out"]), &done["rows"]), (expected(), &json!(12)));
    let made: Vec<_> = done["sensors"].as_array().unwrap().iter().map(|s| (&s["line"], &s["name"])).collect();
    assert_eq!(
        made,
        [(&json!(2), &json!("press")), (&json!(11), &json!("robot")), (&json!(12), &json!("office"))]
    );
    let robot = done["sensors"][1]["id"].as_str().unwrap();
    let robot = api.get(&format!("/api/v1/sensors/{robot}")).json();
    assert_eq!(
        (&robot["notes"], &robot["threat_intel_mode"]),
        (&json!("kept, with a comma"), &json!("manual"))
    );
    assert_eq!(robot["lifecycle"], "pending-activation");
    let again = csv(&api, "", "name,site,zone\npress,Lyon,Line 1\n");
    assert_eq!(told(&again.json()["rows"]), [(2, "name".into(), "name-taken".into())]);
}

#[test]
fn places_that_are_missing_are_made_when_asked_for() {
    let api = Api::start();
    let (subscription, ..) = api.ground();
    let text = "name;site;zone;tags;owners\n\
        a;Paris;Hall;country=FR;ann@example.com\n\
        b;Paris;Hall;;\n\
        c;Paris;Yard;;\n\
        d;Lyon;Line 2;;\n";
    let dry = csv(&api, "?create_places=true&dry_run=true", text).json();
    assert_eq!(
        (dry["sites"].as_array().unwrap().len(), dry["zones"].as_array().unwrap().len()),
        (1, 3),
        "{dry}"
    );
    let done = csv(&api, "?create_places=true", text);
    assert_eq!(done.status, 200, "{done:?}");
    let paris = done.json()["sites"][0]["id"].as_str().unwrap().to_owned();
    let paris = api.get(&format!("/api/v1/sites/{paris}")).json();
    assert_eq!((&paris["tags"], &paris["owners"]), (&json!({"country": "FR"}), &json!(["ann@example.com"])));
    assert_eq!((&paris["sensors"], paris["zones"].as_array().unwrap().len()), (&json!(3), 2));

    // A row that is left out takes its site with it; the next row of that site makes it.
    let text = "name,subscription,site,zone,owners\n\
        e,Contoso,Nantes,Hall,nobody\n\
        f,Contoso,Nantes,Hall,\n";
    let done = csv(&api, "?create_places=true&partial=true", text).json();
    assert_eq!(told(&done["left_out"]), [(2, "owners".into(), "email-invalid".into())]);
    assert_eq!((&done["sensors"][0]["name"], &done["sites"][0]["name"]), (&json!("f"), &json!("Nantes")));

    api.made("/api/v1/subscriptions", &json!({"name": "Fabrikam"}));
    let text = format!(
        "name,subscription,site,zone\ng,,Lyon,Line 1\nh,Nobody,Lyon,Line 1\ni,{subscription},Lyon,Line 1\n"
    );
    let answer = csv(&api, "", &text);
    let which = |line, code: &str| (line, "subscription".to_owned(), code.to_owned());
    assert_eq!(told(&answer.json()["rows"]), [which(2, "missing-field"), which(3, "unknown-subscription")]);
}

#[test]
fn json_rows_are_told_by_their_number() {
    let api = Api::start();
    let (_, site, zone) = api.ground();
    let rows = json!([{"name": "a", "site": site, "zone": zone}, {"nmae": "b"}, 7, {"name": "c", "site": "Lyon", "zone": zone}]);
    let answer = api.post(IMPORT, &rows);
    assert_eq!(
        told(&answer.json()["rows"]),
        [(2, "nmae".into(), "unknown-field".into()), (3, "body".into(), "bad-field".into())]
    );
    let answer = api.post(&format!("{IMPORT}?partial=true"), &rows);
    assert_eq!(answer.json()["sensors"].as_array().unwrap().len(), 2, "{answer:?}");
}

#[test]
fn files_that_are_none_are_refused_whole() {
    let api = Api::start();
    api.ground();
    let before = api.register();
    for (text, code) in [
        ("", "missing-column"),
        ("zone,site\n", "missing-column"),
        ("name,colour\na,b\n", "unknown-column"),
        ("\u{0}\u{1}\u{2}", "unknown-column"),
        ("name\n\"", "rows-refused"),
        ("name\n=cmd|'/c calc'!A0\n", "rows-refused"),
    ] {
        assert_eq!(problem(&csv(&api, "", text)).1, code, "{text:?}");
    }
    let many = format!("name\n{}", "a\n".repeat(10_001));
    assert_eq!(problem(&csv(&api, "", &many)).1, "too-many");
    let large = api.request("POST", IMPORT).body("text/csv", vec![b'a'; 16 * 1_024 * 1_024 + 1]).send();
    assert_eq!(problem(&large), (413, "body-too-large".into(), "body".into()));
    assert_eq!(problem(&api.request("POST", IMPORT).body("text/plain", b"name\n".to_vec()).send()).0, 415);
    assert_eq!(
        problem(&csv(&api, "?partial=yes", "name\n")),
        (400, "bad-parameter".into(), "partial".into())
    );
    assert_eq!(problem(&api.post(IMPORT, &json!({}))).1, "bad-field");
    assert_eq!(api.register(), before);
}

#[test]
fn ten_thousand_sensors_come_in_one_file() {
    let api = Api::start();
    api.ground();
    let rows: String = (0..10_000)
        .map(|n| format!("sensor {n},ot-cloud,Site {},Zone {},\"note, {n}\"\n", n / 100, n / 10))
        .collect();
    let text = format!("name,type,site,zone,notes\n{rows}");
    let done = csv(&api, "?create_places=true", &text);
    assert_eq!(done.status, 200, "{}", done.head);
    assert_eq!(done.json()["sensors"].as_array().unwrap().len(), 10_000);
    let register = api.server.fleet().register();
    assert_eq!(
        (register.counts().sensors, register.counts().sites, register.counts().zones),
        (10_000, 102, 1_002)
    );
}
