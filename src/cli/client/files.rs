//! Files that sensors are onboarded with: lists of them in, activation files out, responses of those that never connect.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::find::{Found, SENSOR};
use super::http::{Call, Content, Method};
use super::sensors::One;
use super::{Client, problem};
use crate::cli::Failure;
use crate::limits::{CLIENT_FILE_BYTES_MAX, CLIENT_ROWS_SHOWN};

/// Flags of `sensors activation`.
#[derive(Args)]
pub(super) struct Activation {
    #[command(flatten)]
    one: One,
    /// Write the file here, for you alone; - for standard output [default: named after the sensor, here]
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    out: Option<PathBuf>,
    /// For an enterprise-iot sensor: print the one line to paste on its host
    #[arg(long)]
    command: bool,
}

impl Activation {
    pub(super) fn run(self, client: &mut Client) -> Result<(), Failure> {
        let found = self.one.find(client)?;
        if self.command {
            let call = Call::new(Method::Post, found.path(SENSOR) + "/activation-command");
            let document = client.http.call(&call)?.body;
            let command = document["command"].as_str().unwrap_or_default().to_owned();
            let until = problem::shown(document["expires_at"].as_str().unwrap_or_default());
            client.note(&format!(
                "this line holds a secret and is good once, until {until}; those before are void"
            ));
            return client.done(&command, &document);
        }
        let safe = |c: char| if c.is_alphanumeric() || "-_".contains(c) { c } else { '-' };
        let named =
            || PathBuf::from(format!("{}.activation", found.name.chars().map(safe).collect::<String>()));
        activate(client, &found, &self.out.unwrap_or_else(named))
    }
}

/// Makes the activation file of a sensor, and writes it. The place is made before the file: each makes those before
/// void.
pub(super) fn activate(client: &mut Client, found: &Found, out: &Path) -> Result<(), Failure> {
    let call = Call::new(Method::Post, found.path(SENSOR) + "/activation");
    if out.as_os_str() == "-" {
        let bytes = client.http.bytes(&call)?;
        return client.out.raw(&bytes);
    }
    let wrong =
        |error: std::io::Error| Failure::failed(format!("{}: {error}; give another place", out.display()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(out).map_err(wrong)?;
    let made = client.http.bytes(&call);
    let written = made.and_then(|bytes| file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(wrong));
    if let Err(failure) = written {
        let _ = fs::remove_file(out);
        return Err(failure);
    }
    let document = json!({ "id": found.id, "name": found.name, "file": out });
    let text = format!(
        "the activation file of `{}` is {}; on its host: fleetpulse agent activate {}",
        found.name,
        out.display(),
        out.display()
    );
    client.done(&text, &document)
}

/// Takes what `fleetpulse agent activate --offline` made.
pub(super) fn respond(client: &mut Client, one: &One, file: &Path) -> Result<(), Failure> {
    let found = one.find(client)?;
    let content = Content::File("application/jose+json", read(file)?);
    let call = Call::new(Method::Post, found.path(SENSOR) + "/response").content(content);
    let document = client.http.call(&call)?.body;
    client.done(&format!("`{}` is active", found.name), &document)
}

/// Flags of `sensors import`.
#[derive(Args)]
#[command(after_help = "\
CSV with a header line: name, type (ot-cloud when empty), subscription, site, zone, notes, threat_intel_mode, and for sites \
that are made tags (key=value;key=value) and owners (addresses with ; between). A file that ends in .json is a JSON array of \
the same. At most 10,000 rows; all of them, or none and what is wrong in which.")]
pub(super) struct Import {
    /// The file; - for CSV from standard input
    file: PathBuf,
    /// Make sites and zones where they are not there
    #[arg(long)]
    create: bool,
    /// Take the good rows, leave out the others
    #[arg(long)]
    partial: bool,
    /// Change nothing; say what would be made
    #[arg(long)]
    dry_run: bool,
}

impl Import {
    pub(super) fn run(self, client: &mut Client) -> Result<(), Failure> {
        let json = self.file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
        let media_type = if json { "application/json" } else { "text/csv" };
        let call = Call::new(Method::Post, "/api/v1/sensors/import")
            .query("create_places", Some(self.create))
            .query("partial", Some(self.partial))
            .query("dry_run", Some(self.dry_run))
            .content(Content::File(media_type, read(&self.file)?));
        let document = client.http.call(&call)?.body;
        let left_out = document["left_out_count"].as_u64().unwrap_or(0);
        client.note_lines(&rows(&document["left_out"]));
        let count = |name: &str| document[name].as_array().map_or(0, Vec::len);
        let verb = if self.dry_run { "would be" } else { "are" };
        let text = format!(
            "{} sensors, {} sites and {} zones {verb} made; {left_out} rows {verb} left out",
            count("sensors"),
            count("sites"),
            count("zones")
        );
        client.done(&text, &document)
    }
}

/// What is wrong in which row.
pub(super) fn rows(faults: &Value) -> Vec<String> {
    let faults = faults.as_array().map_or(&[][..], Vec::as_slice);
    let told = faults.iter().take(CLIENT_ROWS_SHOWN).map(|fault| {
        let text = |name: &str| problem::shown(fault[name].as_str().unwrap_or_default());
        format!("line {}, {}: {} [{}]", fault["line"], text("column"), text("detail"), text("code"))
    });
    let more = faults.len().saturating_sub(CLIENT_ROWS_SHOWN);
    told.chain((more > 0).then(|| format!("and {more} more"))).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let wrong = |problem: &dyn std::fmt::Display| Failure::failed(format!("{}: {problem}", path.display()));
    let mut bytes = Vec::new();
    let most = CLIENT_FILE_BYTES_MAX + 1;
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin().take(most).read_to_end(&mut bytes),
        false => fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)),
    };
    read.map_err(|error| wrong(&error))?;
    if bytes.len() as u64 == most {
        return Err(wrong(&format_args!("more than {CLIENT_FILE_BYTES_MAX} bytes; send it in parts")));
    }
    Ok(bytes)
}
