//! A server that is none, or means harm: what a client must stand.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, sync_channel};

use serde_json::{Value, json};

use super::rig::Cli;

/// Answers one connection after the other, each with the next of these; gives the heads of what it was asked.
fn server(answers: Vec<String>) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, heads) = sync_channel(answers.len());
    std::thread::spawn(move || {
        for answer in answers {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                head.push(byte[0]);
            }
            let _ = asked.send(String::from_utf8_lossy(&head).into_owned());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (url, heads)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn page(items: Value, next: Value) -> String {
    answer(
        "200 OK",
        "Content-Type: application/json\r\n",
        &json!({ "items": items, "next": next }).to_string(),
    )
}

fn message(name: &str) -> Value {
    json!({
        "severity": "critical", "code": "disconnected", "title": name,
        "subject": { "kind": "sensor", "id": "x", "name": name }, "since": "2026-11-24T15:00:00.000Z",
    })
}

#[test]
fn foreign_text_does_nothing_to_a_terminal_or_a_spreadsheet() {
    let name = "\u{1b}[2J\u{1b}]0;owned\u{7}=1+1\u{202e}\u{9b}31m\r\nforged row";
    let run = |form: &str| {
        let (url, _heads) = server(vec![page(json!([message(name), message("=1+1")]), Value::Null)]);
        Cli::of(&url).done(&["messages", "list", "-o", form])
    };
    for form in ["table", "wide"] {
        let said = run(form);
        assert!(!said.contains(['\u{1b}', '\u{7}', '\u{202e}', '\u{9b}', '\r']), "{said:?}");
        assert_eq!(said.lines().count(), 3, "{said:?}");
    }
    let csv = run("csv");
    assert!(csv.contains(",'=1+1,"), "{csv:?}");
    assert!(csv.contains("\"\u{1b}"), "what has lines in it is in quotes: {csv:?}");
    let items: Value = serde_json::from_str(&run("json")).unwrap();
    assert_eq!(items[0]["title"], name, "JSON is what the server said");
    assert_eq!(run("ndjson").lines().count(), 2);
}

#[test]
fn pages_are_followed_and_a_list_that_goes_round_ends() {
    let (url, heads) = server(vec![
        page(json!([message("a")]), json!("one two&")),
        page(json!([message("b")]), Value::Null),
    ]);
    let said = Cli::of(&url).json(&["messages", "list"]);
    assert_eq!(said.as_array().unwrap().len(), 2);
    assert!(!heads.recv().unwrap().contains("cursor="));
    assert!(heads.recv().unwrap().contains("cursor=one%20two%26"), "written as a URL needs it");
    let round = page(json!([message("a")]), json!("same"));
    let (url, _heads) = server(vec![round.clone(), round]);
    assert!(Cli::of(&url).fails(1, &["messages", "list"]).contains("does not go on"));
}

#[test]
fn so_many_and_no_more() {
    let three = json!([message("a"), message("b"), message("c")]);
    let (url, heads) = server(vec![page(three, json!("more"))]);
    let said = Cli::of(&url).json(&["messages", "list", "--max", "2"]);
    assert_eq!(said.as_array().unwrap().len(), 2, "although the server sent more than it was asked for");
    assert!(heads.recv().unwrap().contains("limit=2"));
}

#[test]
fn a_busy_server_is_asked_again_and_a_post_has_the_same_key() {
    let busy = |status: &str| answer(status, "Retry-After: 0\r\n", "");
    let made = answer("201 Created", "Content-Type: application/json\r\n", r#"{"id":"x","name":"North"}"#);
    let (url, heads) = server(vec![busy("503 Service Unavailable"), busy("429 Too Many Requests"), made]);
    Cli::of(&url).done(&["subscriptions", "create", "North"]);
    let key = |head: String| {
        let line = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("idempotency-key: ").map(str::to_owned));
        line.expect("a key")
    };
    let keys: Vec<String> = heads.iter().map(key).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    let (url, _heads) = server(vec![answer("503 Service Unavailable", "Retry-After: 86400\r\n", "")]);
    Cli::of(&url).fails(1, &["messages", "list"]);
}

#[test]
fn what_is_no_fleetpulse_is_told_as_such_and_gets_no_second_request() {
    let html = answer("200 OK", "Content-Type: text/html\r\n", "<h1>Router</h1>");
    let (url, _heads) = server(vec![html]);
    assert!(Cli::of(&url).fails(1, &["messages", "list"]).contains("does not answer as a Fleetpulse server"));
    // The second server is on this machine and would get the token, if anybody came.
    let second = TcpListener::bind("127.0.0.1:0").unwrap();
    second.set_nonblocking(true).unwrap();
    let place = format!("http://{}/\u{9b}31m", second.local_addr().unwrap());
    let (url, heads) = server(vec![answer("302 Found", &format!("Location: {place}\r\n"), "")]);
    let said = Cli::of(&url).with("FLEETPULSE_TOKEN", "fp_secret").run(&["messages", "list"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(!said.err.contains('\u{9b}'), "{said:?}");
    assert!(heads.recv().unwrap().contains("fp_secret"));
    assert_eq!(second.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody came");
    let (url, _heads) = server(vec![answer("502 Bad Gateway", "", "<html>")]);
    assert!(Cli::of(&url).fails(1, &["messages", "list"]).contains("not in Fleetpulse's words"));
    let signed_out = json!({ "code": "not-signed-in", "detail": "nobody is signed in" }).to_string();
    let (url, _heads) =
        server(vec![answer("401 Unauthorized", "Content-Type: application/problem+json\r\n", &signed_out)]);
    assert!(Cli::of(&url).fails(4, &["messages", "list"]).contains("fleetpulse login"));
    let (url, _heads) = server(vec!["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}".to_owned()]);
    Cli::of(&url).fails(5, &["messages", "list"]);
    let (url, _heads) = server(vec!["SSH-2.0-OpenSSH\r\n".to_owned()]);
    Cli::of(&url).fails(5, &["messages", "list"]);
}

/// Every command that speaks to a server, with what it needs.
const COMMANDS: &[&[&str]] = &[
    &["setup", "URL/setup?token=fp_x", "ann", "--password-stdin"],
    &["login", "ann", "--password-stdin"],
    &["whoami"],
    &["password", "ann", "--password-stdin"],
    &["fleet"],
    &["sensors", "list"],
    &["sensors", "list", "--fields", "name,health"],
    &["sensors", "attempts"],
    &["sensors", "series", ID, "--metric", "cpu"],
    &["sensors", "activations", ID, OTHER, "--out", "."],
    &["sensors", "get", "x"],
    &["sensors", "get", ID],
    &["sensors", "why", ID],
    &["sensors", "onboard", "x", "--site", "y", "--create"],
    &["sensors", "onboard", "x", "--type", "enterprise-iot"],
    &["sensors", "import", "file"],
    &["sensors", "activation", ID, "--out", "-"],
    &["sensors", "activation", ID, "--command"],
    &["sensors", "response", ID, "file"],
    &["sensors", "edit", ID, "--notes", "x"],
    &["sensors", "rename", ID, "x"],
    &["sensors", "move", ID, "--zone", ID],
    &["sensors", "set-mode", ID, "--mode", "ot-local"],
    &["sensors", "reactivate", ID],
    &["sensors", "revoke", ID, "--yes"],
    &["sensors", "mark-active", ID],
    &["sensors", "delete", "--filter", "q=x", "--yes"],
    &["sensors", "delete", ID, OTHER, "--yes"],
    &["sensors", "mute", ID, OTHER, "--dry-run"],
    &["sensors", "mute", ID],
    &["sensors", "add-window", ID, "--for", "1h"],
    &["sensors", "set-policy", ID, OTHER, "--interval", "5s", "--yes"],
    &["sensors", "unmute", ID],
    &["sensors", "windows", ID, "list"],
    &["sensors", "windows", ID, "add", "--for", "1h"],
    &["sensors", "windows", ID, "remove", "1"],
    &["sites", "list"],
    &["sites", "get", ID],
    &["sites", "create", "x"],
    &["sites", "edit", ID, "--tag", "a=b", "--owner", "a@b.c"],
    &["sites", "delete", ID, "--yes"],
    &["sites", "mute", ID],
    &["sites", "unmute", ID],
    &["sites", "windows", ID, "list"],
    &["zones", "list"],
    &["zones", "get", ID],
    &["zones", "create", "x", "--site", ID],
    &["zones", "rename", ID, "x"],
    &["zones", "delete", ID, "--yes"],
    &["subscriptions", "list"],
    &["subscriptions", "get", ID],
    &["subscriptions", "create", "x"],
    &["subscriptions", "rename", ID, "x"],
    &["subscriptions", "delete", ID, "--yes"],
    &["gateways", "list"],
    &["gateways", "get", ID],
    &["gateways", "create", "x", "--site", ID],
    &["gateways", "edit", ID, "--name", "x"],
    &["gateways", "delete", ID, "--yes"],
    &["policy", "get", "--site", ID],
    &["policy", "set", "--site", ID, "--number", "disk-almost-full.percent=95", "--interval", "5s"],
    &["messages", "list"],
    &["messages", "history"],
    &["audit", "list"],
    &["backup", "create"],
    &["backup", "list"],
    &["backup", "download", "latest"],
    &["backup", "delete", "x", "--yes"],
    &["endpoints"],
    &["jobs", "list"],
    &["jobs", "get", ID],
    &["jobs", "items", ID],
    &["jobs", "cancel", ID],
    &["users", "list"],
    &["users", "get", ID],
    &["users", "create", "x", "--no-password"],
    &["users", "edit", ID, "--disable"],
    &["users", "delete", ID, "--yes"],
    &["tokens", "list"],
    &["tokens", "get", ID],
    &["tokens", "create", "x"],
    &["tokens", "delete", ID, "--yes"],
];
const ID: &str = "00000000-0000-4000-8000-000000000001";
const OTHER: &str = "00000000-0000-4000-8000-000000000002";

#[test]
fn whatever_the_documents_are_no_command_panics() {
    for group in [
        "sensors",
        "sites",
        "zones",
        "subscriptions",
        "gateways",
        "policy",
        "jobs",
        "users",
        "tokens",
        "audit",
        "backup",
    ] {
        let help = Cli::of("").done(&[group, "--help"]);
        let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
        let names = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        for name in names.filter(|name| !name.is_empty() && *name != "help") {
            let tried = COMMANDS.iter().any(|command| command.starts_with(&[group, name]));
            assert!(tried, "{group} {name} is not tried");
        }
    }
    let strange = r#"{"items":[[]],"said":"x","applies":[],"rules":{},"id":[],"csrf":1,"name":7}"#;
    let deeper = r#"{"items":["x"],"said":{"numbers":{"disk-almost-full":[]}},"applies":{"a":{"b":[]}},"tags":[],
        "id":"00000000-0000-4000-8000-000000000003","state":"done","done":1,"total":2,"rules":["x"],"owners":{}}"#;
    for body in ["[]", "\"x\"", "{}", "7", strange, deeper] {
        let text = answer("200 OK", "Content-Type: application/json\r\nSet-Cookie: a=b\r\n", body);
        // Each command asks a few times.
        let (url, _heads) = server(vec![text; COMMANDS.len() * 8]);
        let cli = Cli::of(&url);
        std::fs::write(cli.home().join("file"), "name\nx\n").unwrap();
        for command in COMMANDS {
            let command: Vec<String> = command.iter().map(|word| word.replace("URL", &url)).collect();
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            let ran = cli.run_with(&command, b"correct horse battery\n");
            assert!([0, 1, 3, 64].contains(&ran.code), "{command:?} {body}: {ran:?}");
            assert!(!ran.err.contains("panicked"), "{command:?} {body}: {ran:?}");
        }
    }
}
