//! A small seeded generator (SplitMix64) for jitter and simulation: the same seed, the same run.

use std::time::Duration;

/// A seeded source of chance. Never for secrets.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// From the system's chance.
    pub fn unseeded() -> Dice {
        Dice(rand::random())
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; zero when `end` is zero. The bias of the remainder is below 2^-32 for our sizes.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.bits() % end }
    }

    /// True in this share of cases, per mille.
    pub fn permille(&mut self, share: u64) -> bool {
        self.below(1_000) < share
    }

    /// A duration from zero up to, not including, `end`.
    pub fn duration(&mut self, end: Duration) -> Duration {
        Duration::from_nanos(self.below(u64::try_from(end.as_nanos()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_run_and_chance_is_fair() {
        let (mut one, mut two) = (Dice::new(7), Dice::new(7));
        assert!((0..100).all(|_| one.bits() == two.bits()));
        let hits = (0..10_000).filter(|_| one.permille(250)).count();
        assert!((2_300..2_700).contains(&hits), "{hits}");
        assert_eq!(one.below(0), 0);
        assert!(one.duration(Duration::from_secs(1)) < Duration::from_secs(1));
    }
}
