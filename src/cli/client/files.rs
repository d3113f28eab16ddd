//! Files that sensors are onboarded with: lists of them in, activation files out, responses of those that never connect.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::find::{Found, SENSOR};
use super::http::{Call, Content, Method};
use super::sensors::OneSensor;
use super::{Client, problem};
use crate::cli::{Failure, exit};
use crate::identity::file_name;
use crate::limits::{CLIENT_FILE_BYTES_MAX, CLIENT_ROWS_SHOWN};

/// Flags of `sensors activation`.
#[derive(Args)]
pub(super) struct Activation {
    #[command(flatten)]
    one: OneSensor,
    /// Write the file here, for you alone; - for standard output [default: named after the sensor, here]
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    out: Option<PathBuf>,
    /// For an enterprise-iot sensor: print the one line to paste on its host
    #[arg(long)]
    command: bool,
}

impl Activation {
    pub(super) fn run(self, client: &mut Client) -> Result<(), Failure> {
        let found = self.one.find(client, SENSOR)?;
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
        let named = || {
            PathBuf::from(format!("{}.activation", file_name(&found.name, "sensor", char::is_alphanumeric)))
        };
        let out = NewFile::create(&self.out.unwrap_or_else(named))?;
        activate(client, &found, out)
    }
}

/// A new file that only its owner may read. It is made before what goes into it, because that is made once: an
/// activation file makes those before void, a token's secret is told this once. If nothing comes, it is gone again.
pub(super) struct NewFile {
    path: PathBuf,
    /// `None`: standard output.
    file: Option<fs::File>,
    filled: bool,
}

impl NewFile {
    /// Makes it; `-` is standard output. What is there already is not written over.
    pub(super) fn create(path: &Path) -> Result<NewFile, Failure> {
        let path = path.to_owned();
        if path.as_os_str() == "-" {
            return Ok(NewFile { path, file: None, filled: true });
        }
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = opened.map_err(|error| wrong_place(&path, &error))?;
        Ok(NewFile { path, file: Some(file), filled: false })
    }

    /// Where it is; `None`: standard output.
    pub(super) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|_| self.path.as_path())
    }

    /// Puts this into it, durably.
    pub(super) fn fill(&mut self, client: &mut Client, bytes: &[u8]) -> Result<(), Failure> {
        let Some(file) = &mut self.file else { return client.out.raw(bytes) };
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        written.map_err(|error| wrong_place(&self.path, &error))?;
        self.filled = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.filled {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn wrong_place(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}; give another place", path.display()))
}

/// Makes the activation file of a sensor, and writes it.
pub(super) fn activate(client: &mut Client, found: &Found, mut out: NewFile) -> Result<(), Failure> {
    let made = client.http.bytes(&Call::new(Method::Post, found.path(SENSOR) + "/activation"))?;
    out.fill(client, &made)?;
    let Some(file) = out.path() else { return Ok(()) };
    let document = json!({ "id": found.id, "name": found.name, "file": file });
    let shown = file.display();
    let text = format!(
        "the activation file of `{}` is {shown}; on its host: fleetpulse agent activate {shown}",
        found.name
    );
    client.done(&text, &document)
}

/// Takes what `fleetpulse agent activate --offline` made.
pub(super) fn respond(client: &mut Client, one: &OneSensor, file: &Path) -> Result<(), Failure> {
    let found = one.find(client, SENSOR)?;
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
        client.done(&text, &document)?;
        if self.partial && left_out > 0 && count("sensors") == 0 {
            let message = "every row was left out";
            let document = json!({ "code": "nothing-made", "detail": message, "left_out": left_out });
            return Err(Failure::told(exit::REFUSED, message.to_owned(), document));
        }
        Ok(())
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
        true => super::stdin::take("the file")?.take(most).read_to_end(&mut bytes),
        false => fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)),
    };
    read.map_err(|error| wrong(&error))?;
    if bytes.len() as u64 == most {
        return Err(wrong(&format_args!("more than {CLIENT_FILE_BYTES_MAX} bytes; send it in parts")));
    }
    Ok(bytes)
}
