//! One question to one connected sensor or gateway, over the shard that has its connection.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};

use crate::ingest::{ControlFailure, InboxError, Ingest, ShardCommand};
use crate::live::{LiveState, OwnerRef};
use crate::wire::control::{FromSensor, ToSensor};
use crate::wire::id::{GatewayId, SensorId};

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Not in the register, or no connection of its own now.
    #[error("not connected")]
    NotConnected,
    /// Its shard takes no more commands now.
    #[error(transparent)]
    Inbox(#[from] InboxError),
    /// The connection gave none.
    #[error(transparent)]
    Failed(#[from] ControlFailure),
    /// Nothing came within the time that the caller gave.
    #[error("no answer within the given time")]
    TimedOut,
}

/// Speaks to whoever is connected. Finds the connection through live state at each call, so a sensor that
/// came back on another shard is found there.
#[derive(Clone, Debug)]
pub struct ConnectedControl {
    live: Arc<LiveState>,
    ingest: Arc<Ingest>,
}

impl ConnectedControl {
    /// Over these.
    pub fn new(live: Arc<LiveState>, ingest: Arc<Ingest>) -> ConnectedControl {
        ConnectedControl { live, ingest }
    }

    /// Asks a sensor that has its own connection and waits for the answer. Blocks: not for async code,
    /// which polls [`ConnectedControl::post`]'s receiver from a blocking thread.
    pub fn ask(&self, sensor: SensorId, message: ToSensor, wait: Duration) -> Result<FromSensor, AskError> {
        take(&self.post(sensor, message)?, wait)
    }

    /// Asks a gateway and waits for the answer.
    pub fn ask_gateway(
        &self,
        gateway: GatewayId,
        message: ToSensor,
        wait: Duration,
    ) -> Result<FromSensor, AskError> {
        let index = self.live.find_gateway(gateway).ok_or(AskError::NotConnected)?;
        let owner = self.live.gateway_snapshot(index).and_then(|gateway| gateway.owner);
        take(&self.post_to(owner.ok_or(AskError::NotConnected)?, message)?, wait)
    }

    /// Asks a sensor; the answer comes on the receiver, exactly one, at the latest after
    /// [`crate::limits::CONTROL_TIMEOUT`] and a moment.
    pub fn post(
        &self,
        sensor: SensorId,
        message: ToSensor,
    ) -> Result<Receiver<Result<FromSensor, ControlFailure>>, AskError> {
        let owner = self.live.snapshot_of(sensor).and_then(|snapshot| snapshot.owner);
        self.post_to(owner.ok_or(AskError::NotConnected)?, message)
    }

    /// Asks whoever has this connection. As [`ConnectedControl::post`].
    pub fn post_to(
        &self,
        owner: OwnerRef,
        message: ToSensor,
    ) -> Result<Receiver<Result<FromSensor, ControlFailure>>, AskError> {
        let (reply, answer) = bounded(1);
        let command = ShardCommand::Control { owner, message, reply: Some(reply) };
        self.ingest.post(usize::from(owner.shard), command)?;
        Ok(answer)
    }
}

fn take(
    answer: &Receiver<Result<FromSensor, ControlFailure>>,
    wait: Duration,
) -> Result<FromSensor, AskError> {
    match answer.recv_timeout(wait) {
        Ok(result) => Ok(result?),
        Err(RecvTimeoutError::Timeout) => Err(AskError::TimedOut),
        // The shard ended with the command in its inbox.
        Err(RecvTimeoutError::Disconnected) => Err(AskError::NotConnected),
    }
}
