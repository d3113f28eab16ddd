//! A browser as far as it matters here: it keeps the cookie, and says that a request comes from a page of the server.

use serde_json::{Value, json};

use crate::export::rig::{Answer, Rig};

pub const NAME: &str = "ada";
pub const PASSWORD: &str = "correct horse battery";

/// Signed in.
pub struct Browser<'r> {
    rig: &'r Rig,
    pub cookie: String,
    pub csrf: String,
}

/// Makes the first administrator with the link of the server.
pub fn set_up(rig: &Rig) {
    let link = rig.server.setup_link().expect("nobody is registered");
    let token = link.split_once("token=").expect("a token").1;
    let body = json!({"token": token, "name": NAME, "password": PASSWORD});
    let made = rig.send_with("POST", "/api/v1/setup", &[], Some(&body));
    assert_eq!(made.status, 201, "{made:?}");
}

/// `name=value` of the cookie that an answer sets.
pub fn cookie(answer: &Answer) -> String {
    let set = answer.header("set-cookie").unwrap_or_else(|| panic!("no cookie: {answer:?}"));
    set.split(';').next().expect("a value").to_owned()
}

impl<'r> Browser<'r> {
    /// Signs in.
    pub fn sign_in(rig: &'r Rig, name: &str, password: &str) -> Result<Browser<'r>, Answer> {
        let body = json!({"name": name, "password": password});
        let answer =
            rig.send_with("POST", "/api/v1/session", &[("Sec-Fetch-Site", "same-origin")], Some(&body));
        if answer.status != 201 {
            return Err(answer);
        }
        let csrf = answer.json()["csrf"].as_str().expect("a value").to_owned();
        Ok(Browser { rig, cookie: cookie(&answer), csrf })
    }

    /// A request of a page of the server.
    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let headers = [
            ("Cookie", self.cookie.as_str()),
            ("Sec-Fetch-Site", "same-origin"),
            ("X-Fleetpulse-CSRF", self.csrf.as_str()),
        ];
        self.rig.send_with(method, path, &headers, body)
    }
}
