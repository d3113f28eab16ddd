//! Identities of a load in one file: made and registered beforehand, used against a server elsewhere.
//!
//! What all peers share (trusted roots, the authority's certificates) is in it once, so ten thousand of
//! them are about 8 MB. The file holds private keys: 0600, in a folder 0700.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use minicbor::{Decode, Encode};

use super::enlist::{Enlisted, enlist};
use super::{Failure, Load, Size, say};
use crate::identity::{ClientIdentity, PeerIdentity};
use crate::sensor::load::{Carried, LoadPeer};
use crate::server::data::DataDir;
use crate::time::SystemClock;
use crate::wire::id::{GatewayId, SensorId};

const NAME: &str = "identities.cbor";
const SCHEMA: u32 = 1;

#[derive(Encode, Decode)]
struct File {
    #[n(0)]
    schema: u32,
    #[n(1)]
    trust_pem: String,
    /// What follows the peer's own certificate in its chain.
    #[n(2)]
    issuer_pem: String,
    #[n(3)]
    peers: Vec<Peer>,
}

#[derive(Encode, Decode)]
struct Peer {
    #[cbor(n(0), with = "minicbor::bytes")]
    id: [u8; 16],
    #[n(1)]
    certificate_pem: String,
    #[n(2)]
    key_pem: String,
    /// Of a gateway: the ids of its sensors, 16 bytes each.
    #[cbor(n(3), with = "minicbor::bytes")]
    sensors: Vec<u8>,
}

/// `--prepare`.
pub(super) fn prepare(load: &Load, size: Size, folder: &Path) -> Result<(), Failure> {
    let clock = SystemClock::start();
    let path = folder.join(NAME);
    if path.exists() {
        return Err(Failure::failed(format!("{} is there already; take another folder", path.display())));
    }
    // clap asked for it.
    let data_dir = load.data_dir.as_deref().unwrap_or(Path::new("."));
    let mut data = DataDir::open(data_dir, Arc::new(clock)).map_err(Failure::failed)?;
    let enlisted = enlist(&mut data, size, clock)?;
    write(&path, folder, enlisted)
        .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    say(&format!("identities of {} connections are in {}", size.connections(), path.display()));
    Ok(())
}

fn write(path: &Path, folder: &Path, enlisted: Vec<Enlisted>) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let bytes = encode(enlisted);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&bytes)?;
    file.sync_all()
}

fn encode(enlisted: Vec<Enlisted>) -> Vec<u8> {
    const END: &str = "-----END CERTIFICATE-----\n";
    let mut file =
        File { schema: SCHEMA, trust_pem: String::new(), issuer_pem: String::new(), peers: Vec::new() };
    for Enlisted { who, peer: LoadPeer { identity, carried } } in enlisted {
        let chain = &identity.cert_chain_pem;
        let (own, issuer) = chain.split_at(chain.find(END).map_or(chain.len(), |at| at + END.len()));
        file.issuer_pem = issuer.to_owned();
        file.trust_pem = identity.trust_bundle_pem;
        let (id, sensors) = match (who, carried) {
            (PeerIdentity::Sensor(id), _) => (id.0, Vec::new()),
            (PeerIdentity::Gateway(id), Carried::Gateway(sensors)) => {
                (id.0, sensors.iter().flat_map(|sensor| sensor.0).collect())
            }
            (PeerIdentity::Gateway(id), Carried::Sensor(sensor)) => (id.0, sensor.0.to_vec()),
        };
        let certificate_pem = own.to_owned();
        file.peers.push(Peer { id, certificate_pem, key_pem: identity.key_pem, sensors });
    }
    minicbor::to_vec(&file).expect("writing into memory does not fail")
}

