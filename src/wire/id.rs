//! Identities: 128-bit UUIDs with one newtype per thing, so that a sensor's id never stands where a
//! gateway's is meant. They are chosen by the register, carried in certificates and frames, and shown
//! to people in the usual hyphenated form.

use std::fmt;
use std::str::FromStr;

macro_rules! id {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// A fresh one: time-ordered (UUID version 7), so that indexes stay dense.
            pub fn fresh() -> $name {
                $name(*uuid::Uuid::now_v7().as_bytes())
            }

            /// A made-up one for simulation and tests: the number in the last eight bytes.
            pub const fn from_number(number: u64) -> $name {
                let n = number.to_be_bytes();
                $name([
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0x40,
                    0,
                    0x80 | (n[0] & 0x3f),
                    n[1],
                    n[2],
                    n[3],
                    n[4],
                    n[5],
                    n[6],
                    n[7],
                ])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                uuid::Uuid::from_bytes(self.0).as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<$name, BadId> {
                uuid::Uuid::try_parse(text).map(|uuid| $name(*uuid.as_bytes())).map_err(|_| BadId)
            }
        }
    };
}

id!(SensorId, "Who a sensor is.");
id!(GatewayId, "Who a gateway is.");
id!(SubscriptionId, "Who owns sites and sensors.");
id!(SiteId, "A place.");
id!(ZoneId, "A segment in a place.");
id!(UserId, "A person who may sign in.");
id!(TokenId, "An API token; its secret is another thing.");

/// A text that is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id: write it as 8-4-4-4-12 hexadecimal digits, e.g. 0192f0c1-2f6e-7c3a-9d51-3b0f5c1e7a42")]
pub struct BadId;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_being_shown_and_read_back() {
        let id = SensorId::fresh();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("nonsense".parse::<SiteId>(), Err(BadId));
        assert_ne!(SensorId::from_number(1), SensorId::from_number(2));
    }
}
