//! Signing in at an identity provider, as a browser does it.

use std::path::Path;

use fleetpulse::config::Config;
use serde_json::{Value, json};

use super::provider::{CLIENT, Provider, SECRET};
use crate::export::rig::{Answer, Rig, send, until};

pub fn with_provider(provider: &Provider, secret: &Path) -> impl FnOnce(&mut Config) {
    std::fs::write(secret, format!("{SECRET}\n")).unwrap();
    let (issuer, secret) = (provider.issuer(), secret.to_owned());
    move |config| {
        config.http.oidc_issuer = Some(issuer);
        config.http.oidc_client_id = CLIENT.into();
        config.http.oidc_client_secret_file = Some(secret);
        config.http.oidc_grants = vec!["ops=operator".into(), "bosses=administrator".into()];
        config.http.public_url = Some("http://127.0.0.1:1".into());
    }
}

/// What a browser has after it began: the cookie, and where the provider sends it.
pub fn begin(rig: &Rig, provider: &Provider, to: &str) -> (String, String) {
    begin_at(rig, provider, &format!("/api/v1/sign-in/oidc?to={to}"))
}

fn begin_at(rig: &Rig, provider: &Provider, path: &str) -> (String, String) {
    let begun = rig.send_with("GET", path, &[], None);
    assert_eq!(begun.status, 303, "{begun:?}");
    let set = begun.header("set-cookie").unwrap();
    assert!(set.contains("HttpOnly; SameSite=Lax"), "{set}");
    let cookie = set.split(';').next().unwrap().to_owned();
    let at = begun.header("location").unwrap();
    let path = at.strip_prefix(&provider.issuer()).unwrap_or_else(|| panic!("{at}"));
    let sent_back = send(provider.address, "GET", path, &[], None);
    let back = sent_back.header("location").unwrap().to_owned();
    let path = back.strip_prefix("http://127.0.0.1:1").unwrap_or_else(|| panic!("{back}")).to_owned();
    (cookie, path)
}

pub fn finish(rig: &Rig, (cookie, path): &(String, String)) -> Answer {
    rig.send_with("GET", path, &[("Cookie", cookie.as_str()), ("Sec-Fetch-Site", "cross-site")], None)
}

fn session(rig: &Rig, answer: &Answer) -> Value {
    let cookies: Vec<&str> =
        answer.head.lines().filter_map(|line| line.strip_prefix("set-cookie: ")).collect();
    let session = cookies.iter().find(|cookie| cookie.starts_with("fleetpulse=")).unwrap();
    assert!(session.contains("SameSite=Strict"), "{session}");
    let session = session.split(';').next().unwrap();
    rig.send_with("GET", "/api/v1/session", &[("Cookie", session)], None).json()
}

#[test]
fn groups_at_the_provider_are_roles_here() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let rig = Rig::start_with(with_provider(&provider, &folder.path().join("secret")));
    let first = finish(&rig, &begin(&rig, &provider, "/api/v1/docs"));
    assert_eq!(first.status, 200, "{first:?}");
    assert!(first.body.contains("content=\"0;url=/api/v1/docs\""), "{}", first.body);
    let who = session(&rig, &first);
    assert_eq!((&who["user"]["name"], &who["user"]["full_name"]), (&"grace".into(), &"Grace H.".into()));
    assert_eq!(who["grants"], json!([{"role": "operator"}]));

    // The same person is the same user whatever they are called, and gets what the groups of today give.
    provider.state.lock().unwrap().claims = json!({"preferred_username": "rig", "groups": ["bosses"]});
    let again = session(&rig, &finish(&rig, &begin(&rig, &provider, "/")));
    assert_eq!(again["user"], who["user"]);
    assert_eq!(again["grants"], json!([{"role": "administrator"}]));

    // Somebody else with the name of a local account is not that account.
    provider.state.lock().unwrap().claims =
        json!({"sub": "4712", "preferred_username": "rig", "email": "other@example.com"});
    let other = session(&rig, &finish(&rig, &begin(&rig, &provider, "/")));
    assert_eq!(other["user"]["name"], "other@example.com");

    // Who loses all groups is refused, and what their tokens could do they can't do any more.
    let path = format!("/api/v1/users/{}", who["user"]["id"].as_str().unwrap());
    assert_eq!(rig.get(&path).json()["grants"], json!([{"role": "administrator"}]));
    provider.state.lock().unwrap().claims = json!({"groups": ["tourists"]});
    let refused = finish(&rig, &begin(&rig, &provider, "/"));
    assert_eq!((refused.status, refused.json()["code"].as_str()), (403, Some("no-grants")));
    assert_eq!(rig.get(&path).json()["grants"], json!([]));
    provider.state.lock().unwrap().claims = json!({});
    assert_eq!(rig.send("PATCH", &path, Some(&json!({"disabled": true}))).status, 200);
    assert_eq!(finish(&rig, &begin(&rig, &provider, "/")).json()["code"], "user-disabled");
}

