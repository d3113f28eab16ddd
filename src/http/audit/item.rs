//! One line of the audit log: one thing that a command changed, or one event.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::fields::{Names, before_and_after};
use crate::fleet::{About, ActorKind, Batch, Change, Edit, Event};
use crate::http::csv::Line;
use crate::http::times::rfc3339;
use crate::live::Lifecycle;
use crate::store::Position;

/// One thing that was changed, or that happened.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditItem {
    /// Its place in the log.
    id: String,
    /// The command that did it: what one command changed, together and at once, has the same.
    entry: String,
    #[schema(format = DateTime)]
    at: String,
    actor: AuditActor,
    /// What was asked, such as `edit-sensor`; `bulk` when a command did several kinds of things.
    action: String,
    /// `created`, `changed`, `deleted`; or what happened: `sign-in`, `sign-in-refused`, `sign-out`, `download`, `backup`,
    /// `backup-deleted`, `rotation`.
    change: &'static str,
    /// None of a sign-in that was refused, and of what is about the server itself.
    subject: Option<AuditSubject>,
    /// The fields that differ, as they were; all of something that is gone. None of something new.
    #[schema(value_type = Option<Object>)]
    before: Option<Value>,
    /// The same fields as they are since; all of something new. None of something that is gone.
    #[schema(value_type = Option<Object>)]
    after: Option<Value>,
    /// More of what happened, for people.
    detail: Option<String>,
}

/// Who did it, and from where.
#[derive(Serialize, ToSchema)]
struct AuditActor {
    /// `user` in a browser, a program with a `token`, the `system` itself, the `command-line` at its machine, or a `peer`: a
    /// sensor about itself.
    kind: &'static str,
    /// The user; `user/token` of a token. Of a refused sign-in: the name that was tried.
    name: String,
    /// Network address, as the server saw it.
    from: Option<String>,
}

/// What it is about.
#[derive(Serialize, ToSchema)]
struct AuditSubject {
    /// `subscription`, `site`, `zone`, `sensor`, `gateway`, `user`, `token`.
    kind: &'static str,
    id: String,
    /// As it was called then; of an event: as it is called now.
    name: Option<String>,
}

/// Kinds of actors by name.
pub(super) const KINDS: [(&str, ActorKind); 5] = [
    ("system", ActorKind::System),
    ("command-line", ActorKind::CommandLine),
    ("user", ActorKind::User),
    ("token", ActorKind::Token),
    ("peer", ActorKind::Peer),
];

/// Columns of CSV, in the order in which [`AuditItem::csv`] writes them.
const COLUMNS: [&str; 14] = [
    "at",
    "actor_kind",
    "actor",
    "from",
    "action",
    "change",
    "subject_kind",
    "subject_id",
    "subject",
    "before",
    "after",
    "detail",
    "entry",
    "id",
];

impl AuditItem {
    /// The change of this number of a batch.
    pub(super) fn of(
        place: Position,
        number: usize,
        batch: &Batch,
        change: &Change,
        names: &Names<'_>,
    ) -> AuditItem {
        let (before, after) = before_and_after(change, names);
        let event = match change {
            Change::Event(event) => Some(event),
            _ => None,
        };
        let kind = KINDS.iter().find(|(_, kind)| *kind == batch.actor.kind);
        AuditItem {
            id: format!("{place}.{number:x}"),
            entry: place.to_string(),
            at: rfc3339(batch.at),
            actor: AuditActor {
                kind: kind.map_or("system", |(name, _)| name),
                name: batch.actor.name.clone(),
                from: batch.actor.from.clone(),
            },
            action: batch.action.clone(),
            change: what(change),
            subject: subject(change, names),
            before,
            after,
            detail: event.map(|event| event.detail.clone()).filter(|detail| !detail.is_empty()),
        }
    }

    /// The first line of CSV.
    pub(super) fn csv_head(out: &mut Vec<u8>) {
        let mut line = Line::begin(out);
        COLUMNS.iter().for_each(|column| line.cell(column));
        line.end();
    }

    /// Its line of CSV; fields before and after are JSON.
    pub(super) fn csv(&self, out: &mut Vec<u8>) {
        let json = |value: &Option<Value>| value.as_ref().map(Value::to_string).unwrap_or_default();
        let subject = self.subject.as_ref();
        let name = subject.and_then(|subject| subject.name.as_deref());
        let mut line = Line::begin(out);
        line.cell(&self.at);
        line.cell(self.actor.kind);
        line.cell(&self.actor.name);
        line.cell(self.actor.from.as_deref().unwrap_or_default());
        line.cell(&self.action);
        line.cell(self.change);
        line.cell(subject.map_or("", |subject| subject.kind));
        line.cell(subject.map_or("", |subject| &subject.id));
        line.cell(name.unwrap_or_default());
        line.cell(&json(&self.before));
        line.cell(&json(&self.after));
        line.cell(self.detail.as_deref().unwrap_or_default());
        line.cell(&self.entry);
        line.cell(&self.id);
        line.end();
    }
}

fn what(change: &Change) -> &'static str {
    fn of<T>(edit: &Edit<T>) -> &'static str {
        match (&edit.before, &edit.after) {
            (None, _) => "created",
            (_, None) => "deleted",
            _ => "changed",
        }
    }
    match change {
        Change::Subscription(edit) => of(edit),
        Change::Site(edit) => of(edit),
        Change::Zone(edit) => of(edit),
        // It stays as a document, so that its id never comes back.
        Change::Sensor(Edit { before: Some(_), after: Some(after) })
            if after.lifecycle == Lifecycle::Deleted =>
        {
            "deleted"
        }
        Change::Sensor(edit) => of(edit),
        Change::Gateway(edit) => of(edit),
        Change::User(edit) => of(edit),
        Change::Token(edit) => of(edit),
        Change::Event(event) => event.code.as_str(),
    }
}

fn subject(change: &Change, names: &Names<'_>) -> Option<AuditSubject> {
    macro_rules! of {
        ($kind:literal, $edit:expr) => {
            $edit.after.as_ref().or($edit.before.as_ref()).map(|it| AuditSubject {
                kind: $kind,
                id: it.id.to_string(),
                name: Some(it.name.to_string()),
            })
        };
    }
    match change {
        Change::Subscription(edit) => of!("subscription", edit),
        Change::Site(edit) => of!("site", edit),
        Change::Zone(edit) => of!("zone", edit),
        Change::Sensor(edit) => of!("sensor", edit),
        Change::Gateway(edit) => of!("gateway", edit),
        Change::User(edit) => of!("user", edit),
        Change::Token(edit) => of!("token", edit),
        Change::Event(event) => about(event, names),
    }
}

fn about(event: &Event, names: &Names<'_>) -> Option<AuditSubject> {
    let register = names.register;
    let (kind, id, name) = match event.about? {
        About::User(id) => ("user", id.to_string(), register.user(id).map(|user| &user.name)),
        About::Site(id) => ("site", id.to_string(), register.site(id).map(|site| &site.name)),
        About::Sensor(id) => {
            let sensor = register.sensor(id).or_else(|| register.deleted_sensor(id));
            ("sensor", id.to_string(), sensor.map(|sensor| &sensor.name))
        }
    };
    Some(AuditSubject { kind, id, name: name.map(ToString::to_string) })
}
