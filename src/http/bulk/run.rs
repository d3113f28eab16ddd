//! A bulk change at work: batch after batch, each durable before the next.

use std::cell::Cell;
use std::sync::Arc;

use super::action::{Action, Item};
use super::jobs::{Job, Outcome, Stage, Told};
use crate::fleet::{Command, Permission, Refusal, Register, Sifted, Target};
use crate::http::app::App;
use crate::http::backend::ApplyError;
use crate::http::caller::Caller;
use crate::http::change::sift;
use crate::http::edit::reach_named;
use crate::http::problem::Problem;
use crate::limits::BULK_BATCH;
use crate::wire::id::SensorId;

/// Items as commands, and those that the caller may not even ask for.
#[derive(Default)]
pub(super) struct Planned {
    pub(super) commands: Vec<Command>,
    /// The item of each command.
    of: Vec<usize>,
    left_out: Vec<(usize, Told)>,
}

impl Planned {
    /// Looks at what this caller may do to each of these sensors.
    pub(super) fn of(register: &Register, caller: &Caller, action: &Action, items: &[Item]) -> Planned {
        let mut planned = Planned::default();
        let zone = action.zone().map(|zone| {
            reach_named(caller, register, Permission::EditFleet, "zone", zone)
                .map_err(|problem| told(&problem))
        });
        for (index, item) in items.iter().enumerate() {
            let refused = match &zone {
                Some(Err(told)) => Some(told.clone()),
                _ => may_not(register, caller, item.id),
            };
            match refused {
                Some(told) => planned.left_out.push((index, told)),
                None => {
                    planned.commands.push(action.command(item));
                    planned.of.push(index);
                }
            }
        }
        planned
    }

    /// Who is left out and why, in the order of the items.
    pub(super) fn told(mut self, refused: Vec<Refusal>) -> Vec<(usize, Told)> {
        let of = &self.of;
        let refused = refused.into_iter().filter_map(|refusal| {
            let index = *of.get(refusal.index)?;
            Some((index, Told::from(refusal)))
        });
        self.left_out.extend(refused);
        self.left_out.sort_by_key(|(index, _)| *index);
        self.left_out
    }
}

/// Why a caller may not do this to a sensor. One outside their scope is not there for them.
fn may_not(register: &Register, caller: &Caller, id: SensorId) -> Option<Told> {
    // Nearly everybody asked about may be changed; one look decides.
    if register.sensor(id).is_some() && caller.may(register, Permission::EditFleet, Target::Sensor(id)) {
        return None;
    }
    let visible = caller.may(register, Permission::View, Target::Sensor(id));
    if !visible || register.deleted_sensor(id).is_none() && register.sensor(id).is_none() {
        let detail = format!("there is no sensor {id}");
        let valid = "the id of a sensor".to_owned();
        return Some(Told { code: "unknown-sensor", field: "id".into(), detail, valid });
    }
    if register.sensor(id).is_none() {
        let detail = format!("the sensor {id} was deleted");
        let valid = "the id of a sensor that is not deleted".to_owned();
        return Some(Told { code: "id-deleted", field: "id".into(), detail, valid });
    }
    reach_named(caller, register, Permission::EditFleet, "id", id).err().map(|problem| told(&problem))
}

fn told(problem: &Problem) -> Told {
    Told {
        code: problem.code(),
        field: problem.named().to_owned(),
        detail: problem.detail().to_owned(),
        valid: problem.valid().to_owned(),
    }
}

/// Carries a job out, when its turn has come.
pub(super) fn start(
    app: &Arc<App>,
    caller: Caller,
    job: Arc<Job>,
    action: Action,
    items: Vec<Item>,
    all_or_nothing: bool,
) {
    let app = Arc::clone(app);
    tokio::spawn(async move {
        // Never closed.
        let Ok(_turn) = Arc::clone(&app.jobs.turn).acquire_owned().await else { return };
        let left = Arc::clone(&app);
        let failed = Arc::clone(&job);
        let working = tokio::task::spawn_blocking(move || {
            carry_out(&app, &caller, &job, &action, &items, all_or_nothing);
        });
        if working.await.is_err() {
            let error = "the change could not be carried out; the log says why".to_owned();
            failed.end(Stage::Failed, Some(error), &[], left.clock.unix());
        }
    });
}

fn carry_out(app: &App, caller: &Caller, job: &Job, action: &Action, items: &[Item], all_or_nothing: bool) {
    let ids = |items: &[Item]| -> Vec<SensorId> { items.iter().map(|item| item.id).collect() };
    let mut rest = items;
    let end = |stage, error, rest: &[Item]| job.end(stage, error, &ids(rest), app.clock.unix());
    if !job.begin() {
        return end(Stage::Cancelled, None, rest);
    }
    while !rest.is_empty() {
        if job.is_cancelled() {
            return end(Stage::Cancelled, None, rest);
        }
        let size = if all_or_nothing { rest.len() } else { rest.len().min(BULK_BATCH) };
        let (batch, after) = rest.split_at(size);
        match one_batch(app, caller, action, batch, all_or_nothing) {
            Ok((outcomes, true)) => job.note(outcomes),
            Ok((outcomes, false)) => {
                job.note(outcomes);
                let error = "some items are refused, and all or nothing was asked for: nothing was done";
                return end(Stage::Failed, Some(error.to_owned()), after);
            }
            Err(error) => {
                let problem = Problem::not_applied(&error, &[]);
                return end(Stage::Failed, Some(problem.detail().to_owned()), rest);
            }
        }
        rest = after;
    }
    end(Stage::Done, None, rest);
}

/// What became of each item, and whether it was done.
fn one_batch(
    app: &App,
    caller: &Caller,
    action: &Action,
    items: &[Item],
    all_or_nothing: bool,
) -> Result<(Vec<(SensorId, Outcome)>, bool), ApplyError> {
    let mut planned = Planned::default();
    let (asked, done) = (Cell::new(0), Cell::new(true));
    let mut plan = |register: &Register, caller: &Caller| {
        planned = Planned::of(register, caller, action, items);
        asked.set(planned.commands.len());
        std::mem::take(&mut planned.commands)
    };
    let go = |sifted: &Sifted| {
        let everything = sifted.refused.is_empty() && asked.get() == items.len();
        done.set(everything || !all_or_nothing);
        done.get()
    };
    let sifted = sift(app, caller, &mut plan, &go)?;
    let usual = if done.get() { Outcome::Done } else { Outcome::NotDone };
    let mut outcomes: Vec<(SensorId, Outcome)> = items.iter().map(|item| (item.id, usual.clone())).collect();
    for (index, told) in planned.told(sifted.refused) {
        outcomes[index].1 = Outcome::Refused(Box::new(told));
    }
    Ok((outcomes, done.get()))
}
