//! Signing in, users, tokens; and a sensor from its onboarding to its certificate.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use fleetpulse::config::TlsMode;
use fleetpulse::server::Server;
use fleetpulse::server::data::DataDir;
use fleetpulse::store::AuditQuery;
use fleetpulse::time::SystemClock;
use serde_json::{Value, json};

use super::rig::{Cli, Ran, Rig};
use crate::export::rig::config;

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
    // The same address given again is the profile's all the same; its token goes to no other.
    cli.done(&["sensors", "list", "--url", &url]);
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = format!("http://{}", other.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        let mut head = [0; 4_096];
        let read = stream.read(&mut head).unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    });
    cli.fails(5, &["sensors", "list", "--url", &elsewhere]);
    let head = asked.join().unwrap();
    assert!(
        head.starts_with("GET /api/v1/sensors") && !head.to_lowercase().contains("authorization"),
        "{head}"
    );
    let said = cli.fails(78, &["sensors", "list", "--url", "http://127.0.0.1:1", "--profile", "lab"]);
    assert!(said.contains("there are default"), "{said}");
    assert_eq!(cli.json(&["tokens", "list"]).as_array().unwrap().len(), 1);
    // A second sign-in leaves no token behind, and takes nothing from another server's profile.
    let token = |cli: &Cli| {
        let text = fs::read_to_string(cli.profiles()).unwrap();
        text.lines().find_map(|line| line.strip_prefix("token = ")).unwrap().trim_matches('"').to_owned()
    };
    let first = token(cli);
    assert_eq!(login(cli, "ann", PASSWORD, &[]).code, 0);
    assert_ne!(token(cli), first);
    assert_eq!(cli.json(&["tokens", "list"]).as_array().unwrap().len(), 1, "the first is void");
    let refused = login(cli, "ann", PASSWORD, &["--url", &elsewhere]);
    assert!(refused.code == 64 && refused.err.contains("--profile"), "{refused:?}");
    // Whatever the environment says, the profile's own token is made void where it is from.
    let last = token(cli);
    let mut logout = cli.command(&["logout"]);
    let ended = logout.env("FLEETPULSE_URL", &elsewhere).env("FLEETPULSE_TOKEN", "fp_x").output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    fs::write(cli.home().join("void"), last).unwrap();
    cli.fails(4, &["sensors", "list", "--url", &url, "--token-file", "void"]);
    cli.fails(4, &["sensors", "list"]);
    let text = fs::read_to_string(cli.profiles()).unwrap();
    assert!(!text.contains("fp_"), "{text}");
    cli.fails(1, &["logout"]);
}

#[test]
fn a_token_that_cannot_be_made_void_is_not_forgotten() {
    let rig = Rig::start_without_users();
    set_up(&rig, "ann");
    assert_eq!(login(&rig.cli, "ann", PASSWORD, &["--url", &rig.url()]).code, 0);
    let before = fs::read_to_string(rig.cli.profiles()).unwrap();
    let (cli, folder) = rig.stop();
    cli.fails(5, &["logout"]);
    assert_eq!(fs::read_to_string(cli.profiles()).unwrap(), before);
    drop(folder);
}

#[test]
fn the_first_administrator_is_made_from_a_terminal() {
    let rig = Rig::start_without_users();
    let link = rig.server.setup_link().expect("nobody is registered");
    let set_up = |link: &str, name: &str| {
        rig.cli.run_with(&["setup", link, name, "--password-stdin"], format!("{PASSWORD}\n").as_bytes())
    };
    assert_eq!(set_up(&rig.url(), "ann").code, 64);
    let wrong = set_up(&format!("{}/setup?token=fp_x", rig.url()), "ann");
    assert!(wrong.code == 4 && wrong.err.contains("set-up link"), "{wrong:?}");
    let ran = rig.cli.run_with(&["setup", "-", "ann", "--password-stdin"], format!("{link}\n").as_bytes());
    assert!(ran.code == 64 && ran.err.contains("standard input is read for"), "{ran:?}");
    let made = set_up(&link, "ann");
    assert!(made.code == 0 && made.out.contains("signed in at"), "{made:?}");
    assert_eq!(rig.cli.json(&["users", "list"])[0]["name"], "ann");
    assert_eq!(set_up(&link, "eve").code, 4, "it was good once");
}

