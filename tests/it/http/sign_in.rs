//! From nobody to somebody: the set-up link, sessions, passwords, tokens, and those who guess.

use std::time::Duration;

use fleetpulse::fleet::Role;
use fleetpulse::limits::{SIGN_IN_FREE_PER_NAME, SIGN_IN_FREE_PER_SOURCE};
use serde_json::{Value, json};

use super::browser::{Browser, NAME, PASSWORD, cookie, set_up};
use crate::export::rig::{Rig, answer, raw};

#[test]
fn the_printed_link_makes_the_first_administrator_once() {
    let rig = Rig::start_without_users(|_| {});
    let old = rig.server.setup_link().unwrap();
    let link = rig.server.setup_link().unwrap();
    let token = |link: &str| link.split_once("token=").unwrap().1.to_owned();
    let ask = |body: Value| rig.send_with("POST", "/api/v1/setup", &[], Some(&body));
    let with = |token: &str, password: &str| json!({"token": token, "name": "Ada", "password": password});
    for wrong in [token(&old), String::new(), "x".into()] {
        let refused = ask(with(&wrong, PASSWORD));
        assert_eq!((refused.status, refused.json()["code"].as_str()), (401, Some("setup-token")));
    }
    let weak = ask(with(&token(&link), "short"));
    assert_eq!((weak.status, weak.json()["field"].as_str()), (422, Some("password")));
    assert_eq!(rig.send_with("GET", "/api/v1/users", &[], None).status, 401, "nobody is let in meanwhile");
    let made = ask(with(&token(&link), PASSWORD));
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.json()["name"], "ada", "names are lower case");
    assert_eq!(made.json()["grants"], json!([{"role": "administrator"}]));
    assert!(!made.body.contains("argon2"), "no hash is shown");
    assert_eq!(ask(with(&token(&link), PASSWORD)).status, 401, "once");
    assert_eq!(rig.server.setup_link(), None);
    assert!(Browser::sign_in(&rig, "ADA", PASSWORD).is_ok(), "upper and lower case are the same");
}

#[test]
fn the_page_of_the_link_works_without_a_script() {
    let rig = Rig::start_without_users(|_| {});
    let link = rig.server.setup_link().unwrap();
    let path = &link[link.find("/setup").unwrap()..];
    let page = rig.send_with("GET", path, &[], None);
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("script"), "{policy}");
    assert!(page.body.contains("<form method=\"post\"") && !page.body.contains("<script"));
    let hostile = rig.send_with("GET", "/setup?token=%22%3E%3Cscript%3Ealert(1)%3C/script%3E", &[], None);
    assert!(!hostile.body.contains("<script"), "{}", hostile.body);
    let token = path.split_once("token=").unwrap().1;
    let post = |form: &str, site: &str| {
        let request = format!(
            "POST /setup HTTP/1.1\r\nHost: x\r\nConnection: close\r\nSec-Fetch-Site: {site}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        answer(&raw(rig.server.http_addr(), request.as_bytes()))
    };
    let form = format!("token={token}&name=ada&password=correct+horse+battery");
    assert_eq!(post(&form, "cross-site").status, 403, "not from a foreign page");
    let short = post(&format!("token={token}&name=ada&password=short"), "same-origin");
    assert!(short.status == 422 && short.body.contains("role=\"alert\""), "{short:?}");
    assert_eq!(post(&form, "same-origin").status, 201);
    assert!(Browser::sign_in(&rig, NAME, PASSWORD).is_ok());
}

