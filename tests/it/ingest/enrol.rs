//! The enrolment port by itself: what a shard does with requests, rubbish, slow clients and a judge that is busy.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fleetpulse::identity::ALPN_ENROL;
use fleetpulse::ingest::{EnrolJudge, EnrolOutcome};
use fleetpulse::limits::{ENROL_CONNECTIONS_MAX, ENROL_MESSAGE_BYTES_MAX, ENROL_QUEUE, ENROL_TIMEOUT};
use fleetpulse::time::UnixMillis;
use fleetpulse::wire::close::CloseCode;
use fleetpulse::wire::enrol::{EnrolAnswer, EnrolRefusal, EnrolRequest, decode, encode};

use super::crowds::Stranger;
use super::rig::{Neighbour, PATIENCE, Rig, code, quic_client};

/// Answers with the size of the signing request; waits while it is held.
#[derive(Default)]
struct Counting {
    held: AtomicBool,
}

impl EnrolJudge for Counting {
    fn judge(&self, request: &EnrolRequest, _: SocketAddr, _: UnixMillis) -> EnrolAnswer {
        while self.held.load(Ordering::Relaxed) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let EnrolRequest::Activate { csr, .. } = request else {
            return EnrolRefusal::UnknownIdentity.answer("nobody");
        };
        let trust_generation = csr.len() as u32;
        // As large as an answer gets.
        let trust_pem = "t".repeat(20_000);
        EnrolAnswer::Enrolled { id: [1; 16], chain_pem: "chain".into(), trust_pem, trust_generation }
    }
}

fn request(size: usize) -> Vec<u8> {
    encode(&EnrolRequest::Activate {
        token: [1; 32],
        csr: vec![0; size],
        clock_unix_ms: 0,
        agent_version: "1".into(),
    })
}

fn enroller(rig: &Rig) -> quinn::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    for root in &rig.authority.trust().roots {
        roots.add(root.clone()).unwrap();
    }
    let mut tls = rustls::ClientConfig::builder_with_provider(fleetpulse::identity::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN_ENROL.to_vec()];
    quic_client(tls)
}

async fn connect(rig: &Rig) -> quinn::Connection {
    connect_from(rig, Ipv4Addr::LOCALHOST).await
}

async fn connect_from(rig: &Rig, from: Ipv4Addr) -> quinn::Connection {
    let endpoint = quinn::Endpoint::client((from, 0).into()).unwrap();
    endpoint.connect_with(enroller(rig), rig.ingest.enrol_addr(), "localhost").unwrap().await.unwrap()
}

async fn answer(connection: &quinn::Connection, bytes: &[u8]) -> Option<EnrolAnswer> {
    let exchange = async {
        let (mut send, mut receive) = connection.open_bi().await.ok()?;
        // It may have heard enough before all is said.
        let _ = send.write_all(bytes).await;
        let _ = send.finish();
        let answer = receive.read_to_end(ENROL_MESSAGE_BYTES_MAX).await.ok()?;
        Some(decode(&answer[4..]).expect("an answer"))
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time")
}

async fn ask(rig: &Rig, bytes: &[u8]) -> Option<EnrolAnswer> {
    let connection = connect(rig).await;
    let answer = answer(&connection, bytes).await;
    connection.close(quinn::VarInt::from_u32(0), b"");
    answer
}

fn refusal(answer: Option<EnrolAnswer>) -> Option<EnrolRefusal> {
    match answer? {
        EnrolAnswer::Refused { code, .. } => EnrolRefusal::from_code(code),
        other => panic!("granted: {other:?}"),
    }
}

fn granted(answer: Option<EnrolAnswer>) -> u32 {
    match answer {
        Some(EnrolAnswer::Enrolled { trust_generation, .. }) => trust_generation,
        other => panic!("not granted: {other:?}"),
    }
}

fn counted(rig: &Rig, outcome: EnrolOutcome) -> u64 {
    rig.ingest.counters().enrolment.snapshot().enrolments_as(outcome)
}

#[tokio::test]
async fn one_request_gets_one_answer_and_rubbish_a_reason() {
    let rig = Rig::judged(Arc::new(Counting::default()));
    let neighbour = Neighbour::new(&rig).await;
    assert_eq!(granted(ask(&rig, &request(300)).await), 300);
    let too_long = [&u32::MAX.to_le_bytes()[..], &[0; 100]].concat();
    let just_too_long = [&(ENROL_MESSAGE_BYTES_MAX as u32 + 1).to_le_bytes()[..], &[0; 40_000]].concat();
    let rubbish: [&[u8]; 7] =
        [b"GET / HTTP/1.1\r\n\r\n", &too_long, &just_too_long, &[0; 4], &[], &request(9)[..50], &[9, 0, 0]];
    for bytes in rubbish {
        assert_eq!(refusal(ask(&rig, bytes).await), Some(EnrolRefusal::BadRequest), "{} bytes", bytes.len());
        assert_eq!(granted(ask(&rig, &request(7)).await), 7);
    }
    // A second request on the same connection, or another kind of stream, is not in the protocol.
    let connection = connect(&rig).await;
    assert_eq!(granted(answer(&connection, &request(1)).await), 1);
    let _ = answer(&connection, &request(2)).await;
    assert_eq!(code(&connection.closed().await), CloseCode::Protocol);
    let uni = connect(&rig).await;
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), uni.open_uni()).await.is_err());
    assert!(uni.send_datagram(vec![1].into()).is_err());
    assert_eq!(counted(&rig, EnrolOutcome::Refused(EnrolRefusal::BadRequest)), 7);
    assert_eq!(counted(&rig, EnrolOutcome::Enrolled), 9);
    neighbour.stays_well(&rig).await;
}

