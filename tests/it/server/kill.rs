//! `kill -9` under load, at random moments: what the journal had shown is there, messages go on and none is said
//! twice or left behind, sensors come back by resumption.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use fleetpulse::time::Clock;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use super::fleet::{Fault, Fleet};
use crate::process::{GRAIN_MS, Server, millis, tell, until};

const SENSORS: usize = 200;
const KILLS: usize = 10;
/// Sensors that have faults, one in eight, so that no site is out as a whole.
const FAULTY_EVERY: usize = 8;
/// A heartbeat, its way, a sweep, a reconnection. Generous: it decides only which faults *must* be seen.
const SLACK_MS: i64 = 3_000;
/// An interval and a half: who has had a connection for so long was heard over it.
const HEARD_MS: i64 = 1_500;
/// Time in which a message may still be raised after its fault is over: a heartbeat on its way, a sweep, or an
/// arrival that the kill took with it.
const LATE_MS: i64 = 4_000;
const CHECKPOINT_MS: i64 = 1_000;

/// One fault of one sensor, from when to when.
#[derive(Debug)]
struct Episode {
    sensor: usize,
    fault: Fault,
    from: i64,
    until: Option<i64>,
}

/// How long a fault must last in one life of a server before its message is raised, by the demo policy.
fn raise_ms(fault: Fault) -> i64 {
    match fault {
        Fault::Silent => 5_000,
        Fault::Ntp | Fault::Endpoint => 3_000,
        Fault::Disk | Fault::SelfTest => 0,
    }
}

/// Faults that come and go by chance; what was done is the truth that the journal is held against.
struct Script {
    random: StdRng,
    episodes: Vec<Episode>,
    /// For each faulty sensor: its next step, and its episode while one lasts.
    actors: Vec<(usize, i64, Option<usize>)>,
}

impl Script {
    fn new(seed: u64, now: i64) -> Script {
        let mut random = StdRng::seed_from_u64(seed);
        let actors = (0..SENSORS).step_by(FAULTY_EVERY);
        let actors = actors.map(|sensor| (sensor, now + random.random_range(0..6_000), None)).collect();
        Script { random, episodes: Vec::new(), actors }
    }

