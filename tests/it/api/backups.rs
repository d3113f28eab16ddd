//! Backups over the API: made, listed, downloaded, deleted; and what one is good for.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleetpulse::fleet::Role;
use fleetpulse::server::Server;
use serde_json::{Value, json};

use super::rig::{Api, problem};
use crate::export::rig::{config, connect, until};
use crate::process::run;
use crate::small_disk::SmallDisk;

fn make(api: &Api) -> Value {
    let made = api.request("POST", "/api/v1/backup").send();
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.header("location").unwrap(), format!("/api/v1/backups/{}", name(&made.json())));
    made.json()
}

fn name(backup: &Value) -> &str {
    backup["name"].as_str().unwrap()
}

fn names(api: &Api) -> Vec<String> {
    let list = api.get("/api/v1/backups").json();
    list["items"].as_array().unwrap().iter().map(|backup| name(backup).to_owned()).collect()
}

/// The bytes of a backup.
fn download(api: &Api, name: &str) -> Vec<u8> {
    let mut stream = connect(api.server.http_addr());
    let request = format!(
        "GET /api/v1/backups/{name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        api.token
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let body = answer.split_off(end);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("content-type: application/octet-stream"), "{head}");
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
    assert!(head.contains(&format!("content-disposition: attachment; filename=\"{name}\"")), "{head}");
    body
}

fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn events(api: &Api, action: &str) -> Vec<String> {
    let page = api.get(&format!("/api/v1/audit?action={action}&limit=1000")).json();
    let items = page["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| {
            assert_eq!((&item["change"], &item["actor"]["from"]), (&json!(action), &json!("127.0.0.1")));
            item["detail"].as_str().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn a_downloaded_backup_becomes_a_server_with_everything_that_was_acknowledged() {
    let api = Api::start();
    let (_, site, zone) = api.ground();
    let ids: Vec<String> = (0..20).map(|number| api.sensor(&zone, &format!("pump {number}"))).collect();
    let before = api.register();
    let made = make(&api);
    assert!(made["seconds"].as_f64().unwrap() > 0.0 && made["removed"] == json!([]), "{made}");
    let last = api.get("/api/v1/audit?limit=1&action=add-sensor").json()["items"][0]["entry"].clone();
    // What came after it is not in it.
    assert_eq!(api.delete(&format!("/api/v1/sensors/{}", ids[0])).status, 204);
    let bytes = download(&api, name(&made));
    assert_eq!((json!(bytes.len()), json!(sha256(&bytes))), (made["bytes"].clone(), made["sha256"].clone()));
    let listed = api.get("/api/v1/backups").json();
    let item = &listed["items"][0];
    assert_eq!(
        (&item["name"], &item["register"], &item["bytes"]),
        (&made["name"], &made["register"], &made["bytes"])
    );
    assert_eq!(listed["under_way"], Value::Null);
    assert_eq!(events(&api, "backup").len(), 1);
    assert!(events(&api, "backup")[0].contains(made["sha256"].as_str().unwrap()));
    assert_eq!(events(&api, "download"), [format!("backup {}", name(&made))]);
    let trust = api.server.authority().trust_pem().to_owned();
    let old = api.token.clone();

    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("file"), folder.path().join("data"));
    std::fs::write(&file, &bytes).unwrap();
    let arguments = ["store", "--data-dir", data.to_str().unwrap(), "restore", file.to_str().unwrap()];
    let (code, said) = run(&arguments);
    assert_eq!(code, Some(0), "{said:?}");
    drop(api);
    let copy = Server::start(config(folder.path())).unwrap();
    assert_eq!(copy.authority().trust_pem(), trust, "sensors know it");
    let there: Vec<_> = copy.fleet().register().as_changes().collect();
    let sensors = |changes: &[fleetpulse::fleet::Change]| {
        changes.iter().filter(|change| matches!(change, fleetpulse::fleet::Change::Sensor(_))).count()
    };
    assert_eq!((sensors(&there), sensors(&before)), (20, 20));
    // Also the audit log is, to the entry that the backup names, and who had a token has it.
    let bearer = format!("Bearer {old}");
    let ask = |path: &str| {
        crate::export::rig::send(copy.http_addr(), "GET", path, &[("Authorization", &bearer)], None)
    };
    let story = ask(&format!("/api/v1/audit?site={site}&action=add-sensor&limit=1")).json();
    let sequence = |entry: &Value| entry.as_str().unwrap().split_once('.').unwrap().1.to_owned();
    assert_eq!(sequence(&story["items"][0]["entry"]), sequence(&last));
    for id in &ids {
        assert_eq!(ask(&format!("/api/v1/sensors/{id}")).status, 200);
    }
}

#[test]
fn the_oldest_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = folder.path().join("elsewhere");
    let api = Api::start_with(|config| {
        config.backup.dir = Some(elsewhere.clone());
        config.backup.keep = 2;
    });
    assert!(names(&api).is_empty());
    assert!(!elsewhere.exists());
    let first = make(&api);
    std::fs::write(elsewhere.join("notes.txt"), "mine").unwrap();
    let second = make(&api);
    let third = make(&api);
    assert_eq!(third["removed"], json!([first["name"]]));
    assert_eq!(names(&api), [name(&third), name(&second)]);
    assert!(elsewhere.join("notes.txt").exists(), "what is no backup stays");
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&elsewhere), mode(&elsewhere.join(name(&third)))), (0o700, 0o600));
    assert_eq!(events(&api, "backup-deleted").len(), 1);

    // Deleting one twice.
    let newest = names(&api)[0].clone();
    assert_eq!(api.delete(&format!("/api/v1/backups/{newest}")).status, 204);
    assert_eq!(problem(&api.delete(&format!("/api/v1/backups/{newest}"))).0, 404);
    assert_eq!(problem(&api.get(&format!("/api/v1/backups/{newest}"))).0, 404);
    assert_eq!(names(&api), [name(&second)]);
    // The same request, sent again, is the same backup.
    let again = || api.request("POST", "/api/v1/backup").header("Idempotency-Key", "k").send().json();
    assert_eq!(again()["name"], again()["name"]);
}

