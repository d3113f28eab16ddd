//! Who signs in, and who tries, is in the audit log: how, from where, and what was wrong.

use serde_json::{Value, json};

use super::browser::{Browser, NAME, PASSWORD, set_up};
use super::oidc::{begin, finish, with_provider};
use super::provider::Provider;
use crate::export::rig::Rig;

/// Action, kind of actor, name, from where, what it is about, detail; oldest first.
fn story(page: &Value) -> Vec<[String; 6]> {
    let text = |item: &Value, pointer: &str| {
        item.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let pointers = ["/action", "/actor/kind", "/actor/name", "/actor/from", "/subject/name", "/detail"];
    let items = page["items"].as_array().unwrap();
    items.iter().map(|item| pointers.map(|pointer| text(item, pointer))).collect()
}

#[test]
fn sign_ins_and_those_refused_are_in_the_audit_log() {
    let rig = Rig::start_without_users(|_| {});
    let wrong = json!({"token": "x", "name": NAME, "password": PASSWORD});
    assert_eq!(rig.send_with("POST", "/api/v1/setup", &[], Some(&wrong)).status, 401);
    set_up(&rig);
    for (name, password) in [(NAME, "a wrong password"), ("=nobody", PASSWORD)] {
        assert!(Browser::sign_in(&rig, name, password).is_err());
    }
    let browser = Browser::sign_in(&rig, "ADA", PASSWORD).map_err(|answer| answer.status).unwrap();
    let change = json!({"current": "not this", "new": "another long password"});
    assert_eq!(browser.send("PUT", "/api/v1/session/password", Some(&change)).status, 422);
    assert_eq!(browser.send("DELETE", "/api/v1/session", None).status, 204);
    let browser = Browser::sign_in(&rig, NAME, PASSWORD).map_err(|answer| answer.status).unwrap();
    let made = browser.send("POST", "/api/v1/tokens", Some(&json!({"name": "ci"})));
    assert_eq!(made.status, 201, "{made:?}");
    let bearer = format!("Bearer {}", made.json()["secret"].as_str().unwrap());
    let read =
        || rig.send_with("GET", "/api/v1/audit?order=oldest", &[("Authorization", &bearer)], None).json();
    let here = "127.0.0.1";
    let expected = [
        ["sign-in-refused", "user", "", here, "", "a set-up link that is wrong, used or too old"],
        ["add-user", "user", "set-up link", here, NAME, ""],
        ["sign-in-refused", "user", NAME, here, "", "wrong password"],
        ["sign-in-refused", "user", "=nobody", here, "", "no such user"],
        ["sign-in", "user", NAME, here, NAME, "by password"],
        ["sign-in-refused", "user", NAME, here, "", "wrong password at its change"],
        ["sign-out", "user", NAME, here, NAME, ""],
        ["sign-in", "user", NAME, here, NAME, "by password"],
        ["add-token", "user", NAME, here, "ci", ""],
        // Noted beside the first request that used it.
        ["touch-token", "token", "ada/ci", here, "ci", ""],
    ];
    crate::export::rig::until(&expected.map(|row| row.map(str::to_owned)).to_vec(), || story(&read()));
    let refused = "/api/v1/audit?action=sign-in-refused&actor=ada";
    let refused = rig.send_with("GET", refused, &[("Authorization", &bearer)], None).json();
    assert_eq!(story(&refused).len(), 2, "by the name that was tried");
    assert!(!read().to_string().contains(PASSWORD) && !read().to_string().contains("a wrong password"));
}

#[test]
fn who_comes_from_the_identity_provider_is_in_the_audit_log() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let rig = Rig::start_with(with_provider(&provider, &folder.path().join("secret")));
    assert_eq!(finish(&rig, &begin(&rig, &provider, "/")).status, 200);
    provider.state.lock().unwrap().claims = json!({"groups": ["bosses"]});
    assert_eq!(finish(&rig, &begin(&rig, &provider, "/")).status, 200);
    provider.state.lock().unwrap().claims = json!({"groups": ["tourists"]});
    assert_eq!(finish(&rig, &begin(&rig, &provider, "/")).status, 403);
    let (cookie, _) = begin(&rig, &provider, "/");
    let denied = (cookie, "/api/v1/sign-in/oidc/callback?error=access_denied".to_owned());
    assert_eq!(finish(&rig, &denied).status, 401);
    let page = rig.get("/api/v1/audit?order=oldest&actor_kind=user").json();
    let told = story(&page);
    let here = "127.0.0.1";
    let of = |number: usize| told[number].each_ref().map(String::as_str);
    assert_eq!(of(0), ["add-user", "user", "identity provider: Grace", here, "grace", ""]);
    assert_eq!(of(1), ["sign-in", "user", "grace", here, "grace", "by identity provider"]);
    let grants = |number: usize, side: &str| page["items"][number][side]["grants"].clone();
    let (operator, administrator) = (json!([{"role": "operator"}]), json!([{"role": "administrator"}]));
    for (number, before, after) in [(2, operator, administrator.clone()), (4, administrator, json!([]))] {
        assert_eq!(of(number), ["edit-user", "user", "identity provider: grace", here, "grace", ""]);
        assert_eq!((grants(number, "before"), grants(number, "after")), (before, after));
    }
    assert_eq!(of(3)[..3], ["sign-in", "user", "grace"]);
    assert_eq!(of(5), ["sign-in-refused", "user", "grace", here, "", "no group with a role"]);
    assert_eq!(of(6)[..4], ["sign-in-refused", "user", "", here]);
    assert!(of(6)[5].contains("access_denied"), "{told:?}");
    assert_eq!(told.len(), 7);
}
