//! The demonstration as people run it: the real program, a short scenario, and what it says in the end.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::scenario::{PASSING, small};

/// What the demonstration has beside the faults that other tests play, too.
const OF_THE_DEMO: &str = "
    [[fault]]
    name = 'never activated'
    kind = 'pending_activation'
    site = 'north'
    sensors = '12'
    [[fault]]
    name = 'planned restart'
    kind = 'planned_restart'
    site = 'north'
    sensors = '5'
    from_s = 4
    until_s = 8
    [[fault]]
    name = 'old settings'
    kind = 'settings_out_of_sync'
    site = 'north'
    sensors = '7'
    from_s = 3
    until_s = 12
";

/// Every kind of cause once.
fn short() -> String {
    small("short", 26, &[PASSING, OF_THE_DEMO])
}

fn demo(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleetpulse"));
    command.arg("demo").args(flags).stdin(Stdio::null()).env("NO_COLOR", "1");
    command
}

fn run(flags: &[&str]) -> Output {
    demo(flags).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn scenario(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("scenario.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// Reads what a running program says until it says this.
fn read_until(from: &mut impl Read, words: &str) -> String {
    let mut said = String::new();
    while !said.contains(words) {
        let mut piece = [0; 256];
        let read = from.read(&mut piece).unwrap();
        assert!(read > 0, "it ended by itself: {said}");
        said.push_str(&text(&piece[..read]));
    }
    said
}

/// The rows of one fault: (message, expected, raised, to clear, cleared).
fn rows<'t>(result: &'t Value, fault: &str) -> Vec<(&'t str, u64, u64, u64, u64)> {
    let rows = result["truth"].as_array().expect("a truth table").iter().filter(|row| row["fault"] == fault);
    rows.map(|row| {
        let number = |key: &str| row[key].as_u64().unwrap_or_else(|| panic!("{key} in {row}"));
        let numbers = (number("expected"), number("raised"), number("to_clear"), number("cleared"));
        (row["message"].as_str().unwrap_or("-"), numbers.0, numbers.1, numbers.2, numbers.3)
    })
    .collect()
}

#[test]
fn a_short_scenario_gives_a_perfect_table() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let path = scenario(folder.path(), &short());
    let (path, data_dir) = (path.to_str().unwrap(), data.to_str().unwrap());
    let flags = ["--scenario", path, "--sensors", "40", "--data-dir", data_dir, "--check", "--json"];
    let output = run(&flags);
    let said = text(&output.stderr);
    let result: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert!(output.status.success(), "{result:#}\n{said}");
    assert_eq!((&result["scenario"], &result["sensors"]), (&"short".into(), &40.into()));
    assert_eq!(result["perfect"], true);
    assert_eq!(result["unexpected"].as_array().map(Vec::len), Some(0));

    assert_eq!(rows(&result, "never activated"), [("pending-activation", 1, 1, 0, 0)]);
    assert_eq!(rows(&result, "hung process"), [("disconnected", 1, 1, 1, 1)]);
    assert_eq!(rows(&result, "disk"), [("disk-almost-full", 2, 2, 2, 2)]);
    assert_eq!(rows(&result, "harbour cut off"), [("disconnected", 4, 4, 4, 4), ("site-outage", 1, 1, 1, 1)]);
    assert_eq!(rows(&result, "gateway stopped"), [("gateway-silent", 1, 1, 1, 1)]);
    assert_eq!(rows(&result, "planned stop"), [("planned-stop", 1, 1, 1, 1)]);
    assert_eq!(rows(&result, "planned restart"), [("-", 0, 0, 0, 0)]);
    assert_eq!(rows(&result, "certificate runs out"), [("certificate-expiring", 1, 1, 1, 1)]);
    assert_eq!(rows(&result, "old settings"), [("settings-out-of-sync", 1, 1, 1, 1)]);

    // A silence is never raised before its window is over.
    let silence =
        result["truth"].as_array().unwrap().iter().find(|row| row["fault"] == "hung process").unwrap();
    assert!(silence["raised_after_max_s"].as_f64().unwrap() >= 4.4, "{silence}");
    assert_eq!(result["detection_delay_s"]["silences"], 1 + 4 + 1);
    assert_eq!(result["transitions"]["journalled"], result["transitions"]["in_the_table"]);
    assert!(result["heartbeats"]["received"].as_u64().unwrap() > 1_000, "{}", result["heartbeats"]);
    assert!(data.join("store").is_dir(), "a named directory stays");
    assert!(said.contains("QUIC") && said.contains("now: "), "progress for people: {said}");
}

#[test]
fn a_message_that_can_not_come_fails_the_check_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = scenario(
        folder.path(),
        "name = 'wrong'\nduration_s = 9\ninterval_ms = 500\n\
         [[site]]\nname = 'north'\nsensors = 3\n\
         [[fault]]\nname = 'a full disk'\nkind = 'disk_full'\nsite = 'north'\nsensors = '1-2'\nfrom_s = 1\n\
         expect = ['no-traffic']\n",
    );
    let flags = ["--scenario", path.to_str().unwrap(), "--sensors", "3", "--check"];
    let output = run(&flags);
    let (said, table) = (text(&output.stderr), text(&output.stdout));
    assert_eq!(output.status.code(), Some(1), "{table}\n{said}");
    let words = "missed: a full disk must raise no-traffic on 2, raised on 0";
    assert!(said.contains(words) && said.contains("false: disk-almost-full on north-001"), "{said}");
    assert!(table.contains("Not perfect") && table.contains("! a full disk"), "{table}");
    assert!(!table.contains('\u{1b}'), "no terminal, no colours");
}

