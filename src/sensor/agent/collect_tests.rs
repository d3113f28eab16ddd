//! Heartbeats of a made-up host.

use std::fs;

use super::*;
use crate::time::{MONO_ORIGIN, Now, UnixMillis};
use crate::wire::heartbeat::inline_str;

fn beat(now: MonoNanos) -> Beat {
    let now = Now { mono: now, unix: UnixMillis(1_000) };
    Beat { now, interval: Duration::from_secs(1), link: Default::default() }
}

fn config(root: &tempfile::TempDir, more: &str) -> AgentConfig {
    let net = root.path().join("proc/net");
    fs::create_dir_all(&net).expect("folders");
    fs::write(net.join("dev"), " eth1: 100 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n").expect("file");
    let (root, status) = (root.path().display(), root.path().join("status.json"));
    AgentConfig::from_toml(&format!(
        "servers = ['a:1']\nserver_name = 'a'\nidentity_dir = '/x'\nhost_root = '{root}'\ninterfaces = ['eth1']\n\
         status_file = '{}'\ncheck_every = '1s'\ncheck_timeout = '1s'\nversion = '22.3.7'\nprofile = 'L500'\n{more}",
        status.display(),
    ))
    .expect("valid")
}

fn collector(config: &AgentConfig) -> (Collector, JoinSet<()>) {
    let clock = SystemClock::start();
    let trust = Trust::for_endpoints(config, Arc::new(clock)).expect("no TLS");
    let (background, tasks) = Background::start(config, trust, clock);
    (Collector::new(config, SensorId::from_number(7), 3, background, clock.mono()).0, tasks)
}

async fn until(collector: &mut Collector, right: impl Fn(&Heartbeat) -> bool) -> Heartbeat {
    for _ in 0..500 {
        let heartbeat = collector.heartbeat(&beat(MONO_ORIGIN)).expect("always one");
        if right(&heartbeat) {
            return heartbeat;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never so: {:?}", collector.heartbeat(&beat(MONO_ORIGIN)));
}

#[tokio::test]
async fn the_first_heartbeat_waits_for_nothing_and_claims_nothing() {
    let root = tempfile::tempdir().expect("folder");
    let config = config(&root, "ntp_servers = ['192.0.2.1']\ndirectory_servers = ['192.0.2.1:389']\n");
    let (mut collector, _tasks) = collector(&config);
    let first = collector.heartbeat(&beat(MONO_ORIGIN)).expect("one");
    assert_eq!((first.sequence, first.trust_generation, first.sensor_id), (1, 3, SensorId::from_number(7).0));
    assert_eq!((first.interfaces_total, first.rx_packets), (1, 0));
    assert_eq!((first.ntp_state, first.directory_configured), (NtpState::Unknown.to_wire(), 0));
    assert_eq!((first.self_test_age_s, first.backup_age_s), (UNKNOWN_U32, UNKNOWN_U32));
    assert_eq!(inline_str(&first.version), Some("22.3.7"));
    let second = collector.heartbeat(&beat(MONO_ORIGIN)).expect("one");
    assert_eq!((second.sequence, second.boot_id), (2, first.boot_id));
}

#[tokio::test]
async fn findings_of_the_background_arrive() {
    let root = tempfile::tempdir().expect("folder");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("socket");
    let port = listener.local_addr().expect("address").port();
    let config = config(
        &root,
        &format!(
            "directory_servers = ['127.0.0.1:{port}', '127.0.0.1:1']\n\
             [[endpoints]]\naddress = '127.0.0.1:{port}'\ntls = false\n\
             [[endpoints]]\naddress = '127.0.0.1:1'\ntls = false\n\
             [[self_tests]]\ncommand = ['/bin/true']\n[[self_tests]]\ncommand = ['/bin/false']\n\
             [backup]\ncommand = ['/bin/sh', '-c', 'exit 5']\n"
        ),
    );
    fs::write(
        root.path().join("status.json"),
        r#"{"devices": 12, "local_override": true, "version": "22.3.8"}"#,
    )
    .expect("file");
    let (mut collector, _tasks) = collector(&config);
    let heartbeat = until(&mut collector, |heartbeat| {
        heartbeat.directory_configured == 2
            && heartbeat.devices == 12
            && heartbeat.self_test_ran == 3
            && heartbeat.backup_age_s != UNKNOWN_U32
    })
    .await;
    assert_eq!(heartbeat.directory_reachable, 1);
    assert_eq!(
        heartbeat.endpoint_states[..3],
        [EndpointState::Ok, EndpointState::General, EndpointState::NotConfigured].map(EndpointState::to_wire)
    );
    assert_ne!(heartbeat.ntp_state, NtpState::Unreachable.to_wire());
    assert_eq!(heartbeat.self_test_failed, 2);
    assert_eq!(heartbeat.backup_result, BackupResult::Network.to_wire());
    assert_eq!(heartbeat.flags, FLAG_LOCAL_OVERRIDE);
    assert_ne!(heartbeat.disk_permille[0], UNKNOWN_U16);
    assert_eq!(inline_str(&heartbeat.version), Some("22.3.8"));
}

#[test]
fn where_no_time_server_is_set_the_kernel_knows_whether_something_keeps_the_clock() {
    let not_asked = || -> Option<bool> { panic!("configured servers speak for themselves") };
    assert_eq!(ntp_state(true, true, not_asked), NtpState::Ok);
    assert_eq!(ntp_state(true, false, not_asked), NtpState::Unreachable);
    assert_eq!(ntp_state(false, false, || Some(true)), NtpState::Ok);
    assert_eq!(ntp_state(false, false, || Some(false)), NtpState::NotConfigured);
    assert_eq!(ntp_state(false, false, || None), NtpState::Unknown);
}

#[test]
fn the_oldest_self_test_gives_the_age() {
    let at = |seconds| MONO_ORIGIN.plus(Duration::from_secs(seconds));
    assert_eq!(self_test_bits(&[], at(9)), (0, 0, UNKNOWN_U32));
    let tests = [Some((at(5), true)), None, Some((at(2), false))];
    assert_eq!(self_test_bits(&tests, at(9)), (5, 4, 7));
}
