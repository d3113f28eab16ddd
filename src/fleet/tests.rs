//! Any sequence of commands keeps the register whole, and its batches lead to the same state.

use crate::live::{Lifecycle, SensorType};
use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::limits::{ATTEMPTS_KEPT, CREDENTIALS_MAX, SENSORS_EVER_MAX, WINDOWS_MAX, ZONES_MAX};
use crate::time::UnixMillis;
use crate::wire::id::{GatewayId, SensorId, SiteId, SubscriptionId, TokenId, UserId, ZoneId};

const AT: UnixMillis = UnixMillis(1_000);

fn actor() -> Actor {
    Actor::system("test")
}

fn apply(register: &mut Register, commands: &[Command]) -> Result<Batch, Refusal> {
    let batch = register.apply(commands, actor(), AT)?;
    register.fold(&batch).expect("a fresh batch folds");
    Ok(batch)
}

fn owner() -> SubscriptionId {
    SubscriptionId::from_number(1)
}

/// One subscription, site 1 with zone 1.
fn small() -> Register {
    let mut register = Register::new();
    let commands = [
        Command::AddSubscription { id: owner(), name: "Contoso".into() },
        Command::AddSite { id: SiteId::from_number(1), subscription: owner(), name: "Werk".into() },
        Command::AddZone { id: ZoneId::from_number(1), site: SiteId::from_number(1), name: "Halle".into() },
    ];
    apply(&mut register, &commands).expect("a small fleet");
    register
}

fn add_sensor(number: u64, name: &str) -> Command {
    Command::AddSensor {
        id: SensorId::from_number(number),
        zone: ZoneId::from_number(1),
        name: name.into(),
        kind: SensorType::OtCloud,
        lifecycle: Lifecycle::PendingActivation,
    }
}

#[test]
fn a_subscription_comes_with_its_enterprise_site_which_is_the_only_place_for_such_sensors() {
    let mut register = small();
    let site = register.site_named(owner(), ENTERPRISE_SITE_NAME).expect("built in");
    assert_eq!((site.id, site.kind), (enterprise_site(owner()), SiteKind::Enterprise));
    let add = |zone, kind| Command::AddSensor {
        id: SensorId::from_number(9),
        zone,
        name: "e".into(),
        kind,
        lifecycle: Lifecycle::Active,
    };
    let refusal = apply(&mut register, &[add(ZoneId::from_number(1), SensorType::EnterpriseIot)]);
    let refusal = refusal.expect_err("not in an OT site");
    assert_eq!((refusal.code, refusal.field), (RefusalCode::WrongSiteKind, "zone"));
    assert!(refusal.right.contains(&enterprise_zone(owner()).to_string()), "{refusal}");
    let ot = add(enterprise_zone(owner()), SensorType::OtCloud);
    assert_eq!(apply(&mut register, &[ot]).map_err(|r| r.code), Err(RefusalCode::WrongSiteKind));
    assert!(apply(&mut register, &[add(enterprise_zone(owner()), SensorType::EnterpriseIot)]).is_ok());
    let rename = Command::EditSite { id: enterprise_site(owner()), edit: SiteEdit::named("Mine") };
    assert_eq!(apply(&mut register, &[rename]).map_err(|r| r.code), Err(RefusalCode::BuiltIn));
}

#[test]
fn one_refusal_in_a_bulk_command_leaves_nothing_and_says_which() {
    let mut register = small();
    let before = register.clone();
    let commands = [add_sensor(1, "a"), add_sensor(2, "b"), add_sensor(3, "a")];
    let refusal = apply(&mut register, &commands).expect_err("the name is in use");
    assert_eq!((refusal.index, refusal.code), (2, RefusalCode::NameTaken));
    assert_eq!(register, before);

    let sifted = register.sift(&commands, actor(), AT);
    assert_eq!((sifted.batch.changes.len(), sifted.refused.len()), (2, 1));
    register.fold(&sifted.batch).expect("folds");
    assert_eq!(register.counts().sensors, 2);
}

#[test]
fn commands_of_one_batch_see_each_other() {
    let mut register = small();
    apply(&mut register, &[add_sensor(1, "a"), add_sensor(2, "b")]).expect("two sensors");
    let rename = |number, name: &str| Command::EditSensor {
        id: SensorId::from_number(number),
        edit: SensorEdit::named(name),
    };
    let swap = [rename(1, "c"), rename(2, "a"), rename(1, "b")];
    let batch = apply(&mut register, &swap).expect("names swap");
    assert_eq!(batch.action, "edit-sensor");
    let names: Vec<_> = register.sensors_of(SiteId::from_number(1)).map(|s| (&*s.name, s.id)).collect();
    assert_eq!(names, [("a", SensorId::from_number(2)), ("b", SensorId::from_number(1))]);
}

