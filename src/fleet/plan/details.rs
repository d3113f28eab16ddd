//! What people say of sites and sensors: edits, policies, mutes, maintenance windows.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Fault, fault, levels, own_site, rename, sensor, site, subscription, within, zone};
use crate::fleet::command::{Place, SensorEdit, SiteEdit};
use crate::fleet::details::{Mute, Overrides, Quiet, SensorMore, SiteAbout, Window};
use crate::fleet::draft::{Draft, Scope};
use crate::fleet::model::{Sensor, Site, SiteKind, Subscription, Zone};
use crate::fleet::name::{check_email, check_name, check_notes};
use crate::fleet::refusal::{RefusalCode, shown};
use crate::limits::{
    INTERVAL_MAX, INTERVAL_MIN, NAME_CHARS_MAX, OWNERS_MAX, TAG_KEY_CHARS_MAX, TAGS_MAX, WINDOW_MAX,
    WINDOWS_MAX,
};
use crate::time::UnixMillis;
use crate::wire::id::{SensorId, SiteId};

pub(super) fn edit_site(draft: &mut Draft<'_>, id: SiteId, edit: &SiteEdit) -> Result<(), Fault> {
    let before = match &edit.name {
        Some(_) => own_site(draft, id)?,
        None => site(draft, id, "id")?,
    };
    let name = match &edit.name {
        Some(name) => rename(draft, Scope::Sites(before.subscription), &before.name, name)?,
        None => before.name.clone(),
    };
    let mut about = SiteAbout::clone(&before.about);
    if let Some(tags) = &edit.tags {
        about.tags = check_tags(tags)?;
    }
    if let Some(owners) = &edit.owners {
        if before.kind == SiteKind::Enterprise && !owners.is_empty() {
            return fault(RefusalCode::WrongPlace, "owners", id, "a site with OT sensors");
        }
        about.owners = check_owners(owners)?;
    }
    put_site(draft, &before, name, about);
    Ok(())
}

fn put_site(draft: &mut Draft<'_>, before: &Site, name: Arc<str>, about: SiteAbout) {
    let about = if about == *before.about { before.about.clone() } else { Arc::new(about) };
    draft.put_site(Some(before.clone()), Some(Site { name, about, ..before.clone() }));
}

fn check_tags(tags: &BTreeMap<String, String>) -> Result<BTreeMap<Arc<str>, Arc<str>>, Fault> {
    within(TAGS_MAX, tags.len().saturating_sub(1), "tags")?;
    let mut checked = BTreeMap::new();
    for (key, value) in tags {
        let wrong = |text: &str, right: String| fault(RefusalCode::TagInvalid, "tags", shown(text), right);
        let key = match check_name(key) {
            Ok(key) if key.chars().count() <= TAG_KEY_CHARS_MAX => key,
            Ok(_) => return wrong(key, format!("a key of at most {TAG_KEY_CHARS_MAX} characters")),
            Err((_, right)) => return wrong(key, right),
        };
        let value = match check_name(value) {
            Ok(value) => value,
            // A tag may have no value.
            Err((RefusalCode::NameEmpty, _)) if value.is_empty() => Arc::from(""),
            Err((_, right)) => return wrong(value, right),
        };
        checked.insert(key, value);
    }
    Ok(checked)
}

fn check_owners(owners: &[String]) -> Result<Vec<Arc<str>>, Fault> {
    within(OWNERS_MAX, owners.len().saturating_sub(1), "owners")?;
    let mut checked: Vec<Arc<str>> = Vec::with_capacity(owners.len());
    for owner in owners {
        match check_email(owner) {
            Ok(owner) if checked.contains(&owner) => {}
            Ok(owner) => checked.push(owner),
            Err((code, right)) => return fault(code, "owners", shown(owner), right),
        }
    }
    Ok(checked)
}

pub(super) fn edit_sensor(draft: &mut Draft<'_>, id: SensorId, edit: &SensorEdit) -> Result<(), Fault> {
    let before = sensor(draft, id)?;
    let name = match &edit.name {
        Some(name) => {
            let place = zone(draft, before.zone, "zone")?.site;
            rename(draft, Scope::Sensors(place), &before.name, name)?
        }
        None => before.name.clone(),
    };
    let mut more = SensorMore::clone(&before.more);
    if let Some(notes) = &edit.notes {
        more.notes = text(notes, "notes")?;
    }
    more.threat_intel = edit.threat_intel.unwrap_or(more.threat_intel);
    put_more(draft, Sensor { name, ..before.clone() }, before, more);
    Ok(())
}

/// Puts a sensor with these details in the place of `before`. Plain details are shared.
pub(super) fn put_more(draft: &mut Draft<'_>, after: Sensor, before: Sensor, more: SensorMore) {
    let more = match () {
        () if more == *before.more => before.more.clone(),
        () if more == *Sensor::plain() => Sensor::plain(),
        () => Arc::new(more),
    };
    draft.put_sensor(Some(before), Sensor { more, ..after });
}

fn text(text: &str, field: &'static str) -> Result<Arc<str>, Fault> {
    check_notes(text).or_else(|(code, right)| fault(code, field, shown(text), right))
}