/// A backup that stands still at a file of the store, which is a pipe, until this is dropped.
pub struct Held(PathBuf);

impl Held {
    pub fn at(store: &Path) -> Held {
        let pipe = store.join("live.checkpoint.previous");
        let _ = std::fs::remove_file(&pipe);
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        Held(pipe)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Who waits there reads its end; who comes later finds no pipe.
        let flags = rustix::fs::OFlags::RDWR;
        let pipe = rustix::fs::open(&self.0, flags, rustix::fs::Mode::empty());
        let _ = std::fs::remove_file(&self.0);
        drop(pipe);
    }
}

#[test]
fn while_one_is_written_nobody_begins_another() {
    let api = Api::start();
    let held = Held::at(&api.data().join("store"));
    let under_way = || api.get("/api/v1/backups").json()["under_way"].clone();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| api.request("POST", "/api/v1/backup").send());
        until(&true, || under_way().is_string());
        let name = under_way().as_str().unwrap().to_owned();
        for _ in 0..3 {
            let second = api.request("POST", "/api/v1/backup").send();
            assert_eq!(problem(&second), (409, "backup-under-way".into(), String::new()));
            assert!(second.body.contains(&name), "{second:?}");
        }
        // It is no backup yet, and changes go on meanwhile.
        assert!(names(&api).is_empty());
        assert_eq!(problem(&api.get(&format!("/api/v1/backups/{name}"))).0, 404);
        api.ground();
        drop(held);
        let first = first.join().unwrap();
        assert_eq!((first.status, &first.json()["name"]), (201, &json!(name)), "{first:?}");
        assert_eq!(names(&api), [name]);
    });
    assert_eq!(under_way(), Value::Null);
    make(&api);
    assert_eq!(events(&api, "backup").len(), 2);
}

#[test]
fn a_name_leads_to_a_backup_and_nowhere_else() {
    let api = Api::start();
    let made = make(&api);
    let there = name(&made);
    for wrong in [
        "..".to_owned(),
        "%2e%2e".to_owned(),
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd".to_owned(),
        "..%2fbackups%2f".to_owned() + there,
        "%2e%2fx".to_owned(),
        "%00".to_owned(),
        format!("{there}%00"),
        format!("{there}%2f"),
        format!("{there}.new"),
        there.to_uppercase(),
        "x".repeat(4_000),
        "%ff%fe".to_owned(),
        "%e2%80%ae".to_owned(),
    ] {
        for method in ["GET", "DELETE"] {
            let answer = api.request(method, &format!("/api/v1/backups/{wrong}")).send();
            let (status, code, field) = problem(&answer);
            assert_eq!((status, &*code, &*field), (400, "bad-parameter", "name"), "{method} {wrong}");
        }
    }
    for wrong in ["../backups", "a/b", "../../etc/passwd"] {
        assert_eq!(api.get(&format!("/api/v1/backups/{wrong}")).status, 404, "{wrong}");
    }
    let query = api.request("POST", "/api/v1/backup?to=/tmp/x").send();
    assert_eq!(problem(&query).1, "unknown-parameter");
    assert_eq!(names(&api), [there]);
    assert_eq!(download(&api, there).len(), made["bytes"].as_u64().unwrap() as usize);
    // Only for who runs the whole server.
    let operator = api.server.token_for("op", Role::Operator, Duration::from_secs(60)).unwrap();
    for (method, path) in [
        ("POST", "/api/v1/backup".to_owned()),
        ("GET", "/api/v1/backups".to_owned()),
        ("GET", format!("/api/v1/backups/{there}")),
        ("DELETE", format!("/api/v1/backups/{there}")),
    ] {
        assert_eq!(problem(&api.request_as(&operator, method, &path).send()).0, 403, "{method} {path}");
        assert_eq!(problem(&api.request_as("", method, &path).send()).0, 401, "{method} {path}");
    }
    assert_eq!(names(&api), [there]);
}

#[test]
fn a_backup_that_could_fill_the_disk_is_not_begun() {
    let disk = SmallDisk::mount("16m");
    let place = disk.path().join("backups");
    let api = Api::start_with(|config| config.backup.dir = Some(place.clone()));
    let refused = api.request("POST", "/api/v1/backup").send();
    assert_eq!(problem(&refused), (507, "no-room".into(), String::new()));
    assert!(refused.body.contains("backup.dir"), "what would help: {refused:?}");
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
    assert_eq!(api.get("/api/v1/backups").json()["under_way"], Value::Null);
}

#[test]
fn a_folder_that_cant_be_written_is_told_and_the_next_try_may_succeed() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("place");
    std::fs::write(&place, "a file").unwrap();
    let api = Api::start_with(|config| config.backup.dir = Some(place.clone()));
    for _ in 0..2 {
        let refused = api.request("POST", "/api/v1/backup").send();
        assert_eq!((problem(&refused).0, problem(&refused).1), (503, "backup-failed".into()), "{refused:?}");
    }
    assert_eq!(events(&api, "backup"), [""; 0]);
    std::fs::remove_file(&place).unwrap();
    make(&api);
}
