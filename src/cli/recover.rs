//! `fleetpulse recover`: the way back in for who owns the data directory, when nobody knows a password any more.
//!
//! Who can write the data directory may let anybody in anyway; this does it in order: through the register, with an
//! entry in the audit log, and only while no server runs.

use std::sync::Arc;

use clap::Args;

use super::Failure;
use super::client::Password;
use super::settings::Settings;
use crate::fleet::{Actor, Register};
use crate::http::new_password_hash;
use crate::server::access::recovery_command;
use crate::server::data::DataDir;
use crate::time::{Clock, SystemClock};

/// Flags of `recover`.
#[derive(Args)]
#[command(after_help = "\
Stop the server first, and start it again afterwards. The user may sign in again even if they were disabled; their tokens \
stay as they are. The audit log says that it was done.

Exit codes: 0 done, 1 failed, 64 wrong usage, 78 wrong configuration.")]
pub(super) struct Recover {
    /// The name to sign in with
    name: String,
    /// Make the user administrator of everything too
    #[arg(long)]
    administrator: bool,
    #[command(flatten)]
    password: Password,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Recover {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.settings.load()?;
        if !config.data_dir.join("store").join("FORMAT").exists() {
            return Err(Failure::failed(format!(
                "{} is no data directory; name one with --data-dir",
                config.data_dir.display()
            )));
        }
        let clock = SystemClock::start();
        let mut data = DataDir::open(&config.data_dir, Arc::new(clock)).map_err(Failure::failed)?;
        if data.register.user_named(&self.name).is_none() {
            return Err(Failure::failed(nobody(&data.register, &self.name)));
        }
        let password = self.password.new_one(&self.name)?;
        let hash = new_password_hash(&password.0, &self.name).map_err(Failure::failed)?;
        let command = recovery_command(&data.register, &self.name, hash, self.administrator);
        let command = command.ok_or_else(|| Failure::failed(nobody(&data.register, &self.name)))?;
        let actor = Actor::command_line("recover");
        data.apply(&[command], actor, clock.unix()).map_err(Failure::failed)?;
        if self.json {
            println!("{}", serde_json::json!({ "user": self.name, "administrator": self.administrator }));
        } else {
            println!("{} has a new password; start the server, then: fleetpulse login {0}", self.name);
        }
        Ok(())
    }
}

/// Who there is instead.
fn nobody(register: &Register, name: &str) -> String {
    let there: Vec<&str> = register.users().map(|user| &*user.name).take(20).collect();
    match there.as_slice() {
        [] => "nobody is registered yet; `fleetpulse serve` prints a link for the first administrator".into(),
        names => format!("no user is called `{name}`; there are {}", names.join(", ")),
    }
}