#[test]
fn who_owns_the_data_directory_gets_back_in() {
    let rig = Rig::start_without_users();
    set_up(&rig, "ann");
    let data = rig.data().display().to_string();
    let recover = |cli: &Cli, more: &[&str]| {
        let arguments = [&["recover", "ann", "--password-stdin", "--data-dir"], more].concat();
        cli.run_with(&arguments, b"another horse battery\n")
    };
    assert_eq!(recover(&rig.cli, &[&data]).code, 1, "not while a server runs");
    let (cli, folder) = rig.stop();
    let ran = recover(&cli, &["elsewhere"]);
    assert!(ran.code == 1 && ran.err.contains("--data-dir"), "{ran:?}");
    assert!(!cli.home().join("elsewhere").exists());
    let ran = cli.run_with(&["recover", "bob", "--password-stdin", "--data-dir", &data], b"x\n");
    assert!(ran.code == 1 && ran.err.contains("there are ann"), "{ran:?}");
    let ran = cli.run_with(&["recover", "ann", "--password-stdin", "--data-dir", &data], b"short\n");
    assert!(ran.code == 1 && ran.err.contains("too short"), "{ran:?}");
    let ran = recover(&cli, &[&data, "--administrator"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    {
        let clock = SystemClock::start();
        let opened = DataDir::open(Path::new(&data), Arc::new(clock)).unwrap();
        let audit = AuditQuery { actor: Some("recover".into()), limit: 10, ..AuditQuery::default() };
        assert_eq!(opened.store.register.audit(&audit).unwrap().entries.len(), 1, "it is written down");
    }
    let server = Server::start(config(folder.path())).unwrap();
    let url = format!("http://{}", server.http_addr());
    assert_eq!(login(&cli, "ann", PASSWORD, &["--url", &url]).code, 4);
    assert_eq!(login(&cli, "ann", "another horse battery", &["--url", &url]).code, 0);
}

#[test]
fn the_way_to_the_server_is_private_and_its_authority_is_kept() {
    let rig = Rig::start_without_users_as(|config| config.http.tls = TlsMode::Own);
    let link = rig.server.setup_link().expect("nobody is registered");
    let url = link.split("/setup").next().unwrap();
    assert!(url.starts_with("https://"), "{url}");
    let said = rig.cli.fails(5, &["sensors", "list", "--url", url]);
    assert!(said.contains("--ca FILE"), "{said}");
    let trust = rig.data().join("identity/trust.pem").display().to_string();
    let set_up = ["setup", &link, "ann", "--password-stdin", "--ca", &trust];
    let made = rig.cli.run_with(&set_up, format!("{PASSWORD}\n").as_bytes());
    assert_eq!(made.code, 0, "{made:?}");
    rig.cli.done(&["sensors", "list"]);
    rig.cli.done(&["sensors", "list", "--url", url]);
}

#[test]
fn a_token_goes_into_a_file_for_one_reader() {
    let rig = Rig::start_without_users();
    set_up(&rig, "ann");
    assert_eq!(login(&rig.cli, "ann", PASSWORD, &["--url", &rig.url(), "--for", "1d"]).code, 0);
    let said = rig.cli.fails(3, &["tokens", "create", "late", "--for", "2d", "--out", "late.token"]);
    assert!(said.contains("field  expires") && said.contains("not after"), "{said}");
    assert!(!rig.cli.home().join("late.token").exists());
    let said = rig.cli.done(&["tokens", "create", "grafana", "--grant", "reader", "--out", "grafana.token"]);
    assert!(said.contains("grafana.token, good until 20") && !said.contains("fp_"), "{said}");
    assert_eq!(mode(&rig.cli.home().join("grafana.token")), 0o600);
    Cli::of(&rig.url()).done(&[
        "sensors",
        "list",
        "--token-file",
        &rig.cli.home().join("grafana.token").display().to_string(),
    ]);
    rig.cli.fails(1, &["tokens", "create", "again", "--out", "grafana.token"]);
    assert_eq!(rig.cli.json(&["tokens", "list"]).as_array().unwrap().len(), 2);
}

#[test]
fn one_knows_who_one_is_and_changes_ones_own_password() {
    let rig = Rig::start_without_users();
    set_up(&rig, "ann");
    assert_eq!(login(&rig.cli, "ann", PASSWORD, &["--url", &rig.url()]).code, 0);
    let who = rig.cli.done(&["whoami"]);
    assert!(who.contains("ann") && who.contains("administrator") && who.contains("manage-access"), "{who}");
    let change = |input: &str| rig.cli.run_with(&["password", "ann", "--password-stdin"], input.as_bytes());
    let wrong = change("wrong horse battery\nanother horse battery\n");
    assert_eq!(wrong.code, 4, "{wrong:?}");
    let weak = change(&format!("{PASSWORD}\nshort\n"));
    assert!(weak.code == 3 && weak.err.contains("field  new"), "{weak:?}");
    let done = change(&format!("{PASSWORD}\nanother horse battery\n"));
    assert_eq!(done.code, 0, "{done:?}");
    rig.cli.done(&["whoami"]);
    assert_eq!(login(&rig.cli, "ann", PASSWORD, &[]).code, 4);
    assert_eq!(login(&rig.cli, "ann", "another horse battery", &[]).code, 0);
}

#[test]
fn standard_input_is_read_for_one_thing() {
    let cli = Cli::of("http://127.0.0.1:1");
    let ran = cli.run_with(&["users", "create", "bob", "--password-stdin", "--token-file", "-"], b"fp_x\n");
    assert!(ran.code == 64 && ran.err.contains("standard input is read for the token already"), "{ran:?}");
    let ran = cli.run_with(&["sensors", "import", "-", "--token-file", "-"], b"fp_x\n");
    assert_eq!(ran.code, 64, "{ran:?}");
}

#[test]
fn a_certificate_is_not_revoked_where_no_authority_is() {
    let cli = Cli::of("");
    let said = cli.fails(1, &["ca", "revoke", "01ab", "--data-dir", "elsewhere"]);
    assert!(said.contains("no certificate authority"), "{said}");
    assert!(!cli.home().join("elsewhere").exists());
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
            .contains("| fleetpulse agent activate --inline")
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
    assert_eq!(again.code, 3, "nothing of it was taken: {again:?}");
    fs::write(rig.cli.home().join("more.csv"), "name,site,zone\npump 1,Lyon,Line 1\npump 3,Lyon,Line 1\n")
        .unwrap();
    rig.cli.done(&["sensors", "import", "more.csv", "--partial"]);
    rig.cli.fails(1, &["sensors", "import", "missing.csv"]);
}