#[test]
fn a_deleted_sensor_never_comes_back_and_gives_its_name_back() {
    let mut register = small();
    apply(&mut register, &[add_sensor(1, "a")]).expect("a sensor");
    apply(&mut register, &[Command::DeleteSensor { id: SensorId::from_number(1) }]).expect("deleted");
    assert_eq!(register.sensor(SensorId::from_number(1)), None);
    assert_eq!(register.deleted_sensor(SensorId::from_number(1)).map(|s| &*s.name), Some("a"));
    let again = apply(&mut register, &[add_sensor(1, "b")]).map_err(|r| r.code);
    assert_eq!(again, Err(RefusalCode::IdDeleted));
    assert!(apply(&mut register, &[add_sensor(2, "a")]).is_ok());
    assert!(apply(&mut register, &[Command::DeleteSensor { id: SensorId::from_number(2) }]).is_ok());
    assert!(apply(&mut register, &[Command::DeleteZone { id: ZoneId::from_number(1) }]).is_ok());
}

#[test]
fn zones_and_sensors_that_were_deleted_have_a_bound() {
    let mut register = small();
    apply(&mut register, &[add_sensor(1, "a")]).expect("a sensor");
    let zone = |number: u64| Command::AddZone {
        id: ZoneId::from_number(number),
        site: SiteId::from_number(1),
        name: format!("zone {number}"),
    };
    let refused = |register: &Register, commands: &[Command]| {
        register.apply(commands, actor(), AT).map_err(|refusal| (refusal.index, refusal.code)).map(drop)
    };
    register.pretend(|counts| counts.zones = ZONES_MAX - 1);
    assert_eq!(refused(&register, &[zone(2)]), Ok(()));
    assert_eq!(refused(&register, &[zone(2), zone(3)]), Err((1, RefusalCode::TooMany)));
    let id = ZoneId::from_number(2);
    assert_eq!(refused(&register, &[zone(2), Command::DeleteZone { id }, zone(3)]), Ok(()));
    // A subscription brings one along.
    let more = Command::AddSubscription { id: SubscriptionId::from_number(2), name: "Fabrikam".into() };
    assert_eq!(refused(&register, &[zone(2), more]), Err((1, RefusalCode::TooMany)));

    register.pretend(|counts| {
        counts.zones = 1;
        counts.deleted = SENSORS_EVER_MAX - 2;
    });
    assert_eq!(refused(&register, &[add_sensor(2, "b")]), Ok(()));
    assert_eq!(refused(&register, &[add_sensor(2, "b"), add_sensor(3, "c")]), Err((1, RefusalCode::TooMany)));
    // Deleting makes no room, and always can be done.
    let delete = Command::DeleteSensor { id: SensorId::from_number(1) };
    let with_delete = [delete, add_sensor(2, "b"), add_sensor(3, "c")];
    assert_eq!(refused(&register, &with_delete), Err((2, RefusalCode::TooMany)));
}

#[test]
fn windows_that_ended_make_room_and_are_forgotten() {
    let mut register = small();
    let place = Place::Site(SiteId::from_number(1));
    let mut add = |at: i64, from: i64, until: i64| {
        let window = Command::AddWindow {
            place,
            from: UnixMillis(from),
            until: UnixMillis(until),
            reason: "pump".into(),
        };
        let batch = register.apply(&[window], actor(), UnixMillis(at)).map_err(|refusal| refusal.code)?;
        register.fold(&batch).expect("folds");
        Ok(register.site(SiteId::from_number(1)).expect("there").about.quiet.windows.len())
    };
    let most = WINDOWS_MAX as i64;
    for n in 0..most {
        assert_eq!(add(0, n, 1_000 + n), Ok(n as usize + 1));
    }
    assert_eq!(add(0, 0, 9_000), Err(RefusalCode::TooMany));
    // One ended, and there is room for one.
    assert_eq!(add(1_000, 0, 9_000), Ok(WINDOWS_MAX + 1));
    assert_eq!(add(1_000, 0, 9_000), Err(RefusalCode::TooMany));
    // However many ended today, no more are kept than can go on.
    for n in 0..3 * most {
        let now = 10_000 + n;
        assert!(add(now, now, now + 1).expect("room") <= 2 * WINDOWS_MAX);
    }
    assert_eq!(add(200_000_000, 0, 200_000_001), Ok(1));
}

