//! Who came in, who did not, and who left: each is in the audit log of the store, with who, how and from where.

use fleetpulse::fleet::{About, Actor, ActorKind, Change, Event, EventCode};
use fleetpulse::store::AuditQuery;
use serde_json::json;

use super::browser::{Browser, NAME, PASSWORD, set_up};
use super::oidc::{begin, finish, with_provider};
use super::provider::Provider;
use crate::export::rig::Rig;

/// What the log says since the last look, oldest first.
struct Log<'r> {
    rig: &'r Rig,
    seen: usize,
}

impl Log<'_> {
    fn new(rig: &Rig) -> Log<'_> {
        let mut log = Log { rig, seen: 0 };
        log.entries();
        log
    }

    fn entries(&mut self) -> Vec<(Actor, String, Vec<Change>)> {
        let page = self.rig.server.store().register.audit(&AuditQuery::default()).unwrap();
        assert!(page.next.is_none(), "one page is all of it");
        let mut all: Vec<_> = page
            .entries
            .into_iter()
            .map(|(_, batch)| (batch.actor, batch.action, batch.changes))
            // When a token was used is noted beside the request.
            .filter(|(_, action, _)| action != "touch-token")
            .collect();
        all.reverse();
        let new = all.split_off(self.seen);
        self.seen += new.len();
        new
    }

    /// The one event that was written since.
    fn event(&mut self) -> (Actor, Event) {
        let mut entries = self.entries();
        assert_eq!(entries.len(), 1, "{entries:?}");
        let (actor, action, mut changes) = entries.remove(0);
        let Some(Change::Event(event)) = changes.pop() else { panic!("no event: {action}") };
        assert_eq!(action, event.code.as_str());
        assert_eq!(actor.from.as_deref(), Some("127.0.0.1"), "{actor:?}");
        (actor, event)
    }

    /// A refusal is about nobody who is registered; its actor is who they said they were.
    fn refused(&mut self, name: &str, why: &str) {
        let (actor, event) = self.event();
        assert_eq!(
            (event.code, event.about, &*actor.name),
            (EventCode::SignInRefused, None, name),
            "{event:?}"
        );
        assert!(event.detail.contains(why), "{event:?}");
    }

    fn signed_in(&mut self, name: &str, how: &str) {
        let (actor, event) = self.event();
        let register = self.rig.server.fleet().register();
        let id = register.user_named(name).unwrap().id;
        assert_eq!((event.code, event.about), (EventCode::SignIn, Some(About::User(id))));
        assert_eq!((actor.kind, &*actor.name, &*event.detail), (ActorKind::User, name, how));
    }
}

#[test]
fn set_up_sign_in_and_sign_out_are_in_the_audit_log() {
    let rig = Rig::start_without_users(|_| {});
    let mut log = Log::new(&rig);
    let wrong = json!({"token": "x", "name": NAME, "password": PASSWORD});
    assert_eq!(rig.send_with("POST", "/api/v1/setup", &[], Some(&wrong)).status, 401);
    log.refused("", "set-up link");
    set_up(&rig);
    let made = log.entries();
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!((&*made[0].0.name, &*made[0].1), ("set-up link", "add-user"));
    let Change::User(user) = &made[0].2[0] else { panic!("{made:?}") };
    assert_eq!((user.before.is_none(), &*user.after.as_ref().unwrap().name), (true, NAME));

    let refuse = |name: &str, password: &str| {
        assert_eq!(Browser::sign_in(&rig, name, password).map(|_| ()).unwrap_err().status, 401);
    };
    refuse(NAME, "wrong horse battery");
    log.refused(NAME, "wrong password");
    refuse("nobody\u{7}", PASSWORD);
    log.refused("nobody", "no such user");
    let ada = Browser::sign_in(&rig, NAME, PASSWORD).unwrap();
    log.signed_in(NAME, "by password");
    for (name, more, why) in [
        ("off", json!({"disabled": true, "password": PASSWORD}), "disabled"),
        ("none", json!({}), "no password"),
    ] {
        let mut body = json!({"name": name});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(ada.send("POST", "/api/v1/users", Some(&body)).status, 201);
        assert_eq!(log.entries().len(), 1);
        refuse(name, PASSWORD);
        log.refused(name, why);
    }
    let change = json!({"current": "wrong horse battery", "new": "another horse battery"});
    assert_eq!(ada.send("PUT", "/api/v1/session/password", Some(&change)).status, 422);
    log.refused(NAME, "wrong password at its change");
    assert_eq!(ada.send("DELETE", "/api/v1/session", None).status, 204);
    let (actor, event) = log.event();
    assert_eq!((event.code, &*actor.name), (EventCode::SignOut, NAME));
    assert_eq!(ada.send("DELETE", "/api/v1/session", None).status, 401);
    assert!(log.entries().is_empty(), "who is out can't go out");
    let page = rig.server.store().register.audit(&AuditQuery::default()).unwrap();
    assert!(!format!("{page:?}").contains(PASSWORD), "no password is written down");
}

#[test]
fn signing_in_at_an_identity_provider_is_in_the_audit_log() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let rig = Rig::start_with(with_provider(&provider, &folder.path().join("secret")));
    let mut log = Log::new(&rig);
    assert_eq!(finish(&rig, &begin(&rig, &provider, "/")).status, 200);
    let mut entries = log.entries();
    assert_eq!(entries.len(), 2, "{entries:?}");
    let (actor, action, changes) = entries.remove(0);
    assert_eq!((&*action, changes.len()), ("add-user", 1));
    assert!(actor.name.starts_with("identity provider: "), "{actor:?}");
    assert_eq!((&*entries[0].0.name, &*entries[0].1), ("grace", "sign-in"));
    assert_eq!(finish(&rig, &begin(&rig, &provider, "/")).status, 200);
    log.signed_in("grace", "by identity provider");

    // Other groups are a change of its own, before the sign-in.
    provider.state.lock().unwrap().claims = json!({"groups": ["bosses"]});
    assert_eq!(finish(&rig, &begin(&rig, &provider, "/")).status, 200);
    let actions: Vec<String> = log.entries().into_iter().map(|(_, action, _)| action).collect();
    assert_eq!(actions, ["edit-user", "sign-in"]);

    // So are no groups at all, before the refusal: what they gave is taken.
    provider.state.lock().unwrap().claims = json!({"groups": ["tourists"]});
    assert_eq!(finish(&rig, &begin(&rig, &provider, "/")).status, 403);
    let entries = log.entries();
    let told = |place: usize| (&*entries[place].0.name, &*entries[place].1);
    assert_eq!(entries.len(), 2, "{entries:?}");
    assert_eq!(told(0), ("identity provider: grace", "edit-user"));
    assert_eq!(told(1), ("grace", "sign-in-refused"));
    provider.state.lock().unwrap().claims = json!({"nonce": "another"});
    assert!(finish(&rig, &begin(&rig, &provider, "/")).status >= 401);
    log.refused("", "");
    let path = "/api/v1/sign-in/oidc/callback?error=access_denied".to_owned();
    assert_eq!(finish(&rig, &(String::new(), path)).status, 401);
    log.refused("", "access_denied");
    let grace = rig.server.fleet().register().user_named("grace").unwrap().id;
    let disabled = rig.send("PATCH", &format!("/api/v1/users/{grace}"), Some(&json!({"disabled": true})));
    assert_eq!(disabled.status, 200);
    assert_eq!(log.entries().len(), 1);
    provider.state.lock().unwrap().claims = json!({});
    assert_eq!(finish(&rig, &begin(&rig, &provider, "/")).status, 403);
    log.refused("grace", "disabled");
}
