//! A seed for remembered hashes, so that an attacker cannot foresee which of them collide.

/// A secret of one cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed(u64);

impl Seed {
    pub(super) fn new(seed: u64) -> Self {
        // Callers may pass small seeds, such as 0, 1, 2.
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The hash with the seed mixed in: every bit of both reaches every bit of the result.
    #[inline(always)]
    pub(super) fn mix(self, hash: u64) -> u64 {
        let product = u128::from(hash ^ self.0) * 0xa076_1d64_78bd_642f;
        #[expect(clippy::cast_possible_truncation, reason = "both halves are folded")]
        let folded = (product >> 64) as u64 ^ product as u64;
        folded
    }
}

/// A place among `count`, by the highest bits of `hash`.
#[inline(always)]
pub(super) fn place(hash: u64, count: usize) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "the product's upper half is below count")]
    let place = ((u128::from(hash) * count as u128) >> 64) as usize;
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_meets_under_one_seed_does_not_under_another() {
        const PLACES: usize = 1000;
        let (known, secret) = (Seed::new(1), Seed::new(2));
        let colliding: Vec<u64> =
            (0..).filter(|&hash| place(known.mix(hash), PLACES) == 7).take(1000).collect();
        let mut met = [0; PLACES];
        for hash in colliding {
            met[place(secret.mix(hash), PLACES)] += 1;
        }
        assert!(met.iter().max() < Some(&12), "as many as chance would have it");
    }
}
