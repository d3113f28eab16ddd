use super::*;
use crate::health::catalogue::rules_of;
use crate::health::policy::PolicyPatch;
use crate::live::{LiveState, OwnerRef, PolicyIndex, SensorType, SiteIndex, SlotFacts, SlotHandle, Writer};
use crate::time::{MONO_ORIGIN, UnixMillis};
use crate::wire::frame::{read_frame, write_frame};
use crate::wire::heartbeat::{
    BackupResult, EndpointState, FLAG_BACKUP_DISABLED, FLAG_GOODBYE, FLAG_GOODBYE_RESTART, Heartbeat,
    NtpState, Profile, TiStatus, UpdateStage, inline,
};
use crate::wire::id::SensorId;

const WALL: i64 = 1_795_478_400_000;

/// One sensor whose frames go the real way, and the rules that hold for it.
struct Bench {
    live: LiveState,
    handle: SlotHandle,
    epoch: u64,
    policy: Policy,
    ground: Ground,
    kind: SensorType,
}

fn at(seconds: f64) -> Now {
    let ms = (seconds * 1e3) as u64;
    Now { mono: MONO_ORIGIN.plus(Duration::from_millis(ms)), unix: UnixMillis(WALL + ms as i64) }
}

impl Bench {
    fn new(kind: SensorType) -> Bench {
        let live = LiveState::with_capacity(1);
        let facts = SlotFacts {
            kind,
            lifecycle: Lifecycle::Active,
            site: SiteIndex(0),
            policy: PolicyIndex(0),
            muted: false,
        };
        let handle = live.insert(SensorId::from_number(1), facts).expect("room");
        let owner = OwnerRef { node: 0, shard: 0, connection: 1 };
        let end = UnixMillis(WALL + 365 * 86_400_000);
        let epoch = live.take(handle, owner, end, at(0.0).mono).expect("there").epoch;
        let ground = Ground {
            trusted_since: at(0.0).mono,
            gateway_silent: false,
            clock_trusted: true,
            support: SupportState::Supported,
            newest_version: None,
            desired_settings: None,
            newest_threat_intel: [0; TI_VERSION_BYTES],
        };
        Bench { live, handle, epoch, policy: Policy::default(), ground, kind }
    }

    fn beat(sequence: u64) -> Heartbeat {
        Heartbeat {
            sensor_id: SensorId::from_number(1).0,
            sequence,
            interval_ms: 1_000,
            uptime_ms: sequence * 1_000,
            sensor_clock_unix_us: (WALL + sequence as i64 * 1_000) * 1_000,
            interfaces_total: 1,
            rx_packets: sequence,
            profile: Profile::L500.to_wire(),
            ..Heartbeat::default()
        }
    }

    /// Hears a heartbeat whose clock is as far off as the test made it.
    fn hear(&self, beat: &Heartbeat, now: f64) {
        let off_us = beat.sensor_clock_unix_us - Bench::beat(beat.sequence).sensor_clock_unix_us;
        let clock_us = at(now).unix.0 * 1_000 + off_us;
        let mut bytes = Vec::new();
        write_frame(&Heartbeat { sensor_clock_unix_us: clock_us, ..beat.clone() }, 0, &mut bytes);
        let (frame, _) = read_frame(&bytes).expect("our own frame");
        let seen = self.live.observe(self.handle, Writer::Direct { epoch: self.epoch }, &frame, at(now).mono);
        assert!(seen.counts(), "{seen:?}");
    }

    fn holds_with(&self, now: f64, active: u64) -> Vec<&'static str> {
        self.live.set_wall(at(now));
        let sensor = self.live.snapshot(self.handle.index).expect("quiet");
        let input =
            Input { sensor: &sensor, policy: &self.policy, now: at(now), active, ground: self.ground };
        let judged = judge_all(&input);
        let in_its_slot = self.live.glance(self.handle.index, |_, sensor| {
            judge_all(&Input { sensor, policy: &self.policy, now: at(now), active, ground: self.ground })
        });
        assert!(in_its_slot.is_none_or(|glance| glance == judged), "{in_its_slot:?}, not {judged:?}");
        for rule in rules_of(judged.holds) {
            assert!(matches!(evaluate(rule, &input), Outcome::Holds { .. }));
            assert!(!evidence_of(rule, &input).is_empty(), "{} says why", rule.code());
        }
        rules_of(judged.holds)
            .filter(|rule| rule.rule().applies_to.contains(self.kind))
            .map(RuleId::code)
            .collect()
    }

    fn holds(&self, now: f64) -> Vec<&'static str> {
        self.holds_with(now, 0)
    }
}