    /// Plays until then.
    fn play(&mut self, fleet: &mut Fleet, until: i64) {
        while now(fleet) < until {
            fleet.look();
            self.step(fleet, false);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn step(&mut self, fleet: &Fleet, end_all: bool) {
        let now = now(fleet);
        for (sensor, due, episode) in &mut self.actors {
            if !end_all && *due > now {
                continue;
            }
            match episode.take() {
                Some(place) => {
                    let over = &mut self.episodes[place];
                    fleet.sensors[*sensor].set(over.fault, false);
                    over.until = Some(now);
                    // Long enough for the message to end before another one begins.
                    *due = now + self.random.random_range(5_000..10_000);
                }
                None if end_all => {}
                None => {
                    // In turns, so that the same message does not come back before it has ended.
                    let turn = self.episodes.iter().filter(|before| before.sensor == *sensor).count();
                    let fault = Fault::ALL[(turn + *sensor / FAULTY_EVERY) % Fault::ALL.len()];
                    fleet.sensors[*sensor].set(fault, true);
                    *episode = Some(self.episodes.len());
                    self.episodes.push(Episode { sensor: *sensor, fault, from: now, until: None });
                    *due = now + self.random.random_range(4_000..16_000);
                }
            }
        }
    }

    /// Sensors that are silent now, and have been for so long.
    fn silent_for(&self, now: i64, at_least: i64) -> Vec<usize> {
        let silent = |e: &&Episode| e.fault == Fault::Silent && e.until.is_none() && now - e.from >= at_least;
        self.episodes.iter().filter(silent).map(|episode| episode.sensor).collect()
    }
}

fn now(fleet: &Fleet) -> i64 {
    fleet.clock().unix().0
}

/// What was known of a server right before it was killed.
struct Known {
    history: Vec<Value>,
    active: Vec<Value>,
    /// When the newest heartbeat of sensors that say nothing any more was made, where a checkpoint has it.
    last: Vec<(usize, i64)>,
    /// Sensors with a connection, and so with a ticket.
    connected: usize,
}

fn known(server: &Server, fleet: &Fleet, script: &Script) -> Known {
    let mut history = server.items("/api/v1/messages/history");
    history.reverse();
    let checkpoint = millis(&server.json("/api/v1/engine")["checkpoint"]["last"]);
    let silent = script.silent_for(now(fleet), 2 * CHECKPOINT_MS).into_iter();
    let last = silent.map(|sensor| (sensor, last_heartbeat(server, fleet, sensor)));
    Known {
        history,
        active: server.items("/api/v1/messages"),
        last: last.filter(|&(_, at)| at < checkpoint).collect(),
        connected: fleet.connected(),
    }
}

fn last_heartbeat(server: &Server, fleet: &Fleet, sensor: usize) -> i64 {
    let sensor = server.json(&format!("/api/v1/sensors/{}", fleet.sensors[sensor].id));
    millis(&sensor["heartbeats"]["last"])
}

#[test]
fn killed_at_random_moments_under_load_it_forgets_nothing_and_says_nothing_twice() {
    let seed: u64 = rand::random();
    tell(&format!("seed {seed}"));
    let folder = tempfile::tempdir().expect("a folder");
    let mut fleet = Fleet::register(folder.path(), SENSORS);
    let mut server = Server::start(folder.path(), &[]);
    fleet.connect(server.ingest);
    until("all are heard", || (fleet.connected() == SENSORS).then_some(()));
    let again = [server.same_port()];
    let mut script = Script::new(seed, now(&fleet));
    let mut up = vec![(now(&fleet), i64::MAX)];
    for kill in 0..KILLS {
        // Some lives are too short for a silence to be found in them, others are not.
        let life = if script.random.random_ratio(3, 5) { 1_200..4_000 } else { 7_500..9_000 };
        let moment = now(&fleet) + script.random.random_range(life);
        script.play(&mut fleet, moment);
        let known = known(&server, &fleet, &script);
        // Between two writes, in the middle of one, with a batch on its way: anything.
        std::thread::sleep(Duration::from_micros(script.random.random_range(0..300_000)));
        script.step(&fleet, false);
        server.kill();
        up.last_mut().expect("the first start").1 = now(&fleet);
        server = Server::start(folder.path(), &again);
        up.push((now(&fleet), i64::MAX));
        check_restart(&server, &mut fleet, &known, &format!("seed {seed}, kill {kill}"));
    }
    let end = now(&fleet) + 9_000;
    script.play(&mut fleet, end);
    script.step(&fleet, true);
    until("every message ends with its fault", || server.items("/api/v1/messages").is_empty().then_some(()));
    until("all are healthy", || {
        (server.json("/api/v1/fleet")["sensors"]["healthy"] == SENSORS).then_some(())
    });
    // Verdicts are there at once, the journal follows.
    let mut history = until("the journal knows it", || {
        let history = server.items("/api/v1/messages/history");
        let raised = history.iter().filter(|entry| entry["kind"] == "raised").count();
        (2 * raised == history.len()).then_some(history)
    });
    history.reverse();
    check_history(&history, &fleet, &script, &up, &format!("seed {seed}"));
}

fn check_restart(server: &Server, fleet: &mut Fleet, known: &Known, context: &str) {
    // Nothing acknowledged is missing: the journal goes on where it was.
    let mut history = server.items("/api/v1/messages/history");
    history.reverse();
    assert!(history.len() >= known.history.len(), "{context}");
    for (before, after) in known.history.iter().zip(&history) {
        assert_eq!(before, after, "{context}");
    }
    // What was active and durable was not raised again: it is active still, or ended since.
    let key = |message: &Value| {
        (message["subject"]["id"].clone(), message["code"].clone(), message["since"].clone())
    };
    let active: HashMap<_, _> =
        server.items("/api/v1/messages").iter().map(|m| (hash(key(m)), m.clone())).collect();
    let ended: HashSet<_> =
        history.iter().filter(|entry| entry["kind"] == "cleared").map(|entry| hash(key(entry))).collect();
    for message in known.active.iter().filter(|message| message["durable"] == true) {
        match active.get(&hash(key(message))) {
            Some(now) => assert_eq!(now["raised_at"], message["raised_at"], "{context}"),
            None => assert!(ended.contains(&hash(key(message))), "{context}: lost: {message}"),
        }
    }
    // Who says nothing was last heard when it was.
    for &(sensor, before) in &known.last {
        let after = last_heartbeat(server, fleet, sensor);
        assert!((before - after).abs() <= GRAIN_MS, "{context}: {before} {after}");
    }
    // The herd comes back: all that had a ticket use it.
    let talking = SENSORS - script_silent(fleet);
    until("the herd is back", || {
        fleet.look();
        (server.metric("fleetpulse_ingest_sensors")? >= talking as f64).then_some(())
    });
    let handshakes = server.metric("fleetpulse_ingest_handshakes_total").expect("a count");
    let resumed = server.metric("fleetpulse_ingest_resumed_total").expect("a count");
    let full = handshakes - resumed;
    assert!(full <= (SENSORS - known.connected) as f64, "{context}: {full} of {handshakes} were full");
    assert!(resumed > 0.0, "{context}");
}

/// Sensors that say nothing now do not notice that their server is another one.
fn script_silent(fleet: &Fleet) -> usize {
    fleet.sensors.iter().filter(|sensor| sensor.has(Fault::Silent)).count()
}

fn hash((id, code, since): (Value, Value, Value)) -> String {
    format!("{id} {code} {since}")
}

/// When a message was raised, and when it was cleared.
type Lasted = (i64, Option<i64>);

fn check_history(history: &[Value], fleet: &Fleet, script: &Script, up: &[(i64, i64)], context: &str) {
    let numbers: HashMap<String, usize> =
        fleet.sensors.iter().enumerate().map(|(number, sensor)| (sensor.id.to_string(), number)).collect();
    // Entries of one subject and rule alternate; so no message is raised twice, and each ends before the next.
    let mut raised: BTreeMap<(usize, String), Vec<Lasted>> = BTreeMap::new();
    for entry in history {
        assert_eq!(entry["subject"]["kind"], "sensor", "{context}: {entry}");
        let sensor = numbers[entry["subject"]["id"].as_str().expect("an id")];
        let code = entry["code"].as_str().expect("a code").to_owned();
        let messages = raised.entry((sensor, code)).or_default();
        let at = millis(&entry["at"]);
        let open = messages.last().is_some_and(|(_, cleared)| cleared.is_none());
        match entry["kind"].as_str() {
            Some("raised") if !open => messages.push((at, None)),
            Some("cleared") if open => messages.last_mut().expect("open").1 = Some(at),
            _ => panic!("{context}: twice the same: {entry}"),
        }
    }
    // Each message has its fault, and each fault that could be seen has its message.
    let mut explained = 0;
    for episode in &script.episodes {
        let (from, until) = (episode.from, episode.until.expect("all are over"));
        let key = (episode.sensor, episode.fault.code().to_owned());
        let mine = raised.get(&key).into_iter().flatten();
        let mine: Vec<_> = mine.filter(|(at, _)| (from - GRAIN_MS..until + LATE_MS).contains(at)).collect();
        assert!(mine.len() <= 1, "{context}: {episode:?} was raised more than once: {mine:?}");
        explained += mine.len();
        let seen = up.iter().any(|&(start, end)| {
            // A silence is found without a connection, everything else over one.
            let heard = match episode.fault {
                Fault::Silent => Some(start),
                _ => fleet.sensors[episode.sensor].linked_after(start),
            };
            heard.is_some_and(|heard| until.min(end) - from.max(heard) > raise_ms(episode.fault) + SLACK_MS)
        });
        assert!(!seen || mine.len() == 1, "{context}: {episode:?} was never raised");
        for (_, cleared) in mine {
            let cleared = cleared.expect("nothing is active any more");
            assert!(cleared >= until, "{context}: {episode:?} was cleared while it lasted, at {cleared}");
        }
    }
    for ((sensor, code), messages) in &raised {
        let of_script = |at: i64| {
            script.episodes.iter().any(|e| {
                let lasted = e.from - GRAIN_MS..e.until.expect("over") + LATE_MS;
                e.sensor == *sensor && e.fault.code() == code && lasted.contains(&at)
            })
        };
        for &(at, _) in messages.iter().filter(|(at, _)| !of_script(*at)) {
            // Late by itself, as a machine with too much to do makes it, and so rightly missed.
            let since = at - raise_ms(Fault::Silent) - SLACK_MS;
            let sensor = &fleet.sensors[*sensor];
            let life = up.iter().rev().find(|(start, _)| *start < at).expect("raised by a server").0;
            let unheard = sensor.linked_after(life).is_none_or(|linked| linked > at - HEARD_MS);
            let late = code == Fault::Silent.code() && (unheard || sensor.was_really_silent(since, at));
            assert!(
                late,
                "{context}: {code} on {} at {at} without a fault: {:?}",
                sensor.id, script.episodes
            );
        }
    }
    assert!(explained > KILLS, "{context}: {explained} messages are no load");
}
