//! `fleetpulse store`, and a data directory of the version before.

use std::path::Path;
use std::process::Command as Process;

use fleetpulse::config::Config;
use fleetpulse::fleet::{Actor, Command, Event, EventCode};
use fleetpulse::identity::{ClientIdentity, Revocations};
use fleetpulse::live::SensorType;
use fleetpulse::server::Server;
use fleetpulse::server::enlist::Enlistment;
use fleetpulse::store::{AuditQuery, Store};
use fleetpulse::wire::id::SensorId;
use serde_json::Value;

use crate::process::run;

fn fixtures() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/store"))
}

/// A data directory as the first version wrote it: `ca add-sensor`, `add-gateway`, `move` and `delete`.
fn unpack(data: &Path) {
    std::fs::create_dir(data).expect("made");
    let archive = fixtures().join("v1.tgz");
    let status = Process::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(data).status();
    assert!(status.expect("tar").success());
}

fn store(data: &Path, arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let data = data.to_str().expect("a path");
    let all: Vec<&str> = ["store", "--json", "--data-dir", data].iter().chain(arguments).copied().collect();
    run(&all)
}

fn lines(text: &[String]) -> Vec<Value> {
    let mut lines: Vec<Value> = text.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    lines.sort_by_key(|line| line["id"].to_string());
    lines
}

fn listed(data: &Path) -> Vec<Value> {
    let (code, said) = store(data, &["show"]);
    assert_eq!(code, Some(0), "{said:?}");
    lines(&said)
}

#[test]
fn a_store_of_the_version_before_opens_is_as_it_was_and_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    unpack(&data);
    let kept = std::fs::read_to_string(fixtures().join("v1.list")).expect("kept");
    let kept = lines(&kept.lines().map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(listed(&data), kept);
    let (code, said) = store(&data, &["check"]);
    assert_eq!(code, Some(0), "{said:?}");
    assert_eq!(lines(&said)[0]["findings"], serde_json::json!([]));

    // This version writes on, with documents of its own, and both are read together.
    let data_dir = data.to_str().expect("a path");
    let out = folder.path().join("out");
    let out = out.to_str().expect("a path");
    let (code, said) =
        run(&["ca", "--data-dir", data_dir, "add-sensor", "new", "--site", "Lyon", "--out", out]);
    assert_eq!(code, Some(0), "{said:?}");
    let now = listed(&data);
    assert_eq!(now.len(), kept.len() + 1);
    assert!(kept.iter().all(|line| now.contains(line)));
    {
        let store = Store::open(data.join("store")).expect("opens");
        let page = store.register.audit(&AuditQuery::default()).expect("a page");
        assert_eq!(page.entries[0].1.actor.name, "ca");
        let first = page.entries[page.entries.len() - 1].clone();
        let past = store.register.load_at(first.0).expect("the past");
        assert!(past.counts().sensors <= 1);
    }
    assert_eq!(store(&data, &["check"]).0, Some(0));

    // The register knows the certificate that it made by hand, and takes it back with its sensor.
    let serial = ClientIdentity::read(out.as_ref()).expect("an identity").leaf().expect("a leaf").serial;
    let id = {
        let loaded = Store::open(data.join("store")).expect("opens").register.load().expect("loads");
        let sensor =
            loaded.register.sensors().find(|sensor| &*sensor.name == "new").expect("registered").clone();
        assert_eq!(sensor.more.credentials.len(), 1);
        assert_eq!(*sensor.more.credentials[0].serial, serial.to_string());
        sensor.id.to_string()
    };
    let revoked = || Revocations::open(&data).expect("a list").contains(&serial);
    assert!(!revoked());
    assert_eq!(run(&["ca", "--data-dir", data_dir, "delete", &id]).0, Some(0));
    assert!(revoked());
}

#[test]
fn the_command_line_backs_up_restores_and_tells_what_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    unpack(&data);
    let backup = backup.to_str().expect("a path");
    let (code, said) = store(&data, &["backup", backup]);
    assert_eq!(code, Some(0), "{said:?}");
    let (code, said) = store(&data, &["backup", backup]);
    assert!(code == Some(1) && said.join(" ").contains("is there already"), "{said:?}");
    let new = folder.path().join("new");
    assert_eq!(store(&new, &["restore", backup]).0, Some(0));
    assert_eq!(store(&new, &["restore", backup]).0, Some(1));
    assert_eq!(listed(&new), listed(&data));
    let (code, said) = store(&new, &["check"]);
    assert!(code == Some(0) && said[0].contains("\"sound\":true"), "{said:?}");
    let (code, said) = store(&new, &["show", "--at", "2020-01-01T00:00:00Z"]);
    assert_eq!((code, said.len()), (Some(0), 1), "{said:?}");
    assert_eq!(lines(&said)[0]["change"], 0);
    let (code, said) = store(&new, &["show", "--at", "2099-01-01T00:00:00Z"]);
    assert_eq!((code, said.len()), (Some(0), 1 + listed(&new).len()));
    assert_eq!(store(&new, &["show", "--at", "yesterday"]).0, Some(64));
    assert_eq!(store(&folder.path().join("nowhere"), &["show"]).0, Some(1));
    assert!(!folder.path().join("nowhere").exists());

    // Damage ends with 1 and says what to do.
    let log = new.join("store/register.redb");
    let mut bytes = std::fs::read(&log).expect("there");
    let name = b"pump station";
    let places: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(name)).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at] ^= 1);
    std::fs::write(&log, bytes).expect("written");
    let (code, said) = store(&new, &["check"]);
    assert!(code == Some(1) && said.join(" ").contains("\"sound\":false"), "{said:?}");
}

