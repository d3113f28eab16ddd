//! The values behind a verdict, built only when somebody wants to read them.

use super::{Input, configured, host, link, silence};
use crate::health::catalogue::RuleId;
use crate::health::message::{Evidence, EvidenceValue};
use crate::wire::heartbeat::{
    BackupResult, DISK_NAMES, EndpointState, NtpState, Profile, TiStatus, UpdateStage, inline_str,
};

const ENDPOINTS: [&str; 8] = [
    "endpoint_1",
    "endpoint_2",
    "endpoint_3",
    "endpoint_4",
    "endpoint_5",
    "endpoint_6",
    "endpoint_7",
    "endpoint_8",
];

fn integer(value: impl Into<u64>) -> EvidenceValue {
    EvidenceValue::Integer(i64::try_from(value.into()).unwrap_or(i64::MAX))
}

fn number(value: f64) -> EvidenceValue {
    EvidenceValue::Number((value * 1_000.0).round() / 1_000.0)
}

fn text(value: impl Into<String>) -> EvidenceValue {
    EvidenceValue::Text(value.into())
}

fn inline(field: &[u8]) -> EvidenceValue {
    text(inline_str(field).unwrap_or_default())
}

fn seen(name: &'static str, value: EvidenceValue) -> Evidence {
    Evidence { name, value, threshold: None, unit: "" }
}

fn seen_in(unit: &'static str, name: &'static str, value: EvidenceValue) -> Evidence {
    Evidence { name, value, threshold: None, unit }
}

fn against(unit: &'static str, name: &'static str, value: EvidenceValue, threshold: f64) -> Evidence {
    Evidence { name, value, threshold: Some(number(threshold)), unit }
}

fn of_profile(input: &Input<'_>) -> Evidence {
    let name = Profile::from_wire(input.sensor.heartbeat.profile).unwrap_or(Profile::Unknown).as_str();
    seen("profile", text(name))
}

fn bandwidth(input: &Input<'_>, percent: f64) -> Vec<Evidence> {
    let (limit, _) = host::profile_limits(input.sensor.heartbeat.profile);
    let Some(limit) = limit else { return vec![of_profile(input)] };
    let rate = number(f64::from(input.sensor.rx_bytes_per_s) * 8.0 / 1e6);
    vec![against("Mbit/s", "monitored_traffic", rate, f64::from(limit) * percent / 100.0), of_profile(input)]
}

fn devices(input: &Input<'_>, percent: f64) -> Vec<Evidence> {
    let (_, limit) = host::profile_limits(input.sensor.heartbeat.profile);
    let Some(limit) = limit else { return vec![of_profile(input)] };
    let devices = integer(input.sensor.heartbeat.devices);
    vec![against("", "devices", devices, f64::from(limit) * percent / 100.0), of_profile(input)]
}

fn update(input: &Input<'_>) -> Vec<Evidence> {
    let heartbeat = &input.sensor.heartbeat;
    let stage = UpdateStage::from_wire(heartbeat.update_stage).unwrap_or(UpdateStage::Idle);
    let sending = stage == UpdateStage::Sending;
    let stalled = if sending { configured::TRANSFER_STALLED } else { configured::INSTALL_STALLED };
    let in_stage = integer(input.now.mono.since(input.sensor.update_stage_since).as_secs());
    let mut all = vec![
        seen("update_stage", text(stage.as_str())),
        against("s", "in_this_stage_for", in_stage, input.policy.value(stalled)),
        seen("update_target", inline(&heartbeat.update_target)),
        seen("version", inline(&heartbeat.version)),
    ];
    if heartbeat.update_error != 0 {
        all.push(seen("update_error", integer(heartbeat.update_error)));
    }
    all
}

fn disconnected(input: &Input<'_>) -> Vec<Evidence> {
    let sensor = input.sensor;
    if sensor.last_heartbeat.is_never() {
        return vec![seen("last_heartbeat", text("never"))];
    }
    let silent = number(input.now.mono.since(sensor.last_heartbeat).as_secs_f64());
    let window = super::silence_window(sensor, input.policy).as_secs_f64();
    let transport = number(input.now.mono.since(sensor.last_transport).as_secs_f64());
    vec![against("s", "silent_for", silent, window), seen_in("s", "transport_seen_ago", transport)]
}

fn self_test(input: &Input<'_>) -> Vec<Evidence> {
    let heartbeat = &input.sensor.heartbeat;
    let failed = heartbeat.self_test_failed & heartbeat.self_test_ran;
    let mut all = vec![seen("failed_tests", text(format!("{failed:#010x}")))];
    if let Some(age) = host::age_now(input, heartbeat.self_test_age_s) {
        all.push(against("s", "last_run_ago", integer(age), input.policy.value(host::SELF_TEST_STALE)));
    }
    all
}

fn backup(input: &Input<'_>) -> Vec<Evidence> {
    let heartbeat = &input.sensor.heartbeat;
    let result = BackupResult::from_wire(heartbeat.backup_result).unwrap_or(BackupResult::None);
    let mut all = vec![seen("last_result", text(result.as_str()))];
    if let Some(age) = host::age_now(input, heartbeat.backup_age_s) {
        all.push(against("s", "last_backup_ago", integer(age), input.policy.value(host::BACKUP_AGE)));
    }
    all
}

fn unstable(input: &Input<'_>) -> Vec<Evidence> {
    let policy = input.policy;
    let mut all = Vec::new();
    if let Some(missing) = link::missing_percent(input) {
        all.push(against("%", "heartbeats_missing", number(missing), policy.value(link::MISSING)));
    }
    let reconnects = integer(link::recent_reconnects(input));
    all.push(against("", "reconnects", reconnects, policy.value(link::RECONNECTS)));
    all.push(seen_in("ms", "jitter", number(f64::from(input.sensor.jitter_ms))));
    all
}

