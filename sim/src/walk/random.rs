//! Chance, from a seed.

use serde::{Deserialize, Serialize};

/// A sequence that its seed determines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits (`SplitMix64`).
    pub fn next_64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 32 random bits.
    pub fn next_32(&mut self) -> u32 {
        u32::try_from(self.next_64() >> 32).expect("32 bits")
    }

    /// 31 random bits.
    pub fn next_31(&mut self) -> u32 {
        u32::try_from(self.next_64() >> 33).expect("31 bits")
    }

    /// 16 random bits.
    pub fn next_16(&mut self) -> u16 {
        u16::try_from(self.next_64() >> 48).expect("16 bits")
    }
}
