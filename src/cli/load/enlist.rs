//! Makes the peers of a load: puts them into the register, and issues their keys and certificates on all
//! cores.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Failure, Size, say};
use crate::fleet::Actor;
use crate::identity::{Authority, PeerIdentity};
use crate::limits::COMMANDS_PER_BATCH_MAX;
use crate::live::SensorType;
use crate::sensor::load::{Carried, LoadPeer};
use crate::server::data::DataDir;
use crate::server::enlist::Enlistment;
use crate::time::{Clock, SystemClock};
use crate::wire::id::{GatewayId, SensorId};

const SENSORS_PER_SITE: usize = 500;
const ZONE: &str = "Default";
/// Longest life of a certificate that has no use beyond a load.
const LIFE: Duration = Duration::from_secs(30 * 86_400);

/// A peer with its name in its certificate.
#[derive(Clone, Debug)]
pub(super) struct Enlisted {
    pub who: PeerIdentity,
    pub peer: LoadPeer,
}

/// Registers so many sensors and gateways and issues their certificates.
pub(super) fn enlist(data: &mut DataDir, size: Size, clock: SystemClock) -> Result<Vec<Enlisted>, Failure> {
    let began = clock.mono();
    let wanted = register(data, size, clock)?;
    say(&format!(
        "registered {} sensors in {:.1} s",
        size.registered(),
        clock.mono().since(began).as_secs_f64()
    ));
    let began = clock.mono();
    let peers = issue(&data.authority, wanted, clock)?;
    let took = clock.mono().since(began).as_secs_f64();
    say(&format!("issued {} certificates in {took:.1} s", peers.len()));
    Ok(peers)
}

/// In batches that the register takes. Names are new with every call, so a directory can be used again.
fn register(
    data: &mut DataDir,
    size: Size,
    clock: SystemClock,
) -> Result<Vec<(PeerIdentity, Carried)>, Failure> {
    let tag = format!("{:08x}", rand::random::<u32>());
    let mut wanted = Vec::with_capacity(size.connections());
    let apply = |data: &mut DataDir, plan: &dyn Fn(&mut Enlistment<'_>)| {
        let mut enlistment = Enlistment::new(&data.register);
        plan(&mut enlistment);
        let commands = enlistment.into_commands();
        data.apply(&commands, Actor::command_line("load"), clock.unix()).map_err(Failure::failed)
    };
    let numbers: Vec<usize> = (0..size.sensors).collect();
    // A site and a zone come with every 500 sensors.
    for batch in numbers.chunks(COMMANDS_PER_BATCH_MAX / 2) {
        let ids: Vec<SensorId> = batch.iter().map(|_| SensorId::fresh()).collect();
        apply(data, &|plan| {
            for (number, id) in batch.iter().zip(&ids) {
                let site = format!("Load {tag} {}", number / SENSORS_PER_SITE);
                plan.sensor(*id, &format!("sensor {number}"), SensorType::OtCloud, &site, ZONE);
            }
        })?;
        wanted.extend(ids.into_iter().map(|id| (PeerIdentity::Sensor(id), Carried::Sensor(id))));
    }
    for gateway in 0..size.gateways {
        let id = GatewayId::fresh();
        let ids: Vec<SensorId> = (0..size.sensors_per_gateway).map(|_| SensorId::fresh()).collect();
        let site = format!("Load {tag} gateway {gateway}");
        for batch in ids.chunks(COMMANDS_PER_BATCH_MAX / 2) {
            apply(data, &|plan| {
                for id in batch {
                    plan.sensor(*id, &format!("sensor {id}"), SensorType::OtCloud, &site, ZONE);
                }
            })?;
        }
        apply(data, &|plan| plan.gateway(id, &format!("Load {tag} {gateway}"), &[&site]))?;
        wanted.push((PeerIdentity::Gateway(id), Carried::Gateway(ids)));
    }
    Ok(wanted)
}

fn issue(
    authority: &Authority,
    wanted: Vec<(PeerIdentity, Carried)>,
    clock: SystemClock,
) -> Result<Vec<Enlisted>, Failure> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = wanted.len().div_ceil(threads).max(1);
    let (done, all) = (AtomicUsize::new(0), wanted.len());
    let one = |(who, carried): (PeerIdentity, Carried)| {
        let identity = authority.issue(who, LIFE, clock.unix()).map_err(Failure::failed)?;
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(2_500) && done < all {
            say(&format!("issued {done} of {all} certificates"));
        }
        Ok(Enlisted { who, peer: LoadPeer { identity, carried } })
    };
    let mut rest = wanted;
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        while !rest.is_empty() {
            let part: Vec<_> = rest.drain(..share.min(rest.len())).collect();
            workers.push(scope.spawn(move || part.into_iter().map(one).collect::<Result<Vec<_>, Failure>>()));
        }
        let mut peers = Vec::with_capacity(all);
        for worker in workers {
            let made =
                worker.join().map_err(|_| Failure::failed("a thread that issues certificates panicked"))?;
            peers.extend(made?);
        }
        Ok(peers)
    })
}
