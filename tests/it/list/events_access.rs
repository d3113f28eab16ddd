//! Streams of events and the right to them: what is taken away ends them at once, with the reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleetpulse::fleet::{Command, Grant, Role, Scope, SiteEdit, UserEdit};
use fleetpulse::limits::EVENT_STREAMS_MAX;
use fleetpulse::time::{Clock, ManualClock};
use fleetpulse::wire::id::UserId;
use serde_json::{Value, json};

use super::events::renamed;
use super::follow::{Asked, Follow};
use super::world::{World, text};
use crate::export::rig::{Answer, send, until};
use crate::http::browser::{Browser, cookie};

const PASSWORD: &str = "correct horse battery";

/// A user who sees everything: id and path.
fn user(world: &World, name: &str) -> (UserId, String) {
    let body = json!({"name": name, "password": PASSWORD, "grants": [{"role": "reader"}]});
    let made = world.rig.send("POST", "/api/v1/users", Some(&body));
    assert_eq!(made.status, 201, "{made:?}");
    (text(&made.json(), "/id").parse().unwrap(), made.header("location").unwrap().to_owned())
}

fn token(world: &World, owner: &str, life: Duration) -> String {
    world.rig.server.token_for(owner, Role::Administrator, life).unwrap()
}

fn done(answer: &Answer) {
    assert!((200..300).contains(&answer.status), "{answer:?}");
}

/// A stream that has begun, and is asked for nothing any more.
fn follow(of: &Asked, topic: &str) -> Follow {
    let mut follow = Follow::open(of, topic, None);
    follow.begins_anew("start");
    follow
}

/// It ends with this reason; of what came after the change nothing was seen. It did not wait for a sign of life, which
/// comes after many seconds.
fn ends(follow: &mut Follow, reason: &str, again: bool) {
    let end = follow.next_of_log();
    assert_eq!(end.name, "end", "{reason}: {end:?}");
    assert_eq!((text(&end.data, "/reason"), &end.data["again"]), (reason, &Value::Bool(again)));
    assert!(!text(&end.data, "/detail").is_empty());
    assert!(follow.next().is_none(), "{reason}: nothing follows");
    assert_eq!(follow.beats, 0, "{reason}");
}

