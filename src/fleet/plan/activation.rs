//! How a sensor gets its certificate, and loses it: activation files, modes, credentials, refused enrolments.

use std::sync::Arc;

use super::details::put_more;
use super::{Fault, fault, sensor};
use crate::fleet::command::Command;
use crate::fleet::details::{Activation, Attempt, Credential, SensorMore, TokenHash, Used};
use crate::fleet::draft::Draft;
use crate::fleet::model::Sensor;
use crate::fleet::refusal::{RefusalCode, shown};
use crate::limits::{
    ACTIVATION_REPEAT, ATTEMPTS_KEPT, CERTIFICATE_BACKDATE, CREDENTIALS_MAX, EVIDENCE_TEXT_BYTES_MAX,
    GRANT_SPAN_SHARE, GRANTS_AT_ONCE, VOIDED_KEPT,
};
use crate::live::{Lifecycle, SensorType};
use crate::time::UnixMillis;
use crate::wire::id::SensorId;

pub(super) fn plan(draft: &mut Draft<'_>, command: &Command, at: UnixMillis) -> Result<(), Fault> {
    match command {
        Command::IssueActivation { id, token, expires_at } => issue(draft, *id, *token, *expires_at, at),
        Command::Activate { id, token, key, credential, from } => {
            let used = Used { at, key: *key, from: from.as_deref().map(cut) };
            activate(draft, *id, *token, used, credential.as_ref())
        }
        Command::RecordCredential { id, credential } => {
            let before = sensor(draft, *id)?;
            let mut more = SensorMore::clone(&before.more);
            keep(&mut more.credentials, None, credential, at);
            put_more(draft, before.clone(), before, more);
            Ok(())
        }
        Command::Renew { id, shown, credential } => renew(draft, *id, shown, credential, at),
        Command::RevokeCredentials { id } => {
            let before = sensor(draft, *id)?;
            let more = SensorMore { credentials: Vec::new(), ..SensorMore::clone(&before.more) };
            let lifecycle = match before.lifecycle {
                Lifecycle::Active => Lifecycle::PendingReactivation,
                other => other,
            };
            put_more(draft, Sensor { lifecycle, ..before.clone() }, before, more);
            Ok(())
        }
        Command::NoteAttempt { id, attempt } => {
            let before = sensor(draft, *id)?;
            let mut more = SensorMore::clone(&before.more);
            if more.attempts.len() >= ATTEMPTS_KEPT {
                more.attempts.drain(..=more.attempts.len() - ATTEMPTS_KEPT);
            }
            let Attempt { at, from, code, detail } = attempt;
            let attempt = Attempt { at: *at, from: cut(from), code: cut(code), detail: cut(detail) };
            more.attempts.push(attempt);
            put_more(draft, before.clone(), before, more);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn is_pending(lifecycle: Lifecycle) -> bool {
    matches!(lifecycle, Lifecycle::PendingActivation | Lifecycle::PendingReactivation)
}

fn issue(
    draft: &mut Draft<'_>,
    id: SensorId,
    token: TokenHash,
    expires_at: UnixMillis,
    at: UnixMillis,
) -> Result<(), Fault> {
    let before = sensor(draft, id)?;
    if !is_pending(before.lifecycle) {
        let right = "a sensor that waits for activation; make an active one wait first (reactivate)";
        return fault(RefusalCode::ActivationNotPending, "id", before.lifecycle.as_str(), right);
    }
    if expires_at <= at {
        return fault(RefusalCode::TimeOrder, "expires_at", expires_at.0, "a time in the future");
    }
    if draft.knows_secret(token) {
        return fault(RefusalCode::IdTaken, "token", "in use", "a fresh token");
    }
    let (mut voided, generation) = match &before.more.activation {
        Some(old) => {
            let mut voided = old.voided.clone();
            voided.push(old.token);
            (voided, old.generation.saturating_add(1))
        }
        None => (Vec::new(), 1),
    };
    if voided.len() > VOIDED_KEPT {
        voided.drain(..voided.len() - VOIDED_KEPT);
    }
    let activation = Activation { token, generation, voided, issued_at: at, expires_at, used: None };
    let more = SensorMore { activation: Some(activation), ..SensorMore::clone(&before.more) };
    put_more(draft, before.clone(), before, more);
    Ok(())
}

fn activate(
    draft: &mut Draft<'_>,
    id: SensorId,
    token: TokenHash,
    used: Used,
    credential: Option<&Credential>,
) -> Result<(), Fault> {
    let before = sensor(draft, id)?;
    let at = used.at;
    let Some(activation) =
        before.more.activation.as_ref().filter(|a| a.token == token || a.voided.contains(&token))
    else {
        return fault(RefusalCode::ActivationUnknown, "token", "unknown", "the token of an activation file");
    };
    if activation.token != token {
        return fault(RefusalCode::ActivationVoid, "token", "void", "the activation file that was made last");
    }
    match &activation.used {
        Some(earlier) if earlier.key == used.key && at >= earlier.at.plus(ACTIVATION_REPEAT) => {
            let right = "a fresh activation file: this one was used too long ago to be answered again";
            return fault(RefusalCode::ActivationUsed, "token", "used", right);
        }
        // The answer was lost, and the same key asks again.
        Some(earlier) if earlier.key == used.key => {}
        Some(_) => {
            let right = "a fresh activation file: this one was used by another machine";
            return fault(RefusalCode::ActivationUsed, "token", "used", right);
        }
        None if !is_pending(before.lifecycle) => {
            let right = "a sensor that waits for activation";
            return fault(RefusalCode::ActivationNotPending, "id", before.lifecycle.as_str(), right);
        }
        None if at >= activation.expires_at => {
            let right = "a fresh activation file: this one was not used in time";
            return fault(RefusalCode::ActivationExpired, "token", "expired", right);
        }
        None => {}
    }
    if before.lifecycle == Lifecycle::PendingReactivation && activation.used.is_some() {
        let right = "a fresh activation file: this one was used before the sensor was sent to reactivation";
        return fault(RefusalCode::ActivationUsed, "token", "used", right);
    }
    let mut more = SensorMore::clone(&before.more);
    match (&activation.used, credential) {
        (Some(_), Some(credential)) => {
            not_too_often(&more.credentials, credential)?;
            keep(&mut more.credentials, None, credential, at);
        }
        (Some(_), None) => {}
        // Whoever has an earlier certificate, a thief perhaps, is not who activates the sensor now.
        (None, credential) => more.credentials = credential.cloned().into_iter().collect(),
    }
    let used = activation.used.clone().unwrap_or(used);
    more.activation = Some(Activation { used: Some(used), ..activation.clone() });
    put_more(draft, Sensor { lifecycle: Lifecycle::Active, ..before.clone() }, before, more);
    Ok(())
}

/// A certificate that the register does not know is good for nothing but to begin with: where none was ever recorded.
fn renew(
    draft: &mut Draft<'_>,
    id: SensorId,
    shown: &Credential,
    credential: &Credential,
    at: UnixMillis,
) -> Result<(), Fault> {
    let before = sensor(draft, id)?;
    if before.lifecycle != Lifecycle::Active {
        return fault(RefusalCode::NotActive, "id", before.lifecycle.as_str(), "an active sensor");
    }
    let mut more = SensorMore::clone(&before.more);
    if more.credentials.is_empty() {
        more.credentials.push(shown.clone());
    }
    if !more.credentials.iter().any(|held| held.serial == shown.serial) {
        let right = "a certificate that is good for the sensor; activate it again with a new activation file";
        return fault(RefusalCode::CredentialUnknown, "shown", &shown.serial, right);
    }
    not_too_often(&more.credentials, credential)?;
    keep(&mut more.credentials, Some(shown), credential, at);
    put_more(draft, before.clone(), before, more);
    Ok(())
}

/// Each new certificate is a durable change that a peer brings about: few of them within a part of their life.
fn not_too_often(held: &[Credential], new: &Credential) -> Result<(), Fault> {
    let began = new.not_before.plus(CERTIFICATE_BACKDATE);
    let span = new.not_after.0.saturating_sub(began.0) / i64::from(GRANT_SPAN_SHARE);
    let of_late = |old: &&Credential| (0..=span).contains(&new.not_before.0.saturating_sub(old.not_before.0));
    let count = held.iter().filter(of_late).count();
    if count < GRANTS_AT_ONCE {
        return Ok(());
    }
    let right =
        format!("fewer than {GRANTS_AT_ONCE} certificates within {} minutes; ask again later", span / 60_000);
    fault(RefusalCode::TooMany, "credential", count, right)
}

/// Keeps a new credential and those before that did not run out. The one that was shown for it stays in any case: when
/// the new one does not arrive, it is shown again. Of too many the oldest others go, and are revoked: of those that were
/// made one after the other and never arrived, the last ones are what a sensor may have kept after all.
fn keep(credentials: &mut Vec<Credential>, shown: Option<&Credential>, new: &Credential, at: UnixMillis) {
    let is_shown = |held: &Credential| shown.is_some_and(|shown| shown.serial == held.serial);
    credentials.retain(|old| (old.not_after >= at || is_shown(old)) && old.serial != new.serial);
    while credentials.len() >= CREDENTIALS_MAX
        && let Some(oldest) = credentials.iter().position(|old| !is_shown(old))
    {
        credentials.remove(oldest);
    }
    credentials.push(new.clone());
}

pub(super) fn set_mode(draft: &mut Draft<'_>, id: SensorId, kind: SensorType) -> Result<(), Fault> {
    use SensorType::{EnterpriseIot, OtCloud, OtLocal};
    let before = sensor(draft, id)?;
    if (before.kind == EnterpriseIot || kind == EnterpriseIot) && before.kind != kind {
        let right = "ot-cloud or ot-local for an OT sensor; an enterprise-IoT sensor has one mode";
        return fault(RefusalCode::WrongMode, "type", kind.as_str(), right);
    }
    // Without a certificate nobody could connect: then it needs an activation file.
    let lifecycle = match (before.kind, kind, before.lifecycle) {
        (OtLocal, OtCloud, Lifecycle::Active) if before.more.credentials.is_empty() => {
            Lifecycle::PendingReactivation
        }
        (_, _, lifecycle) => lifecycle,
    };
    draft.put_sensor(Some(before.clone()), Sensor { kind, lifecycle, ..before });
    Ok(())
}

/// A text from outside, made safe to show and cut.
fn cut(text: &str) -> Arc<str> {
    let safe = text.chars().all(|c| !c.is_control());
    let text = if safe { text.to_owned() } else { shown(text) };
    Arc::from(&text[..text.floor_char_boundary(EVIDENCE_TEXT_BYTES_MAX)])
}
