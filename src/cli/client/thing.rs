//! What is the same for every kind of thing: naming one, and listing, showing and deleting them.

use clap::{Args, Subcommand};

use super::cell::Column;
use super::download::Keep;
use super::find::{Found, Kind, SITE};
use super::http::Call;
use super::{Client, Most};
use crate::cli::Failure;

/// Where things of a kind are looked for.
pub(super) trait Where: Args {
    /// As parameters of the list, by ids.
    fn narrow(&self, client: &Client) -> Result<Vec<(&'static str, String)>, Failure>;
}

/// Wherever they are: of things that stand in no site.
#[derive(Args, Clone, Debug)]
pub(super) struct Anywhere {}

impl Where for Anywhere {
    fn narrow(&self, _: &Client) -> Result<Vec<(&'static str, String)>, Failure> {
        Ok(Vec::new())
    }
}

/// In one site, or wherever they are.
#[derive(Args, Clone, Debug)]
pub(super) struct Within {
    /// Only in this site, by name or id: for names that several have
    #[arg(long = "in", value_name = "SITE")]
    within: Option<String>,
}

impl Where for Within {
    fn narrow(&self, client: &Client) -> Result<Vec<(&'static str, String)>, Failure> {
        let site = self.within.as_deref().map(|site| client.find(SITE, site, &[])).transpose()?;
        Ok(site.map(|site| ("site", site.id)).into_iter().collect())
    }
}

/// Whether a list can be had as a file of the server's.
pub(super) trait Kept: Args {
    /// Shows the list, or keeps it.
    fn list(&self, client: &mut Client, call: &Call, columns: &[Column], most: &Most) -> Result<(), Failure>;
}

/// There is no file of it.
#[derive(Args, Clone, Debug)]
pub(super) struct NoFile {}

impl Kept for NoFile {
    fn list(&self, client: &mut Client, call: &Call, columns: &[Column], most: &Most) -> Result<(), Failure> {
        client.list(call, columns, most)
    }
}

impl Kept for Keep {
    fn list(&self, client: &mut Client, call: &Call, columns: &[Column], most: &Most) -> Result<(), Failure> {
        client.list_or_keep(call, columns, most, self)
    }
}

/// One thing.
#[derive(Args, Clone, Debug)]
pub(super) struct One<W: Where> {
    /// Name or id
    #[arg(value_name = "NAME")]
    thing: String,
    #[command(flatten)]
    within: W,
}

impl<W: Where> One<W> {
    pub(super) fn find(&self, client: &Client, kind: Kind) -> Result<Found, Failure> {
        client.find(kind, &self.thing, &self.within.narrow(client)?)
    }
}

/// What every kind of thing has.
#[derive(Subcommand)]
pub(super) enum Common<W: Where, K: Kept> {
    /// All of them
    List {
        #[command(flatten)]
        within: W,
        #[command(flatten)]
        most: Most,
        #[command(flatten)]
        keep: K,
    },
    /// One of them
    Get(One<W>),
    /// Delete one; what still holds something is refused
    Delete {
        #[command(flatten)]
        one: One<W>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

impl<W: Where, K: Kept> Common<W, K> {
    /// `list` and `card`: how many and one are shown.
    pub(super) fn run(
        self,
        client: &mut Client,
        kind: Kind,
        list: &[Column],
        card: &[Column],
    ) -> Result<(), Failure> {
        match self {
            Common::List { within, most, keep } => {
                let narrow = within.narrow(client)?;
                let call = narrow
                    .into_iter()
                    .fold(Call::get(kind.path), |call, (name, value)| call.query(name, Some(value)));
                keep.list(client, &call, list, &most)
            }
            Common::Get(one) => {
                let path = one.find(client, kind)?.path(kind);
                client.show(&Call::get(path), card)
            }
            Common::Delete { one, yes } => {
                let found = one.find(client, kind)?;
                client.delete(kind, &found, yes)
            }
        }
    }
}
