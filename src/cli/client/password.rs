//! Passwords: asked for without echo, or read from standard input or the environment; never an argument, because
//! everybody on the machine can read those.

use std::io::IsTerminal;

use clap::Args;

use super::profile::Secret;
use crate::cli::Failure;
use crate::cli::paint::clean;

/// Where the password comes from.
#[derive(Args)]
pub(in crate::cli) struct Password {
    /// Read the password from standard input: its first line [default: FLEETPULSE_PASSWORD, then it is asked for]
    #[arg(long)]
    pub(super) password_stdin: bool,
}

impl Password {
    /// One that is there already.
    pub(super) fn known(&self, name: &str) -> Result<Secret, Failure> {
        match self.given()? {
            Some(password) => Ok(password),
            None => ask(&format!("Password of {}: ", clean(name))),
        }
    }

    /// The present one, and the one that takes its place.
    pub(super) fn changed(&self, name: &str) -> Result<(Secret, Secret), Failure> {
        if self.password_stdin {
            let [present, new] = super::stdin::lines("the passwords")?;
            return Ok((Secret(present), Secret(new)));
        }
        Ok((self.known(name)?, choose(name)?))
    }

    /// One that is chosen now; asked for twice, because nobody sees it.
    pub(in crate::cli) fn new_one(&self, name: &str) -> Result<Secret, Failure> {
        if let Some(password) = self.given()? {
            return Ok(password);
        }
        choose(name)
    }

    fn given(&self) -> Result<Option<Secret>, Failure> {
        if self.password_stdin {
            return super::stdin::line("the password").map(|line| Some(Secret(line)));
        }
        let password = std::env::var("FLEETPULSE_PASSWORD").ok().filter(|password| !password.is_empty());
        Ok(password.map(Secret))
    }
}

fn choose(name: &str) -> Result<Secret, Failure> {
    let first = ask(&format!("New password of {}: ", clean(name)))?;
    if first == ask("The same again: ")? {
        Ok(first)
    } else {
        Err(Failure::usage("the two passwords differ; nothing was changed"))
    }
}

fn ask(question: &str) -> Result<Secret, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "there is no terminal to ask for the password; give it with --password-stdin",
        ));
    }
    let answer = rpassword::prompt_password(question);
    answer.map(Secret).map_err(|error| Failure::failed(format!("the terminal can't be asked: {error}")))
}
