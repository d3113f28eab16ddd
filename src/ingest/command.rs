//! What can be asked of a shard from outside: the only way in besides packets.
//!
//! Each shard has one bounded inbox with a wake-up. A full inbox is told to the sender at once; nobody
//! waits for a shard. One thing can always be asked, because it needs no room: to judge all connections again.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

use super::enrol::EnrolVerdict;
use crate::identity::Serial;
use crate::limits::SHARD_INBOX;
use crate::live::OwnerRef;
use crate::wire::close::CloseCode;
use crate::wire::control::{FromSensor, ToSensor};

/// Why a control message has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlFailure {
    /// The connection is gone.
    #[error("not connected")]
    NotConnected,
    /// The peer lets us open no stream now, or too many messages wait already.
    #[error("the peer takes no more control messages now")]
    Busy,
    /// No answer within the time.
    #[error("no answer within {} s", crate::limits::CONTROL_TIMEOUT.as_secs())]
    NoAnswer,
    /// The peer refused the stream, or its answer can't be read.
    #[error("the peer's answer can't be read")]
    Unreadable,
}

/// Where the answer to a control message goes; make it with room for one.
pub type ControlReply = Sender<Result<FromSensor, ControlFailure>>;

/// How a server goes away: who is told what, over which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainPlan {
    /// Connections are told and closed one after the other over this time.
    pub over: Duration,
    /// Sensors come back no earlier than this after they were told ...
    pub come_back_after: Duration,
    /// ... and no later than this much more, each at a random instant of its own.
    pub come_back_spread: Duration,
}

/// A command to one shard.
#[derive(Clone, Debug)]
pub enum ShardCommand {
    /// Close this connection.
    CloseConnection {
        /// Which.
        owner: OwnerRef,
        /// Why.
        code: CloseCode,
    },
    /// Close these connections, which all belong to this shard.
    CloseConnections(Vec<(OwnerRef, CloseCode)>),
    /// Say something to a sensor or gateway and bring the answer.
    Control {
        /// Its connection.
        owner: OwnerRef,
        /// What.
        message: ToSensor,
        /// Where the answer goes, if anybody wants it.
        reply: Option<ControlReply>,
    },
    /// Close all connections that came with these certificates.
    Revoke(Arc<HashSet<Serial>>),
    /// A peer said that it keeps a trust bundle, and maybe a new certificate: its session goes by them from now on.
    Kept {
        /// Its connection.
        owner: OwnerRef,
        /// Generation of the bundle.
        trust_generation: u32,
        /// The certificate (DER).
        leaf: Option<Box<[u8]>>,
    },
    /// The answer to a request on the enrolment port.
    Enrolled(Arc<EnrolVerdict>),
    /// Send everybody away, in good order.
    Drain(DrainPlan),
    /// Close what is left and end the thread.
    Stop,
}

/// The inbox of a shard is full, or the shard is gone. Try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InboxError {
    /// Too many commands wait.
    #[error("shard {0} has too many commands waiting")]
    Full(usize),
    /// No such shard, or its thread ended.
    #[error("shard {0} is not running")]
    Gone(usize),
}

/// The sending ends of all inboxes.
#[derive(Clone, Debug)]
pub(super) struct Inboxes(Arc<[Inbox]>);

#[derive(Debug)]
pub(super) struct Inbox {
    pub sender: Sender<ShardCommand>,
    pub waker: mio::Waker,
    /// Every connection's certificate is to be judged again.
    pub recheck: AtomicBool,
}

impl Inboxes {
    pub(super) fn new(inboxes: Vec<Inbox>) -> Inboxes {
        Inboxes(inboxes.into())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Puts a command into an inbox and wakes its shard.
    pub(super) fn post(&self, shard: usize, command: ShardCommand) -> Result<(), InboxError> {
        let inbox = self.0.get(shard).ok_or(InboxError::Gone(shard))?;
        inbox.sender.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => InboxError::Full(shard),
            TrySendError::Disconnected(_) => InboxError::Gone(shard),
        })?;
        // It fails only when the event file is broken; then the shard's own tick finds the command.
        let _ = inbox.waker.wake();
        Ok(())
    }

    /// Has a shard judge every connection's certificate again, from its next tick on.
    pub(super) fn ask_recheck(&self, shard: usize) {
        if let Some(inbox) = self.0.get(shard) {
            inbox.recheck.store(true, Ordering::Release);
        }
    }

    /// Whether that was asked since the last call.
    pub(super) fn take_recheck(&self, shard: usize) -> bool {
        self.0.get(shard).is_some_and(|inbox| inbox.recheck.swap(false, Ordering::Acquire))
    }
}

/// A bounded inbox.
pub(super) fn inbox() -> (Sender<ShardCommand>, Receiver<ShardCommand>) {
    bounded(SHARD_INBOX)
}
