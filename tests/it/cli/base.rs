//! What holds for every command: addresses, profiles, exit codes, forms of answers, completion.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use super::rig::{Cli, Rig};

#[test]
fn a_server_that_is_not_there_is_told_from_one_that_refuses() {
    // A port that is taken, so that nobody else comes to listen on it, and on which nobody listens.
    let taken = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    taken.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = taken.local_addr().unwrap().as_socket().unwrap();
    let cli = Cli::of(&format!("http://{address}"));
    let said = cli.fails(5, &["messages", "list"]);
    assert!(said.contains("can't be reached") && said.contains("next"), "{said}");
    let said = cli.fails(5, &["messages", "list", "--json"]);
    let said: Value = serde_json::from_str(&said).expect("one JSON object");
    assert_eq!(said["code"], "unreachable");
}

#[test]
fn what_the_server_refuses_is_told_with_field_and_remedy() {
    let rig = Rig::start();
    let said = rig.cli.fails(3, &["messages", "list", "--severity", "dreadful"]);
    for part in ["messages list: ", "field  severity", "critical, warning", "code   bad-parameter (400)"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = rig.cli.fails(3, &["messages", "list", "--severity", "dreadful", "--json"]);
    let said: Value = serde_json::from_str(&said).expect("one JSON object");
    assert_eq!((said["code"].as_str(), said["field"].as_str()), (Some("bad-parameter"), Some("severity")));
}

#[test]
fn wrong_usage_and_wrong_configuration_have_codes_of_their_own() {
    let cli = Cli::of("");
    cli.fails(64, &["messages"]);
    cli.fails(64, &["messages", "list", "--colour", "red"]);
    cli.fails(64, &["messages", "list", "--json", "-o", "csv"]);
    cli.fails(78, &["messages", "list", "--url", "fleet"]);
    cli.fails(78, &["messages", "list", "--profile", "plant"]);
    cli.fails(78, &["messages", "list", "--ca", "missing.pem", "--url", "https://127.0.0.1:1"]);
    let said =
        Cli::of("http://192.0.2.1:8080").with("FLEETPULSE_TOKEN", "fp_x").fails(78, &["messages", "list"]);
    assert!(said.contains("could read the token"), "{said}");
    assert!(!said.contains("fp_x"));
}

#[test]
fn an_empty_list_is_empty_in_every_form() {
    let rig = Rig::start();
    let list = |form: &str| rig.cli.run(&["messages", "list", "-o", form]);
    let table = list("table");
    assert_eq!((table.code, table.out.as_str(), table.err.as_str()), (0, "", "nothing found\n"));
    assert_eq!(list("json").out, "[]\n");
    assert_eq!(list("ndjson").out, "");
    let csv = list("csv").out;
    assert!(csv.starts_with("severity,subject.name,") && csv.lines().count() == 1, "{csv}");
}

#[test]
fn a_profile_says_where_and_who_and_is_for_its_owner_alone() {
    let rig = Rig::start();
    let cli = Cli::of("");
    fs::create_dir_all(cli.profiles().parent().unwrap()).unwrap();
    let text =
        format!("default = \"plant\"\n[profiles.plant]\nurl = \"{}\"\ntoken = \"fp_secret\"\n", rig.url());
    fs::write(cli.profiles(), text).unwrap();
    fs::set_permissions(cli.profiles(), fs::Permissions::from_mode(0o644)).unwrap();
    let said = cli.fails(78, &["messages", "list"]);
    assert!(said.contains("chmod 600") && !said.contains("fp_secret"), "{said}");
    fs::set_permissions(cli.profiles(), fs::Permissions::from_mode(0o600)).unwrap();
    let said = cli.fails(78, &["messages", "list", "--profile", "lab"]);
    assert!(said.contains("there are plant"), "{said}");
    fs::write(cli.profiles(), "colour = 1").unwrap();
    assert!(cli.fails(78, &["messages", "list"]).contains("not a profile file"));
}

#[test]
fn settings_of_the_client_are_none_of_the_server() {
    let cli = Cli::of("http://127.0.0.1:1").with("FLEETPULSE_TOKEN", "fp_x").with("FLEETPULSE_CA", "ca.pem");
    cli.done(&["serve", "--check-config"]);
    cli.done(&["agent", "--list-config"]);
}

#[test]
fn completion_scripts_load() {
    let cli = Cli::of("");
    for shell in ["bash", "zsh", "fish"] {
        let script = cli.done(&["completion", shell]);
        assert!(script.contains("messages") && script.contains("history"), "{shell}");
        let path = cli.home().join(shell);
        fs::write(&path, script).unwrap();
        // The others are checked where they are installed.
        if let Ok(checked) = Command::new(shell).arg("-n").arg(&path).output() {
            assert!(checked.status.success(), "{shell}: {}", String::from_utf8_lossy(&checked.stderr));
        } else {
            assert_ne!(shell, "bash", "bash is there");
        }
    }
    cli.fails(64, &["completion", "tcsh"]);
}

#[test]
fn every_command_tells_exit_codes_and_how_to_begin() {
    let cli = Cli::of("");
    for command in [
        "setup",
        "login",
        "logout",
        "sensors",
        "sites",
        "zones",
        "subscriptions",
        "gateways",
        "policy",
        "messages",
        "users",
        "tokens",
    ] {
        let help = cli.done(&[command, "--help"]);
        assert!(help.contains("Exit codes: 0 done"), "{command}: {help}");
    }
}