#[test]
fn a_run_that_is_too_short_says_what_it_left_out_and_judges_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = scenario(folder.path(), &short());
    let flags =
        ["--scenario", path.to_str().unwrap(), "--sensors", "19", "--duration", "9s", "--check", "--json"];
    let output = run(&flags);
    let result: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(output.status.success(), "{result:#}");
    let left_out = ["hung process", "harbour cut off", "gateway stopped", "planned stop", "old settings"];
    assert_eq!(result["not_played"], serde_json::json!(left_out));
    assert_eq!(rows(&result, "hung process"), []);
    assert_eq!(rows(&result, "disk")[0].2, 2);
}

/// A process that is suspended hears nothing and plays nothing: faults last as much longer, so that each is
/// found. Without that the silence below would end before it can be judged.
#[test]
fn a_suspended_run_is_in_doubt_and_still_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = scenario(
        folder.path(),
        "name = 'suspended'\nduration_s = 36\ninterval_ms = 500\n\
         [[site]]\nname = 'north'\nsensors = 8\n\
         [[fault]]\nname = 'hung process'\nkind = 'silence'\nsite = 'north'\nsensors = '1'\nfrom_s = 2\nuntil_s = 10\n\
         [[fault]]\nname = 'pulled cable'\nkind = 'disconnect'\nsite = 'north'\nsensors = '2'\nfrom_s = 3\nuntil_s = 11\n",
    );
    let flags = ["--scenario", path.to_str().unwrap(), "--sensors", "8", "--check", "--json"];
    let mut child = demo(&flags).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut progress = child.stderr.take().unwrap();
    let mut said = read_until(&mut progress, "now: hung process");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(4));
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    progress.read_to_string(&mut said).unwrap();
    let output = child.wait_with_output().unwrap();
    let result: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(output.status.success(), "{result:#}\n{said}");
    assert_eq!(rows(&result, "hung process"), [("disconnected", 1, 1, 1, 1)]);
    assert_eq!(rows(&result, "pulled cable"), [("disconnected", 1, 1, 1, 1)]);
    let doubts = result["doubt"]["intervals"].as_array().unwrap();
    assert!(doubts.iter().any(|doubt| doubt["cause"] == "lag"), "{doubts:?}");
}

