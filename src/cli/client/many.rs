//! What is made for some sensors at once: activation files.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::Client;
use super::chosen::Chosen;
use super::files::NewFile;
use super::find::Found;
use super::http::{Call, Method};
use crate::cli::Failure;
use crate::identity::file_name;
use crate::limits::ACTIVATIONS_MAX;

/// Flags of `sensors activations`.
#[derive(Args)]
#[command(after_help = "\
At most 1,000 sensors: files of all of them, or of none. Each file is named after its sensor; where two have one name, the \
id is in it too.")]
pub(super) struct Activations {
    #[command(flatten)]
    chosen: Chosen,
    /// Folder for the files, made if it is not there; they are for you alone
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Activations {
    pub(super) fn run(self, client: &mut Client) -> Result<(), Failure> {
        let found = self.chosen.all(client, ACTIVATIONS_MAX)?;
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.out);
        made.map_err(|error| {
            Failure::failed(format!("{}: {error}; give another place", self.out.display()))
        })?;
        // All places are made first: what was signed and can't be kept is lost, with the files before it.
        let mut files = Vec::with_capacity(found.len());
        for name in names(&found) {
            files.push(NewFile::create(&self.out.join(name))?);
        }
        let ids: Vec<&str> = found.iter().map(|one| one.id.as_str()).collect();
        let call = Call::new(Method::Post, "/api/v1/activations").json(json!({ "items": ids }));
        let answer = client.http.bytes(&call)?;
        let lines: Vec<&[u8]> = answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        if lines.len() != files.len() {
            return Err(Failure::failed(
                "the server did not send a file for each; is it of another version?",
            ));
        }
        for (file, line) in files.iter_mut().zip(lines) {
            file.fill(client, line)?;
        }
        let told: Vec<_> = found
            .iter()
            .zip(&files)
            .map(|(one, file)| json!({ "id": one.id, "name": one.name, "file": file.path() }))
            .collect();
        let text = format!("{} activation files are in {}", files.len(), self.out.display());
        client.done(&text, &json!({ "files": told }))
    }
}

/// A file's name for each.
fn names(found: &[Found]) -> Vec<String> {
    let mut taken = HashSet::new();
    let name = |one: &Found| {
        let name = file_name(&one.name, "sensor", char::is_alphanumeric);
        let name = if taken.insert(name.clone()) { name } else { format!("{name}-{}", one.id) };
        format!("{name}.activation")
    };
    found.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensors_of_one_name_have_files_of_their_own() {
        let one = |id: &str, name: &str| Found { id: id.to_owned(), name: name.to_owned() };
        let found = [one("a", "pump 1"), one("b", "pump/1"), one("c", "..")];
        assert_eq!(names(&found), ["pump-1.activation", "pump-1-b.activation", "sensor.activation"]);
    }
}
