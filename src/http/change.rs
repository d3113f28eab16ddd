//! Changes of the register, made by a caller.
//!
//! A request can take its time: its head is let in long before its body is there, and a bulk change goes on after its
//! answer. So what the gate found out of a caller is not what a change is judged by. Under the lock of the change the
//! caller is looked up again ([`Caller::anew`]): who was disabled, demoted, deleted or signed out meanwhile changes
//! nothing any more. Every change that a request makes goes through here for that.

use std::cell::OnceCell;
use std::sync::Arc;

use super::app::App;
use super::backend::ApplyError;
use super::caller::Caller;
use super::problem::Problem;
use super::workers::{Places, work};
use crate::fleet::{Batch, Command, RefusalCode, Register, Sifted};

/// Does all of `commands` or none in the caller's name, if `expect` holds when they are done: that is the place for
/// [`super::edit::reach`] and [`super::etag::IfMatch::check`], with the caller as it is given there. `in_path`: refusals that
/// mean that what the path names is not there.
pub(super) async fn change(
    app: &Arc<App>,
    caller: &Caller,
    commands: Vec<Command>,
    in_path: &'static [RefusalCode],
    expect: impl Fn(&Register, &Caller) -> Result<(), Problem> + Send + 'static,
) -> Result<Batch, Problem> {
    let caller = caller.clone();
    let applied = work(app, Places::Api, move |app| apply(app, &caller, &commands, expect)).await?;
    applied.map_err(|error| Problem::not_applied(&error, in_path))
}

/// As [`change`], on a thread that may wait.
pub(super) fn apply(
    app: &App,
    caller: &Caller,
    commands: &[Command],
    expect: impl Fn(&Register, &Caller) -> Result<(), Problem>,
) -> Result<Batch, ApplyError> {
    let still = |register: &Register| expect(register, &caller.anew(app, register)?);
    app.backend.apply(commands, caller.actor.clone(), &still)
}

/// Does those commands of `plan` that can be done, if `go` agrees to what becomes of them. With a `go` that never does
/// it is a dry run: other commands wait meanwhile, and readers don't.
pub(super) fn sift(
    app: &App,
    caller: &Caller,
    plan: &mut dyn FnMut(&Register, &Caller) -> Vec<Command>,
    go: &dyn Fn(&Sifted) -> bool,
) -> Result<Sifted, ApplyError> {
    let ended = OnceCell::new();
    let mut planned = |register: &Register| match caller.anew(app, register) {
        Ok(caller) => plan(register, &caller),
        Err(problem) => {
            // Asked once.
            let _ = ended.set(problem);
            Vec::new()
        }
    };
    let goes = |sifted: &Sifted| ended.get().is_none() && go(sifted);
    let sifted = app.backend.sift(&mut planned, &goes, caller.actor.clone())?;
    ended.into_inner().map_or(Ok(sifted), |problem| Err(ApplyError::Precondition(problem)))
}
