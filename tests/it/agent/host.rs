//! What the tests of the agent share: a sensor on a data directory, a configuration, a time server.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::process::{Program, Server, run};

/// A registered sensor and the folder with its identity.
pub struct Probe {
    pub folder: tempfile::TempDir,
    pub data: PathBuf,
    pub identity: PathBuf,
    pub id: String,
}

impl Probe {
    /// As a first user does it.
    pub fn register() -> Probe {
        let folder = tempfile::tempdir().expect("a folder");
        let (data, identity) = (folder.path().join("data"), folder.path().join("identity"));
        let arguments =
            ["ca", "add-sensor", "probe", "--data-dir", &text(&data), "--out", &text(&identity), "--json"];
        let (code, said) = run(&arguments);
        assert_eq!(code, Some(0), "{said:#?}");
        let last: Value = serde_json::from_str(said.last().expect("a line")).expect("JSON");
        let id = last["id"].as_str().expect("an id").to_owned();
        Probe { folder, data, identity, id }
    }

    /// Starts the agent with this much more in its configuration.
    pub fn agent(&self, server: &Server, more: &str) -> Program {
        let file = self.folder.path().join("agent.toml");
        // Partitions, time and version of the machine that runs the tests are none of their business.
        let configuration = format!(
            "version = '{}'\ncheck_every = '1s'\ncheck_timeout = '2s'\n{more}\n[disks]\nroot = '/proc'\n",
            fleetpulse::sensor::sim::VERSION
        );
        fs::write(&file, configuration).expect("written");
        let arguments = ["agent", "--config", &text(&file), "--json", "--log-format", "json"];
        let connect = ["--server", &server.ingest.to_string(), "--identity", &text(&self.identity)];
        Program::start(&[&arguments[..], &connect[..]].concat())
    }

    /// The sensor as the server has it.
    pub fn seen(&self, server: &Server) -> Value {
        server.json(&format!("/api/v1/sensors/{}", self.id))
    }

    /// The codes of its active messages.
    pub fn messages(&self, server: &Server) -> Vec<String> {
        let active = self.seen(server)["active"].as_array().expect("a list").clone();
        active.iter().map(|code| code.as_str().expect("a code").to_owned()).collect()
    }
}

pub fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A time server that is synchronised; ends with the test's process.
pub fn time_server() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        let mut question = [0; 128];
        while let Ok((48.., from)) = socket.recv_from(&mut question) {
            let mut answer = [1; 48];
            // Version 4, mode "server", stratum 2; the question's time goes back as the origin.
            answer[..2].copy_from_slice(&[0x24, 2]);
            answer[24..32].copy_from_slice(&question[40..48]);
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}
