//! Activation: once, by one machine, in time; and what is refused is seen.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use fleetpulse::fleet::{Actor, Command, Role, TokenHash};
use fleetpulse::identity::{ActivationFile, ClientIdentity, ClientKey, IdentityFolder, sha256};
use fleetpulse::limits::ACTIVATION_LIFE;
use fleetpulse::live::{Lifecycle, SensorType};
use fleetpulse::sensor::respond_offline;
use fleetpulse::time::Clock;
use fleetpulse::wire::enrol::{EnrolAnswer, EnrolRefusal, EnrolRequest};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, SanType};
use rustix::process::Signal;

use super::rig::{Rig, refusal};
use crate::cli::rig::Cli;
use crate::process::{run, until};

fn activate(file: &str, out: &str) -> (Option<i32>, String) {
    let (code, said) = run(&["agent", "activate", file, "--out", out]);
    (code, said.join("\n"))
}

#[test]
fn a_file_makes_a_sensor_and_a_second_machine_is_refused_and_shown() {
    let rig = Rig::new();
    let (id, file) = rig.file("press 4");
    let (file, out) = (file.display().to_string(), rig.out("first"));
    let (code, said) = activate(&file, &out);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("press 4") && said.contains("SHA-256") && said.contains("start it"), "{said}");
    for (name, mode) in [("key.pem", 0o600), ("certificate.pem", 0o600), ("trust.pem", 0o600)] {
        let metadata = std::fs::metadata(std::path::Path::new(&out).join(name)).expect(name);
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
    }
    assert!(!std::path::Path::new(&out).join("key.next.pem").exists());
    let sensor = rig.sensor(id);
    assert_eq!((sensor.lifecycle, sensor.more.credentials.len()), (Lifecycle::Active, 1));
    let used = sensor.more.activation.as_ref().and_then(|activation| activation.used.clone()).expect("used");
    let identity = ClientIdentity::read(out.as_ref()).expect("an identity");
    assert_eq!(used.key, identity.client_key().expect("a key").hash());
    assert_eq!(used.from.as_deref(), Some("127.0.0.1"));
    assert_eq!(*sensor.more.credentials[0].serial, identity.leaf().expect("a leaf").serial.to_string());

    let agent = rig.agent(&out);
    rig.until_heartbeats(id);

    // Another machine with the same file; the first one stays as it is.
    let (code, said) = activate(&file, &rig.out("second"));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("token-used") && said.contains("another machine"), "{said}");
    assert!(!std::path::Path::new(&rig.out("second")).join("certificate.pem").exists());
    let attempts = rig.attempts(id);
    assert_eq!((attempts.len(), &*attempts[0].code, &*attempts[0].from), (1, "token-used", "127.0.0.1"));
    assert_eq!(rig.outcomes(EnrolRefusal::TokenUsed), 1);
    // The same machine again: something may have broken off after the certificate was there.
    let config = std::path::Path::new(&out).join("agent.toml");
    std::fs::write(&config, "servers = [").expect("written");
    let (code, said) = activate(&file, &out);
    assert_eq!(code, Some(78), "{said}");
    std::fs::remove_file(&config).expect("removed");
    let (code, said) = activate(&file, &out);
    assert_eq!(code, Some(0), "{said}");
    assert!(std::fs::read_to_string(&config).expect("written").contains("enrol_servers"));
    assert_eq!(
        ClientIdentity::read(out.as_ref()).expect("an identity").leaf().unwrap(),
        identity.leaf().unwrap()
    );
    assert_eq!((rig.attempts(id).len(), rig.outcomes(EnrolRefusal::TokenUsed)), (1, 1), "nobody was asked");
    rig.until_heartbeats(id);
    agent.signal(Signal::TERM);
}

