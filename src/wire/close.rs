//! Why a connection is closed or refused: one bounded list, used as the QUIC application error code, as
//! the `reason` label of metrics, and as the text that the other end shows to a person.

macro_rules! close_codes {
    ($($(#[$meta:meta])* $variant:ident = $code:literal, $label:literal, $text:literal;)+) => {
        /// A QUIC application error code of ours.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum CloseCode { $($(#[$meta])* $variant = $code),+ }

        impl CloseCode {
            /// All codes.
            pub const ALL: &[CloseCode] = &[$(CloseCode::$variant),+];

            /// Reads a code; `None` for one that this version does not know.
            pub const fn from_code(code: u64) -> Option<CloseCode> {
                match code { $($code => Some(CloseCode::$variant),)+ _ => None }
            }

            /// The code on the wire.
            pub const fn code(self) -> u32 { self as u32 }

            /// The label in metrics and logs.
            pub const fn label(self) -> &'static str {
                match self { $(CloseCode::$variant => $label),+ }
            }

            /// What it means, for a person, with what to do.
            pub const fn text(self) -> &'static str {
                match self { $(CloseCode::$variant => $text),+ }
            }
        }
    };
}

close_codes! {
    /// The peer goes away on purpose.
    Goodbye = 0x00, "goodbye", "planned stop";
    /// The server stops; a come-back hint was sent before.
    Draining = 0x10, "draining", "the server is stopping; come back as told";
    /// Another connection with this identity took over.
    Replaced = 0x11, "replaced", "another connection with the same identity took over; if you did not restart this sensor, its key is in use twice";
    /// No certificate, or one that names no sensor or gateway.
    NoIdentity = 0x20, "no_identity", "the certificate names no sensor or gateway (URI urn:fleetpulse:sensor:<uuid>)";
    /// The certificate is out of date.
    CertificateExpired = 0x21, "certificate_expired", "the certificate is not in date; renew it, and check the clock";
    /// The certificate was revoked.
    CertificateRevoked = 0x22, "certificate_revoked", "the certificate was revoked; activate again";
    /// The identity is not in the register, or was deleted.
    UnknownIdentity = 0x23, "unknown_identity", "not in the register; onboard it, or activate again";
    /// Registered, and not allowed to report (locally managed, or awaiting reactivation).
    NotActive = 0x24, "not_active", "registered, but its state does not allow reporting";
    /// Too many frames that could not be read.
    Malformed = 0x30, "malformed", "too many frames that could not be read";
    /// Too many frames for sensors that this peer may not speak for.
    NotCovered = 0x31, "not_covered", "frames for sensors that this certificate does not cover";
    /// More frames or bytes than the budget allows.
    TooFast = 0x32, "too_fast", "more frames than the budget allows; lower the rate";
    /// A stream stopped in the middle of a frame.
    Stalled = 0x33, "stalled", "a stream stopped in the middle of a frame";
    /// A stream or message that the protocol does not have.
    Protocol = 0x34, "protocol", "a stream or message that the protocol does not have";
    /// The handshake took too long.
    HandshakeTimeout = 0x40, "handshake_timeout", "the handshake took too long";
    /// The server is full.
    Full = 0x41, "full", "the server takes no more connections; come back later";
    /// An exchange that was begun was not ended in time.
    TooSlow = 0x42, "too_slow", "the exchange was not ended in time";
}