#[test]
fn a_session_is_a_cookie_with_all_its_guards() {
    let rig = Rig::start_without_users(|_| {});
    set_up(&rig);
    let body = json!({"name": NAME, "password": PASSWORD});
    let signed_in = rig.send_with("POST", "/api/v1/session", &[], Some(&body));
    assert_eq!(signed_in.status, 201, "{signed_in:?}");
    let set = signed_in.header("set-cookie").unwrap();
    assert!(set.starts_with("fleetpulse=") && set.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{set}");
    let cookie = cookie(&signed_in);
    let csrf = signed_in.json()["csrf"].as_str().unwrap().to_owned();
    let session = rig.send_with("GET", "/api/v1/session", &[("Cookie", &cookie)], None);
    assert_eq!(session.json()["user"]["name"], NAME);
    assert_eq!(session.json()["csrf"], csrf.as_str());
    assert_eq!(session.json()["permissions"].as_array().unwrap().len(), 5);

    // Writing needs a page of ours and the session's value; reading does not.
    let host = rig.server.http_addr().to_string();
    let own = format!("http://{host}");
    let (same, foreign) = (("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site"));
    let value = ("X-Fleetpulse-CSRF", csrf.as_str());
    let cases: [(&[(&str, &str)], u16); 8] = [
        (&[], 403),
        (&[value], 403),
        (&[same], 403),
        (&[same, ("X-Fleetpulse-CSRF", "x")], 403),
        (&[foreign, value], 403),
        (&[("Origin", "https://evil.example"), value], 403),
        (&[("Origin", &own), value], 201),
        (&[same, value], 201),
    ];
    for (number, (headers, status)) in cases.into_iter().enumerate() {
        let headers: Vec<_> = headers.iter().copied().chain([("Cookie", cookie.as_str())]).collect();
        let body = json!({"name": format!("token {number}")});
        let answer = rig.send_with("POST", "/api/v1/tokens", &headers, Some(&body));
        assert_eq!(answer.status, status, "{headers:?}: {answer:?}");
    }

    // A sign-in with the cookie of a session ends that one; signing out ends the new one.
    let again = rig.send_with("POST", "/api/v1/session", &[("Cookie", &cookie)], Some(&body));
    assert_eq!(again.status, 201);
    let fresh = super::browser::cookie(&again);
    assert_ne!(cookie, fresh);
    let status = |cookie: &str| rig.send_with("GET", "/api/v1/session", &[("Cookie", cookie)], None).status;
    assert_eq!((status(&cookie), status(&fresh)), (401, 200));
    let csrf = again.json()["csrf"].as_str().unwrap().to_owned();
    let headers = [("Cookie", fresh.as_str()), same, ("X-Fleetpulse-CSRF", csrf.as_str())];
    let out = rig.send_with("DELETE", "/api/v1/session", &headers, None);
    assert_eq!(out.status, 204, "{out:?}");
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(status(&fresh), 401);
    for rubbish in ["fleetpulse=", "fleetpulse=x", &format!("{fresh}; {fresh}")] {
        assert_eq!(status(rubbish), 401, "{rubbish}");
    }
}

#[test]
fn behind_tls_the_cookie_is_bound_to_the_host_and_to_tls() {
    let rig = Rig::start_without_users(|config| config.http.plain_beyond_loopback = true);
    set_up(&rig);
    let body = json!({"name": NAME, "password": PASSWORD});
    let answer = rig.send_with("POST", "/api/v1/session", &[], Some(&body));
    let set = answer.header("set-cookie").unwrap();
    assert!(set.starts_with("__Host-fleetpulse=") && set.contains("; Secure"), "{set}");
    let plain = cookie(&answer).replace("__Host-", "");
    assert_eq!(rig.send_with("GET", "/api/v1/session", &[("Cookie", &plain)], None).status, 401);
}

#[test]
fn another_password_ends_the_other_sessions() {
    let rig = Rig::start_without_users(|_| {});
    set_up(&rig);
    let one = Browser::sign_in(&rig, NAME, PASSWORD).unwrap();
    let other = Browser::sign_in(&rig, NAME, PASSWORD).unwrap();
    let change = |current: &str, new: &str| {
        one.send("PUT", "/api/v1/session/password", Some(&json!({"current": current, "new": new})))
    };
    assert_eq!(change("wrong", "another long password").json()["code"], "password-wrong");
    assert_eq!(change(PASSWORD, "adaadaadaada").json()["code"], "password-weak");
    let changed = change(PASSWORD, "another long password");
    assert_eq!(changed.status, 200, "{changed:?}");
    for old in [&one, &other] {
        assert_eq!(old.send("GET", "/api/v1/session", None).status, 401);
    }
    let fresh = cookie(&changed);
    assert_eq!(rig.send_with("GET", "/api/v1/session", &[("Cookie", &fresh)], None).status, 200);
    assert!(Browser::sign_in(&rig, NAME, PASSWORD).is_err());
    assert!(Browser::sign_in(&rig, NAME, "another long password").is_ok());
}

#[test]
fn guessing_is_slowed_and_tells_nothing() {
    let rig = Rig::start_without_users(|_| {});
    set_up(&rig);
    let guess = |name: &str| {
        let body = json!({"name": name, "password": "a wrong password"});
        rig.send_with("POST", "/api/v1/session", &[], Some(&body))
    };
    let (known, unknown) = (guess(NAME), guess("nobody"));
    assert_eq!((known.status, &known.body), (401, &unknown.body), "the same for both");
    for _ in 1..SIGN_IN_FREE_PER_NAME {
        assert_eq!(guess(NAME).status, 401);
    }
    let slowed = guess(NAME);
    assert_eq!((slowed.status, slowed.json()["code"].as_str()), (429, Some("too-many-sign-ins")));
    assert!(slowed.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    // Even the right password waits: whoever guesses learns nothing from being slowed.
    assert_eq!(Browser::sign_in(&rig, NAME, PASSWORD).map(|_| ()).unwrap_err().status, 429);
    let mut tries = SIGN_IN_FREE_PER_NAME + 1;
    while guess(&format!("name {tries}")).status == 401 {
        tries += 1;
        assert!(tries <= SIGN_IN_FREE_PER_SOURCE, "a source that tries many names is slowed too");
    }
}

#[test]
fn a_token_does_what_it_was_given_and_its_owner_may() {
    let rig = Rig::start();
    let made =
        rig.send("POST", "/api/v1/tokens", Some(&json!({"name": "ci", "grants": [{"role": "reader"}]})));
    assert_eq!(made.status, 201, "{made:?}");
    let (secret, id) = (made.json()["secret"].clone(), made.json()["id"].clone());
    let (secret, id) = (secret.as_str().unwrap(), id.as_str().unwrap());
    assert_eq!(made.header("location"), Some(format!("/api/v1/tokens/{id}").as_str()));
    let bearer = format!("Bearer {secret}");
    let ask = |method: &str, path: &str, body: Option<&Value>| {
        rig.send_with(method, path, &[("Authorization", &bearer)], body)
    };
    let session = ask("GET", "/api/v1/session", None).json();
    assert_eq!((&session["kind"], &session["user"]["name"]), (&"token".into(), &"rig".into()));
    assert_eq!(session["permissions"], json!(["view"]));
    assert_eq!(ask("GET", "/api/v1/fleet", None).status, 200);
    let users = ask("GET", "/api/v1/users", None);
    assert_eq!((users.status, users.json()["code"].as_str()), (403, Some("not-allowed")));
    assert!(users.json()["detail"].as_str().unwrap().contains("administrator"), "{users:?}");
    let more = ask("POST", "/api/v1/tokens", Some(&json!({"name": "x", "grants": [{"role": "operator"}]})));
    assert_eq!((more.status, more.json()["field"].as_str()), (403, Some("grants[0]")), "not beyond its own");
    let later = json!({"name": "x", "expires": "2100-01-01T00:00:00Z"});
    assert_eq!(ask("POST", "/api/v1/tokens", Some(&later)).json()["field"], "expires");
    let same = ask("POST", "/api/v1/tokens", Some(&json!({"name": "x"}))).json();
    assert_eq!(same["grants"], json!([{"role": "reader"}]));
    assert!(same["expires"].as_str() <= made.json()["expires"].as_str(), "not longer than its maker");

    let shown = rig.send("GET", &format!("/api/v1/tokens/{id}"), None);
    assert!(!shown.body.contains("fp_") && shown.header("etag").is_some(), "{shown:?}");
    let list = rig.send("GET", "/api/v1/tokens?limit=1", None).json();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let next = list["next"].as_str().unwrap();
    assert_eq!(
        rig.send("GET", &format!("/api/v1/tokens?cursor={next}"), None).json()["items"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let bad = rig.send("GET", &format!("/api/v1/tokens?cursor={next}&owner={id}"), None);
    assert_eq!(bad.json()["code"], "bad-cursor");

    assert_eq!(rig.send("DELETE", &format!("/api/v1/tokens/{id}"), None).status, 204);
    let gone = ask("GET", "/api/v1/fleet", None);
    assert_eq!((gone.status, gone.json()["code"].as_str()), (401, Some("bad-token")));
    assert!(gone.header("www-authenticate").is_some());
    assert_eq!(rig.send("DELETE", &format!("/api/v1/tokens/{id}"), None).status, 404);
}

#[test]
fn a_token_ends_with_its_time_its_owner_and_its_owners_rights() {
    let rig = Rig::start();
    let short = rig.server.token_for("brief", Role::Reader, Duration::from_millis(1)).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    let ask = |token: &str, path: &str| {
        rig.send_with("GET", path, &[("Authorization", &format!("Bearer {token}"))], None)
    };
    let expired = ask(&short, "/api/v1/fleet");
    assert_eq!(expired.status, 401);
    assert!(expired.json()["detail"].as_str().unwrap().contains("expired"), "{expired:?}");
    let token = rig.server.token_for("bob", Role::Operator, Duration::from_secs(60)).unwrap();
    assert_eq!(ask(&token, "/api/v1/fleet").status, 200);
    let users = rig.send("GET", "/api/v1/users", None).json();
    let bob = users["items"].as_array().unwrap().iter().find(|user| user["name"] == "bob").unwrap();
    let path = format!("/api/v1/users/{}", bob["id"].as_str().unwrap());
    assert_eq!(rig.send("PATCH", &path, Some(&json!({"grants": [{"role": "reader"}]}))).status, 200);
    let session = ask(&token, "/api/v1/session").json();
    assert_eq!(session["permissions"], json!(["view"]), "what the owner loses the token loses");
    assert_eq!(rig.send("PATCH", &path, Some(&json!({"disabled": true}))).status, 200);
    assert_eq!(ask(&token, "/api/v1/fleet").status, 401);
    assert_eq!(rig.send("PATCH", &path, Some(&json!({"disabled": false}))).status, 200);
    assert_eq!(ask(&token, "/api/v1/fleet").status, 200);
    assert_eq!(rig.send("DELETE", &path, None).status, 204);
    assert_eq!(ask(&token, "/api/v1/fleet").status, 401);
}

#[test]
fn metrics_are_for_this_machine_unless_told_otherwise() {
    use fleetpulse::http::MetricsAccess;
    let paths = ["/metrics", "/metrics/sensors", "/api/v1/engine"];
    let rig = Rig::start();
    for path in paths {
        assert_eq!(rig.send_with("GET", path, &[], None).status, 200, "{path}");
        let proxied = rig.send_with("GET", path, &[("X-Forwarded-For", "192.0.2.1")], None);
        assert_eq!(proxied.status, 401, "{path}: who comes through a proxy is not on this machine");
    }
    let rig = Rig::start_with(|config| config.http.metrics_without_sign_in = MetricsAccess::Nowhere);
    for path in paths {
        assert_eq!(rig.send_with("GET", path, &[], None).status, 401, "{path}");
        assert_eq!(rig.get(path).status, 200, "{path}");
    }
}

#[test]
fn behind_a_proxy_this_machine_is_nobody_and_addresses_are_the_clients() {
    let proxied = Rig::start_with(|config| config.http.public_url = Some("https://fleet.example".into()));
    assert_eq!(proxied.send_with("GET", "/metrics", &[], None).status, 401);
    let trusting =
        Rig::start_with(|config| config.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]);
    assert_eq!(trusting.send_with("GET", "/metrics", &[], None).status, 401);
    // Guesses from one client slow nobody else behind the same proxy; what a client writes itself is not believed.
    let names = |rig: &Rig, from: &str, name: &str| {
        let body = json!({"name": name, "password": "wrong wrong wrong"});
        rig.send_with("POST", "/api/v1/session", &[("X-Forwarded-For", from)], Some(&body)).status
    };
    for number in 0..SIGN_IN_FREE_PER_SOURCE {
        let forged = format!("203.0.113.{number}, 192.0.2.1");
        assert_eq!(names(&trusting, &forged, &format!("name {number}")), 401);
    }
    assert_eq!(names(&trusting, "192.0.2.1", "ada"), 429, "that one is slowed");
    assert_eq!(names(&trusting, "192.0.2.2", "ada"), 401, "another is not");
    let rig = Rig::start();
    for number in 0..SIGN_IN_FREE_PER_SOURCE {
        assert_eq!(names(&rig, &format!("203.0.113.{number}"), &format!("name {number}")), 401);
    }
    assert_eq!(names(&rig, "203.0.113.200", "ada"), 429, "without trust the header says nothing");
}

#[test]
fn who_asks_too_often_is_told_when_to_go_on() {
    let rig = Rig::start_with(|config| config.http.requests_per_second = 1);
    let mut statuses = (0..20).map(|_| rig.get("/api/v1/session").status);
    assert!(statuses.any(|status| status == 429));
    let refused = rig.get("/api/v1/session");
    assert_eq!(refused.json()["code"], "too-many-requests");
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert!([200, 503].contains(&rig.get("/readyz").status), "probes are never refused");
    let other = rig.server.token_for("other", Role::Reader, Duration::from_secs(60)).unwrap();
    let other =
        rig.send_with("GET", "/api/v1/session", &[("Authorization", &format!("Bearer {other}"))], None);
    assert_eq!(other.status, 200, "each caller has their own");
}
