//! What can be done to many sensors, and what each needs to know.

use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::fleet::{Command, Mute, Overrides, Place, SensorEdit, ThreatIntelMode};
use crate::http::edit::policy::PolicyDocument;
use crate::http::edit::{Id, ThreatIntelName, Time, TypeName};
use crate::http::problem::Problem;
use crate::live::{Lifecycle, SensorType};
use crate::time::UnixMillis;
use crate::wire::id::{SensorId, ZoneId};

/// One sensor of a bulk change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) id: SensorId,
    /// For a rename.
    pub(super) name: Option<String>,
}

/// What is done.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = BulkAction)]
pub(super) enum ActionName {
    Move,
    Edit,
    Rename,
    SetMode,
    SetPolicy,
    Mute,
    Unmute,
    AddWindow,
    Reactivate,
    Revoke,
    Delete,
}

/// What an action needs. `move`: `zone`. `edit`: `notes`, `threat_intel_mode` (one at least). `set-mode`: `type`.
/// `set-policy`: `policy`. `mute`: `until`, `reason` (both may be left out). `add-window`: `from`, `until`, `reason`. The
/// others: nothing.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BulkArguments)]
pub(super) struct Arguments {
    #[schema(value_type = Option<String>, format = Uuid)]
    zone: Option<Id<ZoneId>>,
    #[schema(max_length = 2_000)]
    notes: Option<String>,
    threat_intel_mode: Option<ThreatIntelName>,
    r#type: Option<TypeName>,
    policy: Option<PolicyDocument>,
    #[schema(value_type = Option<String>, format = DateTime)]
    from: Option<Time>,
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Time>,
    #[schema(max_length = 2_000)]
    reason: Option<String>,
}

/// An action with all that it needs.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Move(ZoneId),
    Edit { notes: Option<String>, threat_intel: Option<ThreatIntelMode> },
    Rename,
    SetMode(SensorType),
    SetPolicy(Overrides),
    Mute(Mute),
    Unmute,
    AddWindow { from: UnixMillis, until: UnixMillis, reason: String },
    Reactivate,
    Revoke,
    Delete,
}

impl Action {
    /// An action from its name and arguments: what it needs must be there, and nothing else.
    pub(super) fn read(name: ActionName, arguments: Arguments, items: &[Item]) -> Result<Action, Problem> {
        let mut given = arguments;
        let action = match name {
            ActionName::Move => Action::Move(needed("zone", given.zone.take())?.0),
            ActionName::Edit => {
                let notes = given.notes.take();
                let threat_intel = given.threat_intel_mode.take().map(Into::into);
                if notes.is_none() && threat_intel.is_none() {
                    return Err(missing("notes", "notes or threat_intel_mode"));
                }
                Action::Edit { notes, threat_intel }
            }
            ActionName::Rename => Action::Rename,
            ActionName::SetMode => Action::SetMode(needed("type", given.r#type.take())?.into()),
            ActionName::SetPolicy => {
                Action::SetPolicy(needed("policy", given.policy.take())?.read("arguments.policy.")?)
            }
            ActionName::Mute => {
                let until = given.until.take().map(|Time(until)| until);
                Action::Mute(Mute { until, reason: given.reason.take().unwrap_or_default().into() })
            }
            ActionName::Unmute => Action::Unmute,
            ActionName::AddWindow => Action::AddWindow {
                from: needed("from", given.from.take())?.0,
                until: needed("until", given.until.take())?.0,
                reason: given.reason.take().unwrap_or_default(),
            },
            ActionName::Reactivate => Action::Reactivate,
            ActionName::Revoke => Action::Revoke,
            ActionName::Delete => Action::Delete,
        };
        given.nothing_left(action.name())?;
        let renames = matches!(action, Action::Rename);
        if let Some(index) = items.iter().position(|item| item.name.is_some() != renames) {
            let code = if renames { "missing-field" } else { "unknown-field" };
            let valid = if renames { "an object with `id` and `name`" } else { "the id of a sensor" };
            let detail = format!("`items[{index}]` does not fit `{}`; give {valid}", action.name());
            let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail);
            return Err(problem.field(format!("items[{index}].name"), valid));
        }
        Ok(action)
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Action::Move(_) => "move",
            Action::Edit { .. } => "edit",
            Action::Rename => "rename",
            Action::SetMode(_) => "set-mode",
            Action::SetPolicy(_) => "set-policy",
            Action::Mute(_) => "mute",
            Action::Unmute => "unmute",
            Action::AddWindow { .. } => "add-window",
            Action::Reactivate => "reactivate",
            Action::Revoke => "revoke",
            Action::Delete => "delete",
        }
    }

    /// What is asked of the register for one item: one command.
    pub(super) fn command(&self, item: &Item) -> Command {
        let id = item.id;
        let place = Place::Sensor(id);
        match self {
            Action::Move(zone) => Command::MoveSensor { id, zone: *zone },
            Action::Edit { notes, threat_intel } => {
                let edit = SensorEdit { name: None, notes: notes.clone(), threat_intel: *threat_intel };
                Command::EditSensor { id, edit }
            }
            Action::Rename => {
                let edit = SensorEdit { name: item.name.clone(), ..SensorEdit::default() };
                Command::EditSensor { id, edit }
            }
            Action::SetMode(kind) => Command::SetMode { id, kind: *kind },
            Action::SetPolicy(policy) => Command::SetPolicy { place, policy: policy.clone() },
            Action::Mute(mute) => Command::SetMute { place, mute: Some(mute.clone()) },
            Action::Unmute => Command::SetMute { place, mute: None },
            Action::AddWindow { from, until, reason } => {
                Command::AddWindow { place, from: *from, until: *until, reason: reason.clone() }
            }
            Action::Reactivate => Command::SetLifecycle { id, lifecycle: Lifecycle::PendingReactivation },
            Action::Revoke => Command::RevokeCredentials { id },
            Action::Delete => Command::DeleteSensor { id },
        }
    }

    /// The zone that all items go to.
    pub(super) fn zone(&self) -> Option<ZoneId> {
        match self {
            Action::Move(zone) => Some(*zone),
            _ => None,
        }
    }
}

impl Arguments {
    fn nothing_left(&self, action: &str) -> Result<(), Problem> {
        let left = [
            ("zone", self.zone.is_some()),
            ("notes", self.notes.is_some()),
            ("threat_intel_mode", self.threat_intel_mode.is_some()),
            ("type", self.r#type.is_some()),
            ("policy", self.policy.is_some()),
            ("from", self.from.is_some()),
            ("until", self.until.is_some()),
            ("reason", self.reason.is_some()),
        ];
        let Some((name, _)) = left.into_iter().find(|(_, there)| *there) else { return Ok(()) };
        let detail = format!("`{action}` takes no `{name}`; leave it out");
        Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown-field", detail)
            .field(format!("arguments.{name}"), "no such field"))
    }
}

fn needed<T>(name: &str, given: Option<T>) -> Result<T, Problem> {
    given.ok_or_else(|| missing(name, name))
}

fn missing(name: &str, valid: &str) -> Problem {
    let detail = format!("the field `arguments.{name}` is missing; give {valid}");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "missing-field", detail)
        .field(format!("arguments.{name}"), "a value for it")
}
