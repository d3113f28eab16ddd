//! The threads that drive connections, each with a runtime of its own, and what they are told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::Failure;
use crate::sensor::load::{Beaten, Connected, GatewayRate, LoadCounts, LoadDriver, LoadPeer, LoadTarget};

/// What a driver is told to do.
enum Order {
    Connect(oneshot::Sender<Connected>),
    ForgetTickets(oneshot::Sender<Result<(), String>>),
    Disconnect(oneshot::Sender<()>),
    Beat { interval: Duration, gateways: GatewayRate, seed: u64, done: oneshot::Sender<Beaten> },
    BeatOnce { interval: Duration, done: oneshot::Sender<u64> },
}

/// All drivers.
pub(super) struct Crew {
    orders: Vec<mpsc::Sender<Order>>,
    threads: Vec<std::thread::JoinHandle<()>>,
    pub counts: Arc<LoadCounts>,
}

impl Crew {
    /// Starts the threads; peers are dealt out like cards.
    pub(super) fn start(threads: usize, target: &LoadTarget, peers: Vec<LoadPeer>) -> Result<Crew, Failure> {
        let counts = Arc::new(LoadCounts::default());
        let threads = threads.min(peers.len()).max(1);
        let mut shares: Vec<Vec<LoadPeer>> = (0..threads).map(|_| Vec::new()).collect();
        for (place, peer) in peers.into_iter().enumerate() {
            shares[place % threads].push(peer);
        }
        let mut target = target.clone();
        target.handshakes_at_once = target.handshakes_at_once.div_ceil(threads);
        let mut crew = Crew { orders: Vec::new(), threads: Vec::new(), counts };
        for share in shares {
            let (send, receive) = mpsc::channel(4);
            let (ready, when_ready) = oneshot::channel();
            let (target, counts) = (target.clone(), Arc::clone(&crew.counts));
            let thread = std::thread::Builder::new().name("load".into());
            let thread = thread.spawn(move || drive(target, share, counts, ready, receive));
            crew.threads.push(thread.map_err(|error| Failure::failed(format!("a thread: {error}")))?);
            crew.orders.push(send);
            match when_ready.blocking_recv() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(Failure::failed(error)),
                Err(_) => return Err(gone()),
            }
        }
        Ok(crew)
    }

    fn all<T>(&self, order: impl Fn(oneshot::Sender<T>) -> Order) -> Result<Vec<T>, Failure> {
        let waits = self.begin(order)?;
        waits.into_iter().map(|wait| wait.blocking_recv().map_err(|_| gone())).collect()
    }

    fn begin<T>(
        &self,
        order: impl Fn(oneshot::Sender<T>) -> Order,
    ) -> Result<Vec<oneshot::Receiver<T>>, Failure> {
        self.orders
            .iter()
            .map(|to| {
                let (done, wait) = oneshot::channel();
                to.blocking_send(order(done)).map_err(|_| gone())?;
                Ok(wait)
            })
            .collect()
    }

    pub(super) fn connect(&self) -> Result<Connected, Failure> {
        let mut sum = Connected::default();
        for part in self.all(Order::Connect)? {
            sum.up += part.up;
            sum.last_error = part.last_error.or(sum.last_error);
            sum.took = sum.took.max(part.took);
        }
        Ok(sum)
    }

    pub(super) fn disconnect(&self) -> Result<(), Failure> {
        self.all(Order::Disconnect).map(drop)
    }

    pub(super) fn forget_tickets(&self) -> Result<(), Failure> {
        self.all(Order::ForgetTickets)?.into_iter().try_for_each(|done| done.map_err(Failure::failed))
    }

    pub(super) fn beat_once(&self, interval: Duration) -> Result<u64, Failure> {
        Ok(self.all(|done| Order::BeatOnce { interval, done })?.into_iter().sum())
    }

    /// Lets all beat, does `meanwhile`, and stops them.
    pub(super) fn while_beating<T>(
        &self,
        interval: Duration,
        gateways: GatewayRate,
        meanwhile: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<(T, Beaten), Failure> {
        self.counts.stop.store(false, Ordering::Relaxed);
        let waits = self.begin(|done| Order::Beat { interval, gateways, seed: rand::random(), done })?;
        let result = meanwhile();
        self.counts.stop.store(true, Ordering::Relaxed);
        let mut beaten = Beaten::default();
        for wait in waits {
            beaten.add(&wait.blocking_recv().map_err(|_| gone())?);
        }
        Ok((result?, beaten))
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.counts.stop.store(true, Ordering::Relaxed);
        self.orders.clear();
        for thread in self.threads.drain(..) {
            // A thread that panicked said so itself.
            let _ = thread.join();
        }
    }
}

fn gone() -> Failure {
    Failure::failed("a thread of this side ended early; its message is above")
}

/// One thread: between orders the runtime goes on, so that connections stay alive and tickets arrive.
fn drive(
    target: LoadTarget,
    peers: Vec<LoadPeer>,
    counts: Arc<LoadCounts>,
    ready: oneshot::Sender<Result<(), String>>,
    mut orders: mpsc::Receiver<Order>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(format!("no runtime: {error}")));
            return;
        }
    };
    runtime.block_on(async {
        let mut driver = match LoadDriver::new(target, peers, counts) {
            Ok(driver) => driver,
            Err(error) => {
                let _ = ready.send(Err(error.to_string()));
                return;
            }
        };
        let _ = ready.send(Ok(()));
        // Who asked may have given up; then nobody wants the answer.
        while let Some(order) = orders.recv().await {
            match order {
                Order::Connect(done) => drop(done.send(driver.connect().await)),
                Order::ForgetTickets(done) => {
                    drop(done.send(driver.forget_tickets().map_err(|error| error.to_string())));
                }
                Order::Disconnect(done) => {
                    driver.disconnect().await;
                    let _ = done.send(());
                }
                Order::Beat { interval, gateways, seed, done } => {
                    drop(done.send(driver.beat(interval, gateways, seed).await));
                }
                Order::BeatOnce { interval, done } => drop(done.send(driver.beat_once(interval).await)),
            }
        }
        driver.disconnect().await;
    });
}
