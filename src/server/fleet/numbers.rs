//! Why these numbers: what applies at a place, who said it, and what it would be if nobody had.

use std::time::Duration;

use super::FleetService;
use super::overlay::Overlay;
use super::policies::Levels;
use crate::fleet::Place;
use crate::health::{Layer, Setting, lay};

/// One number that applies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number {
    /// Which.
    pub setting: Setting,
    /// What applies.
    pub value: f64,
    /// Who said so.
    pub from: Layer,
    /// What it is where nobody says anything.
    pub default: f64,
}

/// Everything that applies at a place.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    /// All settings of all rules.
    pub numbers: Vec<Number>,
    /// The heartbeat interval that sensors are told to keep; zero = theirs.
    pub interval: Duration,
    /// Who said so.
    pub interval_from: Layer,
    /// What it is where nobody says anything.
    pub interval_default: Duration,
}

impl FleetService {
    /// The numbers that apply at a place to those who say nothing themselves.
    pub fn numbers_at(&self, place: Place) -> Option<Numbers> {
        let register = self.register();
        let levels = Levels::at(&Overlay::of(&register), place)?;
        let table = self.published.look();
        let default = table.default_policy();
        let patches: Vec<_> = levels.said().map(|(layer, said)| (layer, &said.numbers)).collect();
        let (policy, from) = lay(default, &patches);
        let number = |setting: Setting| Number {
            setting,
            value: policy.value(setting),
            from: from.of(setting),
            default: default.value(setting),
        };
        let said = levels.said().rev().find_map(|(layer, said)| Some((said.interval?, layer)));
        let (interval, interval_from) = said.unwrap_or((default.interval(), Layer::Default));
        Some(Numbers {
            numbers: Setting::all().map(number).collect(),
            interval,
            interval_from,
            interval_default: default.interval(),
        })
    }
}
