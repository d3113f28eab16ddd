//! Files of the server with their signatures, and what firewalls must let through.

use std::fs;

use serde_json::{Value, json};

use super::rig::{Cli, Rig};

/// A server with two pumps, and its trust bundle in the home of its commands.
fn pumps() -> Rig {
    let rig = Rig::start();
    for site in ["Lyon", "Bern"] {
        rig.cli.done(&["sensors", "onboard", "pump 1", "--site", site, "--create"]);
    }
    fs::write(rig.cli.home().join("trust.pem"), rig.server.authority().trust_pem()).unwrap();
    rig
}

fn read(cli: &Cli, name: &str) -> String {
    fs::read_to_string(cli.home().join(name)).unwrap()
}

#[test]
fn a_list_is_kept_as_the_servers_own_file_and_proves_where_it_is_from() {
    let rig = pumps();
    let kept = rig.cli.json(&["sensors", "list", "--site", "Lyon", "--out", "lyon.csv"]);
    assert_eq!((&kept["file"], &kept["signature"]), (&json!("lyon.csv"), &json!("lyon.csv.jws")));
    let file = read(&rig.cli, "lyon.csv");
    assert!(file.starts_with("id,name,type,zone,site,") && file.lines().count() == 2, "{file}");
    assert_eq!(kept["bytes"], file.len());
    let verify = ["verify", "lyon.csv", "--trust", "trust.pem"];
    let said = rig.cli.done(&verify);
    assert!(said.starts_with("good: \"fleetpulse-sensors-"), "{said}");
    let good = rig.cli.json(&verify);
    assert_eq!(
        (&good["good"], &good["origin_proven"], &good["bytes"]),
        (&json!(true), &json!(true), &kept["bytes"])
    );
    assert_eq!(good["register"], rig.server.fleet().position().to_string());
    for list in ["sites", "zones", "subscriptions", "gateways"] {
        let name = format!("{list}.ndjson");
        rig.cli.done(&[list, "list", "--out", &name]);
        rig.cli.done(&["verify", &name, "--trust", "trust.pem"]);
        assert!(read(&rig.cli, &name).lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    }
    // Written over, with a signature that fits.
    rig.cli.done(&["sensors", "list", "-o", "csv", "--out", "lyon.csv"]);
    assert_eq!(read(&rig.cli, "lyon.csv").lines().count(), 3);
    rig.cli.done(&verify);
    let left: Vec<String> = fs::read_dir(rig.cli.home())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".part"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    rig.cli.fails(64, &["sensors", "list", "--out", "sensors.xlsx"]);
    rig.cli.fails(64, &["sensors", "list", "--out", "sensors.json"]);
    rig.cli.fails(64, &["sensors", "list", "--out", "sensors.csv", "--max", "1"]);
    rig.cli.fails(1, &["sensors", "list", "--out", "missing/sensors.csv"]);
    rig.cli.fails(3, &["sensors", "list", "--health", "poorly", "--out", "none.csv"]);
    for name in ["sensors.xlsx", "sensors.csv", "none.csv", "none.csv.part", "none.csv.jws"] {
        assert!(!rig.cli.home().join(name).exists(), "{name}");
    }
}

#[test]
fn a_file_that_was_touched_or_is_another_servers_is_refused() {
    let (ours, theirs) = (pumps(), pumps());
    let cli = &ours.cli;
    cli.done(&["sensors", "list", "--out", "all.csv"]);
    theirs.cli.done(&["sensors", "list", "--out", "all.csv"]);
    let verify = ["verify", "all.csv", "--trust", "trust.pem"];
    let refused = |code: &str| {
        let ran = cli.run(&[&verify[..], &["--json"]].concat());
        let said: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        assert_eq!((ran.code, &said["good"], &said["code"]), (65, &json!(false), &json!(code)), "{said}");
        assert!(cli.fails(65, &verify).contains(code));
    };
    let (file, signature) = (read(cli, "all.csv"), read(cli, "all.csv.jws"));
    let put = |file: &str, signature: &str| {
        fs::write(cli.home().join("all.csv"), file).unwrap();
        fs::write(cli.home().join("all.csv.jws"), signature).unwrap();
    };
    put(&file.replace("Lyon", "Turin"), &signature);
    refused("file-edited");
    put(&file, &read(&theirs.cli, "all.csv.jws"));
    refused("file-forged");
    put(&read(&theirs.cli, "all.csv"), &read(&theirs.cli, "all.csv.jws"));
    refused("file-forged");
    put(&file, &signature.replace("..", ".."[..1].repeat(3).as_str()));
    refused("not-a-signed-file");
    put(&file, "");
    refused("not-a-signed-file");
    put(&file, &signature);
    cli.done(&verify);
    cli.fails(64, &["verify", "all.csv"]);
    cli.fails(64, &[&verify[..], &["--out", "content"]].concat());
    fs::remove_file(cli.home().join("all.csv.jws")).unwrap();
    let said = cli.fails(65, &verify);
    assert!(said.contains("not-a-signed-file") && said.contains("there is no all.csv.jws"), "{said}");
}

#[test]
fn endpoints_are_shown_in_every_form_and_kept_signed() {
    let rig = pumps();
    let table = rig.cli.done(&["endpoints"]);
    let port = rig.server.ingest_addr().port().to_string();
    assert!(table.starts_with("PURPOSE") && table.contains("heartbeats") && table.contains(&port), "{table}");
    let rows = rig.cli.json(&["endpoints"]);
    let heartbeats = rows.as_array().unwrap().iter().find(|row| row["purpose"] == "heartbeats").unwrap();
    assert_eq!(heartbeats["port"].to_string(), port);
    let csv = rig.cli.done(&["endpoints", "-o", "csv"]);
    assert!(csv.starts_with("purpose,from,to,protocol,port,"), "{csv}");
    assert_eq!(rig.cli.json(&["endpoints", "--type", "ot-local"]), json!([]));
    assert!(rig.cli.fails(3, &["endpoints", "--type", "toaster"]).contains("field  type"));
    for name in ["endpoints.csv", "endpoints.json"] {
        rig.cli.done(&["endpoints", "--out", name]);
        assert!(rig.cli.done(&["verify", name, "--trust", "trust.pem"]).contains("fleetpulse-endpoints-"));
        assert!(read(&rig.cli, name).contains(&port));
    }
    rig.cli.fails(64, &["endpoints", "--out", "endpoints.ndjson"]);
}