#[test]
fn what_already_is_as_asked_changes_nothing() {
    let mut register = small();
    apply(&mut register, &[add_sensor(1, "a")]).expect("a sensor");
    for command in [
        Command::EditSensor { id: SensorId::from_number(1), edit: SensorEdit::named("a") },
        Command::MoveSensor { id: SensorId::from_number(1), zone: ZoneId::from_number(1) },
        Command::SetLifecycle { id: SensorId::from_number(1), lifecycle: Lifecycle::PendingActivation },
    ] {
        assert!(apply(&mut register, &[command]).expect("nothing to refuse").is_empty());
    }
}

#[test]
fn a_batch_that_does_not_follow_is_noticed() {
    let mut register = small();
    let batch = apply(&mut register, &[add_sensor(1, "a")]).expect("a sensor");
    let error = register.fold(&batch).expect_err("twice the same");
    assert_eq!(error.index, 0);
}

#[test]
fn numbers_that_do_not_go_together_where_levels_meet_are_refused_with_both_places() {
    let mut register = small();
    apply(&mut register, &[add_sensor(1, "pump")]).expect("a sensor");
    let say = |place, code, value| {
        let mut numbers = crate::health::PolicyPatch::new();
        numbers.set_named(code, "percent", value).expect("in range");
        Command::SetPolicy { place, policy: Overrides { numbers, interval: None } }
    };
    let (site, zone) = (Place::Site(SiteId::from_number(1)), Place::Zone(ZoneId::from_number(1)));
    let sensor = Place::Sensor(SensorId::from_number(1));
    let near = "devices-near-limit";
    // Right by itself, and with what the site says; not without it.
    apply(&mut register, &[say(site, "devices-exceeded", 150.0)]).expect("more than the default");
    apply(&mut register, &[say(sensor, near, 100.0)]).expect("below what the site says");
    let before = register.clone();
    let refusal =
        |register: &mut Register, command| apply(register, &[command]).expect_err("they do not fit");
    let silent = Command::SetPolicy { place: site, policy: Overrides::default() };
    for command in [silent, say(zone, "devices-exceeded", 90.0)] {
        let refusal = refusal(&mut register, command);
        assert_eq!((refusal.code, refusal.field), (RefusalCode::PolicyInvalid, "policy"));
        assert!(refusal.value.contains("devices-near-limit.percent = 100"), "{refusal}");
        assert!(refusal.value.contains("sensor \"pump\""), "{refusal}");
        let other = ["zone \"Halle\"", "the product's default"];
        assert!(other.iter().any(|place| refusal.right.contains(place)), "{refusal}");
    }
    // Nor where nobody says what it relies on.
    let elsewhere = [
        Command::AddSite { id: SiteId::from_number(2), subscription: owner(), name: "Kiel".into() },
        Command::AddZone { id: ZoneId::from_number(2), site: SiteId::from_number(2), name: "Ost".into() },
        Command::MoveSensor { id: SensorId::from_number(1), zone: ZoneId::from_number(2) },
    ];
    let refused = apply(&mut register, &elsewhere).expect_err("it says what does not fit there");
    assert_eq!((refused.index, refused.code), (2, RefusalCode::PolicyInvalid));
    assert_eq!(register, before);
    // Together it is fine.
    let both = [
        elsewhere[0].clone(),
        elsewhere[1].clone(),
        say(Place::Subscription(owner()), "devices-exceeded", 130.0),
        elsewhere[2].clone(),
    ];
    apply(&mut register, &both).expect("they fit");
}

