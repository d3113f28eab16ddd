//! Backups of a running server, on the command line.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::rig::Rig;
use crate::api::backups::Held;
use crate::export::rig::{get, until};

#[test]
fn a_backup_is_made_fetched_restored_and_deleted() {
    let rig = Rig::start();
    let cli = &rig.cli;
    assert_eq!(cli.json(&["backup", "list"]), json!([]));
    cli.fails(1, &["backup", "download", "latest"]);
    cli.done(&["sensors", "onboard", "pump", "--site", "Lyon", "--create"]);
    let made = cli.json(&["backup", "create"]);
    let name = made["name"].as_str().unwrap();
    let said = cli.done(&["backup", "list"]);
    assert!(said.contains(name) && said.contains("BYTES"), "{said}");
    let said = cli.done(&["backup", "download", "latest", "--out", "fleet.backup"]);
    assert!(said.contains("as safe as the server"), "{said}");
    let file = cli.home().join("fleet.backup");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(json!(fs::metadata(&file).unwrap().len()), made["bytes"]);
    cli.fails(1, &["backup", "download", name, "--out", "fleet.backup"]);
    cli.done(&["backup", "download", name]);
    assert_eq!(fs::read(cli.home().join(name)).unwrap(), fs::read(&file).unwrap());
    // As the README has it.
    cli.done(&["store", "restore", "fleet.backup", "--data-dir", "new"]);
    let shown = cli.done(&["store", "show", "--data-dir", "new"]);
    assert!(shown.contains("pump"), "{shown}");
    let then = cli.done(&["store", "show", "--at", "2020-01-01T00:00:00Z", "--data-dir", "new"]);
    assert!(!then.contains("pump"), "{then}");

    for wrong in ["..", "../../etc/passwd", "x", "", "latest"] {
        let ran = cli.run(&["backup", "delete", wrong, "--yes"]);
        assert_eq!(ran.code, 3, "{wrong}: {ran:?}");
    }
    let ran = cli.run(&["backup", "download", "../x", "--out", "never"]);
    assert!(ran.code == 3 && !cli.home().join("never").exists(), "{ran:?}");
    cli.fails(64, &["backup", "delete", name]);
    cli.done(&["backup", "delete", name, "--yes"]);
    cli.fails(3, &["backup", "delete", name, "--yes"]);
    assert_eq!(cli.json(&["backup", "list"]), json!([]));
    let details = cli.json(&["audit", "list", "--action", "download"]);
    assert_eq!(details.as_array().unwrap().len(), 2, "who took one is told: {details}");
}

/// Longer than the server lets its answer wait.
#[test]
fn a_backup_that_takes_long_is_waited_for() {
    let rig = Rig::start();
    let held = Held::at(&rig.data().join("store"));
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let creating = scope.spawn(|| {
            let ran = rig.cli.run(&["backup", "create", "--json"]);
            ended.store(true, Ordering::Relaxed);
            ran
        });
        until(&true, || rig.server.backups().under_way().is_some());
        assert_eq!(rig.cli.run(&["backup", "create"]).code, 3, "one at a time");
        // The client was told that it is under way, and asks the list.
        let asked = || {
            let metrics = get(rig.server.http_addr(), "/metrics", "*/*").body;
            metrics.lines().any(|line| {
                line.starts_with("fleetpulse_http_requests_total{route=\"backups\",status=\"2xx\"} ")
                    && !line.ends_with(" 0")
                    && !line.ends_with(" 1")
            })
        };
        until(&true, asked);
        assert!(!ended.load(Ordering::Relaxed), "it waits");
        drop(held);
        let ran = creating.join().unwrap();
        assert_eq!(ran.code, 0, "{ran:?}");
        let made: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(rig.cli.json(&["backup", "list"])[0]["name"], made["name"]);
    });
}