/// What holds after two heartbeats, the second one changed.
fn with(change: impl FnOnce(&mut Heartbeat)) -> Vec<&'static str> {
    let bench = Bench::new(SensorType::OtCloud);
    bench.hear(&Bench::beat(1), 1.0);
    let mut beat = Bench::beat(2);
    change(&mut beat);
    bench.hear(&beat, 2.0);
    bench.holds(2.5)
}

#[test]
fn a_sensor_without_fault_has_no_message() {
    assert!(with(|_| {}).is_empty());
}

#[test]
fn each_value_raises_its_own_rule_and_no_other() {
    assert_eq!(with(|b| (b.self_test_ran, b.self_test_failed) = (7, 2)), ["self-test-failed"]);
    assert_eq!(with(|b| (b.self_test_ran, b.self_test_age_s) = (7, 200_000)), ["self-test-failed"]);
    assert!(with(|b| (b.self_test_ran, b.self_test_failed) = (1, 2)).is_empty(), "a test that did not run");
    assert_eq!(with(|b| b.backup_result = BackupResult::NoRoom.to_wire()), ["backup-failed"]);
    assert_eq!(with(|b| b.ntp_state = NtpState::Unreachable.to_wire()), ["ntp-unreachable"]);
    assert_eq!(with(|b| b.ntp_state = NtpState::NotConfigured.to_wire()), ["ntp-not-configured"]);
    assert_eq!(with(|b| b.directory_configured = 2), ["directory-unreachable"]);
    assert!(with(|b| (b.directory_configured, b.directory_reachable) = (2, 1)).is_empty());
    assert_eq!(with(|b| b.update_stage = UpdateStage::SendFailed.to_wire()), ["package-transfer-failed"]);
    assert_eq!(with(|b| b.update_stage = UpdateStage::RolledBack.to_wire()), ["update-failed"]);
    assert_eq!(with(|b| b.endpoint_states[3] = EndpointState::Dns.to_wire()), ["partially-connected"]);
    assert_eq!(with(|b| b.disk_permille[1] = 901), ["disk-almost-full"]);
    assert!(with(|b| b.disk_permille[2] = 990).is_empty(), "only root and data");
    assert_eq!(with(|b| b.ti_status = TiStatus::Failed.to_wire()), ["threat-intel-failed"]);
    assert_eq!(with(|b| b.ti_status = TiStatus::UpdateAvailable.to_wire()), ["threat-intel-outdated"]);
    assert_eq!(with(|b| b.flags = FLAG_GOODBYE), ["planned-stop"]);
    assert!(with(|b| b.flags = FLAG_GOODBYE | FLAG_GOODBYE_RESTART).is_empty());
}

#[test]
fn backups_are_judged_by_result_and_age_where_there_are_any() {
    let age = |result: BackupResult, age: u32, flags: u32, profile: Profile| {
        with(|b| {
            (b.backup_result, b.backup_age_s) = (result.to_wire(), age);
            (b.flags, b.profile) = (flags, profile.to_wire());
        })
    };
    assert!(age(BackupResult::Ok, 25 * 3_600, 0, Profile::E500).is_empty());
    assert_eq!(age(BackupResult::Ok, 27 * 3_600, 0, Profile::E500), ["backup-failed"]);
    assert!(age(BackupResult::Failed, 0, FLAG_BACKUP_DISABLED, Profile::E500).is_empty());
    assert!(age(BackupResult::Failed, 0, 0, Profile::L100).is_empty());
}

#[test]
fn profiles_limit_devices_and_near_and_over_exclude_each_other() {
    assert!(with(|b| b.devices = 800).is_empty());
    assert_eq!(with(|b| b.devices = 801), ["devices-near-limit"]);
    assert_eq!(with(|b| b.devices = 1_000), ["devices-near-limit"]);
    assert_eq!(with(|b| b.devices = 1_001), ["devices-exceeded"]);
    assert!(with(|b| (b.devices, b.profile) = (50_000, 0)).is_empty(), "an unknown profile has no limit");
    assert_eq!(profile_limits(Profile::C5600.to_wire()), (Some(3_000), Some(12_000)));
    assert_eq!(profile_limits(Profile::L60.to_wire()), (Some(10), Some(100)));
    assert_eq!(profile_limits(200), (None, None));
}

#[test]
fn traffic_is_judged_against_the_profile_and_drops_against_what_came() {
    let rate = |mbit: u64| with(|b| b.rx_bytes = mbit * 1_000_000 / 8);
    assert!(rate(159).is_empty());
    assert_eq!(rate(170), ["bandwidth-near-limit"]);
    assert_eq!(rate(210), ["bandwidth-exceeded"]);
    assert_eq!(with(|b| (b.rx_packets, b.rx_dropped) = (1_001, 20)), ["capture-overload"]);
    assert!(with(|b| (b.rx_packets, b.rx_dropped) = (1_001, 5)).is_empty());
}