#[tokio::test]
async fn who_takes_too_long_has_to_go_and_holds_nobody_up() {
    let rig = Rig::judged(Arc::new(Counting::default()));
    let (mute, slow) = (connect(&rig).await, connect(&rig).await);
    let (mut send, _receive) = slow.open_bi().await.unwrap();
    let drip = tokio::spawn(async move {
        for byte in request(5_000) {
            if send.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    assert_eq!(granted(ask(&rig, &request(7)).await), 7);
    for connection in [&mute, &slow] {
        let closed = tokio::time::timeout(ENROL_TIMEOUT + PATIENCE, connection.closed()).await.unwrap();
        assert_eq!(code(&closed), CloseCode::TooSlow);
    }
    drip.abort();
    assert_eq!((counted(&rig, EnrolOutcome::TimedOut), counted(&rig, EnrolOutcome::Left)), (2, 0));
    assert_eq!(granted(ask(&rig, &request(8)).await), 8);
}

#[tokio::test]
async fn a_busy_judge_turns_requests_away_and_one_source_leaves_room_for_others() {
    let judge = Arc::new(Counting::default());
    let rig = Rig::judged(Arc::clone(&judge) as _);
    let mut asked = Vec::new();
    judge.held.store(true, Ordering::Relaxed);
    // One at a time, so that the shard has seen each before the next.
    for _ in 0..ENROL_QUEUE {
        let connection = connect(&rig).await;
        let (mut send, receive) = connection.open_bi().await.unwrap();
        send.write_all(&request(3)).await.unwrap();
        send.finish().unwrap();
        asked.push((connection, receive));
        if counted(&rig, EnrolOutcome::Refused(EnrolRefusal::Busy)) > 0 {
            break;
        }
    }
    rig.until("somebody is turned away", |rig| counted(rig, EnrolOutcome::Refused(EnrolRefusal::Busy)) > 0)
        .await;
    // Alone a source takes half of the queue, and a little while the first is with the judge.
    assert!((ENROL_QUEUE / 2..ENROL_QUEUE / 2 + 8).contains(&asked.len()), "{}", asked.len());
    judge.held.store(false, Ordering::Relaxed);
    let mut granted = 0;
    for (_connection, mut receive) in asked {
        let bytes = receive.read_to_end(ENROL_MESSAGE_BYTES_MAX).await.unwrap();
        granted += usize::from(matches!(decode(&bytes[4..]), Ok(EnrolAnswer::Enrolled { .. })));
    }
    assert!(granted >= ENROL_QUEUE / 2, "{granted}");
    assert_eq!(refusal(ask(&rig, &[0; 4]).await), Some(EnrolRefusal::BadRequest));
}

#[tokio::test]
async fn one_source_leaves_connections_for_others() {
    let rig = Rig::judged(Arc::new(Counting::default()));
    let mut held = Vec::new();
    for _ in 0..ENROL_CONNECTIONS_MAX / 2 {
        held.push(connect(&rig).await);
    }
    let one_more = connect(&rig).await;
    let closed = tokio::time::timeout(PATIENCE, one_more.closed()).await.unwrap();
    assert_eq!(code(&closed), CloseCode::Full);
    assert_eq!(counted(&rig, EnrolOutcome::Crowded), 1);

    // It holds its share of the handshakes too, and comes again and again: another one gets in all the same.
    let mut stranger = Stranger::at(rig.ingest.enrol_addr(), enroller(&rig), Ipv4Addr::LOCALHOST, rig.clock);
    rig.until("it has all that it can", |rig| {
        (0..16).for_each(|_| stranger.begin());
        rig.ingest.counters().enrolment.snapshot().ignored_source > 0
    })
    .await;
    let other = connect_from(&rig, Ipv4Addr::new(127, 0, 0, 2)).await;
    assert_eq!(granted(answer(&other, &request(5)).await), 5);

    // Whoever goes makes room.
    held.truncate(10);
    for _ in 0..50 {
        if let Some(answer) = ask(&rig, &request(4)).await {
            assert_eq!(granted(Some(answer)), 4);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("no room");
}
