//! Files of the server as they are, each with its signature beside it.
//!
//! `-o csv` alone is a table for programs: the columns that people see, made here of the API's pages. A file is the
//! server's own, with all columns, signed: what is handed on, and can be proven to come from it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::cell::Column;
use super::http::Call;
use super::output::Format;
use super::{Client, Most};
use crate::cli::Failure;
use crate::limits::{CLIENT_DOWNLOAD_BYTES_MAX, SIGNATURE_BYTES_MAX};

/// Whether the answer is kept as a file.
#[derive(Args)]
pub(super) struct Keep {
    /// Write the server's own file here, with all columns, and its signature beside it in FILE.jws; its form is that of
    /// -o, or of the ending
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What a file can be, each as `-o` and endings have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Csv,
    Ndjson,
    Json,
}

impl Form {
    /// Of lists.
    pub(super) const LISTS: [Form; 2] = [Form::Csv, Form::Ndjson];

    fn name(self) -> &'static str {
        match self {
            Form::Csv => "csv",
            Form::Ndjson => "ndjson",
            Form::Json => "json",
        }
    }

    fn accept(self) -> &'static str {
        match self {
            Form::Csv => "text/csv",
            Form::Ndjson => "application/x-ndjson",
            Form::Json => "application/json",
        }
    }

    fn of(format: Format, path: &Path, among: &[Form]) -> Result<Form, Failure> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let asked = match format {
            Format::Csv => "csv".to_owned(),
            Format::Ndjson => "ndjson".to_owned(),
            _ => ending.to_lowercase(),
        };
        among.iter().copied().find(|form| form.name() == asked).ok_or_else(|| {
            let names: Vec<&str> = among.iter().map(|form| form.name()).collect();
            let wrong = format!("{}: say what it shall be by its ending or -o", path.display());
            Failure::usage(format!("{wrong}: {}", names.join(", ")))
        })
    }
}

impl Keep {
    pub(super) fn out(&self) -> Option<&Path> {
        self.out.as_deref()
    }
}

impl Client {
    /// Shows a list, or writes all of it to a file.
    pub(super) fn list_or_keep(
        &mut self,
        call: &Call,
        columns: &[Column],
        most: &Most,
        keep: &Keep,
    ) -> Result<(), Failure> {
        match keep.out() {
            None => self.list(call, columns, most),
            Some(_) if most.max.is_some() => {
                Err(Failure::usage("a file holds all that is found; leave --max out, or filter"))
            }
            Some(out) => self.keep(call, out, &Form::LISTS),
        }
    }

    /// Writes what the server answers to a file, and its signature beside it: both, or nothing new.
    pub(super) fn keep(&mut self, call: &Call, out: &Path, among: &[Form]) -> Result<(), Failure> {
        let form = Form::of(self.out.format(), out, among)?;
        let beside = signature_of(out);
        let (part, signature_part) = (with_ending(out, "part"), with_ending(&beside, "part"));
        let written = self.fetch(call, form, &part, &signature_part);
        let placed = written.and_then(|bytes| {
            // An old signature under a new file would say that it was changed.
            let _ = fs::remove_file(&beside);
            let moved = fs::rename(&part, out).and_then(|()| fs::rename(&signature_part, &beside));
            moved.map(|()| bytes).map_err(|error| unwritable(out, &error))
        });
        let bytes = placed.inspect_err(|_| {
            for path in [&part, &signature_part] {
                let _ = fs::remove_file(path);
            }
        })?;
        let document = json!({ "file": out, "signature": beside, "bytes": bytes });
        let text = format!(
            "{} has {bytes} bytes; its signature is {}; check: fleetpulse verify {} --trust trust.pem",
            out.display(),
            beside.display(),
            out.display()
        );
        self.done(&text, &document)
    }

    fn fetch(&self, call: &Call, form: Form, part: &Path, signature_part: &Path) -> Result<u64, Failure> {
        // Before the server works for it.
        let mut file = File::create(part).map_err(|error| unwritable(part, &error))?;
        let call = call.clone().header("Accept", form.accept()).endless();
        let (signature, bytes) = self.http.stream(&call, |body| {
            let copied = io::copy(&mut io::Read::take(body, CLIENT_DOWNLOAD_BYTES_MAX + 1), &mut file)?;
            file.sync_all()?;
            Ok(copied)
        })?;
        if bytes > CLIENT_DOWNLOAD_BYTES_MAX {
            let most = CLIENT_DOWNLOAD_BYTES_MAX >> 30;
            return Err(Failure::failed(format!("the file is larger than {most} GiB; filter")));
        }
        // From a header: it must lead to nothing but a signature.
        let id = signature.as_deref().and_then(|path| path.strip_prefix("/api/v1/signatures/"));
        let id = id.and_then(|id| id.parse::<uuid::Uuid>().ok()).ok_or_else(|| {
            Failure::failed("the server gave a file without a signature; is it of another version?")
        })?;
        let signature = self.http.bytes(&Call::get(format!("/api/v1/signatures/{id}")))?;
        if signature.len() > SIGNATURE_BYTES_MAX {
            return Err(Failure::failed("what the server gave as a signature is none"));
        }
        let written = File::create(signature_part).and_then(|mut file| {
            file.write_all(&signature)?;
            file.sync_all()
        });
        written.map_err(|error| unwritable(signature_part, &error))?;
        Ok(bytes)
    }
}

/// Where the signature of a file lies: `FILE.jws`.
pub(in crate::cli) fn signature_of(file: &Path) -> PathBuf {
    with_ending(file, "jws")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("{}: {error}; give a path that can be written", path.display()))
}
