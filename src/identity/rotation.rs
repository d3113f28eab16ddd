//! Another intermediate, and another root, while a fleet is connected.
//!
//! A root is replaced in three steps, days or weeks apart. *Introduce*: a second root is trusted, and the bundle with
//! both goes to everybody. *Switch*: the second root signs a new intermediate, which signs everything from then on;
//! the first one signs the second, so that a sensor which was off meanwhile finds the way from the root it knows.
//! *Retire*: the first root leaves the bundle.
//!
//! Where an installation is follows from two files and nothing else: the bundle, and who signed the intermediate. Each
//! step is the rename of one of them; what it needs is written before. So a crash leaves the step undone or done.
//! Steps are taken beside a running server, which takes them over at its next reload, and one at a time.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::authority::{
    self, Authority, AuthorityError, FOLDER, INTERMEDIATE, RotationStage, TRUST, bundle, renew_intermediate,
};
use super::files::{self, FileError};
use super::intermediate::Intermediate;
use super::proof::Proof;
use super::roots::{self, Authorised};
use super::trust::TrustBundle;
use crate::time::UnixMillis;

/// A step that was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// Certificates, keys or files.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// No authority there.
    #[error("there is no authority in {}; start the server once, or run `fleetpulse ca init`", .0.display())]
    NoAuthority(PathBuf),
    /// No second root.
    #[error("no other root was introduced; begin with `fleetpulse ca rotate-root introduce`")]
    NotIntroduced,
    /// The old root still signs.
    #[error("the old root still signs; do `fleetpulse ca rotate-root switch` first")]
    NotSwitched,
    /// Nobody knows what the fleet holds.
    #[error(
        "what the fleet holds is not known: {0}; have the server reload (SIGHUP) or start it, wait until its sensors are connected, and try again"
    )]
    Unknown(&'static str),
    /// Somebody would be locked out.
    #[error("{}", lagging(.0))]
    Lagging(Box<Proof>),
}

impl From<FileError> for RotationError {
    fn from(error: FileError) -> RotationError {
        RotationError::Authority(error.into())
    }
}

fn lagging(proof: &Proof) -> String {
    let lag = proof.peers.saturating_sub(proof.with_certificate);
    let some: Vec<_> = proof.lagging.iter().map(|peer| format!("{} ({})", peer.name, peer.lacks)).collect();
    let more = if lag > proof.lagging.len() as u64 { ", ..." } else { "" };
    let what = "sensors and gateways could not come back without the old root";
    let then = "wait until they were connected, delete those that are gone, or use --force: then they have to be activated anew";
    format!("{lag} of {} {what}: {}{more}; {then}", proof.peers, some.join(", "))
}

/// Whether a step was taken now or before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Now.
    Taken,
    /// Before; nothing was changed.
    TakenBefore,
}

/// A root of the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootStatus {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub made: UnixMillis,
    /// Its last instant.
    pub not_after: UnixMillis,
    /// It signed the intermediate that signs now.
    pub signs: bool,
    /// Its key is in the folder.
    pub key_is_here: bool,
}

/// The intermediate that signs now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntermediateStatus {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub made: UnixMillis,
    /// Its last instant.
    pub not_after: UnixMillis,
}

/// Where an installation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationStatus {
    /// On its way from one root to another.
    pub stage: RotationStage,
    /// Of the trust bundle.
    pub generation: u32,
    /// The roots in it, the newest last.
    pub roots: Vec<RootStatus>,
    /// Who signs.
    pub intermediate: IntermediateStatus,
    /// What the fleet proved to hold of this bundle and intermediate, as the server last wrote it down.
    pub proof: Option<Proof>,
}

/// The authority in a data directory, held against other programs that would change it.
pub struct Rotation {
    folder: PathBuf,
    _one_program: File,
}

impl Rotation {
    /// Waits for whoever changes it now.
    pub fn open(data: &Path) -> Result<Rotation, RotationError> {
        let folder = data.join(FOLDER);
        if !folder.join(INTERMEDIATE).exists() {
            return Err(RotationError::NoAuthority(folder));
        }
        let lock = authority::lock(&folder)?;
        Ok(Rotation { folder, _one_program: lock })
    }

    /// Where it is. Needs no lock: each file is whole at every moment.
    pub fn status(data: &Path) -> Result<RotationStatus, RotationError> {
        let folder = data.join(FOLDER);
        if !folder.join(INTERMEDIATE).exists() {
            return Err(RotationError::NoAuthority(folder));
        }
        status(&folder)
    }

    /// Makes another intermediate, signed by the root that signs now.
    pub fn rotate_intermediate(&self, now: UnixMillis) -> Result<RotationStatus, RotationError> {
        renew_intermediate(&self.folder, now)?;
        status(&self.folder)
    }

