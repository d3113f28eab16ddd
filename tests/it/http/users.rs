//! Users as resources, and through them what all resources share: bodies, entity tags, keys, methods.

use serde_json::json;

use crate::export::rig::{Rig, answer, raw};

#[test]
fn a_user_is_added_changed_and_deleted() {
    let rig = Rig::start();
    let body = json!({"name": "Bob", "full_name": "Bob B.", "password": "correct horse battery",
        "grants": [{"role": "operator"}]});
    let added = rig.send("POST", "/api/v1/users", Some(&body));
    assert_eq!(added.status, 201, "{added:?}");
    let path = added.header("location").unwrap().to_owned();
    let shown = rig.get(&path);
    assert_eq!((&shown.json(), shown.header("etag")), (&added.json(), added.header("etag")));
    assert_eq!(shown.json()["has_password"], true);
    let taken = rig.send("POST", "/api/v1/users", Some(&json!({"name": "bob"})));
    assert_eq!((taken.status, taken.json()["code"].as_str()), (409, Some("name-taken")));
    let hostile = rig.send("POST", "/api/v1/users", Some(&json!({"name": "b\u{202e}ob"})));
    assert_eq!((hostile.status, hostile.json()["field"].as_str()), (422, Some("name")));

    let tag = shown.header("etag").unwrap().to_owned();
    let bearer = format!("Bearer {}", rig.token);
    let patch = |tag: &str, body: serde_json::Value| {
        rig.send_with("PATCH", &path, &[("Authorization", &bearer), ("If-Match", tag)], Some(&body))
    };
    let changed = patch(&tag, json!({"full_name": "Robert"}));
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!((&changed.json()["full_name"], &changed.json()["name"]), (&"Robert".into(), &"bob".into()));
    let stale = patch(&tag, json!({"full_name": "R."}));
    assert_eq!((stale.status, stale.json()["code"].as_str()), (412, Some("etag-mismatch")));
    assert_eq!(stale.json()["valid"], changed.header("etag").unwrap());
    assert_eq!(patch("*", json!({"password": null})).json()["has_password"], false);
    assert_eq!(patch("x", json!({})).json()["code"], "bad-if-match");
    let known = [("Authorization", bearer.as_str()), ("If-None-Match", "*")];
    assert_eq!(rig.send_with("GET", &path, &known, None).status, 304);

    assert_eq!(rig.send("DELETE", &path, None).status, 204);
    assert_eq!(rig.get(&path).status, 404);
    assert_eq!(rig.send("PATCH", &path, Some(&json!({}))).status, 404);
}

#[test]
fn somebody_who_decides_everything_is_left() {
    let rig = Rig::start();
    let users = rig.get("/api/v1/users").json();
    let path = format!("/api/v1/users/{}", users["items"][0]["id"].as_str().unwrap());
    for body in [json!({"disabled": true}), json!({"grants": []}), json!({"grants": [{"role": "operator"}]})]
    {
        let refused = rig.send("PATCH", &path, Some(&body));
        assert_eq!(
            (refused.status, refused.json()["code"].as_str()),
            (409, Some("last-administrator")),
            "{body}"
        );
    }
    assert_eq!(rig.send("DELETE", &path, None).json()["code"], "last-administrator");
}

