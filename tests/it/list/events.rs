//! Server-sent events: followed, resumed over reconnects and a restart, and read too slowly.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fleetpulse::fleet::{Actor, Command, SensorEdit, SiteEdit};
use fleetpulse::limits::{COMMANDS_PER_BATCH_MAX, EVENT_RING_BYTES_MAX, EVENT_STREAMS_MAX};
use fleetpulse::live::SensorType;
use fleetpulse::server::Server;
use fleetpulse::server::enlist::Enlistment;
use fleetpulse::wire::id::SensorId;
use serde_json::Value;

use super::follow::{Asked, Event, Follow};
use super::world::{World, text};
use crate::export::fleet::{Running, lasting};
use crate::export::rig::{Rig, config, until};

pub fn renamed(id: SensorId, name: &str) -> Command {
    Command::EditSensor { id, edit: SensorEdit::named(name) }
}

#[test]
fn changes_are_followed_and_resumed_over_a_reconnect() {
    let world = World::new(12);
    let of = &Asked::of(&world.rig);
    let mut follow = Follow::open(of, "sensors", None);
    let start = follow.begins_anew("start");
    let (one, other) = (world.sensors[0], world.sensors[1]);
    world.apply(&[renamed(one, "first")]);
    let first = follow.next_of_log();
    assert_eq!((first.name.as_str(), text(&first.data, "/change")), ("sensor", "changed"));
    assert_eq!(text(&first.data, "/sensor/name"), "first");
    assert_eq!(text(&first.data, "/sensor/site/name"), "Site 0");
    assert_eq!(text(&first.data, "/id"), one.to_string());
    world.apply(&[
        Command::MoveSensor { id: one, zone: world.zones[2] },
        Command::DeleteSensor { id: other },
        Command::EditSite { id: world.sites[5], edit: SiteEdit::named("Quay") },
    ]);
    let batch: Vec<Event> = (0..3).map(|_| follow.next_of_log()).collect();
    assert_eq!(text(&batch[0].data, "/sensor/site/name"), "Site 1");
    assert_eq!((text(&batch[1].data, "/change"), &batch[1].data["sensor"]), ("deleted", &Value::Null));
    assert_eq!((batch[2].name.as_str(), text(&batch[2].data, "/name")), ("site", "Quay"));
    let ids: Vec<bool> = batch.iter().map(|event| event.id.is_some()).collect();
    assert_eq!(ids, [false, false, true], "a batch is resumed after, never within");
    drop(follow);

    // While nobody listens.
    world.apply(&[renamed(one, "second")]);
    for (last, names) in [
        (first.id.clone(), vec!["sensor", "sensor", "site", "sensor"]),
        (batch[2].id.clone(), vec!["sensor"; 2]),
        (Some(start), vec!["sensor", "sensor", "sensor", "site", "sensor", "sensor", "sensor"]),
    ] {
        let mut again = Follow::open(of, "sensors", last.as_deref());
        let seen: Vec<String> = names.iter().map(|_| again.next_of_log().name).collect();
        assert_eq!(seen, names);
        world.apply(&[renamed(world.sensors[2], &format!("after {}", names.len()))]);
        assert_eq!(text(&again.next_of_log().data, "/sensor/name"), format!("after {}", names.len()));
        let last = again.last_id.clone();
        drop(again);
        let mut quiet = Follow::open(of, "sensors", last.as_deref());
        let live = quiet.next().unwrap();
        assert_eq!((live.name.as_str(), &live.data["reset"]), ("live", &Value::Bool(true)));
    }
}

#[test]
fn places_that_no_log_knows_begin_anew() {
    let world = World::new(8);
    let of = &Asked::of(&world.rig);
    let known = Follow::open(of, "sensors", None).begins_anew("start");
    let (log, sequence) = known.split_once('.').unwrap();
    let beyond = format!("{log}.{:x}", u64::from_str_radix(sequence, 16).unwrap() + 1);
    for unknown in ["nonsense", "", &beyond, &format!("{:032x}.1", 7), "%00", "é.1"] {
        let mut follow = Follow::open(of, "sensors", Some(unknown));
        assert_eq!(follow.begins_anew("unknown-cursor"), known, "{unknown}");
    }
    assert_eq!(Follow::open(of, "sensors?cursor=x", None).begins_anew("unknown-cursor"), known);
    let of_other = Follow::open(of, "messages", Some(&known)).begins_anew("unknown-cursor");
    assert_ne!(of_other, known, "each topic has a log of its own");
    assert_eq!(world.rig.get("/api/v1/events/sensors?colour=red").status, 400);
}

#[test]
fn a_restart_loses_no_change_and_ends_streams_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let start = || Arc::new(Server::start(config(folder.path())).unwrap());
    let server = start();
    let commands = {
        let register = server.fleet().register();
        let mut enlistment = Enlistment::new(&register);
        for number in 1..=3 {
            let id = SensorId::from_number(number);
            enlistment.sensor(id, &format!("sensor {number}"), SensorType::OtCloud, "Werk", "Line");
        }
        enlistment.into_commands()
    };
    let actor = || Actor::command_line("test");
    server.apply(&commands, actor()).unwrap();
    let mut follow = Follow::open(&Asked::server(&server), "sensors", None);
    follow.begins_anew("start");
    server.apply(&[renamed(SensorId::from_number(1), "seen")], actor()).unwrap();
    let last = follow.next_of_log().id.unwrap();
    for round in 0..200 {
        server.apply(&[renamed(SensorId::from_number(2), &format!("round {round}"))], actor()).unwrap();
    }
    server.stop();
    while follow.next().is_some() {}
    drop(server);

    let server = start();
    server.apply(&[renamed(SensorId::from_number(3), "after")], actor()).unwrap();
    let mut again = Follow::open(&Asked::server(&server), "sensors", Some(&last));
    for round in 0..200 {
        assert_eq!(text(&again.next_of_log().data, "/sensor/name"), format!("round {round}"));
    }
    assert_eq!(text(&again.next_of_log().data, "/sensor/name"), "after");
    server.apply(&[renamed(SensorId::from_number(3), "live again")], actor()).unwrap();
    assert_eq!(text(&again.next_of_log().data, "/sensor/name"), "live again");
}

