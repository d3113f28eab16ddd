//! Messages to connected sensors and their answers.

use std::time::Duration;

use fleetpulse::control::{AskError, ConnectedControl};
use fleetpulse::ingest::ControlFailure;
use fleetpulse::wire::control::{FromSensor, OperationRef, ToSensor, announced_length, decode, encode};
use fleetpulse::wire::id::SensorId;

use super::rig::Rig;

const OF: OperationRef = OperationRef { operation: 7, offset: 3 };

/// Takes one message and says that it is done.
pub async fn answer_one(connection: &quinn::Connection) -> ToSensor {
    answer_with(connection, &encode(&FromSensor::Done { of: OF })).await
}

async fn answer_with(connection: &quinn::Connection, answer: &[u8]) -> ToSensor {
    let (mut send, mut receive) = tokio::time::timeout(super::rig::PATIENCE, connection.accept_bi())
        .await
        .expect("no message")
        .expect("a stream");
    let bytes = receive.read_to_end(100_000).await.expect("whole");
    assert_eq!(announced_length(&bytes), Ok(Some(bytes.len() - 4)));
    let message = decode(&bytes[4..]).expect("a message");
    let _ = send.write_all(answer).await;
    let _ = send.finish();
    // The stream must stay until its bytes are there.
    let _ = tokio::time::timeout(Duration::from_secs(1), send.stopped()).await;
    message
}

fn control(rig: &Rig) -> ConnectedControl {
    ConnectedControl::new(rig.live.clone(), rig.ingest.clone())
}

async fn ask(rig: &Rig, number: u64, message: ToSensor, wait: Duration) -> Result<FromSensor, AskError> {
    let control = control(rig);
    let asked =
        tokio::task::spawn_blocking(move || control.ask(SensorId::from_number(number), message, wait));
    asked.await.expect("asked")
}

#[tokio::test]
async fn a_new_interval_is_set_and_confirmed() {
    let rig = Rig::new(3);
    let client = rig.sensor(1).await;
    let message = ToSensor::SetInterval { of: OF, interval_ms: 500 };
    let (answer, told) =
        tokio::join!(ask(&rig, 1, message.clone(), Duration::from_secs(5)), answer_one(&client.connection));
    assert_eq!(told, message);
    assert_eq!(answer, Ok(FromSensor::Done { of: OF }));
    assert_eq!(rig.counters().control_answered, 1);
}

#[tokio::test]
async fn a_gateway_can_be_asked_too() {
    let rig = Rig::new(1);
    let client = rig.gateway(5, &[super::rig::SITE]).await;
    let control = control(&rig);
    let gateway = fleetpulse::wire::id::GatewayId::from_number(5);
    let asked = tokio::task::spawn_blocking(move || {
        control.ask_gateway(gateway, ToSensor::Ping { of: OF }, Duration::from_secs(5))
    });
    assert_eq!(answer_one(&client.connection).await, ToSensor::Ping { of: OF });
    assert_eq!(asked.await.unwrap(), Ok(FromSensor::Done { of: OF }));
}

#[tokio::test]
async fn whoever_keeps_another_interval_is_told() {
    let rig = Rig::with(|config| config.interval = Some(Duration::from_secs(20)));
    let mut client = rig.sensor(1).await;
    client.beat();
    match answer_one(&client.connection).await {
        ToSensor::SetInterval { interval_ms, .. } => assert_eq!(interval_ms, 20_000),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nobody_there_no_answer_and_rubbish_are_told_apart() {
    let rig = Rig::new(1);
    let ping = ToSensor::Ping { of: OF };
    let wait = Duration::from_secs(10);
    assert_eq!(ask(&rig, 1, ping.clone(), wait).await, Err(AskError::NotConnected));

    let client = rig.sensor(1).await;
    let rubbish = [9, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let (answer, _) =
        tokio::join!(ask(&rig, 1, ping.clone(), wait), answer_with(&client.connection, &rubbish));
    assert_eq!(answer, Err(AskError::Failed(ControlFailure::Unreadable)));

    // Over the limit of a message.
    let (answer, _) =
        tokio::join!(ask(&rig, 1, ping.clone(), wait), answer_with(&client.connection, &[0xff; 30_000]));
    assert_eq!(answer, Err(AskError::Failed(ControlFailure::Unreadable)));

    assert_eq!(ask(&rig, 1, ping.clone(), wait).await, Err(AskError::Failed(ControlFailure::NoAnswer)));

    // The connection ends while somebody waits.
    let (answer, ()) = tokio::join!(ask(&rig, 1, ping, wait), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        client.connection.close(0_u32.into(), b"");
    });
    assert_eq!(answer, Err(AskError::Failed(ControlFailure::NotConnected)));
}
