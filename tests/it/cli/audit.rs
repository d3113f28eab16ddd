//! The audit log on the command line.

use serde_json::Value;

use super::rig::Rig;

#[test]
fn the_audit_log_is_read_by_people_and_by_programs() {
    let rig = Rig::start();
    let cli = &rig.cli;
    cli.done(&["sensors", "onboard", "pump", "--site", "Lyon", "--create"]);
    cli.done(&["sensors", "onboard", "=1+1", "--site", "Bern", "--create"]);
    cli.done(&["sensors", "edit", "pump", "--notes", "wet"]);
    cli.done(&["sensors", "rename", "pump", "pump 2"]);

    let table = cli.done(&["audit", "list", "--sensor", "pump 2"]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].contains("WHO") && lines[0].contains("CHANGES") && !lines[0].contains("ENTRY"),
        "{table}"
    );
    assert_eq!(lines.len(), 4, "{table}");
    for part in ["commands/", "127.0.0.1", "edit-sensor", "changed", "name: pump -> pump 2"] {
        assert!(lines[1].contains(part), "{part}: {table}");
    }
    assert!(lines[2].contains("notes: - -> wet"), "{table}");
    assert!(lines[3].contains("add-sensor") && lines[3].contains("created"), "newest first: {table}");
    let wide = cli.done(&["audit", "list", "--site", "Bern", "-o", "wide"]);
    assert!(wide.contains("ENTRY") && wide.contains("Bern") && !wide.contains("pump"), "{wide}");

    let list = |more: &[&str]| cli.json(&[&["audit", "list"], more].concat());
    let names = |items: &Value| -> Vec<String> {
        let name = |item: &Value| item["subject"]["name"].as_str().unwrap_or_default().to_owned();
        items.as_array().unwrap().iter().map(name).collect()
    };
    assert_eq!(names(&list(&["--action", "add-sensor"])), ["=1+1", "pump"]);
    assert_eq!(names(&list(&["--action", "add-sensor", "--oldest-first"])), ["pump", "=1+1"]);
    assert_eq!(names(&list(&["--action", "add-sensor", "--max", "1"])), ["=1+1"]);
    assert_eq!(names(&list(&["--actor", "nobody"])), [""; 0]);
    assert_eq!(list(&["--actor", "commands", "--action", "edit-sensor"])[0]["before"]["name"], "pump");
    assert_eq!(names(&list(&["--action", "edit-sensor", "--since", "1h"])), ["pump 2", "pump"]);
    assert_eq!(names(&list(&["--action", "edit-sensor", "--until", "1h"])), [""; 0]);
    let csv = cli.done(&["audit", "list", "--action", "add-sensor", "-o", "csv"]);
    assert!(csv.starts_with("at,actor.kind,actor.name,actor.from,action,change,"), "{csv}");
    assert!(csv.contains(",'=1+1,") && csv.contains("\"{\"\"lifecycle\"\":"), "{csv}");
    let ndjson = cli.done(&["audit", "list", "-o", "ndjson"]);
    assert_eq!(ndjson.lines().count(), list(&[]).as_array().unwrap().len());

    cli.fails(64, &["audit", "list", "--site", "Lyon", "--sensor", "pump 2"]);
    cli.fails(3, &["audit", "list", "--since", "yesterday"]);
    cli.fails(3, &["audit", "list", "--site", "Atlantis"]);
    cli.fails(3, &["audit", "list", "--actor-kind", "robot"]);
    let help = cli.done(&["audit", "list", "--help"]);
    assert!(help.contains("--since") && help.contains("such as 24h"), "{help}");
}
