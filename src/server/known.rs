//! What a server knows when it starts: state from before, and the version table.

use super::{StartError, checkpoint, journal, subject_of};
use crate::config::Config;
use crate::health::{ActiveMessage, Engine, RuleId, VersionTable};
use crate::live::{LiveState, image};
use crate::store::{EntryKind, Store};
use crate::time::{Clock, SystemClock};

/// What is known from before: live state and pending hysteresis from the checkpoint, active messages from
/// the journal. A damaged checkpoint is said and left; a journal that can't be read stops the start.
pub(super) fn restore(
    mut engine: Engine,
    store: &Store,
    live: &LiveState,
    clock: &SystemClock,
) -> Result<Engine, StartError> {
    let loaded = store.checkpoint.load();
    for error in loaded.errors {
        tracing::warn!(%error, "a checkpoint was not used");
    }
    if let Some(bytes) = loaded.image {
        let parts = checkpoint::split(&bytes);
        let restored = parts
            .map(|(pending, image)| (image::read(image, live, clock.now()), engine.restore_pending(pending)));
        match restored {
            Some((Ok(restored), Ok(()))) => {
                tracing::info!(sensors = restored.sensors, away = ?restored.away, "live state restored");
            }
            other => tracing::warn!(?other, "the checkpoint was used only in part"),
        }
    }
    let mut active = Vec::new();
    for (_, entry) in store.journal.active()? {
        debug_assert_eq!(entry.kind, EntryKind::Raised);
        let Some(rule) = RuleId::from_code(&entry.rule) else {
            tracing::warn!(rule = entry.rule, "an active message of a rule that this version does not know");
            continue;
        };
        active.push(ActiveMessage {
            subject: subject_of(entry.subject),
            rule,
            since: entry.since,
            raised_at: entry.at,
            evidence: journal::evidence_of(&entry),
            durable: true,
            unknown: false,
            folded_into: entry.folded_into,
            muted: entry.muted,
        });
    }
    engine.restore(active);
    Ok(engine)
}

/// The version table of the configuration, or the built-in one.
pub(super) fn versions(config: &Config) -> Result<VersionTable, StartError> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        release: Vec<Row>,
    }
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Row {
        version: String,
        released: String,
        supported_until: String,
    }
    let Some(path) = &config.health.versions_file else { return Ok(VersionTable::default()) };
    let wrong = |error: String| StartError::Versions { path: path.display().to_string(), error };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let file: File = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let rows = file
        .release
        .iter()
        .map(|row| (row.version.as_str(), row.released.as_str(), row.supported_until.as_str()));
    VersionTable::from_rows(rows).map_err(|error| wrong(error.to_string()))
}
