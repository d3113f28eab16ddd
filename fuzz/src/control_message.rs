//! A control or enrolment message, any bytes: what can be decoded can be encoded, and reads the same again.
//!
//! Input: the bytes of a message, without the length in front.

use std::fmt::Debug;

use fleetpulse::limits::CONTROL_MESSAGE_BYTES_MAX;
use fleetpulse::wire::control::{ControlError, FromSensor, ToSensor, announced_length, decode, encode};
use fleetpulse::wire::enrol::{self, EnrolAnswer, EnrolRefusal};

pub fn run(data: &[u8]) {
    both_ways::<ToSensor>(data);
    both_ways::<FromSensor>(data);
    enrolment(data);
    match announced_length(data) {
        Ok(None) => assert!(data.len() < 4),
        Ok(Some(length)) => assert!(length <= CONTROL_MESSAGE_BYTES_MAX),
        Err(error) => {
            assert!(matches!(error, ControlError::TooLong(length) if length > CONTROL_MESSAGE_BYTES_MAX))
        }
    }
}

fn enrolment(data: &[u8]) {
    if let Ok(request) = enrol::read_request(data) {
        let encoded = enrol::encode(&request);
        assert_eq!(enrol::announced_length(&encoded), Ok(Some(encoded.len() - 4)));
        assert_eq!(enrol::read_request(&encoded[4..]), Ok(request));
        for cut in 4..encoded.len() {
            assert!(enrol::read_request(&encoded[4..cut]).is_err(), "half a request is none");
        }
    }
    if let Ok(answer) = enrol::decode::<EnrolAnswer>(data) {
        assert_eq!(enrol::decode(&enrol::encode(&answer)[4..]), Ok(answer.clone()));
        if let EnrolAnswer::Refused { code, .. } = answer {
            assert!(EnrolRefusal::from_code(code).is_none_or(|refusal| refusal.code() == code));
        }
    }
}

fn both_ways<M>(data: &[u8])
where
    M: for<'b> minicbor::Decode<'b, ()> + minicbor::Encode<()> + PartialEq + Debug,
{
    let Ok(message) = decode::<M>(data) else { return };
    assert!(data.len() <= CONTROL_MESSAGE_BYTES_MAX);
    let encoded = encode(&message);
    let length = announced_length(&encoded).expect("our own messages are within the limit");
    assert_eq!(length, Some(encoded.len() - 4));
    assert_eq!(decode::<M>(&encoded[4..]).as_ref(), Ok(&message));
    let longer = [&encoded[4..], &[0]].concat();
    assert_eq!(decode::<M>(&longer), Err(ControlError::Trailing));
    for cut in 4..encoded.len() {
        assert!(decode::<M>(&encoded[4..cut]).is_err(), "half a message is none");
    }
}