fn endpoints(input: &Input<'_>) -> Vec<Evidence> {
    let states = ENDPOINTS.iter().zip(&input.sensor.heartbeat.endpoint_states);
    let failing = states.filter(|&(_, &state)| state > EndpointState::Ok.to_wire());
    failing
        .map(|(&name, &state)| {
            let state = EndpointState::from_wire(state).unwrap_or(EndpointState::General);
            seen(name, text(state.as_str()))
        })
        .collect()
}

fn threat_intel(input: &Input<'_>) -> Vec<Evidence> {
    let heartbeat = &input.sensor.heartbeat;
    let status = TiStatus::from_wire(heartbeat.ti_status).unwrap_or(TiStatus::Unknown);
    let mut all = vec![seen("status", text(status.as_str())), seen("version", inline(&heartbeat.ti_version))];
    if input.ground.newest_threat_intel[0] != 0 {
        all.push(seen("newest_version", inline(&input.ground.newest_threat_intel)));
    }
    all
}

/// The values that a rule looks at.
pub(super) fn of(rule: RuleId, input: &Input<'_>) -> Vec<Evidence> {
    let sensor = input.sensor;
    let heartbeat = &sensor.heartbeat;
    let policy = input.policy;
    match rule {
        RuleId::Disconnected => disconnected(input),
        RuleId::SelfTestFailed => self_test(input),
        RuleId::NoTraffic => {
            let quiet = number(input.now.mono.since(sensor.last_traffic).as_secs_f64());
            vec![
                against("s", "no_packets_for", quiet, policy.value(silence::NO_TRAFFIC)),
                seen("interfaces", integer(heartbeat.interfaces_total)),
                seen("interfaces_up", integer(heartbeat.interfaces_up)),
            ]
        }
        RuleId::BackupFailed => backup(input),
        RuleId::NtpUnreachable | RuleId::NtpNotConfigured => {
            let state = NtpState::from_wire(heartbeat.ntp_state).unwrap_or(NtpState::Unknown);
            vec![seen("time_synchronisation", text(state.as_str()))]
        }
        RuleId::DirectoryUnreachable => vec![
            seen("directory_servers", integer(heartbeat.directory_configured)),
            seen("reachable", integer(heartbeat.directory_reachable)),
        ],
        RuleId::BandwidthExceeded => bandwidth(input, policy.value(host::BANDWIDTH)),
        RuleId::BandwidthNearLimit => bandwidth(input, policy.value(host::BANDWIDTH_NEAR)),
        RuleId::DevicesExceeded => devices(input, policy.value(host::DEVICES)),
        RuleId::DevicesNearLimit => devices(input, policy.value(host::DEVICES_NEAR)),
        RuleId::PackageTransferFailed | RuleId::UpdateFailed => update(input),
        RuleId::UnstableLink => unstable(input),
        RuleId::VersionUnsupported => {
            let mut all = vec![seen("version", inline(&heartbeat.version))];
            if let Some(newest) = input.ground.newest_version {
                all.push(seen("newest_version", text(newest.to_string())));
            }
            all
        }
        RuleId::PartiallyConnected => endpoints(input),
        RuleId::DiskAlmostFull => host::fullest_disk(input).map_or_else(Vec::new, |(place, percent)| {
            let used = against("%", "used", number(percent), policy.value(host::DISK));
            vec![seen("partition", text(DISK_NAMES[place])), used]
        }),
        RuleId::CaptureOverload => {
            let dropped = number(f64::from(sensor.drop_ratio) * 100.0);
            vec![against("%", "packets_dropped", dropped, policy.value(host::DROPS))]
        }
        RuleId::ClockDrift => link::offset_ms(input).map_or_else(Vec::new, |offset| {
            vec![against("s", "clock_offset", number(offset / 1_000.0), policy.value(link::OFFSET_MAX))]
        }),
        RuleId::CertificateExpiring => configured::certificate_left_ms(input).map_or_else(Vec::new, |left| {
            let days = number(left as f64 / 86_400_000.0);
            vec![against("d", "days_left", days, policy.value(configured::CERTIFICATE_DAYS))]
        }),
        RuleId::DuplicateIdentity => {
            let replaced = integer(link::recent_replaced(input));
            vec![against("", "connections_replaced", replaced, policy.value(link::REPLACED))]
        }
        RuleId::RestartLoop => {
            let restarts = integer(link::recent_restarts(input));
            vec![against("", "restarts", restarts, policy.value(link::RESTARTS))]
        }
        RuleId::SettingsOutOfSync => {
            let threshold = input.ground.desired_settings.map(integer);
            let value = integer(heartbeat.settings_generation);
            vec![Evidence { name: "settings_generation", value, threshold, unit: "" }]
        }
        RuleId::ThreatIntelOutdated | RuleId::ThreatIntelFailed => threat_intel(input),
        RuleId::PendingActivation | RuleId::PendingReactivation => {
            vec![seen("lifecycle", text(sensor.facts.lifecycle.as_str()))]
        }
        RuleId::PlannedStop if !sensor.goodbye => Vec::new(),
        RuleId::PlannedStop => {
            let ago = integer(input.now.mono.since(sensor.last_heartbeat).as_secs());
            vec![seen_in("s", "goodbye_ago", ago)]
        }
        RuleId::GatewaySilent | RuleId::SiteOutage => Vec::new(),
    }
}
