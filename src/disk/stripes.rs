//! The keys that a transaction has written, for caches that hold copies of entries.
//!
//! Keys are divided among [`STRIPES`] stripes. A [`CommitObserver`] is called for every commit of one store,
//! in the order of the commits.

use std::hash::{DefaultHasher, Hash, Hasher};

use rusqlite::types::ValueRef;

use crate::row::Key;

/// The number of stripes.
pub const STRIPES: usize = 1 << 14;

/// The stripe of a key. Keys that are equal to SQLite have the same stripe: 1 and 1.0 are one key.
#[must_use]
pub fn stripe_of(key: Key<'_>) -> usize {
    let mut hasher = DefaultHasher::new();
    match key.datum {
        ValueRef::Null => 0_u8.hash(&mut hasher),
        #[expect(clippy::cast_precision_loss, reason = "equal numbers stay equal")]
        ValueRef::Integer(number) => (number as f64).to_bits().hash(&mut hasher),
        // Adding 0.0 turns -0.0 into 0.0.
        ValueRef::Real(number) => (number + 0.0).to_bits().hash(&mut hasher),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.hash(&mut hasher),
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is less than STRIPES")]
    {
        (hasher.finish() % STRIPES as u64) as usize
    }
}

/// The stripes of keys whose rows were stored, changed or removed. Evictions and the removal of expired rows do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WrittenStripes {
    /// None.
    #[default]
    None,
    /// The only one.
    One(usize),
    /// These.
    Several(Box<StripeSet>),
    /// Every key may have been written.
    All,
}

impl WrittenStripes {
    pub(crate) fn add(&mut self, key: Key<'_>) {
        let stripe = stripe_of(key);
        match self {
            Self::None => *self = Self::One(stripe),
            Self::One(only) if *only == stripe => {}
            Self::One(only) => {
                let mut stripes = Box::<StripeSet>::default();
                stripes.add(*only);
                stripes.add(stripe);
                *self = Self::Several(stripes);
            }
            Self::Several(stripes) => stripes.add(stripe),
            Self::All => {}
        }
    }

    pub(crate) fn add_all(&mut self) {
        *self = Self::All;
    }
}

/// A set of stripes: a bit for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StripeSet([u64; STRIPES / WORD]);

const WORD: usize = u64::BITS as usize;

impl Default for StripeSet {
    fn default() -> Self {
        Self([0; STRIPES / WORD])
    }
}

impl StripeSet {
    fn add(&mut self, stripe: usize) {
        self.0[stripe / WORD] |= 1 << (stripe % WORD);
    }

    /// The stripes in the set, in their order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(word, &bits)| {
            // Each step removes the lowest bit.
            let left = std::iter::successors(Some(bits), |&left| Some(left & left.wrapping_sub(1)));
            left.take_while(|&left| left != 0).map(move |left| word * WORD + left.trailing_zeros() as usize)
        })
    }
}

/// The numbers that an observer returns for the stripes of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Moments {
    /// Nothing: there is no observer, nothing was written, or every key may have been written.
    #[default]
    None,
    /// The only stripe, and its number.
    One(usize, u64),
    /// Each stripe that was written, in their order, and its number.
    Several(Vec<(usize, u64)>),
}

impl Moments {
    /// The number of a stripe, if there is one.
    #[must_use]
    pub fn of(&self, stripe: usize) -> Option<u64> {
        match self {
            Self::None => None,
            Self::One(only, moment) => (*only == stripe).then_some(*moment),
            Self::Several(moments) => {
                let found = moments.binary_search_by_key(&stripe, |&(of, _)| of).ok()?;
                Some(moments[found].1)
            }
        }
    }
}

/// Is called for the commits of one store. It must not block or call the store.
///
/// After `committing` comes exactly one of the other two, before the next commit of this store can begin.
pub trait CommitObserver: Send + Sync {
    /// A transaction is about to be committed, while it has the write lock.
    fn committing(&self, written: &WrittenStripes);

    /// The transaction is committed. The result becomes part of the [`Commit`](crate::Commit).
    fn committed(&self, written: &WrittenStripes) -> Moments;

    /// The transaction is not committed yet, or never will be, or that is unknown.
    fn not_committed(&self, written: &WrittenStripes);
}

/// A commit of which an observer was told, until its outcome is known.
pub(crate) struct Observed<'a> {
    observer: Option<&'a dyn CommitObserver>,
    written: &'a WrittenStripes,
}

impl<'a> Observed<'a> {
    pub(crate) fn begin(observer: Option<&'a dyn CommitObserver>, written: &'a WrittenStripes) -> Self {
        if let Some(observer) = observer {
            observer.committing(written);
        }
        Self { observer, written }
    }

    pub(crate) fn committed(mut self) -> Moments {
        self.observer.take().map(|observer| observer.committed(self.written)).unwrap_or_default()
    }
}

impl Drop for Observed<'_> {
    fn drop(&mut self) {
        if let Some(observer) = self.observer {
            observer.not_committed(self.written);
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::types::ValueRef;

    use super::*;

    fn key(number: i64) -> Key<'static> {
        Key { datum: ValueRef::Integer(number), raw: true }
    }

    #[test]
    fn written_stripes_are_those_of_the_keys() {
        let mut written = WrittenStripes::default();
        let mut stripes = std::collections::BTreeSet::new();
        for number in 0..500 {
            written.add(key(number));
            written.add(key(number));
            stripes.insert(stripe_of(key(number)));
        }
        let WrittenStripes::Several(set) = &written else { panic!("{written:?}") };
        assert!(set.iter().eq(stripes));
        written.add_all();
        written.add(key(1));
        assert_eq!(written, WrittenStripes::All);
    }

    #[test]
    fn a_key_written_twice_is_one_stripe() {
        let mut written = WrittenStripes::default();
        written.add(key(1));
        written.add(key(1));
        assert_eq!(written, WrittenStripes::One(stripe_of(key(1))));
    }

    #[test]
    fn moments_tell_of_the_stripes_that_were_written() {
        let moments = Moments::Several(vec![(2, 7), (5, 1)]);
        assert_eq!([2, 5, 3].map(|stripe| moments.of(stripe)), [Some(7), Some(1), None]);
        assert_eq!([2, 3].map(|stripe| Moments::One(2, 7).of(stripe)), [Some(7), None]);
        assert_eq!(Moments::None.of(0), None);
    }
}
