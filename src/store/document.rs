//! The register's documents on disk: CBOR with integer keys, each value led by its schema version.
//!
//! Rules for changing one: fields are only added, optional; a field that must be there from some version
//! on raises [`SCHEMA`] and gets an arm in [`decode_batch`] that fills it in for older ones. Files of each
//! released version are kept as test fixtures.

mod details;

use std::sync::Arc;

use minicbor::{Decode, Decoder, Encode};

use self::details::{EventDoc, MoreDoc, OverridesDoc, SiteAboutDoc, TokenDoc, UserDoc};
use super::error::StoreError;
use crate::fleet::{
    Actor, ActorKind, Batch, Change, Edit, Gateway, Sensor, Site, SiteKind, Subscription, Zone,
};
use crate::live::{Lifecycle, SensorType};
use crate::time::UnixMillis;
use crate::wire::id::{GatewayId, SensorId, SiteId, SubscriptionId, ZoneId};

/// Schema version of batches and snapshots that this program writes.
///
/// 2: policies, what is said of sites and sensors, users, tokens, events. Nothing of it is in a document of version 1,
/// and all of it may be missing.
pub(super) const SCHEMA: u32 = 2;

#[derive(Encode, Decode)]
struct BatchDoc<'a> {
    #[n(0)]
    at: i64,
    #[n(1)]
    actor_kind: u8,
    #[b(2)]
    actor_name: &'a str,
    #[b(3)]
    actor_from: Option<&'a str>,
    #[b(4)]
    action: &'a str,
    #[b(5)]
    changes: Vec<ChangeDoc<'a>>,
}

/// One change in a batch or snapshot.
#[derive(Encode, Decode)]
pub(super) struct ChangeDoc<'a> {
    #[n(0)]
    what: u8,
    #[b(1)]
    before: Option<Doc<'a>>,
    #[b(2)]
    after: Option<Doc<'a>>,
    #[n(3)]
    event: Option<EventDoc>,
}

/// Any document: they have enough in common that one flat form serves, with what a kind lacks left out.
#[derive(Encode, Decode, Default)]
#[cbor(map)]
struct Doc<'a> {
    #[cbor(n(0), with = "minicbor::bytes")]
    id: [u8; 16],
    #[b(1)]
    name: &'a str,
    /// Subscription of a site, site of a zone, zone of a sensor.
    #[cbor(n(2), with = "minicbor::bytes")]
    parent: Option<[u8; 16]>,
    /// Kind of a site, type of a sensor.
    #[n(3)]
    kind: Option<u8>,
    #[n(4)]
    lifecycle: Option<u8>,
    /// Sites of a gateway, one id after the other.
    #[cbor(b(5), with = "minicbor::bytes")]
    sites: Option<&'a [u8]>,
    /// Of a subscription or zone.
    #[n(6)]
    policy: Option<OverridesDoc>,
    #[n(7)]
    about: Option<SiteAboutDoc>,
    #[n(8)]
    more: Option<MoreDoc>,
    #[n(9)]
    user: Option<UserDoc>,
    #[n(10)]
    token: Option<TokenDoc>,
}

const SUBSCRIPTION: u8 = 0;
const SITE: u8 = 1;
const ZONE: u8 = 2;
const SENSOR: u8 = 3;
const GATEWAY: u8 = 4;
const USER: u8 = 5;
const TOKEN: u8 = 6;
const EVENT: u8 = 7;

/// A batch as bytes.
pub(super) fn encode_batch(batch: &Batch) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + 160 * batch.changes.len());
    let sites: Vec<_> = batch.changes.iter().map(gateway_sites).collect();
    let changes = batch.changes.iter().zip(&sites).map(|(change, sites)| change_doc(change, sites)).collect();
    let document = BatchDoc {
        at: batch.at.0,
        actor_kind: actor_code(batch.actor.kind),
        actor_name: &batch.actor.name,
        actor_from: batch.actor.from.as_deref(),
        action: &batch.action,
        changes,
    };
    write(&mut bytes, &SCHEMA);
    write(&mut bytes, &document);
    bytes
}

/// What a batch says of itself before its changes.
pub(super) struct BatchHead<'a> {
    pub(super) at: UnixMillis,
    pub(super) actor_kind: ActorKind,
    pub(super) actor_name: &'a str,
    pub(super) action: &'a str,
}

/// Reads the head of a batch and leaves the rest: its fields come first, in order.
pub(super) fn decode_head<'a>(decoder: &mut Decoder<'a>) -> Result<BatchHead<'a>, StoreError> {
    known(decoder, SCHEMA, "a batch of the register")?;
    let mut head = || -> Result<_, minicbor::decode::Error> {
        decoder.array()?;
        let (at, actor_kind, actor_name) = (decoder.i64()?, decoder.u8()?, decoder.str()?);
        let _from: Option<&str> = decoder.decode()?;
        Ok((at, actor_kind, actor_name, decoder.str()?))
    };
    let (at, actor_kind, actor_name, action) = head().map_err(|cause| bad(&cause))?;
    Ok(BatchHead { at: UnixMillis(at), actor_kind: actor_of(actor_kind)?, actor_name, action })
}

