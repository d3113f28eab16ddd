//! `fleetpulse ca rotate-intermediate`, `rotate-root` and `status`: on the files of a data directory, also while a
//! server runs on it. The server takes a step over at its next reload.

use std::path::Path;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::cli::{Failure, exit};
use crate::identity::{Lagging, Proof, Rotation, RotationError, RotationStage, RotationStatus, Step};
use crate::time::UnixMillis;

/// The steps from one root to another. Each needs the one before, and may be given again.
#[derive(Clone, Copy, Subcommand)]
pub enum RootStep {
    /// Make a second root and add it to the trust bundle, which a running server gives to everybody who is connected
    Introduce,
    /// Have the second root sign a new intermediate, which signs everything from then on; needs both roots' keys
    ///
    /// The first root signs the second, so that sensors which were off since before can still come back.
    Switch,
    /// Take the first root out of the trust bundle; refused while somebody could not come back without it
    Retire {
        /// Also when sensors or gateways have to be activated anew
        #[arg(long)]
        force: bool,
    },
}

impl RootStep {
    fn name(self) -> &'static str {
        match self {
            RootStep::Introduce => "introduce",
            RootStep::Switch => "switch",
            RootStep::Retire { .. } => "retire",
        }
    }
}

/// Makes another intermediate.
pub fn intermediate(data: &Path, now: UnixMillis, as_json: bool) -> Result<(), Failure> {
    let taken = || {
        let status = Rotation::open(data)?.rotate_intermediate(now)?;
        Ok((Step::Taken, status))
    };
    let (step, status) = taken().map_err(|error| failure(error, as_json))?;
    let text = format!(
        "{} signs from now on; certificates of the one before stay good until they run out",
        status.intermediate.name
    );
    say("rotate-intermediate", step, &text, &status, as_json);
    Ok(())
}

/// Takes a step to another root.
pub fn root(data: &Path, step: RootStep, now: UnixMillis, as_json: bool) -> Result<(), Failure> {
    let take = || {
        let rotation = Rotation::open(data)?;
        match step {
            RootStep::Introduce => rotation.introduce(now),
            RootStep::Switch => rotation.switch(now),
            RootStep::Retire { force } => rotation.retire(force),
        }
    };
    let (taken, status) = take().map_err(|error| failure(error, as_json))?;
    let newest = status.roots.last();
    let name = newest.map_or("", |root| root.name.as_str());
    let introduced = date(newest.map_or(UnixMillis(0), |root| root.made));
    let text = match (step, taken, status.stage) {
        (RootStep::Introduce, Step::Taken, _) => format!("{name} is in the trust bundle"),
        (RootStep::Introduce, ..) => format!("introduce was done on {introduced}; nothing changed"),
        (RootStep::Switch, Step::Taken, _) => format!("{name} signs from now on"),
        (RootStep::Switch, ..) => {
            format!("switch was done, at the latest on {}; nothing changed", date(status.intermediate.made))
        }
        (RootStep::Retire { .. }, Step::Taken, _) => {
            format!("{name} is the only root; the key of the one before signs nothing any more: delete it")
        }
        (RootStep::Retire { .. }, ..) => format!("nothing to retire: {name} is the only root"),
    };
    say(step.name(), taken, &text, &status, as_json);
    Ok(())
}

/// Prints where the authority is.
pub fn status(data: &Path, as_json: bool) -> Result<(), Failure> {
    let status = Rotation::status(data).map_err(|error| failure(error, as_json))?;
    if as_json {
        println!("{}", document(&status));
        return Ok(());
    }
    let stage = match status.stage {
        RotationStage::Settled => "one root, which signs",
        RotationStage::Introduced => "a second root is trusted, the first one signs",
        RotationStage::Switched => "the second root signs, the first one is still trusted",
    };
    println!("stage         {}: {stage}", status.stage.as_str());
    println!("trust bundle  generation {}", status.generation);
    for root in &status.roots {
        let signs = if root.signs { "signs; " } else { "" };
        let key = if root.key_is_here { "its key is here" } else { "its key is away" };
        let dates = format!("{} to {}", date(root.made), date(root.not_after));
        println!("root          {}  {dates}  {signs}{key}", root.name);
    }
    let intermediate = &status.intermediate;
    let dates = format!("{} to {}", date(intermediate.made), date(intermediate.not_after));
    println!("intermediate  {}  {dates}", intermediate.name);
    println!("fleet         {}", fleet(&status));
    println!("next          {}", next(&status));
    Ok(())
}

