//! The command itself: what it refuses and how, and what it shows of its configuration.

use std::fs;

use super::host::{Probe, text};
use crate::process::{Program, run};

const CONFIG: Option<i32> = Some(78);

/// The one line of an agent that does not start.
fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let (code, said) = run(&[&["agent"], arguments].concat());
    let lines: Vec<_> = said.iter().filter(|line| line.starts_with("fleetpulse: ")).collect();
    assert_eq!(lines.len(), 1, "{said:#?}");
    assert_eq!(said.last(), Some(lines[0]), "{said:#?}");
    (code, lines[0].clone())
}

#[test]
fn what_cannot_be_is_said_in_one_line() {
    let probe = Probe::register();
    let (folder, identity) = (probe.folder.path(), text(&probe.identity));
    let nothing = text(&folder.join("nothing"));
    let usual = ["--server", "127.0.0.1:1", "--identity", &identity];
    let file = folder.join("agent.toml");
    let config = text(&file);
    let cases: [(&[&str], &str, &str); 9] = [
        (&[], "", "servers: '' is not valid; give host:port of a server (--server HOST:PORT)"),
        (&["--server", "127.0.0.1"], "", "servers: '127.0.0.1' is not valid; give host:port"),
        (
            &usual[..2],
            "",
            "identity_dir: '' is not valid; give the folder that `fleetpulse agent activate` made",
        ),
        (&["--server", "a:1", "--identity", &nothing], "", "nothing/certificate.pem can't be read"),
        (&["--interface", "../x"], "", "interfaces: '../x' is not valid; give a network interface's name"),
        (&["--log-level", "loud=x=y"], "", "`log.level` = `loud=x=y` can't be used; give error, warn"),
        (&[], "intervall = '1s'", "agent.toml: line 1: unknown field `intervall`"),
        (&[], "interval = '1h'", "interval: '1h' is not valid; give 100ms to 5m"),
        (&[], "ca_file = '/no/such'\n[[endpoints]]\naddress = 'a:1'", "ca_file: '/no/such' is not valid"),
    ];
    for (arguments, text, said) in cases {
        fs::write(&file, text).expect("written");
        // The first four are about what is usually there.
        let more = if said.starts_with("servers") || said.contains("identity_dir") || said.contains("nothing")
        {
            &[][..]
        } else {
            &usual[..]
        };
        let (code, line) = refused(&[&["--config", &config], arguments, more].concat());
        assert!(line.contains(said), "{arguments:?} {text}: {line}");
        assert_eq!(code, CONFIG, "{line}");
    }
    let (code, line) = refused(&[&["--config", &nothing][..], &usual].concat());
    assert!(line.contains("nothing: No such file") && line.contains("readable TOML"), "{line}");
    assert_eq!(code, CONFIG);
    assert_eq!(run(&["agent", "--serve", "x"]).0, Some(64));
}

#[test]
fn an_interface_that_is_not_there_is_told_and_waited_for() {
    let probe = Probe::register();
    let identity = text(&probe.identity);
    let arguments = ["agent", "--server", "127.0.0.1:1", "--identity", &identity, "--interface", "eth-none"];
    let mut agent = Program::start(&arguments);
    let said = agent.until_said("what is missing", |line| line.contains("eth-none").then(|| line.to_owned()));
    assert!(said.contains("WARN") && said.contains("there are") && said.contains("lo"), "{said}");
}

#[test]
fn what_is_shown_is_what_is_used() {
    let probe = Probe::register();
    let identity = text(&probe.identity);
    let usual = ["agent", "--server", "127.0.0.1:1", "--identity", &identity, "--interface", "lo"];
    let (code, shown) = run(&[&usual[..], &["--print-config"]].concat());
    assert_eq!(code, Some(0));
    assert!(shown.contains(&"interfaces = [\"lo\"]".to_owned()), "{shown:#?}");
    let file = probe.folder.path().join("agent.toml");
    fs::write(&file, shown.join("\n")).expect("written");
    let (code, said) = run(&["agent", "--config", &text(&file), "--check-config"]);
    assert_eq!((code, said), (Some(0), vec![]), "it reads back, and names things that are there");
    let (code, again) = run(&["agent", "--config", &text(&file), "--print-config"]);
    assert_eq!((code, again), (Some(0), shown));
    let (code, listed) = run(&["agent", "--list-config"]);
    assert_eq!(code, Some(0));
    assert!(listed.iter().any(|line| line == "interval = \"10s\""), "{listed:#?}");
}