/// Reads what `--prepare` wrote; at most so many of each kind (`None`: all).
pub(super) fn read(
    folder: &Path,
    sensors: Option<usize>,
    gateways: Option<usize>,
) -> Result<(Vec<Enlisted>, Size), Failure> {
    let path = folder.join(NAME);
    let bad = |problem: &str| Failure::failed(format!("{}: {problem}", path.display()));
    let bytes = std::fs::read(&path).map_err(|error| bad(&error.to_string()))?;
    let file: File = minicbor::decode(&bytes).map_err(|_| bad("not made by `fleetpulse load --prepare`"))?;
    if file.schema != SCHEMA {
        return Err(bad("made by another version; make it anew with `fleetpulse load --prepare`"));
    }
    let mut size = Size { sensors: 0, gateways: 0, sensors_per_gateway: 1 };
    let mut taken = Vec::new();
    for peer in file.peers {
        let gateway = !peer.sensors.is_empty();
        let (count, most) =
            if gateway { (&mut size.gateways, gateways) } else { (&mut size.sensors, sensors) };
        if most.is_some_and(|most| *count >= most) {
            continue;
        }
        *count += 1;
        let identity = ClientIdentity {
            cert_chain_pem: format!("{}{}", peer.certificate_pem, file.issuer_pem),
            key_pem: peer.key_pem,
            trust_bundle_pem: file.trust_pem.clone(),
        };
        let (who, carried) = if gateway {
            let ids: Vec<SensorId> =
                peer.sensors.as_chunks::<16>().0.iter().map(|id| SensorId(*id)).collect();
            size.sensors_per_gateway = size.sensors_per_gateway.max(ids.len());
            (PeerIdentity::Gateway(GatewayId(peer.id)), Carried::Gateway(ids))
        } else {
            (PeerIdentity::Sensor(SensorId(peer.id)), Carried::Sensor(SensorId(peer.id)))
        };
        taken.push(Enlisted { who, peer: LoadPeer { identity, carried } });
    }
    for (what, there, wanted) in [("sensors", size.sensors, sensors), ("gateways", size.gateways, gateways)] {
        if let Some(wanted) = wanted.filter(|wanted| *wanted > there) {
            return Err(Failure::usage(format!(
                "{wanted} {what} are wanted, {} has {there}",
                path.display()
            )));
        }
    }
    Ok((taken, size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Authority;
    use crate::time::UnixMillis;

    #[test]
    fn identities_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let now = UnixMillis(1_795_478_400_000);
        let authority = Authority::open_or_create(folder.path(), now).unwrap();
        let make = |who, carried| {
            let identity = authority.issue(who, std::time::Duration::from_secs(60), now).unwrap();
            Enlisted { who, peer: LoadPeer { identity, carried } }
        };
        let (one, two) = (SensorId::from_number(1), SensorId::from_number(2));
        let gateway = GatewayId::from_number(3);
        let made = vec![
            make(PeerIdentity::Sensor(one), Carried::Sensor(one)),
            make(PeerIdentity::Gateway(gateway), Carried::Gateway(vec![one, two])),
        ];
        let out = folder.path().join("identities");
        write(&out.join(NAME), &out, made.clone()).unwrap();
        let (read_back, size) = read(&out, None, None).unwrap();
        assert_eq!(size, Size { sensors: 1, gateways: 1, sensors_per_gateway: 2 });
        for (was, is) in made.iter().zip(&read_back) {
            assert_eq!(was.who, is.who);
            assert_eq!(was.peer.identity.leaf().unwrap(), is.peer.identity.leaf().unwrap());
            assert_eq!(was.peer.identity.key_pem, is.peer.identity.key_pem);
            assert_eq!(was.peer.identity.cert_chain_pem, is.peer.identity.cert_chain_pem);
        }
        assert!(matches!(&read_back[1].peer.carried, Carried::Gateway(ids) if *ids == [one, two]));
        assert_eq!(read(&out, Some(1), Some(0)).unwrap().0.len(), 1);
        assert!(read(&out, Some(2), None).is_err());
        std::fs::write(out.join(NAME), b"nonsense").unwrap();
        assert!(read(&out, None, None).is_err());
    }
}