#[test]
fn an_answer_that_was_lost_is_given_again_to_the_same_key() {
    let rig = Rig::new();
    let id = rig.onboard("press", SensorType::OtCloud);
    let file = rig.read(&rig.issue(id));
    let key = ClientKey::make().expect("a key");
    for _ in 0..2 {
        let answer = rig.ask(&rig.request(file.token, &key));
        assert!(matches!(&answer, EnrolAnswer::Enrolled { id: named, .. } if *named == id.0), "{answer:?}");
    }
    let other = rig.ask(&rig.request(file.token, &ClientKey::make().expect("a key")));
    assert_eq!(refusal(&other).map(|(code, _)| code), Some(EnrolRefusal::TokenUsed));
    // The client library does so by itself: the key of the request that was not answered is kept.
    let folder = IdentityFolder::new(rig.out("library"));
    let id = rig.onboard("library", SensorType::OtCloud);
    let file = rig.read(&rig.issue(id));
    let asked = folder.next_key(true).expect("a key");
    assert!(matches!(rig.ask(&rig.request(file.token, &asked)), EnrolAnswer::Enrolled { .. }));
    rig.activate(&file, &folder).expect("answered again");
    let kept = ClientIdentity::read(folder.path()).expect("an identity");
    assert_eq!(kept.client_key().expect("a key").hash(), asked.hash());
}

#[test]
fn every_reason_is_told_apart_and_noted_on_its_sensor() {
    let rig = Rig::new();
    let key = ClientKey::make().expect("a key");
    let ask = |token, key: &ClientKey| refusal(&rig.ask(&rig.request(token, key))).map(|(code, _)| code);
    let code_of = |id| rig.attempts(id).last().map(|attempt| attempt.code.to_string());

    // Nobody's token: a stranger, who leaves no trace in the register.
    assert_eq!(ask([9; 32], &key), Some(EnrolRefusal::UnknownToken));
    let refused = rig.server.enrolment().attempts().refused();
    assert_eq!((refused.len(), refused[0].sensor), (1, None));
    assert_eq!(refused[0].refusal, EnrolRefusal::UnknownToken);

    // A newer file was made.
    let id = rig.onboard("void", SensorType::OtCloud);
    let (old, new) = (rig.read(&rig.issue(id)), rig.read(&rig.issue(id)));
    assert_eq!((old.generation, new.generation), (1, 2));
    assert_eq!(ask(old.token, &key), Some(EnrolRefusal::TokenVoid));
    assert_eq!(code_of(id).as_deref(), Some("token-void"));

    // The sensor was deleted.
    rig.apply(&[Command::DeleteSensor { id }]);
    assert_eq!(ask(new.token, &key), Some(EnrolRefusal::SensorDeleted));

    // Too old.
    let id = rig.onboard("old", SensorType::OtCloud);
    let mut issued = rig.issue(id);
    let mut file = rig.read(&issued);
    file.expires_at = rig.now().minus(Duration::from_secs(1));
    file.issued_at = file.expires_at.minus(ACTIVATION_LIFE);
    let authority = rig.server.authority();
    let signed = authority.sign_file(&issued.name, ActivationFile::MEDIA_TYPE, &file.payload(), rig.now());
    issued.bytes = signed.expect("signed");
    let path = rig.write(&issued).display().to_string();
    let (code, said) = activate(&path, &rig.out("old"));
    assert_eq!(code, Some(65), "{said}");
    assert!(said.contains("activation-expired"), "{said}");
    let (token, expires_at) = ([5; 32], rig.now().plus(Duration::from_millis(20)));
    rig.apply(&[Command::IssueActivation { id, token: TokenHash(sha256(&token)), expires_at }]);
    until("its end", || (rig.now() > expires_at).then_some(()));
    assert_eq!(ask(token, &key), Some(EnrolRefusal::TokenExpired));
    assert_eq!(code_of(id).as_deref(), Some("token-expired"));

    // A clock that is wrong.
    let id = rig.onboard("drift", SensorType::OtCloud);
    let file = rig.read(&rig.issue(id));
    for (hours, words) in [(-12, "12 h behind"), (13, "13 h ahead of")] {
        let clock = rig.now().0 + hours * 3_600_000 + hours.signum() * 60_000;
        let csr = key.request().expect("a request");
        let request = EnrolRequest::Activate {
            token: file.token,
            csr,
            clock_unix_ms: clock,
            agent_version: "test".into(),
        };
        let answer = rig.ask(&request);
        let (code, detail) = refusal(&answer).expect("refused");
        assert_eq!(code, EnrolRefusal::ClockDrift);
        assert!(detail.contains(words), "{detail}");
    }
    let noted = rig.attempts(id);
    assert_eq!((noted.len(), &*noted[0].code), (1, "clock-drift"), "the same again is not news");
    assert!(matches!(rig.ask(&rig.request(file.token, &key)), EnrolAnswer::Enrolled { .. }), "set right");

    // A sensor that never connects.
    let id = rig.onboard("local", SensorType::OtLocal);
    let file = rig.read(&rig.issue(id));
    assert_eq!(ask(file.token, &key), Some(EnrolRefusal::NotPending));
    assert_eq!(code_of(id).as_deref(), Some("not-pending"));
    assert_eq!(rig.outcomes(EnrolRefusal::NotPending), 1);
}