#[test]
fn a_stream_ends_with_the_right_to_it_and_says_why() {
    let world = World::new(8);
    let rig = &world.rig;
    let address = rig.server.http_addr();
    let hour = Duration::from_secs(3_600);
    let token_path = |owner: UserId| {
        let register = rig.server.fleet().register();
        format!("/api/v1/tokens/{}", register.tokens_of(owner).next().unwrap().id)
    };
    type Change<'c> = &'c dyn Fn(&World, (UserId, &str));
    let of_tokens: [(&str, Change<'_>); 4] = [
        ("token-deleted", &|world, (id, _)| done(&world.rig.send("DELETE", &token_path(id), None))),
        ("user-disabled", &|world, (_, path)| {
            done(&world.rig.send("PATCH", path, Some(&json!({"disabled": true}))));
        }),
        ("user-deleted", &|world, (_, path)| done(&world.rig.send("DELETE", path, None))),
        ("no-grants", &|world, (_, path)| {
            done(&world.rig.send("PATCH", path, Some(&json!({"grants": []}))));
        }),
    ];
    for (reason, change) in of_tokens {
        let (id, path) = user(&world, reason);
        let asked = Asked::token(address, &token(&world, reason, hour));
        let mut streams = ["sensors", "messages"].map(|topic| follow(&asked, topic));
        change(&world, (id, &path));
        world.apply(&[renamed(world.sensors[0], &format!("after {reason}"))]);
        streams.iter_mut().for_each(|stream| ends(stream, reason, false));
    }

    let of_sessions: [(&str, &str, Change<'_>); 4] = [
        ("session-ended", "new password", &|world, (_, path)| {
            done(&world.rig.send("PATCH", path, Some(&json!({"password": "another horse battery"}))));
        }),
        ("session-ended", "own password", &|world, _| {
            let other = Browser::sign_in(&world.rig, "own password", PASSWORD).unwrap();
            let body = json!({"current": PASSWORD, "new": "another horse battery"});
            done(&other.send("PUT", "/api/v1/session/password", Some(&body)));
        }),
        ("user-disabled", "disabled", &|world, (_, path)| {
            done(&world.rig.send("PATCH", path, Some(&json!({"disabled": true}))));
        }),
        ("no-grants", "no grants", &|world, (_, path)| {
            done(&world.rig.send("PATCH", path, Some(&json!({"grants": []}))));
        }),
    ];
    for (reason, name, change) in of_sessions {
        let (id, path) = user(&world, name);
        let browser = Browser::sign_in(rig, name, PASSWORD).unwrap();
        let mut stream = follow(&Asked::session(address, &browser.cookie), "sensors");
        change(&world, (id, &path));
        world.apply(&[renamed(world.sensors[0], &format!("after {name}"))]);
        ends(&mut stream, reason, false);
    }
    user(&world, "signs out");
    let (one, other) = (
        Browser::sign_in(rig, "signs out", PASSWORD).unwrap(),
        Browser::sign_in(rig, "signs out", PASSWORD).unwrap(),
    );
    let mut gone = follow(&Asked::session(address, &one.cookie), "sensors");
    let mut stays = follow(&Asked::session(address, &other.cookie), "sensors");
    done(&one.send("DELETE", "/api/v1/session", None));
    world.apply(&[renamed(world.sensors[0], "after signing out")]);
    ends(&mut gone, "session-ended", false);
    assert_eq!(text(&stays.next_of_log().data, "/sensor/name"), "after signing out");
}

#[test]
fn on_a_stream_where_nothing_happens_it_ends_all_the_same() {
    let world = World::new(2);
    let address = world.rig.server.http_addr();
    let (id, _) = user(&world, "bob");
    // A token whose time is over.
    let brief = token(&world, "bob", Duration::from_secs(2));
    let mut expires = follow(&Asked::token(address, &brief), "messages");
    ends(&mut expires, "token-expired", false);
    // A change that does not come through HTTP.
    let mut stream =
        follow(&Asked::token(address, &token(&world, "bob", Duration::from_secs(3_600))), "messages");
    let edit = UserEdit { disabled: Some(true), ..UserEdit::default() };
    world.apply(&[Command::EditUser { id, edit }]);
    ends(&mut stream, "user-disabled", false);
    let mut stopped = follow(&Asked::of(&world.rig), "messages");
    world.rig.server.stop();
    ends(&mut stopped, "server-stops", true);
}

#[test]
fn who_sees_less_or_more_than_before_begins_anew() {
    let world = World::new(12);
    let address = world.rig.server.http_addr();
    let (_, path) = user(&world, "bob");
    let mut stream =
        follow(&Asked::token(address, &token(&world, "bob", Duration::from_secs(3_600))), "sensors");
    let may = |grants: Value| done(&world.rig.send("PATCH", &path, Some(&json!({"grants": grants}))));
    let both = |name: &str| {
        world.apply(&[renamed(world.sensors[0], &format!("{name} 0"))]);
        world.apply(&[renamed(world.sensors[1], &format!("{name} 1"))]);
    };
    let name = |stream: &mut Follow| text(&stream.next_of_log().data, "/sensor/name").to_owned();
    both("all");
    assert_eq!((name(&mut stream), name(&mut stream)), ("all 0".into(), "all 1".into()));
    may(json!([{"role": "reader", "site": world.sites[1].to_string()}]));
    stream.begins_anew("access-changed");
    both("one");
    assert_eq!(name(&mut stream), "one 1");
    may(json!([{"role": "reader"}]));
    stream.begins_anew("access-changed");
    both("again");
    assert_eq!((name(&mut stream), name(&mut stream)), ("again 0".into(), "again 1".into()));
    // What is no change of access is none.
    done(&world.rig.send("PATCH", &path, Some(&json!({"full_name": "Robert"}))));
    user(&world, "somebody else");
    both("still");
    assert_eq!((name(&mut stream), name(&mut stream)), ("still 0".into(), "still 1".into()));
}

struct Stops<'s>(&'s AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// As many streams as there may be, while the register changes all the time. The change is made beside HTTP, so that it
/// can come at any moment of what the streams do.
#[test]
fn of_many_streams_none_shows_what_came_after_the_acknowledged_change() {
    let world = World::new(12);
    let address = world.rig.server.http_addr();
    let (id, _) = user(&world, "bob");
    let asked = Asked::token(address, &token(&world, "bob", Duration::from_secs(3_600)));
    let grants_of = |sites: &[usize]| {
        let grant = |&site: &usize| Grant { role: Role::Reader, scope: Scope::Site(world.sites[site]) };
        let grants = Some(sites.iter().map(grant).collect());
        Command::EditUser { id, edit: UserEdit { grants, ..UserEdit::default() } }
    };
    world.apply(&[grants_of(&[0, 1])]);
    let mut streams: Vec<Follow> = (0..EVENT_STREAMS_MAX).map(|_| follow(&asked, "sensors")).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also when something is not as it should be.
        let _stops = Stops(&stop);
        scope.spawn(|| {
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                world.apply(&[renamed(world.sensors[1], &format!("busy {round}"))]);
            }
        });
        world.apply(&[renamed(world.sensors[0], "before")]);
        world.apply(&[grants_of(&[1])]);
        world.apply(&[renamed(world.sensors[0], "after")]);
        world.apply(&[grants_of(&[])]);
        world.apply(&[renamed(world.sensors[1], "at the end")]);
        for stream in &mut streams {
            let mut anew = false;
            loop {
                let event = stream.next_of_log();
                match event.name.as_str() {
                    "end" => {
                        assert_eq!(text(&event.data, "/reason"), "no-grants");
                        break;
                    }
                    "snapshot" => anew = true,
                    "gap" => {}
                    _ => {
                        let name = text(&event.data, "/sensor/name");
                        assert!(name != "after" && name != "at the end", "{event:?}");
                        assert!(!anew || name.starts_with("busy"), "{event:?}");
                    }
                }
            }
            assert!(stream.next().is_none());
        }
    });
    // The places are free again.
    until(&200, || world.rig.get("/api/v1/events/sensors").status);
}

