//! Documents of the register as the audit log shows them: their fields by name, and of a change only those that differ.
//!
//! What is kept of secrets (hashes of passwords and tokens) is not shown: only that there is one, or that it was replaced.

use serde_json::{Map, Value, json};

use super::part::Part;
use crate::fleet::{
    Activation, Attempt, Change, Credential, Edit, Gateway, Overrides, Quiet, Register, Sensor, Site,
    SiteKind, Subscription, Token, User, Window, Zone,
};
use crate::http::documents::Reference;
use crate::http::grants;
use crate::http::times::rfc3339;
use crate::time::UnixMillis;
use crate::wire::id::{SiteId, SubscriptionId, UserId, ZoneId};

/// Fields of one document.
type Fields = Map<String, Value>;

/// What ids are called now, as far as somebody may see.
pub(super) struct Names<'r> {
    pub(super) register: &'r Register,
    /// `None`: everything.
    pub(super) sight: Option<&'r Part>,
}

impl Names<'_> {
    fn site(&self, id: SiteId) -> Value {
        let seen = self.sight.is_none_or(|part| part.has_site(id));
        let name = self.register.site(id).filter(|_| seen).map(|site| &*site.name);
        reference(id, name)
    }

    fn zone(&self, id: ZoneId) -> Value {
        let seen = self.sight.is_none_or(|part| part.has_zone(id));
        let name = self.register.zone(id).filter(|_| seen).map(|zone| &*zone.name);
        reference(id, name)
    }

    fn subscription(&self, id: SubscriptionId) -> Value {
        let seen =
            || self.sight.is_none_or(|part| self.register.sites_of(id).any(|site| part.has_site(site.id)));
        let name = self.register.subscription(id).filter(|_| seen()).map(|found| &*found.name);
        reference(id, name)
    }

    /// Who may see users may see everything.
    fn user(&self, id: UserId) -> Value {
        reference(id, self.register.user(id).map(|user| &*user.name))
    }
}

/// `{"id": ..., "name": ...}`; without a name when it is gone, or not the reader's to know.
fn reference(id: impl ToString, name: Option<&str>) -> Value {
    json!(Reference::of(id, name))
}

/// The fields of a document before and after a change: those that differ, or all that say something of one that is new or
/// gone.
pub(super) fn before_and_after(change: &Change, names: &Names<'_>) -> (Option<Value>, Option<Value>) {
    match change {
        Change::Subscription(edit) => differences(edit, subscription),
        Change::Site(edit) => differences(edit, |it| site(it, names)),
        Change::Zone(edit) => differences(edit, |it| zone(it, names)),
        Change::Sensor(edit) => differences(edit, |it| sensor(it, names)),
        Change::Gateway(edit) => differences(edit, |it| gateway(it, names)),
        Change::User(edit) => {
            let (mut before, mut after) = differences(edit, user);
            if let (Some(Value::Object(before)), Some(Value::Object(after))) = (&mut before, &mut after)
                && let (Some(old), Some(new)) = (&edit.before, &edit.after)
                && old.password.is_some()
                && new.password.is_some()
                && old.password != new.password
            {
                before.insert("password".to_owned(), json!(SET));
                after.insert("password".to_owned(), json!("replaced"));
            }
            (before, after)
        }
        Change::Token(edit) => differences(edit, |it| token(it, names)),
        Change::Event(_) => (None, None),
    }
}

/// There is a secret.
const SET: &str = "set";

fn differences<T>(edit: &Edit<T>, fields: impl Fn(&T) -> Fields) -> (Option<Value>, Option<Value>) {
    let (before, after) = (edit.before.as_ref().map(&fields), edit.after.as_ref().map(&fields));
    match (before, after) {
        (Some(mut before), Some(mut after)) => {
            before.retain(|name, value| {
                let same = after.get(name) == Some(value);
                if same {
                    after.remove(name);
                }
                !same
            });
            (Some(Value::Object(before)), Some(Value::Object(after)))
        }
        (before, after) => (before.map(said), after.map(said)),
    }
}

/// Without the fields that say nothing.
fn said(mut fields: Fields) -> Value {
    fields.retain(|_, value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    });
    Value::Object(fields)
}