/// A batch from bytes.
pub(super) fn decode_batch(bytes: &[u8]) -> Result<Batch, StoreError> {
    let mut decoder = Decoder::new(bytes);
    known(&mut decoder, SCHEMA, "a batch of the register")?;
    let document: BatchDoc<'_> = decoder.decode().map_err(|cause| bad(&cause))?;
    let changes: Result<Vec<Change>, StoreError> = document.changes.iter().map(change_of).collect();
    Ok(Batch {
        at: UnixMillis(document.at),
        actor: Actor {
            kind: actor_of(document.actor_kind)?,
            name: document.actor_name.to_owned(),
            from: document.actor_from.map(str::to_owned),
        },
        action: document.action.to_owned(),
        changes: changes?,
    })
}

/// Appends one change of a snapshot.
pub(super) fn encode_change(change: &Change, bytes: &mut Vec<u8>) {
    write(bytes, &change_doc(change, &gateway_sites(change)));
}

/// Reads the next change of a snapshot.
pub(super) fn decode_change(decoder: &mut Decoder<'_>) -> Result<Change, StoreError> {
    let document: ChangeDoc<'_> = decoder.decode().map_err(|cause| bad(&cause))?;
    change_of(&document)
}

/// Reads a schema version and refuses one that is newer than `newest`.
pub(super) fn known(decoder: &mut Decoder<'_>, newest: u32, what: &str) -> Result<u32, StoreError> {
    match decoder.u32() {
        Ok(found) if (1..=newest).contains(&found) => Ok(found),
        Ok(found) => Err(StoreError::Newer { what: what.to_owned(), found, known: newest }),
        Err(cause) => Err(bad(&cause)),
    }
}

#[cold]
pub(super) fn bad(cause: &impl ToString) -> StoreError {
    StoreError::Corrupt {
        what: "a stored document".to_owned(),
        why: cause.to_string(),
        remedy: "restore the data directory from a backup",
    }
}

/// Appends a value. Writing CBOR into memory fails only on a value that can't be encoded, and ours all can;
/// should one not, its reader reports the gap as damage.
pub(super) fn write<T: Encode<()>>(bytes: &mut Vec<u8>, value: &T) {
    let result = minicbor::encode(value, bytes);
    debug_assert!(result.is_ok(), "documents always encode");
}

fn gateway_sites(change: &Change) -> [Option<Vec<u8>>; 2] {
    let flat = |gateway: &Option<Gateway>| {
        gateway.as_ref().map(|gateway| gateway.sites.iter().flat_map(|site| site.0).collect())
    };
    match change {
        Change::Gateway(edit) => [flat(&edit.before), flat(&edit.after)],
        _ => [None, None],
    }
}

fn change_doc<'a>(change: &'a Change, sites: &'a [Option<Vec<u8>>; 2]) -> ChangeDoc<'a> {
    fn both<'a, T>(
        what: u8,
        edit: &'a Edit<T>,
        sites: &'a [Option<Vec<u8>>; 2],
        doc: impl Fn(&'a T) -> Doc<'a>,
    ) -> ChangeDoc<'a> {
        let [before, after] = sites;
        let with = |side: &'a Option<T>, sites: &'a Option<Vec<u8>>| {
            side.as_ref().map(|document| Doc { sites: sites.as_deref(), ..doc(document) })
        };
        ChangeDoc { what, before: with(&edit.before, before), after: with(&edit.after, after), event: None }
    }
    match change {
        Change::Subscription(edit) => both(SUBSCRIPTION, edit, sites, |s| Doc {
            id: s.id.0,
            name: &s.name,
            policy: OverridesDoc::of(&s.policy),
            ..Doc::default()
        }),
        Change::Site(edit) => both(SITE, edit, sites, |s| Doc {
            id: s.id.0,
            name: &s.name,
            parent: Some(s.subscription.0),
            kind: Some(site_code(s.kind)),
            about: SiteAboutDoc::of(&s.about),
            ..Doc::default()
        }),
        Change::Zone(edit) => both(ZONE, edit, sites, |z| Doc {
            id: z.id.0,
            name: &z.name,
            parent: Some(z.site.0),
            policy: OverridesDoc::of(&z.policy),
            ..Doc::default()
        }),
        Change::Sensor(edit) => both(SENSOR, edit, sites, |s| Doc {
            id: s.id.0,
            name: &s.name,
            parent: Some(s.zone.0),
            kind: Some(type_code(s.kind)),
            lifecycle: Some(lifecycle_code(s.lifecycle)),
            more: MoreDoc::of(&s.more),
            ..Doc::default()
        }),
        Change::Gateway(edit) => {
            both(GATEWAY, edit, sites, |g| Doc { id: g.id.0, name: &g.name, ..Doc::default() })
        }
        Change::User(edit) => both(USER, edit, sites, |u| Doc {
            id: u.id.0,
            name: &u.name,
            user: Some(UserDoc::of(u)),
            ..Doc::default()
        }),
        Change::Token(edit) => both(TOKEN, edit, sites, |t| Doc {
            id: t.id.0,
            name: &t.name,
            parent: Some(t.owner.0),
            token: Some(TokenDoc::of(t)),
            ..Doc::default()
        }),
        Change::Event(event) => {
            ChangeDoc { what: EVENT, before: None, after: None, event: Some(EventDoc::of(event)) }
        }
    }
}

