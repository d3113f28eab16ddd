//! Sessions that end by time, over HTTP by a clock of the test: hours pass in a moment. And credentials that are none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fleetpulse::fleet::Role;
use fleetpulse::http::Http;
use fleetpulse::time::{Clock, ManualClock};
use serde_json::{Value, json};

use super::browser::cookie;
use crate::export::rig::{Answer, Rig, send};

const PASSWORD: &str = "correct horse battery";

/// A server's HTTP by another clock.
struct Timed {
    rig: Rig,
    http: Http,
    clock: Arc<ManualClock>,
}

impl Timed {
    fn start() -> Timed {
        let rig = Rig::start_with(|config| config.http.requests_per_second = 100_000);
        let bob = json!({"name": "bob", "password": PASSWORD, "grants": [{"role": "operator"}]});
        assert_eq!(rig.send("POST", "/api/v1/users", Some(&bob)).status, 201);
        let clock = Arc::new(ManualClock::new(rig.server.clock().unix()));
        let http = rig.server.http_by(Arc::clone(&clock) as _).unwrap();
        Timed { rig, http, clock }
    }

    fn at(&self) -> SocketAddr {
        self.http.local_addr()
    }

    fn minutes(&self, minutes: u64) {
        self.clock.advance(Duration::from_secs(minutes * 60));
    }

    /// The cookie, and what the answer said.
    fn sign_in(&self) -> (String, Value) {
        let body = json!({"name": "bob", "password": PASSWORD});
        let answer = send(self.at(), "POST", "/api/v1/session", &[], Some(&body));
        assert_eq!(answer.status, 201, "{answer:?}");
        (cookie(&answer), answer.json())
    }

    fn session(&self, cookie: &str) -> Answer {
        send(self.at(), "GET", "/api/v1/session", &[("Cookie", cookie)], None)
    }

    fn left_minutes(&self, session: &Value) -> i64 {
        let ends: jiff::Timestamp = session["ends"].as_str().unwrap().parse().unwrap();
        (ends.as_millisecond() - self.clock.unix().0) / 60_000
    }
}

fn not_signed_in(answer: &Answer) {
    assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("not-signed-in")), "{answer:?}");
    assert!(answer.header("www-authenticate").is_some());
}

#[test]
fn a_session_ends_when_nobody_uses_it_for_half_an_hour() {
    let timed = Timed::start();
    let (used, session) = timed.sign_in();
    let (unused, _) = timed.sign_in();
    assert_eq!(timed.left_minutes(&session), 30);
    timed.minutes(29);
    assert_eq!(timed.session(&used).status, 200);
    timed.minutes(2);
    not_signed_in(&timed.session(&unused));
    let still = timed.session(&used);
    assert_eq!(timed.left_minutes(&still.json()), 30, "its use begins the time anew");
    // Reading and writing use it alike; what is refused for want of the page's value does too, and does nothing.
    timed.minutes(29);
    let refused = send(timed.at(), "DELETE", "/api/v1/session", &[("Cookie", &used)], None);
    assert_eq!((refused.status, refused.json()["code"].as_str()), (403, Some("csrf")));
    timed.minutes(31);
    not_signed_in(&timed.session(&used));
    let csrf = session["csrf"].as_str().unwrap();
    let headers = [("Cookie", used.as_str()), ("Sec-Fetch-Site", "same-origin"), ("X-Fleetpulse-CSRF", csrf)];
    not_signed_in(&send(timed.at(), "POST", "/api/v1/tokens", &headers, Some(&json!({"name": "late"}))));
    assert_eq!(timed.session(&timed.sign_in().0).status, 200, "signing in anew is possible");
}

#[test]
fn a_session_ends_after_half_a_day_however_much_it_is_used() {
    let timed = Timed::start();
    let (cookie, _) = timed.sign_in();
    for minute in (20..12 * 60).step_by(20) {
        timed.minutes(20);
        let session = timed.session(&cookie);
        assert_eq!(session.status, 200, "{minute}");
        assert_eq!(timed.left_minutes(&session.json()), 30.min(12 * 60 - minute), "{minute}");
    }
    timed.minutes(20);
    not_signed_in(&timed.session(&cookie));
}

#[test]
fn wall_time_that_is_set_ends_no_session() {
    let timed = Timed::start();
    let (cookie, _) = timed.sign_in();
    for hours in [48, -96] {
        timed.clock.step_unix(hours * 3_600_000);
        assert_eq!(timed.session(&cookie).status, 200, "{hours}");
    }
}

#[test]
fn a_token_ends_at_its_time() {
    let timed = Timed::start();
    let token = timed.rig.server.token_for("bob", Role::Operator, Duration::from_secs(3_600)).unwrap();
    let bearer = format!("Bearer {token}");
    let ask = || send(timed.at(), "GET", "/api/v1/sensors", &[("Authorization", &bearer)], None);
    timed.minutes(59);
    assert_eq!(ask().status, 200);
    timed.minutes(2);
    let expired = ask();
    assert_eq!((expired.status, expired.json()["code"].as_str()), (401, Some("bad-token")), "{expired:?}");
    assert!(expired.json()["detail"].as_str().unwrap().contains("expired"));
}

/// Each of them is nobody, on a route that reads and on one that writes, and nothing is done.
#[test]
fn credentials_that_are_none_let_nobody_in() {
    let (timed, other) = (Timed::start(), Timed::start());
    let (cookie, _) = other.sign_in();
    assert_eq!(other.session(&cookie).status, 200);
    let foreign_token = other.rig.token.clone();
    let deleted = {
        let made = timed.rig.send("POST", "/api/v1/tokens", Some(&json!({"name": "gone"}))).json();
        let path = format!("/api/v1/tokens/{}", made["id"].as_str().unwrap());
        assert_eq!(timed.rig.send("DELETE", &path, None).status, 204);
        made["secret"].as_str().unwrap().to_owned()
    };
    let expired = timed.rig.server.token_for("bob", Role::Administrator, Duration::from_secs(60)).unwrap();
    let mut forged = timed.rig.token.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'B' } else { 'A' });
    timed.minutes(2);
    let cookies = [cookie.clone(), "fleetpulse=AAAA".to_owned(), format!("{cookie}; {cookie}")];
    let bearers = [foreign_token, deleted, expired, forged, "fp_".to_owned(), String::new()];
    let users = || timed.rig.send("GET", "/api/v1/users", None).json();
    let before = users();
    let kinds = cookies.iter().map(|cookie| ("Cookie", cookie.clone(), "not-signed-in"));
    let kinds =
        kinds.chain(bearers.iter().map(|token| ("Authorization", format!("Bearer {token}"), "bad-token")));
    for (name, value, code) in kinds {
        let headers = [(name, value.as_str()), ("Sec-Fetch-Site", "same-origin"), ("X-Fleetpulse-CSRF", "x")];
        let body = json!({"name": "eve", "grants": [{"role": "administrator"}]});
        for (method, path, body) in [
            ("GET", "/api/v1/sensors", None),
            ("GET", "/api/v1/events/sensors", None),
            ("POST", "/api/v1/users", Some(&body)),
            ("DELETE", "/api/v1/session", None),
        ] {
            let answer = send(timed.at(), method, path, &headers, body);
            let said = answer.json();
            assert_eq!(
                (answer.status, said["code"].as_str()),
                (401, Some(code)),
                "{method} {path} {name}: {value}"
            );
            assert!(!said.to_string().contains("fp_A"), "no secret is repeated: {said}");
        }
    }
    assert_eq!(users(), before);
}