#[test]
fn who_does_not_say_where_to_go_comes_to_a_page_that_is_there() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let rig = Rig::start_with(with_provider(&provider, &folder.path().join("secret")));
    let done = finish(&rig, &begin_at(&rig, &provider, "/api/v1/sign-in/oidc"));
    let to = done.body.split("content=\"0;url=").nth(1).and_then(|rest| rest.split('"').next());
    assert_eq!(rig.send_with("GET", to.unwrap(), &[], None).status, 200, "{}", done.body);
}

#[test]
fn what_was_not_begun_here_is_not_finished_here() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let rig = Rig::start_with(with_provider(&provider, &folder.path().join("secret")));
    let refused = |answer: Answer, what: &str| {
        assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("oidc-refused")), "{what}");
        assert!(!answer.head.contains("set-cookie"), "{what}");
    };
    let mine = begin(&rig, &provider, "/");
    let other = begin(&rig, &provider, "/");
    refused(finish(&rig, &(mine.0.clone(), other.1.clone())), "the code of another browser");
    refused(finish(&rig, &(String::new(), mine.1.clone())), "no cookie");
    refused(finish(&rig, &(format!("{}x", mine.0), mine.1.clone())), "a changed cookie");
    refused(finish(&rig, &(mine.0.clone(), "/api/v1/sign-in/oidc/callback".into())), "nothing");
    refused(finish(&rig, &(mine.0, "/api/v1/sign-in/oidc/callback?error=access_denied".into())), "an error");
    assert_eq!(finish(&rig, &other).status, 200);
    refused(finish(&rig, &other), "a code that was used");
    for to in ["https://evil.example", "//evil.example", "/%5Cevil.example", "x"] {
        let answer = rig.send_with("GET", &format!("/api/v1/sign-in/oidc?to={to}"), &[], None);
        assert_eq!((answer.status, answer.json()["field"].as_str()), (400, Some("to")), "{to}");
    }
}

#[test]
fn tokens_that_are_wrong_sign_nobody_in_and_new_keys_are_learned() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let rig = Rig::start_with(with_provider(&provider, &folder.path().join("secret")));
    let attempt = |claims: Value| {
        provider.state.lock().unwrap().claims = claims;
        finish(&rig, &begin(&rig, &provider, "/"))
    };
    for claims in [
        json!({"nonce": "another"}),
        json!({"aud": "another"}),
        json!({"iss": "http://127.0.0.1:2"}),
        json!({"exp": 1_000}),
    ] {
        let answer = attempt(claims.clone());
        assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("oidc-refused")), "{claims}");
    }
    provider.state.lock().unwrap().foreign_key = true;
    assert_eq!(attempt(json!({})).status, 401);
    provider.state.lock().unwrap().foreign_key = false;
    assert_eq!(attempt(json!({})).status, 200);
    // A key that is not known is asked for, though not at once again and again.
    provider.rotate();
    until(&200, || attempt(json!({})).status);
    assert!(provider.state.lock().unwrap().keys_asked >= 2);
}

#[test]
fn a_provider_that_does_not_answer_is_said() {
    let provider = Provider::start();
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start_with(|config| {
        with_provider(&provider, &folder.path().join("secret"))(config);
        config.http.oidc_issuer = Some("http://127.0.0.1:9".into());
    });
    let answer = rig.send_with("GET", "/api/v1/sign-in/oidc", &[], None);
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (503, Some("identity-provider")),
        "{answer:?}"
    );
    let rig = Rig::start();
    let none = rig.send_with("GET", "/api/v1/sign-in/oidc", &[], None);
    assert_eq!((none.status, none.json()["code"].as_str()), (404, Some("no-identity-provider")));
}
