//! Signing in, users, tokens; and a sensor from its onboarding to its certificate.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::rig::{Cli, Ran, Rig};

const PASSWORD: &str = "correct horse battery";

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Makes the first administrator with the link that the server prints.
fn set_up(rig: &Rig, name: &str) {
    let link = rig.server.setup_link().expect("nobody is registered");
    let token = link.split_once("token=").expect("a token").1.to_owned();
    let body = json!({ "token": token, "name": name, "password": PASSWORD });
    let made = ureq::post(format!("{}/api/v1/setup", rig.url())).send_json(body).unwrap();
    assert_eq!(made.status().as_u16(), 201);
}

fn login(cli: &Cli, name: &str, password: &str, more: &[&str]) -> Ran {
    let input = format!("{password}\nnot this line\n");
    cli.run_with(&[&["login", name, "--password-stdin"], more].concat(), input.as_bytes())
}

#[test]
fn who_signs_in_has_a_token_in_a_profile_of_their_own() {
    let rig = Rig::start_without_users();
    set_up(&rig, "ann");
    let (cli, url) = (&rig.cli, rig.url());
    let said = cli.fails(4, &["sensors", "list", "--url", &url]);
    assert!(said.contains("fleetpulse login"), "{said}");
    let wrong = login(cli, "ann", "wrong horse battery", &["--url", &url]);
    assert_eq!(wrong.code, 4, "{wrong:?}");
    assert!(!cli.profiles().exists());
    let right = login(cli, "ann", PASSWORD, &["--url", &url]);
    assert_eq!(right.code, 0, "{right:?}");
    assert_eq!(mode(&cli.profiles()), 0o600);
    assert_eq!(mode(cli.profiles().parent().unwrap()), 0o700);
    let text = fs::read_to_string(cli.profiles()).unwrap();
    assert!(text.contains("fp_") && !text.contains(PASSWORD), "the password is kept nowhere");
    cli.done(&["sensors", "list"]);
    // The token of this address goes to no other.
    cli.fails(5, &["sensors", "list", "--url", "http://127.0.0.1:1"]);
    let said = cli.fails(78, &["sensors", "list", "--url", "http://127.0.0.1:1", "--profile", "lab"]);
    assert!(said.contains("there are default"), "{said}");
    assert_eq!(cli.json(&["tokens", "list"]).as_array().unwrap().len(), 1, "and no session is left");
    cli.done(&["logout"]);
    cli.fails(4, &["sensors", "list"]);
    let text = fs::read_to_string(cli.profiles()).unwrap();
    assert!(!text.contains("fp_"), "{text}");
    cli.fails(1, &["logout"]);
}

#[test]
fn users_and_tokens_come_and_go_and_do_what_they_may() {
    let rig = Rig::start();
    rig.cli.done(&["sensors", "onboard", "pump", "--site", "Lyon", "--create"]);
    rig.cli.done(&["sensors", "onboard", "pump", "--site", "Bern", "--create"]);
    let create = [
        "users",
        "create",
        "bob",
        "--full-name",
        "Bob B.",
        "--grant",
        "operator:site=Lyon",
        "--password-stdin",
    ];
    let made = rig.cli.run_with(&create, format!("{PASSWORD}\n").as_bytes());
    assert_eq!(made.code, 0, "{made:?}");
    assert!(rig.cli.done(&["users", "list"]).contains("operator:site="));
    let ran = rig.cli.run_with(&["users", "create", "eve", "--password-stdin"], b"short\n");
    assert!(ran.code == 3 && ran.err.contains("field  password"), "{ran:?}");
    rig.cli.fails(64, &["users", "create", "eve", "--grant", "root"]);
    rig.cli.fails(64, &["users", "create", "eve"]);
    let bob = Cli::of("");
    assert_eq!(login(&bob, "bob", PASSWORD, &["--url", &rig.url()]).code, 0);
    let seen = bob.json(&["sensors", "list"]);
    assert_eq!(seen.as_array().unwrap().len(), 1, "what lies outside his site is not there for him: {seen}");
    let said = bob.fails(4, &["users", "list"]);
    assert!(said.contains("administrator"), "{said}");
    let made = bob.run(&["tokens", "create", "grafana", "--grant", "reader:site=Lyon", "--for", "1d"]);
    assert!(made.code == 0 && made.err.contains("shown once"), "{made:?}");
    let secret = made.out.trim();
    assert!(secret.starts_with("fp_") && made.out.lines().count() == 1, "{made:?}");
    let grafana = Cli::of(&rig.url());
    fs::write(grafana.home().join("token"), format!("{secret}\n")).unwrap();
    grafana.done(&["sensors", "list", "--token-file", "token"]);
    let piped = grafana.run_with(&["sensors", "list", "--token-file", "-"], made.out.as_bytes());
    assert_eq!(piped.code, 0, "{piped:?}");
    grafana.fails(4, &["sensors", "edit", "pump", "--notes", "x", "--token-file", "token"]);
    bob.done(&["tokens", "delete", "grafana", "--yes"]);
    grafana.fails(4, &["sensors", "list", "--token-file", "token"]);
    rig.cli.done(&["users", "edit", "bob", "--disable", "--full-name", "Bob"]);
    assert_eq!(rig.cli.json(&["users", "get", "bob"])["disabled"], true);
    bob.fails(4, &["sensors", "list"]);
    rig.cli.done(&["users", "delete", "bob", "--yes"]);
    rig.cli.fails(3, &["users", "get", "bob"]);
}

