//! A server, and requests of all kinds against it.

use std::sync::Arc;
use std::time::Duration;

use fleetpulse::config::Config;
use fleetpulse::fleet::{Register, Role};
use fleetpulse::server::Server;
use serde_json::{Value, json};

pub use crate::export::rig::Answer;
use crate::export::rig::{answer, config, raw};

/// A server with a data directory of its own.
pub struct Api {
    pub server: Arc<Server>,
    /// Of an administrator of everything.
    pub token: String,
    folder: tempfile::TempDir,
}

/// A request that is being put together.
pub struct Request<'a> {
    api: &'a Api,
    head: String,
    body: Vec<u8>,
}

impl Api {
    pub fn start() -> Api {
        Api::start_with(|_| {})
    }

    /// With another configuration, which does not outlive a restart.
    pub fn start_with(change: impl FnOnce(&mut Config)) -> Api {
        let folder = tempfile::tempdir().unwrap();
        let server = serve(&folder, change);
        let token = server.token_for("rig", Role::Administrator, Duration::from_secs(3_600)).unwrap();
        Api { server, token, folder }
    }

    /// Its data directory.
    pub fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// Stops the server and starts it again on the same data.
    pub fn restart(self) -> Api {
        let Api { server, token, folder } = self;
        server.stop();
        drop(server);
        Api { server: serve(&folder, |_| {}), token, folder }
    }

    pub fn request(&self, method: &str, path: &str) -> Request<'_> {
        self.request_as(&self.token, method, path)
    }

    /// A request with this token, or without one when it is empty.
    pub fn request_as(&self, token: &str, method: &str, path: &str) -> Request<'_> {
        let host = self.server.http_addr();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        let request = Request { api: self, head, body: Vec::new() };
        if token.is_empty() { request } else { request.header("Authorization", &format!("Bearer {token}")) }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path).send()
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path).json(body).send()
    }

    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.request("PUT", path).json(body).send()
    }

    pub fn patch(&self, path: &str, body: &Value) -> Answer {
        self.request("PATCH", path).json(body).send()
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path).send()
    }

    /// Creates something, and gives its document.
    pub fn made(&self, path: &str, body: &Value) -> Value {
        let answer = self.post(path, body);
        assert_eq!(answer.status, 201, "{answer:?}");
        let (document, location) = (answer.json(), answer.header("location").unwrap());
        assert!(location.ends_with(document["id"].as_str().unwrap()), "{location}");
        document
    }

    /// A subscription, a site in it, a zone in that: their ids.
    pub fn ground(&self) -> (String, String, String) {
        let id = |document: Value| document["id"].as_str().unwrap().to_owned();
        let subscription = id(self.made("/api/v1/subscriptions", &json!({"name": "Contoso"})));
        let site = id(self.made("/api/v1/sites", &json!({"name": "Lyon", "subscription": subscription})));
        let zone = id(self.made(&format!("/api/v1/sites/{site}/zones"), &json!({"name": "Line 1"})));
        (subscription, site, zone)
    }

    /// A cloud-connected sensor: its id.
    pub fn sensor(&self, zone: &str, name: &str) -> String {
        let body = json!({"name": name, "type": "ot-cloud", "zone": zone});
        self.made("/api/v1/sensors", &body)["id"].as_str().unwrap().to_owned()
    }

    /// The register as it is now, to be compared.
    pub fn register(&self) -> Vec<fleetpulse::fleet::Change> {
        let register: &Register = &self.server.fleet().register();
        register.as_changes().collect()
    }
}

/// A server on the data in this folder, which lets a test ask as fast as it can.
fn serve(folder: &tempfile::TempDir, change: impl FnOnce(&mut Config)) -> Arc<Server> {
    let mut config = config(folder.path());
    config.http.requests_per_second = 100_000;
    change(&mut config);
    Arc::new(Server::start(config).unwrap())
}

impl Request<'_> {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string().into_bytes())
    }

    pub fn body(mut self, media_type: &str, body: Vec<u8>) -> Self {
        self.head.push_str(&format!("Content-Type: {media_type}\r\n"));
        self.body = body;
        self
    }

    pub fn send(self) -> Answer {
        let Request { api, head, body } = self;
        let mut bytes = format!("{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend(body);
        answer(&raw(api.server.http_addr(), &bytes))
    }
}

/// Code and field of a problem.
pub fn problem(answer: &Answer) -> (u16, String, String) {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["status"], answer.status);
    let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    (answer.status, text("code"), text("field"))
}