fn change_of(document: &ChangeDoc<'_>) -> Result<Change, StoreError> {
    fn both<T>(
        document: &ChangeDoc<'_>,
        read: impl Fn(&Doc<'_>) -> Result<T, StoreError>,
    ) -> Result<Edit<T>, StoreError> {
        let side = |doc: &Option<Doc<'_>>| doc.as_ref().map(&read).transpose();
        Ok(Edit { before: side(&document.before)?, after: side(&document.after)? })
    }
    Ok(match document.what {
        SUBSCRIPTION => Change::Subscription(both(document, |doc| {
            Ok(Subscription {
                id: SubscriptionId(doc.id),
                name: Arc::from(doc.name),
                policy: OverridesDoc::read(doc.policy.as_ref())?,
            })
        })?),
        SITE => Change::Site(both(document, |doc| {
            Ok(Site {
                id: SiteId(doc.id),
                subscription: SubscriptionId(have(doc.parent)?),
                name: Arc::from(doc.name),
                kind: site_of(have(doc.kind)?)?,
                about: SiteAboutDoc::read(doc.about.as_ref())?,
            })
        })?),
        ZONE => Change::Zone(both(document, |doc| {
            Ok(Zone {
                id: ZoneId(doc.id),
                site: SiteId(have(doc.parent)?),
                name: Arc::from(doc.name),
                policy: OverridesDoc::read(doc.policy.as_ref())?,
            })
        })?),
        SENSOR => Change::Sensor(both(document, |doc| {
            Ok(Sensor {
                id: SensorId(doc.id),
                zone: ZoneId(have(doc.parent)?),
                name: Arc::from(doc.name),
                kind: type_of(have(doc.kind)?)?,
                lifecycle: lifecycle_of(have(doc.lifecycle)?)?,
                more: MoreDoc::read(doc.more.as_ref())?,
            })
        })?),
        GATEWAY => Change::Gateway(both(document, |doc| {
            let (sites, rest) = have(doc.sites)?.as_chunks::<16>();
            if !rest.is_empty() {
                return Err(bad(&"a gateway's sites are cut"));
            }
            Ok(Gateway {
                id: GatewayId(doc.id),
                name: Arc::from(doc.name),
                sites: sites.iter().map(|&site| SiteId(site)).collect(),
            })
        })?),
        USER => Change::User(both(document, |doc| details::user(doc, have(doc.user.as_ref())?))?),
        TOKEN => Change::Token(both(document, |doc| details::token(doc, have(doc.token.as_ref())?))?),
        EVENT => Change::Event(have(document.event.as_ref())?.read()),
        other => return Err(bad(&format!("unknown kind of document {other}"))),
    })
}

fn have<T>(field: Option<T>) -> Result<T, StoreError> {
    field.ok_or_else(|| bad(&"a field is missing"))
}

macro_rules! codes {
    ($code:ident, $of:ident, $type:ty { $($variant:path = $value:literal),+ $(,)? }) => {
        fn $code(value: $type) -> u8 {
            match value { $($variant => $value),+ }
        }

        fn $of(code: u8) -> Result<$type, StoreError> {
            match code {
                $($value => Ok($variant),)+
                other => Err(bad(&format!(concat!("unknown ", stringify!($type), " {}"), other))),
            }
        }
    };
}

codes!(actor_code, actor_of, ActorKind {
    ActorKind::System = 0,
    ActorKind::CommandLine = 1,
    ActorKind::User = 2,
    ActorKind::Token = 3,
    ActorKind::Peer = 4,
});
codes!(site_code, site_of, SiteKind { SiteKind::Ot = 0, SiteKind::Enterprise = 1 });
codes!(type_code, type_of, SensorType {
    SensorType::OtCloud = 0,
    SensorType::OtLocal = 1,
    SensorType::EnterpriseIot = 2,
});
codes!(lifecycle_code, lifecycle_of, Lifecycle {
    Lifecycle::PendingActivation = 0,
    Lifecycle::Active = 1,
    Lifecycle::PendingReactivation = 2,
    Lifecycle::Deleted = 3,
});
