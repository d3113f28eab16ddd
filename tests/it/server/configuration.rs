//! Configurations that can't be used: one line on standard error, and an exit code that scripts know.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;

use crate::process::{Server, run, serve_arguments};

const CONFIG: i32 = 78;
const USAGE: i32 = 64;
const FAILED: i32 = 1;

/// Runs `serve` on this directory with these settings: exit code and the one line.
fn refused(data: &Path, settings: &[&str]) -> (i32, String) {
    let settings: Vec<_> = settings.iter().map(|setting| (*setting).to_owned()).collect();
    ended(&serve_arguments(data, &settings))
}

fn ended(arguments: &[String]) -> (i32, String) {
    let (code, said) = run(arguments);
    let lines: Vec<_> = said.iter().filter(|line| line.starts_with("fleetpulse: ")).collect();
    assert_eq!(lines.len(), 1, "{said:#?}");
    assert_eq!(said.last(), Some(lines[0]), "{said:#?}");
    (code.expect("not by a signal"), lines[0].clone())
}

#[test]
fn a_setting_that_cannot_be_is_named_with_its_value_and_what_would_be_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases = [
        ("health.cadance=1s", "there is no key `health.cadance` (did you mean `health.cadence`?)"),
        ("health.cadence=1h", "`health.cadence` = `1h` can't be used; give a duration from 100ms to 10s"),
        ("ingest.shards=many", "`ingest.shards` = `many` can't be used; give a whole number from 0 to 255"),
        ("ingest.listen=localhost", "`ingest.listen` = `localhost` can't be used; give an address and port"),
        ("http.listen=0.0.0.0:0", "`http.listen` = `0.0.0.0:0` would serve plain HTTP to other hosts"),
        ("health.policy=strict", "`health.policy` = `strict` can't be used; give one of default, demo"),
        ("log.level=", "`log.level` = `` can't be used; give error, warn, info, debug"),
        (
            "health.versions_file=/no/such/versions.toml",
            "`health.versions_file` = `/no/such/versions.toml`: ",
        ),
        ("store.sensors_max=0", "`store.sensors_max` = `0` can't be used; give a whole number from 1"),
    ];
    for (setting, said) in cases {
        let (code, line) = refused(folder.path(), &[setting]);
        assert!(line.contains(said), "{setting}: {line}");
        assert_eq!(code, CONFIG, "{line}");
    }
}

#[test]
fn a_file_is_refused_in_one_line_whatever_is_wrong_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("server.toml");
    let serve = |path: &Path| {
        ended(&[
            "serve".to_owned(),
            "--config".to_owned(),
            path.display().to_string(),
            "--check-config".to_owned(),
        ])
    };
    for (text, said) in [
        ("[ingest\nlisten = 1", "not TOML"),
        ("[ingest]\nlistne = 'x'", "there is no key `ingest.listne` (did you mean `ingest.listen`?)"),
        ("[ingest]\nlisten = 5", "`ingest.listen` = `5` can't be used"),
        ("data_dir = ['a', 'b']", "`data_dir` = `a, b` can't be used; give one value"),
        ("ingest = 3", "there is no key `ingest`"),
    ] {
        fs::write(&file, text).expect("written");
        let (code, line) = serve(&file);
        assert!(line.contains(said) && line.contains("server.toml"), "{text}: {line}");
        assert_eq!(code, CONFIG, "{line}");
    }
    let (code, line) = serve(&folder.path().join("missing.toml"));
    assert!(line.contains("missing.toml: No such file"), "{line}");
    assert_eq!(code, CONFIG);
}

#[test]
fn wrong_usage_is_told_apart_from_a_wrong_configuration() {
    for arguments in [&["serve", "--lissten", "x"][..], &["serve", "--set", "no-equals-sign"], &["sing"]] {
        let (code, said) = run(arguments);
        assert_eq!(code, Some(USAGE), "{said:#?}");
        assert!(said.iter().any(|line| line.contains("--help")), "{said:#?}");
    }
    assert_eq!(run(&["serve", "--help"]).0, Some(0));
}

#[test]
fn an_address_that_is_taken_and_a_directory_that_is_in_use_are_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let udp = udp.local_addr().map(|taken| (udp, taken)).expect("an address");
    let (code, line) = refused(&first, &[&format!("ingest.listen={}", udp.1)]);
    assert!(line.contains(&udp.1.to_string()) && line.contains("in use"), "{line}");
    assert_eq!(code, CONFIG);
    let (code, line) = refused(&first, &[&format!("ingest.enrol_listen={}", udp.1)]);
    assert!(line.contains(&udp.1.to_string()) && line.contains("in use"), "{line}");
    assert_eq!(code, CONFIG);
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = tcp.local_addr().expect("an address");
    let (code, line) = refused(&first, &[&format!("http.listen={taken}")]);
    assert!(line.contains(&taken.to_string()) && line.contains("in use"), "{line}");
    assert_eq!(code, CONFIG);

    let server = Server::start(&first, &[]);
    // Sockets that share a port are the server's own; a second server must not join them.
    let (code, line) = refused(&second, &[&server.same_port()]);
    assert!(line.contains(&server.ingest.to_string()) && line.contains("in use"), "{line}");
    assert_eq!(code, CONFIG);
    let (code, line) = refused(&first, &[]);
    assert!(line.contains("is in use by another server; stop that one"), "{line}");
    assert_eq!(code, FAILED);
    // Nor is the register changed under it.
    let (code, line) =
        ended(&["ca", "--data-dir", &first.display().to_string(), "add-sensor", "x"].map(str::to_owned));
    assert!(line.contains("is in use by another server"), "{line}");
    assert_eq!(code, FAILED);

    let file = folder.path().join("file");
    fs::write(&file, "x").expect("written");
    let (code, line) = refused(&file.join("data"), &[]);
    assert!(line.contains("file/data"), "{line}");
    assert_eq!(code, FAILED);
}