    /// Makes a second root and adds it to the bundle.
    pub fn introduce(&self, now: UnixMillis) -> Result<(Step, RotationStatus), RotationError> {
        let there = Authority::open(&self.folder)?;
        if there.stage() != RotationStage::Settled {
            return Ok((Step::TakenBefore, status(&self.folder)?));
        }
        let generation = there.trust().generation.saturating_add(1);
        let root = self.second_root(generation, now)?;
        let (mut pems, _) = roots::certificates(there.trust_pem());
        pems.push(&root);
        // From here on it is trusted.
        files::write_private(&self.folder.join(TRUST), &bundle(generation, &pems))?;
        Ok((Step::Taken, status(&self.folder)?))
    }

    /// The root that a bundle of this generation brings. One that a crash left, which nobody knows yet, is made anew.
    fn second_root(&self, generation: u32, now: UnixMillis) -> Result<String, RotationError> {
        let (key, root) = roots::make(now)?;
        let path = self.folder.join(format!("root-{generation}.pem"));
        files::write_private(&path.with_extension("key"), &key)?;
        files::write_private(&path, &root)?;
        Ok(root)
    }

    /// Has the second root sign a new intermediate, and the first one the second.
    pub fn switch(&self, now: UnixMillis) -> Result<(Step, RotationStatus), RotationError> {
        let there = Authority::open(&self.folder)?;
        match there.stage() {
            RotationStage::Settled => return Err(RotationError::NotIntroduced),
            RotationStage::Switched => return Ok((Step::TakenBefore, status(&self.folder)?)),
            RotationStage::Introduced => {}
        }
        let (Some(old), Some(new)) = (there.roots().signing(), there.roots().all.last()) else {
            return Err(RotationError::NotIntroduced);
        };
        let cross = roots::cross_sign(&self.folder, new, old)?;
        Intermediate::replace(&self.folder, new, Some(&cross), Some(there.intermediate()), now)?;
        Ok((Step::Taken, status(&self.folder)?))
    }

    /// Takes the roots that do not sign out of the bundle. Unless `force`, everybody who holds a certificate must have
    /// proven to need them no more.
    pub fn retire(&self, force: bool) -> Result<(Step, RotationStatus), RotationError> {
        let there = Authority::open(&self.folder)?;
        match there.stage() {
            RotationStage::Settled => return Ok((Step::TakenBefore, status(&self.folder)?)),
            RotationStage::Introduced => return Err(RotationError::NotSwitched),
            RotationStage::Switched => {}
        }
        if !force {
            let proof = Proof::read(&self.folder)?
                .ok_or(RotationError::Unknown("no server wrote it down since the switch"))?;
            if proof.generation != there.trust().generation || proof.intermediate != there.mark().to_string()
            {
                return Err(RotationError::Unknown("the server has not taken the switch over yet"));
            }
            if proof.with_certificate < proof.peers {
                return Err(RotationError::Lagging(Box::new(proof)));
            }
        }
        let (pems, _) = roots::certificates(there.trust_pem());
        let kept: Vec<&str> = pems.get(there.roots().signing).copied().into_iter().collect();
        let generation = there.trust().generation.saturating_add(1);
        let text = bundle(generation, &kept);
        TrustBundle::from_pem(&text).map_err(AuthorityError::Trust)?;
        files::write_private(&self.folder.join(TRUST), &text)?;
        Ok((Step::Taken, status(&self.folder)?))
    }
}

fn status(folder: &Path) -> Result<RotationStatus, RotationError> {
    let there = Authority::open(folder)?;
    let root = |(place, root): (usize, &Authorised)| {
        let key = match roots::signer(folder, root) {
            Ok(_) => true,
            Err(AuthorityError::RootKeyAway(_)) => false,
            Err(error) => return Err(error),
        };
        Ok(RootStatus {
            name: root.name.clone(),
            made: root.made,
            not_after: root.not_after,
            signs: place == there.roots().signing,
            key_is_here: key,
        })
    };
    let Authorised { name, made, not_after, .. } = &there.intermediate().certificate;
    let of_today = |proof: &Proof| {
        proof.generation == there.trust().generation && proof.intermediate == there.mark().to_string()
    };
    Ok(RotationStatus {
        stage: there.stage(),
        generation: there.trust().generation,
        roots: there.roots().all.iter().enumerate().map(root).collect::<Result<_, AuthorityError>>()?,
        intermediate: IntermediateStatus { name: name.clone(), made: *made, not_after: *not_after },
        proof: Proof::read(folder)?.filter(of_today),
    })
}
