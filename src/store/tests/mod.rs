//! Tests of the store on real files, and on a disk that fails on purpose.

mod audit;
mod backup;
mod checkpoint;
mod documents;
mod faults;
mod journal;
mod register;
mod whole;

use super::{EntryEvidence, EntryKind, JournalEntry, Subject, Value};
use crate::fleet::{Actor, ActorKind, Batch, Command, Register, SiteEdit};
use crate::live::{Lifecycle, SensorType};
use crate::time::UnixMillis;
use crate::wire::id::{GatewayId, SensorId, SiteId, SubscriptionId, ZoneId};

fn plan(register: &Register, commands: &[Command], at: i64) -> Batch {
    register.apply(commands, Actor::command_line("test"), UnixMillis(at)).expect("commands that can be done")
}

/// A subscription, a site and a zone.
fn ground() -> [Command; 3] {
    let (id, subscription) = (SiteId::from_number(1), SubscriptionId::from_number(1));
    [
        Command::AddSubscription { id: subscription, name: "Contoso".into() },
        Command::AddSite { id, subscription, name: "Werk".into() },
        Command::AddZone { id: ZoneId::from_number(1), site: id, name: "Halle".into() },
    ]
}

fn add_sensor(number: u64) -> Command {
    Command::AddSensor {
        id: SensorId::from_number(number),
        zone: ZoneId::from_number(1),
        name: format!("sensor {number}"),
        kind: SensorType::OtCloud,
        lifecycle: Lifecycle::Active,
    }
}

/// A batch with every kind of document, and an entry with every field.
fn fixtures() -> (Batch, JournalEntry) {
    let register = {
        let mut register = Register::new();
        register.fold(&plan(&Register::new(), &ground(), 1)).expect("folds");
        register.fold(&plan(&register, &[add_sensor(1)], 2)).expect("folds");
        register
    };
    let mut commands = vec![
        Command::RenameSubscription { id: SubscriptionId::from_number(1), name: "Fabrikam".into() },
        Command::EditSite { id: SiteId::from_number(1), edit: SiteEdit::named("Werk 2") },
        Command::RenameZone { id: ZoneId::from_number(1), name: "Halle 2".into() },
        Command::DeleteSensor { id: SensorId::from_number(1) },
        Command::AddGateway {
            id: GatewayId::from_number(1),
            name: "gw".into(),
            sites: vec![SiteId::from_number(1)],
        },
    ];
    commands.push(add_sensor(2));
    let actor =
        Actor { kind: ActorKind::User, name: "ada@example.org".into(), from: Some("192.0.2.7".into()) };
    let batch = register.apply(&commands, actor, UnixMillis(1_790_000_000_000)).expect("can be done");
    let entry = JournalEntry {
        subject: Subject::Gateway(GatewayId::from_number(1)),
        site: Some(SiteId::from_number(1)),
        rule: "gateway-silent".into(),
        kind: EntryKind::Cleared,
        at: UnixMillis(1_790_000_000_000),
        since: UnixMillis(1_789_999_000_000),
        evidence: vec![
            EntryEvidence {
                name: "silent_for".into(),
                value: Value::Integer(90),
                threshold: Some(Value::Number(60.5)),
                unit: "s".into(),
            },
            EntryEvidence {
                name: "version".into(),
                value: Value::Text("22.3.7".into()),
                threshold: None,
                unit: String::new(),
            },
        ],
        folded_into: Some(SiteId::from_number(2)),
        muted: true,
        detection_delay_ms: Some(12),
        reason: Some("superseded".into()),
    };
    (batch, entry)
}