pub(super) fn set_policy(draft: &mut Draft<'_>, place: Place, policy: &Overrides) -> Result<(), Fault> {
    if let Some(interval) = policy.interval
        && !(INTERVAL_MIN..=INTERVAL_MAX).contains(&interval)
    {
        let right = format!("{INTERVAL_MIN:?} to {INTERVAL_MAX:?}");
        return fault(RefusalCode::PolicyInvalid, "interval", format!("{interval:?}"), right);
    }
    let policy = policy.clone();
    match place {
        Place::Subscription(id) => {
            let before = subscription(draft, id, "id")?;
            levels::meet(draft, place, &before.policy, &policy)?;
            draft.put_subscription(Some(before.clone()), Some(Subscription { policy, ..before }));
        }
        Place::Site(id) => {
            let before = site(draft, id, "id")?;
            levels::meet(draft, place, &before.about.policy, &policy)?;
            let about = SiteAbout { policy, ..SiteAbout::clone(&before.about) };
            put_site(draft, &before, before.name.clone(), about);
        }
        Place::Zone(id) => {
            let before = zone(draft, id, "id")?;
            levels::meet(draft, place, &before.policy, &policy)?;
            draft.put_zone(Some(before.clone()), Some(Zone { policy, ..before }));
        }
        Place::Sensor(id) => {
            let before = sensor(draft, id)?;
            levels::meet(draft, place, &before.more.policy, &policy)?;
            let more = SensorMore { policy, ..SensorMore::clone(&before.more) };
            put_more(draft, before.clone(), before, more);
        }
    }
    Ok(())
}

pub(super) fn set_mute(
    draft: &mut Draft<'_>,
    place: Place,
    mute: Option<&Mute>,
    now: UnixMillis,
) -> Result<(), Fault> {
    let mute = match mute {
        Some(Mute { until: Some(until), .. }) if *until <= now => {
            return fault(RefusalCode::TimeOrder, "until", until.0, "a time in the future, or none");
        }
        Some(mute) => Some(Mute { until: mute.until, reason: text(&mute.reason, "reason")? }),
        None => None,
    };
    change_quiet(draft, place, now, |quiet| {
        quiet.mute = mute;
        Ok(())
    })
}

pub(super) fn add_window(
    draft: &mut Draft<'_>,
    place: Place,
    from: UnixMillis,
    until: UnixMillis,
    reason: &str,
    now: UnixMillis,
) -> Result<(), Fault> {
    if until <= from || until <= now {
        return fault(RefusalCode::TimeOrder, "until", until.0, "a time after `from` and in the future");
    }
    if until.0.saturating_sub(from.0) > WINDOW_MAX.as_millis() as i64 {
        let right = format!("at most {} days; mute what rests for longer", WINDOW_MAX.as_secs() / 86_400);
        return fault(RefusalCode::TimeOrder, "until", until.0, right);
    }
    let reason = text(reason, "reason")?;
    change_quiet(draft, place, now, |quiet| {
        let going_on = quiet.windows.iter().filter(|window| window.until > now).count();
        within(WINDOWS_MAX, going_on, "windows")?;
        let id = quiet.windows.iter().map(|window| window.id).max().unwrap_or(0) + 1;
        quiet.windows.push(Window { id, from, until, reason });
        quiet.windows.sort_by_key(|window| (window.from, window.id));
        Ok(())
    })
}

pub(super) fn remove_window(
    draft: &mut Draft<'_>,
    place: Place,
    id: u32,
    now: UnixMillis,
) -> Result<(), Fault> {
    change_quiet(draft, place, now, |quiet| {
        let before = quiet.windows.len();
        quiet.windows.retain(|window| window.id != id);
        if quiet.windows.len() == before {
            return fault(RefusalCode::UnknownWindow, "window", id, "the number of a maintenance window");
        }
        Ok(())
    })
}

/// Drops windows that are over for a day, and of those that are over the oldest beyond [`WINDOWS_MAX`]: a place keeps
/// twice as many at most.
fn forget_over(quiet: &mut Quiet, now: UnixMillis) {
    let old = UnixMillis(now.0.saturating_sub(86_400_000));
    quiet.windows.retain(|window| window.until > old);
    let mut over: Vec<(UnixMillis, u32)> =
        quiet.windows.iter().filter(|w| w.until <= now).map(|w| (w.until, w.id)).collect();
    over.sort_unstable();
    for (_, id) in over.iter().rev().skip(WINDOWS_MAX) {
        quiet.windows.retain(|window| window.id != *id);
    }
}

/// Changes when a place is quiet. What is over is forgotten on the way, some of it at once.
fn change_quiet(
    draft: &mut Draft<'_>,
    place: Place,
    now: UnixMillis,
    change: impl FnOnce(&mut Quiet) -> Result<(), Fault>,
) -> Result<(), Fault> {
    match place {
        Place::Site(id) => {
            let before = site(draft, id, "id")?;
            let mut about = SiteAbout::clone(&before.about);
            change(&mut about.quiet)?;
            forget_over(&mut about.quiet, now);
            put_site(draft, &before, before.name.clone(), about);
        }
        Place::Sensor(id) => {
            let before = sensor(draft, id)?;
            let mut more = SensorMore::clone(&before.more);
            change(&mut more.quiet)?;
            forget_over(&mut more.quiet, now);
            put_more(draft, before.clone(), before, more);
        }
        Place::Subscription(_) | Place::Zone(_) => {
            return fault(RefusalCode::WrongPlace, "place", "a subscription or zone", "a sensor or a site");
        }
    }
    Ok(())
}

const _: () = assert!(TAG_KEY_CHARS_MAX <= NAME_CHARS_MAX);