#[test]
fn who_was_refused_is_listed_the_newest_first() {
    let rig = Rig::new();
    let key = ClientKey::make().expect("a key");
    rig.ask(&rig.request([9; 32], &key));
    let id = rig.onboard("press", SensorType::OtCloud);
    let old = rig.read(&rig.issue(id));
    rig.issue(id);
    for _ in 0..2 {
        assert_eq!(
            refusal(&rig.ask(&rig.request(old.token, &key))).map(|it| it.0),
            Some(EnrolRefusal::TokenVoid)
        );
    }
    let token = rig.server.token_for("ann", Role::Reader, Duration::from_secs(3_600)).expect("a token");
    let cli = Cli::of(&format!("http://{}", rig.server.http_addr())).with("FLEETPULSE_TOKEN", &token);
    let listed = cli.json(&["sensors", "attempts"]);
    let listed = listed.as_array().expect("rows");
    assert_eq!(listed.len(), 2, "{listed:?}");
    let (press, stranger) = (&listed[0], &listed[1]);
    assert_eq!((&press["code"], &press["count"]), (&"token-void".into(), &2.into()));
    assert_eq!((&press["sensor"]["name"], &press["sensor"]["id"]), (&"press".into(), &id.to_string().into()));
    assert_eq!((&press["from"], &press["version"]), (&"127.0.0.1".into(), &"test".into()));
    assert_eq!((&stranger["code"], &stranger["sensor"]), (&"unknown-token".into(), &serde_json::Value::Null));
    let table = cli.done(&["sensors", "attempts"]);
    assert!(table.contains("token-void") && table.contains("press"), "{table}");
}

#[test]
fn a_request_for_another_name_or_with_a_foreign_key_is_refused() {
    let rig = Rig::new();
    let id = rig.onboard("press", SensorType::OtCloud);
    let file = rig.read(&rig.issue(id));
    let key = KeyPair::generate().expect("a key");
    let with = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        change(&mut params);
        params.serialize_request(&key).expect("a request").der().to_vec()
    };
    let uri = "urn:fleetpulse:sensor:00000000-0000-4000-8000-000000000001";
    let foreign = with(&|params| {
        params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("a URI"))];
    });
    let authority = with(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let mut broken = with(&|_| ());
    let last = broken.len() - 1;
    broken[last] ^= 1;
    let subject = with(&|params| {
        params.distinguished_name.push(DnType::CommonName, "00000000-0000-4000-8000-000000000001");
    });
    for csr in [foreign, subject, authority, broken, vec![0x30, 0x80], b"-----BEGIN NONSENSE-----".to_vec()] {
        let request = EnrolRequest::Activate {
            token: file.token,
            csr,
            clock_unix_ms: rig.now().0,
            agent_version: "test".into(),
        };
        assert_eq!(refusal(&rig.ask(&request)).map(|(code, _)| code), Some(EnrolRefusal::BadCsr));
    }
    assert_eq!(rig.sensor(id).lifecycle, Lifecycle::PendingActivation);
    assert_eq!(&*rig.attempts(id)[0].code, "bad-csr");
    let own = rig.ask(&rig.request(file.token, &ClientKey::make().expect("a key")));
    assert!(matches!(own, EnrolAnswer::Enrolled { .. }), "nothing was used up: {own:?}");
}

