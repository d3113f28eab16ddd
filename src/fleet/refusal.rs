//! Why a command was refused: a stable code for machines, the field, what was given and what would be
//! right for people.

use std::fmt;

macro_rules! codes {
    ($($(#[$meta:meta])* $variant:ident => $text:literal),+ $(,)?) => {
        /// What kind of refusal. The text never changes once released.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum RefusalCode { $($(#[$meta])* $variant),+ }

        impl RefusalCode {
            /// All codes.
            pub const ALL: &[RefusalCode] = &[$(RefusalCode::$variant),+];

            /// The stable code.
            pub const fn as_str(self) -> &'static str {
                match self { $(RefusalCode::$variant => $text),+ }
            }
        }
    };
}

codes! {
    /// No such subscription.
    UnknownSubscription => "unknown-subscription",
    /// No such site.
    UnknownSite => "unknown-site",
    /// No such zone.
    UnknownZone => "unknown-zone",
    /// No such sensor.
    UnknownSensor => "unknown-sensor",
    /// No such gateway.
    UnknownGateway => "unknown-gateway",
    /// The id is in use.
    IdTaken => "id-taken",
    /// The id belonged to a sensor that was deleted; it never comes back.
    IdDeleted => "id-deleted",
    /// The name is in use in the same place.
    NameTaken => "name-taken",
    /// The name is empty.
    NameEmpty => "name-empty",
    /// The name is too long.
    NameTooLong => "name-too-long",
    /// The name starts or ends with space.
    NameOuterSpace => "name-outer-space",
    /// The name holds a control, invisible or text-direction character.
    NameForbiddenCharacter => "name-forbidden-character",
    /// Something still lies in it.
    NotEmpty => "not-empty",
    /// Built in: can't be changed or deleted.
    BuiltIn => "built-in",
    /// The site does not hold sensors of this type.
    WrongSiteKind => "wrong-site-kind",
    /// That lifecycle does not follow from the present one.
    LifecycleStep => "lifecycle-step",
    /// A limit is reached.
    TooMany => "too-many",
    /// A text is too long.
    TextTooLong => "text-too-long",
    /// A text holds a control, invisible or text-direction character.
    TextForbiddenCharacter => "text-forbidden-character",
    /// Not an e-mail address.
    EmailInvalid => "email-invalid",
    /// A tag's key or value can't be used.
    TagInvalid => "tag-invalid",
    /// A number of a policy is out of range, or does not fit another.
    PolicyInvalid => "policy-invalid",
    /// The place does not have such a thing.
    WrongPlace => "wrong-place",
    /// A time is not after another.
    TimeOrder => "time-order",
    /// No such maintenance window.
    UnknownWindow => "unknown-window",
    /// The mode can't be had by a sensor of this type.
    WrongMode => "wrong-mode",
    /// The sensor does not wait for activation.
    ActivationNotPending => "activation-not-pending",
    /// The token belongs to no activation file of this sensor.
    ActivationUnknown => "activation-unknown",
    /// A newer activation file was made.
    ActivationVoid => "activation-void",
    /// The activation file was not used in time.
    ActivationExpired => "activation-expired",
    /// The activation file was used with another key.
    ActivationUsed => "activation-used",
    /// The sensor is not active.
    NotActive => "not-active",
    /// The certificate is none of those that are good for the sensor.
    CredentialUnknown => "credential-unknown",
    /// No such user.
    UnknownUser => "unknown-user",
    /// No such token.
    UnknownToken => "unknown-token",
    /// Nobody would be left who can decide everything.
    LastAdministrator => "last-administrator",
    /// Not a hash of a password.
    PasswordInvalid => "password-invalid",
}

/// A command that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// Its place among the commands that came with it, from zero.
    pub index: usize,
    /// What kind of refusal.
    pub code: RefusalCode,
    /// The field that is wrong.
    pub field: &'static str,
    /// What was given, made safe to show.
    pub value: String,
    /// What would be right.
    pub right: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { code, field, value, right, .. } = self;
        write!(f, "{}: {field} is {value}; right would be: {right}", code.as_str())
    }
}

/// A text made safe to show: escaped, quoted, cut.
pub(super) fn shown(text: &str) -> String {
    const CHARS: usize = 60;
    let cut: String = text.chars().take(CHARS).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("\"{}{more}\"", cut.escape_debug())
}
