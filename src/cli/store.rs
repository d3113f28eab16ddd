//! `fleetpulse store`: backup, restore, check, and the register as it was, of a data directory that no server uses.
//! A running server makes backups through its API.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::settings::Settings;
use super::when::{rfc3339, time};
use super::{Failure, ca};
use crate::server::data;
use crate::store::{self, BackupReport, CheckReport, Store};
use crate::time::{Clock, SystemClock, UnixMillis};

/// Flags of `store`.
#[derive(Args)]
pub struct StoreCommand {
    #[command(flatten)]
    settings: Settings,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Write everything into one new file. It holds the keys of the certificate authority: keep it as safe as those
    Backup {
        /// The file; it must not exist
        file: PathBuf,
    },
    /// Make the data directory, which must be new or empty, from a backup
    Restore {
        /// The backup
        file: PathBuf,
    },
    /// Read everything and say what is wrong, and what to do about it; exits with 1 when the store can't be used
    /// as it is
    Check,
    /// List what is registered, or was
    Show {
        /// As it was then, such as 2026-11-25T08:00:00Z
        #[arg(long, value_name = "TIME", value_parser = time)]
        at: Option<UnixMillis>,
    },
}

impl StoreCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.settings.load()?;
        let (data, clock) = (config.data_dir, SystemClock::start());
        match &self.action {
            Action::Backup { file } => {
                let store = open(&data)?;
                let report = data::backup(&store, file, clock.unix(), &mut |_| {});
                let report = report.map_err(Failure::failed)?;
                self.say_backup(&format!("backup written to {}", file.display()), &report);
            }
            Action::Restore { file } => {
                let report = store::restore(file, &data, &mut |_| {}).map_err(Failure::failed)?;
                self.say_backup(&format!("restored into {}", data.display()), &report);
            }
            Action::Check => {
                let report = store::check(&data.join("store")).map_err(Failure::failed)?;
                say_check(&report, self.json);
                if !report.is_sound() {
                    return Err(Failure::failed("the store can't be used as it is"));
                }
            }
            Action::Show { at } => show(&open(&data)?, *at, self.json)?,
        }
        Ok(())
    }

    fn say_backup(&self, what: &str, report: &BackupReport) {
        let BackupReport { batches, entries, files, bytes, .. } = report;
        let made = rfc3339(report.made_at);
        if self.json {
            let report = serde_json::json!({
                "made_at": made, "batches": batches, "entries": entries, "files": files, "bytes": bytes,
            });
            println!("{report}");
        } else {
            println!("{what}");
            println!("  made {made}: {batches} changes of the register, {entries} entries of the journal,");
            println!("  {files} files, {bytes} bytes");
        }
    }
}

/// The store of a data directory that is there.
fn open(data: &std::path::Path) -> Result<Store, Failure> {
    let dir = data.join("store");
    if !dir.join("FORMAT").exists() {
        return Err(Failure::failed(format!(
            "{} is no data directory; name one with --data-dir",
            data.display()
        )));
    }
    Store::open(dir).map_err(Failure::failed)
}

fn say_check(report: &CheckReport, json: bool) {
    let CheckReport { findings, batches, sensors, entries, blocks } = report;
    if json {
        let finding = |finding: &store::Finding| {
            serde_json::json!({
                "problem": finding.problem, "remedy": finding.remedy, "harmless": finding.harmless,
            })
        };
        let report = serde_json::json!({
            "sound": report.is_sound(), "batches": batches, "sensors": sensors, "entries": entries,
            "blocks": blocks, "findings": findings.iter().map(finding).collect::<Vec<_>>(),
        });
        println!("{report}");
        return;
    }
    println!("{batches} changes of the register ({sensors} sensors), {entries} entries of the journal,");
    println!("{blocks} blocks of history read");
    for finding in findings {
        let weight = if finding.harmless { "harmless" } else { "SERIOUS" };
        println!("{weight}: {}\n  {}", finding.problem, finding.remedy);
    }
    if findings.is_empty() {
        println!("nothing is wrong");
    }
}

fn show(store: &Store, at: Option<UnixMillis>, json: bool) -> Result<(), Failure> {
    let Some(at) = at else {
        let loaded = store.register.load().map_err(Failure::failed)?;
        ca::list(&loaded.register, json);
        return Ok(());
    };
    let past = store.register.load_as_of(at).map_err(Failure::failed)?;
    let (when, position) = (rfc3339(at), past.position.sequence);
    if json {
        let line = serde_json::json!({
            "kind": "as-of", "at": when, "change": position, "contradicting": past.contradicting,
        });
        println!("{line}");
    } else {
        println!("as of {when}, after change {position}");
        if past.contradicting > 0 {
            println!("  the clock was wrong for a while: {} changes say another time", past.contradicting);
        }
    }
    ca::list(&past.register, json);
    Ok(())
}