#[test]
fn rubbish_on_the_port_leaves_an_activation_alone() {
    let rig = Rig::new();
    let (id, file) = rig.file("press");
    std::thread::scope(|scope| {
        for seed in 0..4_u8 {
            let rig = &rig;
            scope.spawn(move || {
                for round in 0..20_u8 {
                    let bytes = vec![seed.wrapping_mul(31) ^ round; usize::from(round) * 40];
                    let answer = rig.ask_bytes(&bytes);
                    assert_eq!(refusal(&answer).map(|(code, _)| code), Some(EnrolRefusal::BadRequest));
                }
            });
        }
        let (code, said) = activate(&file.display().to_string(), &rig.out("first"));
        assert_eq!(code, Some(0), "{said}");
    });
    assert_eq!(rig.sensor(id).lifecycle, Lifecycle::Active);
    assert_eq!(rig.outcomes(EnrolRefusal::BadRequest), 80);
}

#[test]
fn files_that_are_not_what_they_should_be_are_refused_before_anybody_is_asked() {
    let (rig, other) = (Rig::new(), Rig::new());
    let (id, path) = rig.file("press");
    let text = std::fs::read_to_string(&path).expect("readable");
    let forged = rig.folder.path().join("forged.json");
    let check = |bytes: &[u8], arguments: &[&str], expected: &str| {
        std::fs::write(&forged, bytes).expect("written");
        let name = forged.display().to_string();
        let (code, said) = run(&[&["agent", "activate", &name, "--out", &rig.out("no")], arguments].concat());
        let said = said.join("\n");
        assert_eq!(code, Some(65), "{expected}: {said}");
        assert!(said.contains(expected), "{expected}: {said}");
        let (code, said) = run(&[&["verify", &name], arguments].concat());
        assert_eq!(code, Some(65), "{said:?}");
    };
    // One character of the payload.
    let place = text.find("\"payload\": \"").expect("a payload") + 40;
    let mut edited = text.clone().into_bytes();
    edited[place] = if edited[place] == b'A' { b'B' } else { b'A' };
    let trust = rig.folder.path().join("data/identity/trust.pem").display().to_string();
    check(&edited, &["--trust", &trust], "file-edited");
    let foreign = other.folder.path().join("data/identity/trust.pem").display().to_string();
    check(text.as_bytes(), &["--trust", &foreign], "file-forged");
    check(b"{}", &[], "not-a-signed-file");
    check(b"\x00\xff\x13", &[], "not-a-signed-file");
    let csv = rig.server.authority().sign_file("x.csv", "text/csv", b"a,b", rig.now()).expect("signed");
    std::fs::write(&forged, &csv).expect("written");
    let (code, said) = run(&["agent", "activate", &forged.display().to_string(), "--trust", &trust]);
    assert_eq!(code, Some(65));
    assert!(said.join(" ").contains("not-an-activation-file"), "{said:?}");
    // The same file is good for `verify`, which gives back what was signed.
    let out = rig.folder.path().join("out.csv").display().to_string();
    let (code, said) =
        run(&["verify", &forged.display().to_string(), "--trust", &trust, "--out", &out, "--json"]);
    assert_eq!(code, Some(0), "{said:?}");
    let said: serde_json::Value = serde_json::from_str(&said[0]).expect("JSON");
    assert_eq!((said["good"].as_bool(), said["name"].as_str()), (Some(true), Some("x.csv")));
    assert_eq!(std::fs::read(&out).expect("written"), b"a,b");
    assert!(rig.attempts(id).is_empty(), "the server never heard of it");
}

