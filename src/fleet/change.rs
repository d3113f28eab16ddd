//! What a command did: the unit of durability, audit and event streams.

use super::access::{Token, User};
use super::model::{Gateway, Sensor, Site, Subscription, Zone};
use crate::time::UnixMillis;
use crate::wire::id::{SensorId, SiteId, UserId};

/// What kind of somebody acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActorKind {
    /// The server itself.
    System,
    /// Somebody at the machine's command line.
    CommandLine,
    /// A person who signed in.
    User,
    /// A program with an API token.
    Token,
    /// A sensor or gateway, about itself.
    Peer,
}

/// Who acts, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// What kind of somebody.
    pub kind: ActorKind,
    /// Name: user, token, command, or id of the peer.
    pub name: String,
    /// Network address, when there is one.
    pub from: Option<String>,
}

impl Actor {
    /// The server itself, doing `what`.
    pub fn system(what: &str) -> Actor {
        Actor { kind: ActorKind::System, name: what.to_owned(), from: None }
    }

    /// Somebody at the command line, running the subcommand `what`.
    pub fn command_line(what: &str) -> Actor {
        Actor { kind: ActorKind::CommandLine, name: what.to_owned(), from: None }
    }
}

/// One document before and after. Only before: removed. Only after: new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit<T> {
    /// As it was.
    pub before: Option<T>,
    /// As it is now.
    pub after: Option<T>,
}

/// One change of one document. A deleted sensor stays as a document whose lifecycle is `Deleted`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "one variant a document")]
pub enum Change {
    Subscription(Edit<Subscription>),
    Site(Edit<Site>),
    Zone(Edit<Zone>),
    Sensor(Edit<Sensor>),
    Gateway(Edit<Gateway>),
    User(Edit<User>),
    Token(Edit<Token>),
    /// Something that happened and changed no document.
    Event(Event),
}

impl Change {
    /// The id of the document, of whatever kind; of an event, of what it is about.
    pub fn id(&self) -> Option<[u8; 16]> {
        fn either<T, I>(edit: &Edit<T>, id: impl Fn(&T) -> I) -> Option<I> {
            edit.after.as_ref().or(edit.before.as_ref()).map(id)
        }
        match self {
            Change::Subscription(edit) => either(edit, |it| it.id.0),
            Change::Site(edit) => either(edit, |it| it.id.0),
            Change::Zone(edit) => either(edit, |it| it.id.0),
            Change::Sensor(edit) => either(edit, |it| it.id.0),
            Change::Gateway(edit) => either(edit, |it| it.id.0),
            Change::User(edit) => either(edit, |it| it.id.0),
            Change::Token(edit) => either(edit, |it| it.id.0),
            Change::Event(event) => event.about.map(|about| match about {
                About::User(id) => id.0,
                About::Sensor(id) => id.0,
                About::Site(id) => id.0,
            }),
        }
    }

    /// Whether it may change what somebody may do. Names, and that a token was used, change nothing of that.
    pub fn is_of_access(&self) -> bool {
        fn differs<T, W: PartialEq>(edit: &Edit<T>, what: impl Fn(&T) -> W) -> bool {
            edit.before.as_ref().map(&what) != edit.after.as_ref().map(&what)
        }
        match self {
            Change::User(edit) => differs(edit, |user| (user.disabled, user.grants.clone())),
            Change::Token(edit) => differs(edit, |token| (token.owner, token.expires, token.grants.clone())),
            _ => false,
        }
    }
}

macro_rules! event_codes {
    ($($(#[$meta:meta])* $variant:ident => $text:literal),+ $(,)?) => {
        /// What kind of event. The text never changes once released.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum EventCode { $($(#[$meta])* $variant),+ }

        impl EventCode {
            /// All codes.
            pub const ALL: &[EventCode] = &[$(EventCode::$variant),+];

            /// The stable code.
            pub const fn as_str(self) -> &'static str {
                match self { $(EventCode::$variant => $text),+ }
            }
        }
    };
}

event_codes! {
    /// Somebody signed in.
    SignIn => "sign-in",
    /// Somebody could not sign in.
    SignInRefused => "sign-in-refused",
    /// Somebody signed out.
    SignOut => "sign-out",
    /// A backup was written.
    Backup => "backup",
    /// A backup was removed.
    BackupDeleted => "backup-deleted",
    /// A file with a secret in it was handed out.
    Download => "download",
    /// A root or intermediate certificate was replaced.
    Rotation => "rotation",
    /// Something that a newer program wrote; the detail begins with its code. This one writes none.
    Unknown => "unknown",
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "one variant a kind of thing")]
pub enum About {
    User(UserId),
    Sensor(SensorId),
    Site(SiteId),
}

/// Something that happened and changed no document: for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub code: EventCode,
    /// To whom or what.
    pub about: Option<About>,
    /// More, for people.
    pub detail: String,
}

/// All changes of one command, or of commands that succeed or fail together, with who did it and when.
/// It is appended to the log whole or not at all, and it is its own audit entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// When, by the server's wall clock.
    pub at: UnixMillis,
    /// Who, and from where.
    pub actor: Actor,
    /// What was asked: [`super::Command::action`], or `bulk` for several kinds together.
    pub action: String,
    /// What changed, in order. Empty when everything already was as asked.
    pub changes: Vec<Change>,
}

impl Batch {
    /// True when everything already was as asked: nothing to append.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}