/// The default data directory is a relative path of one part, too.
#[test]
fn paths_that_are_names_alone_are_in_the_present_directory() {
    let folder = tempfile::tempdir().expect("a folder");
    unpack(&folder.path().join("data"));
    let there = |arguments: &[&str]| {
        let mut command = Process::new(env!("CARGO_BIN_EXE_fleetpulse"));
        command.current_dir(folder.path()).arg("store").args(arguments);
        let output = command.output().expect("the program runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for arguments in [
        ["backup", "copy", "--data-dir", "data"].as_slice(),
        &["restore", "copy", "--data-dir", "new"],
        &["check", "--data-dir", "new"],
    ] {
        let (code, said) = there(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
    }
    assert_eq!(listed(&folder.path().join("new")), listed(&folder.path().join("data")));
}

/// Who lost the register is told, and never becomes a stranger's first administrator.
#[test]
fn a_server_does_not_start_where_the_register_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    unpack(&data);
    std::fs::remove_file(data.join("store/register.redb")).expect("removed");
    let (code, said) = store(&data, &["check"]);
    assert!(code == Some(1) && said.join(" ").contains("restore"), "{said:?}");
    let loopback = "127.0.0.1:0".parse().expect("an address");
    let mut config = Config { data_dir: data.clone(), ..Config::default() };
    (config.ingest.listen, config.ingest.enrol_listen, config.http.listen) = (loopback, loopback, loopback);
    let refused = Server::start(config).map(drop).expect_err("refused").to_string();
    assert!(
        refused.contains("register.redb is damaged: it is gone") && refused.contains("restore"),
        "{refused}"
    );
    assert!(!data.join("store/register.redb").exists());
}

#[test]
fn a_running_server_backs_itself_up_and_the_copy_is_a_server_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = |data: &str| {
        let mut config = Config { data_dir: folder.path().join(data), ..Config::default() };
        config.ingest.listen = ([127, 0, 0, 1], 0).into();
        config.ingest.enrol_listen = ([127, 0, 0, 1], 0).into();
        config.ingest.shards = 1;
        config.ingest.drain_spread = std::time::Duration::ZERO;
        config.http.listen = ([127, 0, 0, 1], 0).into();
        config
    };
    let server = Server::start(config("data")).expect("a server");
    let ids: Vec<_> = (0..50).map(|_| SensorId::fresh()).collect();
    let commands = {
        let register = server.fleet().register();
        let mut plan = Enlistment::new(&register);
        for id in &ids {
            plan.sensor(*id, &id.to_string(), SensorType::OtCloud, "site", "zone");
        }
        plan.into_commands()
    };
    let actor = || Actor::command_line("test");
    server.apply(&commands, actor()).expect("registered");
    let trust = server.authority().trust_pem().to_owned();
    let made = server.backups().make(&actor()).expect("a backup");
    let (_, position, _) = made.file.lead.expect("a lead");
    assert!(position.sequence >= 1, "{made:?}");
    let backup = folder.path().join("data/backups").join(made.file.name.to_string());
    // That it was made is noted, and is not in it.
    let query = AuditQuery { action: Some("backup".into()), ..AuditQuery::default() };
    let noted = server.store().register.audit(&query).expect("a page");
    assert_eq!((noted.entries.len(), noted.entries[0].0.sequence), (1, position.sequence + 1));
    server.apply(&[Command::DeleteSensor { id: ids[0] }], actor()).expect("deleted");
    server.stop();
    drop(server);

    fleetpulse::store::restore(&backup, &folder.path().join("copy"), &mut |_| {}).expect("restored");
    let copy = Server::start(config("copy")).expect("a server");
    assert_eq!(copy.fleet().register().counts().sensors, 50);
    assert_eq!(copy.authority().trust_pem(), trust, "sensors know it");
    let event = Event { code: EventCode::SignIn, about: None, detail: String::new() };
    copy.apply(&[Command::Record(event)], actor()).expect("it goes on");
}