#[test]
fn refusal_codes_are_unlike_and_in_kebab_case() {
    let codes: BTreeSet<_> = RefusalCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(codes.len(), RefusalCode::ALL.len());
    assert!(codes.iter().all(|code| code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')));
}

/// Few ids and names, so that commands meet.
pub(crate) fn command() -> impl Strategy<Value = Command> {
    prop_oneof![6 => placed(), 2 => said(), 2 => enrolment(), 2 => people()]
}

/// Things and where they stand.
fn placed() -> impl Strategy<Value = Command> {
    fn id<T>(make: fn(u64) -> T) -> impl Strategy<Value = T>
    where
        T: std::fmt::Debug,
    {
        (1..4u64).prop_map(make)
    }
    let name = || prop::sample::select(vec!["a", "b", "c", "", "x\u{202e}"]).prop_map(str::to_owned);
    let site = || prop_oneof![3 => id(SiteId::from_number), 1 => id(SubscriptionId::from_number).prop_map(enterprise_site)];
    let zone = || prop_oneof![3 => id(ZoneId::from_number), 1 => id(SubscriptionId::from_number).prop_map(enterprise_zone)];
    let kind =
        prop::sample::select(vec![SensorType::OtCloud, SensorType::OtLocal, SensorType::EnterpriseIot]);
    let lifecycle = || {
        prop::sample::select(vec![
            Lifecycle::PendingActivation,
            Lifecycle::Active,
            Lifecycle::PendingReactivation,
            Lifecycle::Deleted,
        ])
    };
    let sensor = || id(SensorId::from_number);
    let subscription = || id(SubscriptionId::from_number);
    let gateway = || id(GatewayId::from_number);
    prop_oneof![
        (subscription(), name()).prop_map(|(id, name)| Command::AddSubscription { id, name }),
        (subscription(), name()).prop_map(|(id, name)| Command::RenameSubscription { id, name }),
        subscription().prop_map(|id| Command::DeleteSubscription { id }),
        (site(), subscription(), name()).prop_map(|(id, subscription, name)| Command::AddSite {
            id,
            subscription,
            name
        }),
        (site(), name()).prop_map(|(id, name)| Command::EditSite { id, edit: SiteEdit::named(name) }),
        site().prop_map(|id| Command::DeleteSite { id }),
        (zone(), site(), name()).prop_map(|(id, site, name)| Command::AddZone { id, site, name }),
        (zone(), name()).prop_map(|(id, name)| Command::RenameZone { id, name }),
        zone().prop_map(|id| Command::DeleteZone { id }),
        (sensor(), zone(), name(), kind, lifecycle()).prop_map(|(id, zone, name, kind, lifecycle)| {
            Command::AddSensor { id, zone, name, kind, lifecycle }
        }),
        (sensor(), name()).prop_map(|(id, name)| Command::EditSensor { id, edit: SensorEdit::named(name) }),
        (sensor(), zone()).prop_map(|(id, zone)| Command::MoveSensor { id, zone }),
        (sensor(), lifecycle()).prop_map(|(id, lifecycle)| Command::SetLifecycle { id, lifecycle }),
        sensor().prop_map(|id| Command::DeleteSensor { id }),
        (gateway(), name(), prop::collection::vec(site(), 0..3))
            .prop_map(|(id, name, sites)| Command::AddGateway { id, name, sites }),
        (gateway(), name()).prop_map(|(id, name)| Command::RenameGateway { id, name }),
        (gateway(), prop::collection::vec(site(), 0..3))
            .prop_map(|(id, sites)| Command::SetGatewaySites { id, sites }),
        gateway().prop_map(|id| Command::DeleteGateway { id }),
    ]
}

/// What is said of things: details, policies, quiet times.
fn said() -> impl Strategy<Value = Command> {
    let place = || {
        (0..4u8, 1..4u64).prop_map(|(kind, n)| match kind {
            0 => Place::Subscription(SubscriptionId::from_number(n)),
            1 => Place::Site(SiteId::from_number(n)),
            2 => Place::Zone(ZoneId::from_number(n)),
            _ => Place::Sensor(SensorId::from_number(n)),
        })
    };
    let text = || prop::sample::select(vec!["", "a", "x@example.com", "=1+1", "b\0"]).prop_map(str::to_owned);
    let number =
        prop::option::of((prop::sample::select(vec!["devices-exceeded", "devices-near-limit"]), 60..140));
    let policy = (prop::option::of(1..20_000u64), number).prop_map(|(interval, number)| {
        let mut numbers = crate::health::PolicyPatch::new();
        if let Some((code, value)) = number {
            // Out of range for one of the two: then nothing is said.
            let _ = numbers.set_named(code, "percent", f64::from(value));
        }
        Overrides { numbers, interval: interval.map(Duration::from_millis) }
    });
    let time = || (0..3_000i64).prop_map(UnixMillis);
    prop_oneof![
        (1..4u64, text(), text()).prop_map(|(id, tag, owner)| Command::EditSite {
            id: SiteId::from_number(id),
            edit: SiteEdit {
                name: None,
                tags: Some([(tag.clone(), tag)].into()),
                owners: Some(vec![owner.clone(), owner])
            },
        }),
        (1..4u64, text(), any::<bool>()).prop_map(|(id, notes, manual)| Command::EditSensor {
            id: SensorId::from_number(id),
            edit: SensorEdit {
                name: None,
                notes: Some(notes),
                threat_intel: manual.then_some(ThreatIntelMode::Manual)
            },
        }),
        (place(), policy).prop_map(|(place, policy)| Command::SetPolicy { place, policy }),
        (place(), prop::option::of((prop::option::of(time()), text()))).prop_map(|(place, mute)| {
            let mute = mute.map(|(until, reason)| Mute { until, reason: reason.into() });
            Command::SetMute { place, mute }
        }),
        (place(), time(), time(), text()).prop_map(|(place, from, until, reason)| Command::AddWindow {
            place,
            from,
            until,
            reason
        }),
        (place(), 1..4u32).prop_map(|(place, id)| Command::RemoveWindow { place, id }),
    ]
}

/// Activation files, their use, certificates.
fn enrolment() -> impl Strategy<Value = Command> {
    let id = || (1..4u64).prop_map(SensorId::from_number);
    let token = || (0..6u8).prop_map(|n| TokenHash([n; 32]));
    let credential = |n: u8| Credential {
        serial: format!("{n:02x}").into(),
        not_before: UnixMillis(0),
        not_after: UnixMillis(i64::from(n) * 300),
    };
    prop_oneof![
        (id(), token(), 500..2_000i64).prop_map(|(id, token, at)| Command::IssueActivation {
            id,
            token,
            expires_at: UnixMillis(at)
        }),
        (id(), token(), 0..3u8).prop_map(move |(id, token, n)| Command::Activate {
            id,
            token,
            key: [n; 32],
            credential: Some(credential(n)),
            from: Some("192.0.2.1".into()),
        }),
        (id(), 0..16u8).prop_map(move |(id, n)| Command::RecordCredential { id, credential: credential(n) }),
        (id(), 0..16u8, 0..16u8).prop_map(move |(id, shown, n)| Command::Renew {
            id,
            shown: credential(shown),
            credential: credential(n)
        }),
        id().prop_map(|id| Command::RevokeCredentials { id }),
        (
            id(),
            prop::sample::select(vec![SensorType::OtCloud, SensorType::OtLocal, SensorType::EnterpriseIot])
        )
            .prop_map(|(id, kind)| Command::SetMode { id, kind }),
        id().prop_map(|id| Command::NoteAttempt {
            id,
            attempt: Attempt {
                at: AT,
                from: "a\u{1b}[31m".into(),
                code: "token-used".into(),
                detail: "x".repeat(1_000).into()
            },
        }),
    ]
}

/// Users and tokens.
fn people() -> impl Strategy<Value = Command> {
    let id = || (1..4u64).prop_map(UserId::from_number);
    let grants = || {
        let role = prop::sample::select(Role::ALL.to_vec());
        let scope = prop_oneof![
            2 => Just(Scope::All),
            1 => (1..3u64).prop_map(|n| Scope::Site(SiteId::from_number(n))),
            1 => (1..3u64).prop_map(|n| Scope::Subscription(SubscriptionId::from_number(n))),
        ];
        prop::collection::vec((role, scope).prop_map(|(role, scope)| Grant { role, scope }), 0..3)
    };
    let name = || prop::sample::select(vec!["Ann", "bob", ""]);
    let password = || prop::sample::select(vec![None, Some("$argon2id$x"), Some("secret")]);
    prop_oneof![
        (id(), name(), password(), grants()).prop_map(|(id, name, password, grants)| Command::AddUser {
            user: User {
                id,
                name: name.into(),
                full_name: name.into(),
                password: password.map(Into::into),
                external: None,
                grants,
                disabled: false,
            }
        }),
        (id(), grants(), any::<bool>()).prop_map(|(id, grants, disabled)| Command::EditUser {
            id,
            edit: UserEdit { grants: Some(grants), disabled: Some(disabled), ..UserEdit::default() },
        }),
        id().prop_map(|id| Command::DeleteUser { id }),
        (1..5u64, id(), 0..8u8, grants()).prop_map(|(number, owner, hash, grants)| Command::AddToken {
            token: Token {
                id: TokenId::from_number(number),
                name: format!("t{}", number % 3).into(),
                owner,
                hash: TokenHash([hash; 32]),
                grants,
                created: UnixMillis(1),
                expires: UnixMillis(2),
                last_used: None,
            }
        }),
        (1..5u64).prop_map(|n| Command::DeleteToken { id: TokenId::from_number(n) }),
        (1..5u64, 0..9i64)
            .prop_map(|(n, at)| Command::TouchToken { id: TokenId::from_number(n), at: UnixMillis(at) }),
        Just(Command::Record(Event { code: EventCode::SignIn, about: None, detail: "é".repeat(1_000) })),
    ]
}

fn check(register: &Register) {
    let counts = register.counts();
    assert_eq!(register.sensors().count(), counts.sensors);
    assert_eq!(register.sites().count(), counts.sites);
    assert_eq!(register.zones().count(), counts.zones);
    assert_eq!(counts.by_type.iter().sum::<usize>(), counts.sensors);
    assert_eq!(counts.by_lifecycle.iter().sum::<usize>(), counts.sensors);
    for subscription in register.subscriptions() {
        assert!(register.site(enterprise_site(subscription.id)).is_some());
        assert!(register.zone(enterprise_zone(subscription.id)).is_some());
    }
    for site in register.sites() {
        assert!(register.subscription(site.subscription).is_some());
        assert_eq!(register.sensors_of(site.id).count(), register.sensors_of_count(site.id));
        let names: BTreeSet<_> = register.sensors_of(site.id).map(|s| &s.name).collect();
        assert_eq!(names.len(), register.sensors_of_count(site.id));
    }
    for sensor in register.sensors() {
        let site = register.site_of(sensor).expect("every sensor stands in a zone of a site");
        assert_eq!(site.kind, SiteKind::of(sensor.kind));
        assert_ne!(sensor.lifecycle, Lifecycle::Deleted);
        assert_eq!(register.sensor_named(site.id, &sensor.name), Some(sensor));
        assert_eq!(register.deleted_sensor(sensor.id), None);
    }
    for sensor in register.sensors().chain(register.deleted_sensors()) {
        let more = &sensor.more;
        assert!(more.attempts.len() <= ATTEMPTS_KEPT && more.credentials.len() <= CREDENTIALS_MAX);
        assert!(more.attempts.iter().all(|a| a.detail.len() <= 256 && !a.from.contains('\u{1b}')));
        for token in more.activation.iter().flat_map(|a| a.voided.iter().chain([&a.token])) {
            assert_eq!(register.activation_of(*token).map(|found| found.id), Some(sensor.id));
        }
        assert!(more.quiet.windows.is_sorted_by_key(|window| window.from));
    }
    assert_eq!((register.users().count(), register.tokens().count()), (counts.users, counts.tokens));
    for token in register.tokens() {
        assert!(register.user(token.owner).is_some());
        assert_eq!(register.token_of(token.hash), Some(token));
    }
    for user in register.users() {
        assert_eq!(register.user_named(&user.name.to_uppercase()), Some(user));
        assert!(user.grants.is_sorted());
    }
    for gateway in register.gateways() {
        assert!(gateway.sites.iter().all(|&site| register.site(site).is_some()));
        assert!(gateway.sites.is_sorted());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_commands_keep_the_register_whole(groups in prop::collection::vec(prop::collection::vec(command(), 1..6), 1..40)) {
        let mut register = Register::new();
        let mut batches = Vec::new();
        for commands in &groups {
            let sifted = register.sift(commands, actor(), AT);
            prop_assert_eq!(&sifted, &register.sift(commands, actor(), AT), "planning is deterministic");
            match register.apply(commands, actor(), AT) {
                Ok(batch) => prop_assert_eq!(&batch, &sifted.batch),
                Err(refusal) => prop_assert_eq!(Some(&refusal), sifted.refused.first()),
            }
            register.fold(&sifted.batch).map_err(|e| TestCaseError::fail(e.to_string()))?;
            check(&register);
            batches.push(sifted.batch);
        }
        let mut replayed = Register::new();
        for batch in &batches {
            replayed.fold(batch).map_err(|e| TestCaseError::fail(e.to_string()))?;
        }
        prop_assert_eq!(&replayed, &register);
        let mut from_snapshot = Register::new();
        for change in register.as_changes() {
            from_snapshot.fold_change(&change).map_err(TestCaseError::fail)?;
        }
        prop_assert_eq!(&from_snapshot, &register);
        // And back to nothing, through every state on the way.
        let mut states = vec![Register::new()];
        for batch in &batches {
            let mut next = states[states.len() - 1].clone();
            next.fold(batch).map_err(|e| TestCaseError::fail(e.to_string()))?;
            states.push(next);
        }
        for (batch, before) in batches.iter().zip(&states).rev() {
            register.unfold(batch).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(&register, before);
            check(&register);
        }
    }
}
