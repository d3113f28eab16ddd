//! Changes of the register, made by a caller.

use std::sync::Arc;

use super::app::App;
use super::caller::Caller;
use super::problem::Problem;
use super::workers::{Places, work};
use crate::fleet::{Batch, Command, RefusalCode, Register};

/// Does all of `commands` or none in the caller's name, if `expect` holds when they are done: that is the place for
/// [`super::edit::reach`] and [`super::etag::IfMatch::check`]. `in_path`: refusals that mean that what the path names is not
/// there.
pub(super) async fn change(
    app: &Arc<App>,
    caller: &Caller,
    commands: Vec<Command>,
    in_path: &'static [RefusalCode],
    expect: impl Fn(&Register) -> Result<(), Problem> + Send + 'static,
) -> Result<Batch, Problem> {
    let actor = caller.actor.clone();
    let applied = work(app, Places::Api, move |app| app.backend.apply(&commands, actor, &expect)).await?;
    applied.map_err(|error| Problem::not_applied(&error, in_path))
}
