//! `fleetpulse whoami` and `fleetpulse password`: oneself.

use clap::Args;
use serde_json::json;

use super::cell::{Column, Show, text};
use super::http::{Call, Http, Method};
use super::password::Password;
use super::profile::Target;
use super::session::Session;
use super::{EXIT_CODES, Remote, run};
use crate::cli::Failure;

/// Flags of `whoami`.
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub(in crate::cli) struct Whoami {
    #[command(flatten)]
    remote: Remote,
}

const WHO: &[Column] = &[
    text("NAME", "user.name"),
    text("FULL NAME", "user.full_name"),
    text("BY", "kind"),
    text("GRANTS", "grants"),
    text("MAY", "permissions"),
    text("UNTIL", "ends").show(Show::Time),
    text("ID", "user.id").wide(),
];

impl Whoami {
    pub(in crate::cli) fn run(self, what: &str) -> Result<(), Failure> {
        run(&self.remote, what, |client| client.show(&Call::get("/api/v1/session"), WHO))
    }
}

/// Flags of `password`.
#[derive(Args)]
#[command(after_help = format!("\
The present password is asked for, then the new one. With --password-stdin they are the first two lines of standard \
input. All sessions of yours end; tokens stay.

{EXIT_CODES}"))]
pub(in crate::cli) struct ChangePassword {
    /// The name to sign in with
    name: String,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    password: Password,
}

impl ChangePassword {
    pub(in crate::cli) fn run(self, what: &str) -> Result<(), Failure> {
        run(&self.remote, what, |client| {
            // The password says who it is, not the token of whoever is signed in.
            let target = Target { token: None, ..Target::find(&self.remote)? };
            self.remote.check_way(&target.url, "the password")?;
            let http = Http::new(target, what)?;
            let (current, new) = self.password.changed(&self.name)?;
            let mut session = Session::open(&http, &self.name, &current)?;
            let body = json!({ "current": current.0, "new": new.0 });
            let changed = session.call(Call::new(Method::Put, "/api/v1/session/password").json(body));
            // The session is of no more use, whether it was changed or not; a change gives it another cookie.
            if let Ok(answer) = &changed {
                session.renew(answer);
            }
            let closed = session.close();
            changed?;
            closed?;
            client.done(&format!("the password of {} is changed", self.name), &json!({ "user": self.name }))
        })
    }
}