#[test]
fn messages_and_live_values_are_followed() {
    let rig = Rig::start();
    let of = &Asked::of(&rig);
    let mut messages = Follow::open(of, "messages", None);
    let mut sensors = Follow::open(of, "sensors", None);
    let start = messages.begins_anew("start");
    sensors.begins_anew("start");
    let fleet = Running::start(&rig.server, &lasting(""));
    let wanted: BTreeSet<&str> = ["disconnected", "disk-almost-full", "gateway-silent"].into();
    let mut seen = BTreeSet::new();
    while !wanted.iter().all(|code| seen.contains(*code)) {
        let event = messages.next_of_log();
        assert_eq!((event.name.as_str(), event.id.as_deref()), ("message", event.data["id"].as_str()));
        if event.data["kind"] == "raised" {
            seen.insert(text(&event.data, "/code").to_owned());
        }
    }
    let id = fleet.sensor("north-001");
    let (mut state, mut connected) = (String::new(), false);
    while state != "critical" {
        let event = sensors.next().unwrap();
        if event.name != "live" {
            continue;
        }
        for sensor in event.data["sensors"].as_array().unwrap() {
            if text(sensor, "/id") == id {
                text(sensor, "/state").clone_into(&mut state);
                connected |= sensor["connected"] == true;
            }
        }
    }
    assert!(connected, "it was connected before it fell silent");
    // Everything once more, as the journal has it.
    let journal = || rig.get("/api/v1/messages/history?limit=1000").json()["items"].as_array().unwrap().len();
    let expected = journal();
    let mut again = Follow::open(of, "messages", Some(&start));
    let mut ids = BTreeSet::new();
    for _ in 0..expected {
        assert!(ids.insert(again.next_of_log().id), "each once");
    }
}

/// A change of many sensors at once, of more bytes than a ring holds and sockets take in several rounds.
#[test]
fn who_reads_too_slowly_is_told_and_costs_no_memory() {
    let world = World::new(8);
    let of = &Asked::of(&world.rig);
    let mut slow = Follow::open(of, "sensors", None);
    slow.begins_anew("start");
    let mut quick = Follow::open(of, "sensors", None);
    quick.begins_anew("start");
    let add = |number: usize| Command::AddSensor {
        id: SensorId::from_number(5_000_000 + number as u64),
        zone: world.zones[number % 12],
        name: format!("{} {number}", "x".repeat(100)),
        kind: SensorType::OtCloud,
        lifecycle: fleetpulse::live::Lifecycle::PendingActivation,
    };
    let mut bytes = 0;
    let mut batches = 0;
    while bytes < 3 * EVENT_RING_BYTES_MAX {
        let first = batches * COMMANDS_PER_BATCH_MAX;
        let commands: Vec<Command> = (first..first + COMMANDS_PER_BATCH_MAX).map(add).collect();
        world.apply(&commands);
        for _ in 0..COMMANDS_PER_BATCH_MAX {
            bytes += quick.next_of_log().data.to_string().len();
        }
        batches += 1;
    }
    // Either the server ended a stream that stood still, or it says that something is missing.
    let (mut seen, mut told) = (0, false);
    while let Some(event) = slow.next() {
        match event.name.as_str() {
            "sensor" => seen += 1,
            "gap" => {
                told = true;
                slow.begins_anew("gap");
                break;
            }
            _ => {}
        }
    }
    assert!(seen < batches * COMMANDS_PER_BATCH_MAX, "so much was never in memory for it");
    if told {
        world.apply(&[renamed(world.sensors[0], "after the gap")]);
        // Where it goes on, others may come first.
        let most = batches * COMMANDS_PER_BATCH_MAX;
        assert!((0..most).any(|_| text(&slow.next_of_log().data, "/sensor/name") == "after the gap"));
    }
    assert_eq!(world.rig.get("/livez").status, 200);
}

#[test]
fn streams_are_bounded_and_leave_room_for_others() {
    let world = World::new(8);
    let of = &Asked::of(&world.rig);
    let mut open: Vec<Follow> = (0..EVENT_STREAMS_MAX).map(|_| Follow::open(of, "sensors", None)).collect();
    let refused = world.rig.get("/api/v1/events/messages");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.json()["code"], "too-many-streams");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(world.rig.get("/api/v1/sensors").status, 200);
    world.apply(&[renamed(world.sensors[0], "for all")]);
    for follow in &mut open {
        follow.begins_anew("start");
        assert_eq!(text(&follow.next_of_log().data, "/sensor/name"), "for all");
    }
    open.truncate(EVENT_STREAMS_MAX - 5);
    // The server sees the end when it writes next.
    until(&true, || {
        world.apply(&[renamed(world.sensors[1], &format!("{:?}", std::time::UNIX_EPOCH))]);
        world.apply(&[renamed(world.sensors[1], "back")]);
        let mut probe = Follow::sent(of, "messages", None);
        probe.stream.get_ref().set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        probe.head().starts_with("HTTP/1.1 200")
    });
}
