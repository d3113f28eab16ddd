//! `fleetpulse backup`: backups that a running server makes of itself.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::cell::{Column, Show, text};
use super::http::{Call, Method};
use super::progress::Progress;
use super::{Client, EXIT_CODES, Remote, problem, run};
use crate::cli::Failure;
use crate::limits::CLIENT_BACKUP_LOOK_EVERY;

/// Flags of `backup`.
#[derive(Args)]
#[command(after_help = format!("\
Examples:
  fleetpulse backup create
  fleetpulse backup download latest --out /mnt/safe/fleet.backup
  fleetpulse store restore /mnt/safe/fleet.backup --data-dir new     # then: fleetpulse serve --data-dir new

A backup holds the keys of the certificate authority: keep it as safe as the server itself.

{EXIT_CODES}"))]
pub(in crate::cli) struct Backup {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make one, in the folder that the server is configured with, and wait for its end
    Create,
    /// Those that are there, newest first
    List,
    /// Write one to a file here, for you alone
    Download {
        /// Its name; `latest` is the newest
        name: String,
        /// The file; it must not exist [default: the backup's name, here]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Delete one
    Delete {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

const PATH: &str = "/api/v1/backups";

const BACKUPS: &[Column] = &[
    text("NAME", "name"),
    text("BYTES", "bytes"),
    text("MADE", "made_at").show(Show::Ago),
    text("REGISTER", "register").wide(),
    text("JOURNAL", "journal").wide(),
];

const MADE: &[Column] = &[
    text("NAME", "name"),
    text("BYTES", "bytes"),
    text("SHA-256", "sha256"),
    text("SECONDS", "seconds"),
    text("REGISTER", "register"),
    text("REMOVED", "removed").wide(),
];

impl Backup {
    pub(in crate::cli) fn run(self, what: &str) -> Result<(), Failure> {
        run(&self.remote, what, |client| match self.action {
            Action::Create => create(client),
            Action::List => client.rows(&list(client)?.0, BACKUPS),
            Action::Download { name, out } => download(client, &name, out),
            Action::Delete { name, yes } => {
                client.confirm(&format!("Delete the backup `{name}`?"), yes, "")?;
                client.http.call(&Call::new(Method::Delete, path(&name)))?;
                client.done(&format!("backup `{name}` is deleted"), &json!({ "name": name }))
            }
        })
    }
}

/// Where the API has it: whatever is written as a name is one part of the path.
fn path(name: &str) -> String {
    let mut path = format!("{PATH}/");
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => path.push(char::from(byte)),
            // Two dots alone would be taken for the folder above.
            b'.' if !name.starts_with('.') => path.push('.'),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

fn create(client: &mut Client) -> Result<(), Failure> {
    let made = client.http.call(&Call::new(Method::Post, "/api/v1/backup"))?.body;
    if made["state"] != "under-way" {
        return client.out.one(&made, MADE);
    }
    let name = made["name"].as_str().unwrap_or_default().to_owned();
    client.note(&format!("{} takes long; waiting for its end", problem::shown(&name)));
    loop {
        std::thread::sleep(CLIENT_BACKUP_LOOK_EVERY);
        let (backups, under_way) = list(client)?;
        if let Some(made) = backups.iter().find(|backup| backup["name"] == name.as_str()) {
            return client.out.one(made, BACKUPS);
        }
        if under_way != name {
            return Err(Failure::failed("the backup was not made; the server's log says why"));
        }
    }
}

/// Those that are there, and the name of the one that is being written.
fn list(client: &Client) -> Result<(Vec<Value>, String), Failure> {
    let body = client.http.call(&Call::get(PATH))?.body;
    let items = body["items"].as_array().cloned().unwrap_or_default();
    Ok((items, body["under_way"].as_str().unwrap_or_default().to_owned()))
}

fn download(client: &mut Client, name: &str, out: Option<PathBuf>) -> Result<(), Failure> {
    let name = match name {
        "latest" => {
            let newest =
                list(client)?.0.first().and_then(|backup| backup["name"].as_str().map(str::to_owned));
            newest.ok_or_else(|| {
                Failure::failed("there is no backup yet; `fleetpulse backup create` makes one")
            })?
        }
        name => name.to_owned(),
    };
    // The name is the server's word: it is a file here, and not a path.
    let named = || PathBuf::from(name.replace(|c: char| !(c.is_alphanumeric() || "-_.".contains(c)), "-"));
    let out = out.unwrap_or_else(named);
    let wrong =
        |error: std::io::Error| Failure::failed(format!("{}: {error}; give another place", out.display()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&out).map_err(wrong)?;
    let written = client.http.open(&Call::get(path(&name)).endless()).and_then(|mut answer| {
        let length = answer.headers().get("content-length");
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let mut progress = Progress::new("MiB written");
        let (mut body, mut piece, mut bytes) = (answer.body_mut().as_reader(), vec![0; 256 * 1_024], 0_u64);
        loop {
            match body.read(&mut piece).map_err(cut_short)? {
                0 => break,
                read => {
                    file.write_all(&piece[..read]).map_err(wrong)?;
                    bytes += read as u64;
                    progress.at((bytes >> 20) as usize);
                }
            }
        }
        if length.is_some_and(|length| length != bytes) {
            return Err(cut_short(std::io::ErrorKind::UnexpectedEof.into()));
        }
        file.sync_all().map_err(wrong)?;
        Ok(bytes)
    });
    match written {
        Ok(bytes) => {
            let text = format!("{} is written: {bytes} bytes; keep it as safe as the server", out.display());
            client.done(&text, &json!({ "name": name, "file": out, "bytes": bytes }))
        }
        Err(failure) => {
            let _ = fs::remove_file(&out);
            Err(failure)
        }
    }
}

fn cut_short(error: std::io::Error) -> Failure {
    Failure::failed(format!("the backup came only in part ({error}); nothing was kept, try again"))
}