#[test]
fn a_stream_lasts_no_longer_than_its_session_and_is_no_use_of_it() {
    // Without sensors nothing happens by itself.
    let world = World::new(0);
    user(&world, "bob");
    let clock = Arc::new(ManualClock::new(world.rig.server.clock().unix()));
    let http = world.rig.server.http_by(Arc::clone(&clock) as _).unwrap();
    let address = http.local_addr();
    let minutes = |minutes: u64| {
        // One thread writes all answers: what the client has read is written when another one comes, and does not seem
        // to have taken that long.
        done(&send(address, "GET", "/livez", &[], None));
        clock.advance(Duration::from_secs(minutes * 60));
    };
    let sign_in = || {
        let body = json!({"name": "bob", "password": PASSWORD});
        let answer = send(address, "POST", "/api/v1/session", &[], Some(&body));
        done(&answer);
        cookie(&answer)
    };
    let mut number = 0;
    let mut change = || {
        number += 1;
        let edit = SiteEdit::named(format!("change {number}"));
        world.apply(&[Command::EditSite { id: world.sites[0], edit }]);
    };
    let cookie = sign_in();
    let mut stream = follow(&Asked::session(address, &cookie), "sensors");
    assert_eq!(stream.next().unwrap().name, "live", "of the first look at live values");
    minutes(29);
    change();
    assert_eq!(stream.next_of_log().name, "site");
    // Used by a request: the stream goes on with it.
    done(&send(address, "GET", "/api/v1/session", &[("Cookie", &cookie)], None));
    minutes(29);
    change();
    assert_eq!(stream.next_of_log().name, "site");
    // Events are not requests: nobody used the session for half an hour.
    minutes(2);
    change();
    ends(&mut stream, "session-expired", false);
    // And an hour is the end of any stream. Somebody's coming wakes it.
    let cookie = sign_in();
    let mut stream = follow(&Asked::session(address, &cookie), "messages");
    for _ in 0..3 {
        minutes(20);
        done(&send(address, "GET", "/api/v1/session", &[("Cookie", &cookie)], None));
    }
    user(&world, "eve");
    ends(&mut stream, "life-over", true);
}

#[test]
fn the_command_that_follows_says_why_it_ended() {
    let world = World::new(2);
    user(&world, "bob");
    let brief = token(&world, "bob", Duration::from_secs(3));
    let url = format!("http://{}", world.rig.server.http_addr());
    let cli = crate::cli::rig::Cli::of(&url).with("FLEETPULSE_TOKEN", &brief);
    let ran = cli.run(&["events", "sensors", "--json"]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.err.contains("the API token has expired"), "{ran:?}");
    let last: Value = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
    assert_eq!((text(&last, "/event"), text(&last, "/data/reason")), ("end", "token-expired"));
}