#[test]
fn a_margin_keeps_an_active_rule_until_the_value_is_well_below() {
    let bench = Bench::new(SensorType::OtCloud);
    let disk = RuleId::DiskAlmostFull.bit();
    for (sequence, permille, fresh, active) in [(1, 870, false, true), (2, 849, false, false)] {
        let mut beat = Bench::beat(sequence);
        beat.disk_permille[0] = permille;
        bench.hear(&beat, sequence as f64);
        let now = sequence as f64 + 0.1;
        assert_eq!(bench.holds(now).contains(&"disk-almost-full"), fresh);
        assert_eq!(bench.holds_with(now, disk).contains(&"disk-almost-full"), active);
    }
}

#[test]
fn silence_is_known_to_the_millisecond_and_no_window_is_shorter_than_the_sensor_allows() {
    let mut bench = Bench::new(SensorType::OtCloud);
    bench.hear(&Bench::beat(1), 1.0);
    assert!(bench.holds(300.999).is_empty());
    assert_eq!(bench.holds(301.0), ["disconnected"]);
    bench.ground.trusted_since = at(50.0).mono;
    assert!(bench.holds(349.999).is_empty(), "counts from the end of doubt");
    assert_eq!(
        bench.holds_with(301.0, RuleId::Disconnected.bit()),
        ["disconnected"],
        "doubt ends no message"
    );
    let slow = Heartbeat { interval_ms: 200_000, ..Bench::beat(2) };
    bench.hear(&slow, 100.0);
    assert!(bench.holds(699.0).is_empty());
    assert!(bench.holds(700.0).contains(&"disconnected"), "three of its own intervals");
}

#[test]
fn silence_is_expected_after_goodbye_and_while_installing() {
    let bench = Bench::new(SensorType::OtCloud);
    bench.hear(&Heartbeat { flags: FLAG_GOODBYE, ..Bench::beat(1) }, 1.0);
    assert_eq!(bench.holds(1e6), ["planned-stop"]);
    let restart = FLAG_GOODBYE | FLAG_GOODBYE_RESTART;
    bench.hear(&Heartbeat { flags: restart, ..Bench::beat(2) }, 2.0);
    assert!(!bench.holds(901.9).contains(&"disconnected"));
    assert!(bench.holds(902.1).contains(&"disconnected"), "the grace of a restart has an end");
    let installing = UpdateStage::Installing.to_wire();
    bench.hear(&Heartbeat { update_stage: installing, ..Bench::beat(3) }, 1_000.0);
    assert!(!bench.holds(3_699.0).contains(&"disconnected"));
    assert!(bench.holds(3_701.0).contains(&"disconnected"));
    assert!(bench.holds(8_300.0).contains(&"update-failed"), "so has an installation");
}

#[test]
fn no_traffic_needs_a_heartbeat_that_shows_none() {
    let bench = Bench::new(SensorType::OtCloud);
    bench.hear(&Bench::beat(1), 1.0);
    assert!(!bench.holds(2_000.0).contains(&"no-traffic"), "its own silence says nothing of its network");
    bench.hear(&Heartbeat { rx_packets: 1, ..Bench::beat(2) }, 2.0);
    assert!(!bench.holds(900.9).contains(&"no-traffic"));
    assert!(bench.holds(901.0).contains(&"no-traffic"));
    bench.hear(&Heartbeat { interfaces_total: 0, ..Bench::beat(3) }, 3.0);
    assert!(!bench.holds(2_000.0).contains(&"no-traffic"), "nothing is monitored");
}

#[test]
fn a_restart_does_not_end_no_traffic_before_traffic_is_seen() {
    let bench = Bench::new(SensorType::OtCloud);
    let active = RuleId::NoTraffic.bit();
    bench.hear(&Bench::beat(1), 1.0);
    let reborn = |sequence| Heartbeat { boot_id: 2, rx_packets: 0, ..Bench::beat(sequence) };
    bench.hear(&reborn(1), 10.0);
    bench.hear(&reborn(2), 11.0);
    let sensor = bench.live.snapshot(bench.handle.index).expect("quiet");
    let input = Input { sensor: &sensor, policy: &bench.policy, now: at(11.5), active, ground: bench.ground };
    assert_eq!(judge(RuleId::NoTraffic, &input), Judgement::Unknown);
    bench.hear(&Heartbeat { rx_packets: 5, ..reborn(3) }, 12.0);
    assert!(!bench.holds_with(12.5, active).contains(&"no-traffic"));
}