#[test]
fn bodies_that_are_wrong_are_refused_with_the_field() {
    let rig = Rig::start();
    let send = |kind: &str, body: &[u8]| {
        let mut request = format!(
            "POST /api/v1/users HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n{kind}Content-Length: {}\r\n\r\n",
            rig.token,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        answer(&raw(rig.server.http_addr(), &request))
    };
    let json = "Content-Type: application/json\r\n";
    type Case<'a> = (&'a str, &'a [u8], u16, &'a str, Option<&'a str>);
    let cases: [Case<'_>; 11] = [
        ("", b"{}", 415, "unsupported-media-type", Some("Content-Type")),
        ("Content-Type: text/plain\r\n", b"{}", 415, "unsupported-media-type", Some("Content-Type")),
        (
            "Content-Type: application/x-www-form-urlencoded\r\n",
            b"name=a",
            415,
            "unsupported-media-type",
            Some("Content-Type"),
        ),
        (json, b"", 400, "bad-json", Some("body")),
        (json, b"{\"name\":", 400, "bad-json", Some("body")),
        (json, b"{\"name\":\"\xff\"}", 400, "bad-json", Some("body")),
        (json, b"{}", 422, "missing-field", Some("name")),
        (json, b"{\"name\":1}", 422, "bad-field", Some("name")),
        (json, b"{\"name\":\"x\",\"color\":1}", 422, "unknown-field", Some("color")),
        (
            json,
            b"{\"name\":\"x\",\"grants\":[{\"role\":\"king\"}]}",
            422,
            "bad-field",
            Some("grants[0].role"),
        ),
        (
            json,
            b"{\"name\":\"x\",\"grants\":[{\"role\":\"reader\",\"site\":\"y\"}]}",
            422,
            "bad-field",
            Some("grants[0].site"),
        ),
    ];
    for (kind, body, status, code, field) in cases {
        let refused = send(kind, body);
        let shown = String::from_utf8_lossy(body);
        assert_eq!(
            (refused.status, refused.json()["code"].as_str()),
            (status, Some(code)),
            "{shown}: {refused:?}"
        );
        assert_eq!(refused.json()["field"].as_str(), field, "{shown}");
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    }
    let large = send(json, &vec![b' '; 100_000]);
    assert_eq!((large.status, large.json()["code"].as_str()), (413, Some("body-too-large")));
    let request = format!(
        "POST /api/v1/users HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n{json}Transfer-Encoding: chunked\r\n\r\n{}",
        rig.token,
        format!("10000\r\n{}\r\n", " ".repeat(0x10000)).repeat(2)
    );
    let chunked = answer(&raw(rig.server.http_addr(), request.as_bytes()));
    assert_eq!(chunked.json()["code"], "body-too-large", "what is not declared is counted");
    assert_eq!(rig.get("/api/v1/users").json()["items"].as_array().unwrap().len(), 1, "nothing was added");
}

#[test]
fn a_request_with_a_key_is_done_once() {
    let rig = Rig::start();
    let bearer = format!("Bearer {}", rig.token);
    let add = |key: &str, name: &str| {
        let headers = [("Authorization", bearer.as_str()), ("Idempotency-Key", key)];
        rig.send_with("POST", "/api/v1/users", &headers, Some(&json!({"name": name})))
    };
    let first = add("one", "bob");
    let again = add("one", "bob");
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!((first.json(), first.header("location")), (again.json(), again.header("location")));
    assert_eq!(
        (first.header("idempotency-replayed"), again.header("idempotency-replayed")),
        (None, Some("true"))
    );
    let other = add("one", "eve");
    assert_eq!((other.status, other.json()["code"].as_str()), (422, Some("idempotency-key-reused")));
    assert_eq!(add("two", "bob").status, 409, "another key is another request");
    assert_eq!(add("two", "bob").status, 409);
    for bad in ["", &"x".repeat(129)] {
        assert_eq!(add(bad, "x").json()["code"], "bad-idempotency-key", "{bad}");
    }
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8).map(|_| scope.spawn(|| add("three", "carol").status)).collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|status| [201, 409].contains(status)), "{answers:?}");
    assert_eq!(add("three", "carol").status, 201);
    assert_eq!(rig.get("/api/v1/users").json()["items"].as_array().unwrap().len(), 3);
}

#[test]
fn methods_are_told_for_each_path() {
    let rig = Rig::start();
    for (path, allowed) in [
        ("/api/v1/users", "GET, HEAD, POST"),
        ("/api/v1/users/x", "GET, HEAD, PATCH, DELETE"),
        ("/api/v1/session", "GET, HEAD, POST, DELETE"),
        ("/api/v1/setup", "POST"),
    ] {
        let refused = rig.send("PUT", path, None);
        assert_eq!((refused.status, refused.header("allow")), (405, Some(allowed)), "{path}");
    }
    let head = rig.send("HEAD", "/api/v1/users", None);
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(rig.get("/api/v1/users/x").json()["field"], "id");
}

#[test]
fn the_description_is_served() {
    let rig = Rig::start();
    let document = rig.send_with("GET", "/api/v1/openapi.json", &[], None);
    assert_eq!(document.json()["openapi"], "3.1.0");
    let page = rig.send_with("GET", "/api/v1/docs", &[], None);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
}