#[test]
fn an_activation_file_is_made_for_one_reader_and_makes_a_host_the_sensor() {
    let rig = Rig::start();
    let onboard =
        ["sensors", "onboard", "pump station", "--site", "Lyon", "--create", "--out", "pump.activation"];
    let said = rig.cli.done(&onboard);
    assert!(said.contains("fleetpulse agent activate pump.activation"), "{said}");
    let file = rig.cli.home().join("pump.activation");
    assert_eq!(mode(&file), 0o600);
    assert!(rig.cli.done(&["verify", "pump.activation"]).starts_with("good"));
    // A file that is there is not written over, and stays good.
    rig.cli.fails(1, &["sensors", "activation", "pump station", "--out", "pump.activation"]);
    rig.cli.done(&["agent", "activate", "pump.activation", "--out", "identity"]);
    assert!(rig.cli.home().join("identity/certificate.pem").exists());
    let sensor = rig.cli.json(&["sensors", "get", "pump station"]);
    assert_eq!(sensor["lifecycle"], "active", "{sensor}");
    let said = rig.cli.fails(3, &["sensors", "activation", "pump station", "--out", "again"]);
    assert!(said.contains("code"), "{said}");
    assert!(!rig.cli.home().join("again").exists(), "no empty file is left");
    rig.cli.done(&["sensors", "revoke", "pump station", "--yes"]);
    rig.cli.done(&["sensors", "activation", "pump station"]);
    assert!(rig.cli.home().join("pump-station.activation").exists());
    let piped = rig.cli.done(&["sensors", "activation", "pump station", "--out", "-"]);
    assert!(serde_json::from_str::<Value>(&piped).is_ok(), "{piped}");
    rig.cli.done(&["sensors", "onboard", "camera", "--type", "enterprise-iot", "--subscription", "Default"]);
    assert!(
        rig.cli
            .done(&["sensors", "activation", "camera", "--command"])
            .starts_with("fleetpulse agent activate")
    );
}

#[test]
fn a_file_of_sensors_is_taken_whole_or_told_row_by_row() {
    let rig = Rig::start();
    rig.cli.done(&["subscriptions", "create", "North"]);
    fs::write(rig.cli.home().join("pumps.csv"), "name,site,zone\npump 1,Lyon,Line 1\npump 2,Lyon,Line 1\n")
        .unwrap();
    let said = rig.cli.fails(3, &["sensors", "import", "pumps.csv"]);
    assert!(said.contains("row    line 2, site"), "{said}");
    let import =
        |more: &[&str]| rig.cli.json(&[&["sensors", "import", "pumps.csv", "--create"], more].concat());
    assert_eq!(import(&["--dry-run"])["sensors"].as_array().unwrap().len(), 2);
    assert_eq!(rig.cli.json(&["sensors", "list"]), json!([]));
    assert!(
        rig.cli
            .done(&["sensors", "import", "pumps.csv", "--create"])
            .contains("2 sensors, 1 sites and 1 zones are made")
    );
    let again = rig.cli.run(&["sensors", "import", "pumps.csv", "--partial"]);
    assert!(again.out.contains("0 sensors") && again.err.contains("name-taken"), "{again:?}");
    rig.cli.fails(1, &["sensors", "import", "missing.csv"]);
}