#[test]
fn one_line_activates_an_enterprise_sensor() {
    let rig = Rig::new();
    let id = rig.onboard("office", SensorType::EnterpriseIot);
    let issued = rig.issue(id);
    let command = issued.command();
    let out = rig.out("office");
    // As somebody would paste it, with a folder of our own.
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_fleetpulse")).parent().expect("a folder");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    let pasted = std::process::Command::new("sh")
        .args(["-c", &format!("{command} --out {out} --json")])
        .env("PATH", path)
        .output()
        .expect("a shell");
    assert!(pasted.status.success(), "{pasted:?}");
    let said: serde_json::Value = serde_json::from_slice(&pasted.stdout).expect("one JSON object");
    assert_eq!(said["sensor"].as_str(), Some(id.to_string().as_str()));
    let agent = rig.agent(&out);
    rig.until_heartbeats(id);
    agent.signal(Signal::TERM);
}

#[test]
fn a_sensor_that_never_connects_becomes_active_by_its_response() {
    let rig = Rig::new();
    let id = rig.onboard("island", SensorType::OtLocal);
    let path = rig.write(&rig.issue(id)).display().to_string();
    let (code, said) = activate(&path, &rig.out("island"));
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("--offline"), "{said}");
    let out = rig.out("island");
    let (code, said) = run(&["agent", "activate", &path, "--out", &out, "--offline"]);
    assert_eq!(code, Some(0), "{said:?}");
    let response = std::fs::read(std::path::Path::new(&out).join("activation-response.json")).expect("made");
    let accept = |bytes: &[u8]| {
        let operator = Actor::command_line("test");
        rig.server.activations().accept_response(bytes, operator, rig.server.clock().unix())
    };
    let mut edited = response.clone();
    let place = edited.len() / 2;
    edited[place] ^= 1;
    assert!(accept(&edited).is_err());
    assert_eq!(accept(&response).expect("accepted"), id);
    assert_eq!(rig.sensor(id).lifecycle, Lifecycle::Active);
    assert_eq!(accept(&response).expect("again: nothing new"), id);
    // Another key with the same token.
    let (code, _) = run(&["agent", "activate", &path, "--out", &rig.out("other"), "--offline"]);
    assert_eq!(code, Some(0));
    let other = std::fs::read(std::path::Path::new(&rig.out("other")).join("activation-response.json"));
    assert_eq!(accept(&other.expect("made")).expect_err("refused").code(), "activation-used");
    // A clock before the file was made, or after now.
    let id = rig.onboard("clock", SensorType::OtLocal);
    let (issued, now) = (rig.issue(id), rig.now());
    let drift_max = rig.server.enrolment().rules().drift_max;
    let dated = |clock| {
        let folder = IdentityFolder::new(rig.out("clock"));
        respond_offline(&rig.read(&issued), &folder, clock).expect("made")
    };
    let wrong = drift_max + Duration::from_secs(60);
    for clock in [now.minus(wrong), now.plus(wrong)] {
        assert_eq!(accept(&dated(clock)).expect_err("refused").code(), "clock-drift");
    }
    assert_eq!(rig.sensor(id).lifecycle, Lifecycle::PendingActivation);
    assert_eq!(accept(&dated(now.minus(drift_max / 2))).expect("accepted"), id);
    // One of a sensor that connects is told to do so.
    let id = rig.onboard("cloud", SensorType::OtCloud);
    let path = rig.write(&rig.issue(id)).display().to_string();
    let (code, _) = run(&["agent", "activate", &path, "--out", &rig.out("cloud"), "--offline"]);
    assert_eq!(code, Some(0));
    let cloud = std::fs::read(std::path::Path::new(&rig.out("cloud")).join("activation-response.json"));
    assert_eq!(accept(&cloud.expect("made")).expect_err("refused").code(), "wrong-mode");
}