fn fields<const N: usize>(named: [(&str, Value); N]) -> Fields {
    named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn subscription(it: &Subscription) -> Fields {
    fields([("name", json!(&*it.name)), ("policy", policy(&it.policy))])
}

fn site(it: &Site, names: &Names<'_>) -> Fields {
    let about = &it.about;
    let tags: Fields = about.tags.iter().map(|(key, value)| (key.to_string(), json!(&**value))).collect();
    let mut all = fields([
        ("name", json!(&*it.name)),
        ("subscription", names.subscription(it.subscription)),
        ("kind", json!(if it.kind == SiteKind::Ot { "ot" } else { "enterprise" })),
        ("tags", Value::Object(tags)),
        ("owners", about.owners.iter().map(|owner| json!(&**owner)).collect()),
        ("policy", policy(&about.policy)),
    ]);
    all.extend(quiet(&about.quiet));
    all
}

fn zone(it: &Zone, names: &Names<'_>) -> Fields {
    fields([("name", json!(&*it.name)), ("site", names.site(it.site)), ("policy", policy(&it.policy))])
}

fn sensor(it: &Sensor, names: &Names<'_>) -> Fields {
    let more = &it.more;
    let mut all = fields([
        ("name", json!(&*it.name)),
        ("type", json!(it.kind.as_str())),
        ("lifecycle", json!(it.lifecycle.as_str())),
        ("zone", names.zone(it.zone)),
        ("notes", json!(&*more.notes)),
        ("threat_intel_mode", json!(more.threat_intel.as_str())),
        ("policy", policy(&more.policy)),
        ("activation", more.activation.as_ref().map_or(Value::Null, activation)),
        ("credentials", more.credentials.iter().map(credential).collect()),
        ("attempts", more.attempts.iter().map(attempt).collect()),
    ]);
    all.extend(quiet(&more.quiet));
    all
}

fn gateway(it: &Gateway, names: &Names<'_>) -> Fields {
    // As in the list of gateways: the others are not there for this reader.
    let seen = |site: &&SiteId| names.sight.is_none_or(|part| part.has_site(**site));
    let sites = it.sites.iter().filter(seen).map(|site| names.site(*site)).collect();
    fields([("name", json!(&*it.name)), ("sites", sites)])
}

fn user(it: &User) -> Fields {
    let external = it.external.as_ref();
    fields([
        ("name", json!(&*it.name)),
        ("full_name", json!(&*it.full_name)),
        ("password", json!(it.password.as_ref().map(|_| SET))),
        (
            "external",
            json!(external.map(|(issuer, subject)| json!({"issuer": &**issuer, "subject": &**subject}))),
        ),
        ("grants", json!(grants::documents(&it.grants))),
        ("disabled", json!(it.disabled)),
    ])
}

fn token(it: &Token, names: &Names<'_>) -> Fields {
    fields([
        ("name", json!(&*it.name)),
        ("owner", names.user(it.owner)),
        ("grants", json!(grants::documents(&it.grants))),
        ("created", time(it.created)),
        ("expires", time(it.expires)),
        ("last_used", it.last_used.map_or(Value::Null, time)),
    ])
}

fn time(at: UnixMillis) -> Value {
    json!(rfc3339(at))
}

/// As `said` of a policy has it.
fn policy(it: &Overrides) -> Value {
    let mut all = Fields::new();
    if let Some(interval) = it.interval {
        all.insert("interval_seconds".to_owned(), json!(interval.as_secs_f64()));
    }
    for (setting, value) in it.numbers.iter() {
        let rule = all.entry(setting.rule().code()).or_insert_with(|| json!({}));
        rule[setting.key()] = json!(value);
    }
    Value::Object(all)
}

fn quiet(it: &Quiet) -> Fields {
    let mute = it.mute.as_ref();
    let mute = mute.map(|mute| json!({"until": mute.until.map(rfc3339), "reason": &*mute.reason}));
    fields([("mute", json!(mute)), ("windows", it.windows.iter().map(window).collect())])
}

fn window(it: &Window) -> Value {
    json!({"id": it.id, "from": rfc3339(it.from), "until": rfc3339(it.until), "reason": &*it.reason})
}

/// Without its token.
fn activation(it: &Activation) -> Value {
    let used = it.used.as_ref().map(|used| json!({"at": rfc3339(used.at), "from": used.from.as_deref()}));
    json!({
        "generation": it.generation,
        "issued_at": rfc3339(it.issued_at),
        "expires_at": rfc3339(it.expires_at),
        "used": used,
    })
}

fn credential(it: &Credential) -> Value {
    json!({"serial": &*it.serial, "not_before": rfc3339(it.not_before), "not_after": rfc3339(it.not_after)})
}

fn attempt(it: &Attempt) -> Value {
    json!({"at": rfc3339(it.at), "from": &*it.from, "code": &*it.code, "detail": &*it.detail})
}