#[test]
fn an_iot_sensor_has_no_rules_of_ot_and_a_local_one_no_silence() {
    let iot = Bench::new(SensorType::EnterpriseIot);
    iot.hear(
        &Heartbeat { ti_status: TiStatus::Failed.to_wire(), directory_configured: 1, ..Bench::beat(1) },
        1.0,
    );
    assert!(iot.holds(2.0).is_empty());
    let local = Bench::new(SensorType::OtLocal);
    assert!(local.holds(1e6).is_empty());
}

#[test]
fn the_clock_is_judged_while_the_servers_own_is_trusted() {
    let mut bench = Bench::new(SensorType::OtCloud);
    let off = |sequence: u64| {
        let beat = Bench::beat(sequence);
        Heartbeat { sensor_clock_unix_us: beat.sensor_clock_unix_us - 300_000_000, ..beat }
    };
    bench.hear(&off(1), 1.0);
    assert_eq!(bench.holds(1.5), ["clock-drift"]);
    bench.ground.clock_trusted = false;
    assert!(bench.holds(1.5).is_empty());
    bench.ground.clock_trusted = true;
    let mut patch = PolicyPatch::new();
    patch.set_named("clock-drift", "offset_max", 400.0).expect("in range");
    bench.policy = Policy::default().with(&patch).expect("sound");
    assert!(bench.holds(1.5).is_empty());
}

#[test]
fn loss_is_n_of_m_and_restarts_make_a_loop() {
    let bench = Bench::new(SensorType::OtCloud);
    for sequence in (1..=70).filter(|sequence| sequence % 5 != 0) {
        bench.hear(&Bench::beat(sequence), sequence as f64);
    }
    assert_eq!(bench.holds(70.0), ["unstable-link"]);
    let bench = Bench::new(SensorType::OtCloud);
    for boot in 1..=4 {
        bench.hear(&Heartbeat { boot_id: boot, ..Bench::beat(1) }, boot as f64 * 60.0);
    }
    assert_eq!(bench.holds(241.0), ["restart-loop"]);
    assert!(bench.holds(1_000.0).iter().all(|&code| code == "disconnected"), "long ago is not a loop");
}

#[test]
fn two_machines_with_one_identity_are_told_from_one_that_restarts() {
    let swap = |uptime_ms: u64| {
        let mut bench = Bench::new(SensorType::OtCloud);
        bench.hear(&Bench::beat(1), 1.0);
        for connection in 2..=3 {
            let owner = OwnerRef { node: 0, shard: 0, connection };
            let now = 60.0 * f64::from(connection);
            let end = UnixMillis(WALL + 365 * 86_400_000);
            bench.epoch = bench.live.take(bench.handle, owner, end, at(now).mono).expect("there").epoch;
            let beat = Bench::beat(1);
            bench.hear(&Heartbeat { boot_id: u64::from(connection), uptime_ms, ..beat }, now + 1.0);
        }
        bench.holds(182.0)
    };
    assert_eq!(swap(100_000), ["duplicate-identity"]);
    assert!(swap(2_000).is_empty());
    // It started again at 15 s and its link came back a minute later: nobody else spoke meanwhile.
    assert!(swap(45_000).is_empty());
}

#[test]
fn what_should_be_is_compared_with_what_is() {
    let mut bench = Bench::new(SensorType::OtCloud);
    bench
        .hear(&Heartbeat { settings_generation: 4, ti_version: inline("2026-11-01"), ..Bench::beat(1) }, 1.0);
    bench.ground.desired_settings = Some(4);
    bench.ground.newest_threat_intel = inline("2026-11-01");
    assert!(bench.holds(2.0).is_empty());
    bench.ground.desired_settings = Some(5);
    bench.ground.newest_threat_intel = inline("2026-11-20");
    bench.ground.support = SupportState::Unsupported;
    assert_eq!(bench.holds(2.0), ["version-unsupported", "settings-out-of-sync", "threat-intel-outdated"]);
}

#[test]
fn nothing_is_known_before_a_heartbeat_or_behind_a_silent_gateway() {
    let mut bench = Bench::new(SensorType::OtCloud);
    let unknown = |bench: &Bench| {
        bench.live.set_wall(at(2.0));
        let sensor = bench.live.snapshot(bench.handle.index).expect("quiet");
        let input =
            Input { sensor: &sensor, policy: &bench.policy, now: at(2.0), active: 0, ground: bench.ground };
        judge_all(&input).unknown
    };
    assert_ne!(unknown(&bench) & RuleId::DiskAlmostFull.bit(), 0);
    assert_eq!(unknown(&bench) & RuleId::Disconnected.bit(), 0, "silence itself is known");
    bench.hear(&Bench::beat(1), 1.0);
    assert_eq!(unknown(&bench), 0);
    bench.ground.gateway_silent = true;
    assert_ne!(unknown(&bench) & RuleId::Disconnected.bit(), 0);
}
