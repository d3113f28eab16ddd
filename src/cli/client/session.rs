//! A browser's session, for what a token can't do: making the first token, and changing one's own password.

use serde_json::json;

use super::http::{Answer, Call, Http, Method};
use super::profile::Secret;
use crate::cli::Failure;

const PATH: &str = "/api/v1/session";

/// An open session. Whoever opens one closes it.
pub(super) struct Session<'h> {
    http: &'h Http,
    cookie: String,
    csrf: String,
}

impl<'h> Session<'h> {
    /// Signs in.
    pub(super) fn open(http: &'h Http, user: &str, password: &Secret) -> Result<Session<'h>, Failure> {
        let call = Call::new(Method::Post, PATH).once();
        let opened = http.call(&call.json(json!({ "name": user, "password": password.0 })))?;
        let mut session = Session { http, cookie: String::new(), csrf: String::new() };
        if session.renew(&opened) {
            return Ok(session);
        }
        Err(Failure::failed("the server opened no session; is it of another version?"))
    }

    /// Takes over what an answer says of the session; false when it says nothing.
    pub(super) fn renew(&mut self, answer: &Answer) -> bool {
        let cookie = answer.header("set-cookie").and_then(|value| value.split(';').next());
        let (Some(cookie), Some(csrf)) = (cookie, answer.body["csrf"].as_str()) else { return false };
        (self.cookie, self.csrf) = (cookie.to_owned(), csrf.to_owned());
        true
    }

    /// A session is a browser's; what writes with one says that it comes from the server's own page.
    pub(super) fn call(&self, call: Call) -> Result<Answer, Failure> {
        let call =
            call.header("Cookie", self.cookie.as_str()).header("X-Fleetpulse-CSRF", self.csrf.as_str());
        self.http.call(&call.header("Origin", self.http.url()))
    }

    /// Signs out.
    pub(super) fn close(self) -> Result<(), Failure> {
        self.call(Call::new(Method::Delete, PATH)).map(drop)
    }
}