fn say(command: &str, step: Step, text: &str, status: &RotationStatus, as_json: bool) {
    let taken = step == Step::Taken;
    if as_json {
        let mut document = document(status);
        document["step"] = json!(command);
        document["taken"] = json!(taken);
        println!("{document}");
        return;
    }
    println!("{text}");
    if taken {
        println!("a running server takes it over at its next reload (SIGHUP)");
    }
    println!("next: {}", next(status));
}

fn fleet(status: &RotationStatus) -> String {
    let Some(proof) = &status.proof else {
        return match status.stage {
            RotationStage::Settled => {
                "a running server counts: `trust` in GET /api/v1/engine, fleetpulse_trust_peers in /metrics"
                    .to_owned()
            }
            _ => "not known yet: no server that took this over wrote down what its fleet holds".to_owned(),
        };
    };
    let Proof { peers, with_bundle, with_certificate, .. } = proof;
    let mut text = format!("{with_bundle} of {peers} proved to hold the trust bundle");
    if status.stage == RotationStage::Switched {
        text += &format!(", {with_certificate} also a certificate by the second root");
    }
    text += &format!(" (counted {})", time(proof.at()));
    for Lagging { kind, name, id, lacks } in &proof.lagging {
        text += &format!("\n              {kind} {name} {id}: {lacks}");
    }
    text
}

fn next(status: &RotationStatus) -> String {
    let so_far = |done: fn(&Proof) -> u64| {
        let counted = status.proof.as_ref().map(|proof| format!("{} of {}", done(proof), proof.peers));
        counted.unwrap_or_else(|| "not counted yet".to_owned())
    };
    match status.stage {
        RotationStage::Settled => {
            "nothing has to be done; `fleetpulse ca rotate-root introduce` begins with another root"
                .to_owned()
        }
        RotationStage::Introduced => format!(
            "`fleetpulse ca rotate-root switch`, when all hold the trust bundle ({}) or are known to be off",
            so_far(|proof| proof.with_bundle)
        ),
        RotationStage::Switched => format!(
            "`fleetpulse ca rotate-root retire`, when all hold a certificate by the second root ({})",
            so_far(|proof| proof.with_certificate)
        ),
    }
}

fn document(status: &RotationStatus) -> Value {
    let roots = status.roots.iter().map(|root| {
        json!({
            "name": root.name, "made": time(root.made), "not_after": time(root.not_after),
            "signs": root.signs, "key_is_here": root.key_is_here,
        })
    });
    let intermediate = &status.intermediate;
    json!({
        "stage": status.stage.as_str(),
        "generation": status.generation,
        "roots": roots.collect::<Vec<_>>(),
        "intermediate": {
            "name": intermediate.name, "made": time(intermediate.made), "not_after": time(intermediate.not_after),
        },
        "fleet": status.proof.as_ref().map(counted),
        "next": next(status),
    })
}

fn counted(proof: &Proof) -> Value {
    json!({
        "at": time(proof.at()), "peers": proof.peers, "with_bundle": proof.with_bundle,
        "with_certificate": proof.with_certificate, "lagging": proof.lagging,
    })
}

fn failure(error: RotationError, as_json: bool) -> Failure {
    if !as_json {
        return Failure::failed(error);
    }
    let code = match &error {
        RotationError::Lagging(_) => "lagging",
        RotationError::Unknown(_) => "unknown",
        RotationError::NotIntroduced | RotationError::NotSwitched => "too-early",
        _ => "failed",
    };
    let fleet = match &error {
        RotationError::Lagging(proof) => counted(proof),
        _ => Value::Null,
    };
    let document = json!({ "code": code, "detail": error.to_string(), "fleet": fleet });
    Failure::told(exit::FAILED, error.to_string(), document).into_json()
}

fn time(at: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_string()
}

fn date(at: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().strftime("%Y-%m-%d").to_string()
}