#[test]
fn without_an_end_it_serves_until_it_is_told_to_stop_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = scenario(
        folder.path(),
        "name = 'calm'\nduration_s = 1\ninterval_ms = 500\n[[site]]\nname = 'north'\nsensors = 3\n",
    );
    let mut child = demo(&["--scenario", path.to_str().unwrap(), "--sensors", "3"])
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut said = read_until(&mut out, "serving on");
    let mut words = said.split_whitespace();
    let fleet = words.find(|word| word.ends_with("/api/v1/fleet")).expect("where to look");
    let token = words.find(|word| word.starts_with("fp_")).expect("a token");
    let asked = ureq::get(fleet).header("Authorization", format!("Bearer {token}"));
    let mut answer = asked.call().expect("the API answers");
    let answer: Value = answer.body_mut().read_json().expect("JSON");
    assert!(answer.is_object(), "{answer}");
    let left = || {
        let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("fleetpulse-demo-")).count()
    };
    assert_eq!(left(), 1);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    out.read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    assert!(said.contains("Truth table: scenario calm") && said.contains("Perfect"), "{said}");
    assert_eq!(left(), 0, "the temporary directory is gone");
}

#[test]
fn an_interrupted_check_is_no_success() {
    let mut child = demo(&["--sensors", "98", "--check", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = child.stderr.take().unwrap();
    let mut said = read_until(&mut progress, " s of 115 s");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    progress.read_to_string(&mut said).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("interrupted before the end"), "{said}");
    let result: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&result["interrupted"], &result["unexpected"]), (&true.into(), &Value::Array(Vec::new())));
    assert_eq!(rows(&result, "never activated"), [("pending-activation", 2, 2, 0, 0)]);
}

#[test]
fn wrong_flags_exit_64_and_say_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::File::create(folder.path().join("x")).unwrap().write_all(b"x").unwrap();
    let used = folder.path().to_str().unwrap();
    for (flags, words) in [
        (vec!["--sensors", "0"], ["--sensors", "1..=20000"]),
        (vec!["--sensors", "3"], ["names 98 sensors", "take at least 98"]),
        (vec!["--duration", "soon"], ["--duration", "10s"]),
        (vec!["--duration", "0s"], ["--duration", "valid is 1s to 30d"]),
        (vec!["--listen", "here"], ["--listen", "invalid socket address"]),
        (vec!["--http", "0.0.0.0:8080"], ["--http", "127.0.0.1"]),
        (vec!["--colour"], ["--colour", "--help"]),
        (vec!["--data-dir", used], ["--data-dir", "not empty"]),
    ] {
        let output = run(&flags);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{flags:?}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{flags:?}: {said}");
    }
}

#[test]
fn a_bad_scenario_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let site = "name = 'x'\nduration_s = 9\ninterval_ms = 500\n[[site]]\nname = 'north'\nsensors = 3\n";
    for (wrong, words) in [
        ("nonsense".to_owned(), vec!["line 1"]),
        (format!("{site}colour = 1\n"), vec!["line 7", "colour"]),
        (format!("{site}[[fault]]\nkind = 'nonsense'\n"), vec!["line 8", "nonsense", "disk_full"]),
        (
            format!("{site}[[fault]]\nkind = 'silence'\nsite = 'south'\nfrom_s = 1\n"),
            vec!["fault 'silence'", "site = south", "north"],
        ),
        (
            format!("{site}[[fault]]\nkind = 'silence'\nsite = 'north'\nfrom_s = 1\nexpect = ['x']\n"),
            vec!["fault 'silence'", "no message is called x", "disk-almost-full"],
        ),
    ] {
        let path = scenario(folder.path(), &wrong);
        let output = run(&["--scenario", path.to_str().unwrap()]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(path.to_str().unwrap()), "names the file: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
    }
    let output = run(&["--scenario", "/nowhere/x.toml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("/nowhere/x.toml"), "{}", text(&output.stderr));
}
