//! An enum of all policies, and the only place that names them all.
//!
//! The code of the store is compiled once, for [`AnyPolicy`], which dispatches each call to the policy of the
//! cache.

use flexcache_core::policy::{
    Auto, Entries, ExactLfu, Fifo, Goal, Lfu, Listed, Lru, Policy, Random, Requeue, S3Fifo, Sieve, TinyLfu,
};
use flexcache_core::{OutOfMemory, Slot, TryBox, TryClone};

/// The built-in policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PolicyName {
    Lru,
    Fifo,
    Lfu,
    Random,
    Sieve,
    S3Fifo,
    TinyLfu,
    Auto,
    /// The policies of the classes that replace those of cachetools, which iterate in the order of insertion.
    Listed,
    ListedLru,
    ListedFifo,
    ListedLfu,
    ListedRandom,
}

impl PolicyName {
    /// The policies that a user may name.
    pub(crate) const ALL: [Self; 8] = [
        Self::Lru,
        Self::Fifo,
        Self::Lfu,
        Self::Random,
        Self::Sieve,
        Self::S3Fifo,
        Self::TinyLfu,
        Self::Auto,
    ];

    /// The policies of mappings, which neither weigh nor close their values.
    pub(crate) const OF_MAPPINGS: [Self; 5] =
        [Self::Listed, Self::ListedLru, Self::ListedFifo, Self::ListedLfu, Self::ListedRandom];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Lru => "lru",
            Self::Fifo => "fifo",
            Self::Lfu => "lfu",
            Self::Random => "random",
            Self::Sieve => "sieve",
            Self::S3Fifo => "s3fifo",
            Self::TinyLfu => "tinylfu",
            Self::Auto => "auto",
            Self::Listed => "listed",
            Self::ListedLru => "listed-lru",
            Self::ListedFifo => "listed-fifo",
            Self::ListedLfu => "listed-lfu",
            Self::ListedRandom => "listed-random",
        }
    }
}

/// Defines the enums with a variant for each policy, from one list. The first argument is a dollar sign, for
/// the macros that this macro defines.
macro_rules! policies {
    ($d:tt $($name:ident($policy:ty)),+ $(,)?) => {
        /// A policy. Large policies are boxed, because the enum has the size of its largest variant.
        pub(crate) enum AnyPolicy {
            $($name($policy)),+
        }

        /// An iterator over the entries in the order of the current variant's policy.
        enum AnyOrder<$($name),+> {
            $($name($name)),+
        }

        impl<$($name: Iterator<Item = Slot>),+> Iterator for AnyOrder<$($name),+> {
            type Item = Slot;

            #[inline]
            fn next(&mut self) -> Option<Slot> {
                match self {
                    $(Self::$name(order) => order.next()),+
                }
            }

            // Asks once for the variant instead of once for each entry.
            #[inline]
            fn fold<B, F: FnMut(B, Slot) -> B>(self, init: B, step: F) -> B {
                match self {
                    $(Self::$name(order) => order.fold(init, step)),+
                }
            }
        }

        impl TryClone for AnyPolicy {
            fn try_clone(&self) -> Result<Self, OutOfMemory> {
                Ok(match self {
                    $(Self::$name(policy) => Self::$name(policy.try_clone()?)),+
                })
            }
        }

        /// Evaluates an expression with the policy of the current variant.
        macro_rules! on_policy {
            ($d any:expr, $d policy:ident => $d call:expr) => {
                match $d any {
                    $(AnyPolicy::$name($d policy) => $d call),+
                }
            };
        }

        /// Evaluates an expression that returns an iterator with the policy of the current variant, and wraps
        /// it as [`AnyOrder`].
        macro_rules! any_order {
            ($d any:expr, $d policy:ident => $d call:expr) => {
                match $d any {
                    $(AnyPolicy::$name($d policy) => AnyOrder::$name($d call)),+
                }
            };
        }
    };
}

policies! {
    $
    Lru(Lru),
    Fifo(Fifo),
    Lfu(TryBox<Lfu>),
    Random(TryBox<Random>),
    Sieve(TryBox<Sieve>),
    S3Fifo(TryBox<S3Fifo>),
    TinyLfu(TryBox<TinyLfu>),
    Auto(TryBox<Auto>),
    ListedLru(TryBox<Listed<Lru>>),
    ListedFifo(TryBox<Listed<Requeue>>),
    ListedLfu(TryBox<Listed<ExactLfu>>),
    ListedRandom(TryBox<Listed<Random>>),
}

/// A boxed policy, which the store [resets](Policy::reset).
fn boxed<P: Policy>() -> Result<TryBox<P>, OutOfMemory> {
    TryBox::new(P::new(0, 0))
}

impl AnyPolicy {
    /// The policy of a name, which the store [resets](Policy::reset).
    pub(crate) fn named(name: PolicyName) -> Result<Self, OutOfMemory> {
        Ok(match name {
            PolicyName::Lru => Self::Lru(Lru::new(0, 0)),
            PolicyName::Fifo | PolicyName::Listed => Self::Fifo(Fifo::new(0, 0)),
            PolicyName::Lfu => Self::Lfu(boxed()?),
            PolicyName::Random => Self::Random(boxed()?),
            PolicyName::Sieve => Self::Sieve(boxed()?),
            PolicyName::S3Fifo => Self::S3Fifo(boxed()?),
            PolicyName::TinyLfu => Self::TinyLfu(boxed()?),
            PolicyName::Auto => Self::Auto(boxed()?),
            PolicyName::ListedLru => Self::ListedLru(boxed()?),
            PolicyName::ListedFifo => Self::ListedFifo(boxed()?),
            PolicyName::ListedLfu => Self::ListedLfu(boxed()?),
            PolicyName::ListedRandom => Self::ListedRandom(boxed()?),
        })
    }
}

impl Policy for AnyPolicy {
    /// The default policy.
    fn new(capacity: usize, seed: u64) -> Self {
        Self::Lru(Lru::new(capacity, seed))
    }

    fn reset(&mut self, capacity: usize, seed: u64) {
        on_policy!(self, policy => policy.reset(capacity, seed));
    }

    #[inline(always)]
    fn try_reserve(&mut self, slot: Slot, entries: &impl Entries) -> Result<(), OutOfMemory> {
        on_policy!(self, policy => policy.try_reserve(slot, entries))
    }

    fn set_bound(&mut self, entries: usize) {
        on_policy!(self, policy => policy.set_bound(entries));
    }

    fn set_goal(&mut self, goal: Goal) {
        on_policy!(self, policy => policy.set_goal(goal));
    }

    #[inline(always)]
    fn on_insert(&mut self, slot: Slot, hash: u64) {
        on_policy!(self, policy => policy.on_insert(slot, hash));
    }

    #[inline(always)]
    fn on_access(&mut self, slot: Slot, hash: u64) {
        on_policy!(self, policy => policy.on_access(slot, hash));
    }

    #[inline(always)]
    fn notices_access(&self, slot: Slot) -> bool {
        on_policy!(self, policy => policy.notices_access(slot))
    }

    fn accesses_commute(&self) -> bool {
        on_policy!(self, policy => policy.accesses_commute())
    }

    #[inline(always)]
    fn on_miss(&mut self, hash: u64) {
        on_policy!(self, policy => policy.on_miss(hash));
    }

    #[inline(always)]
    fn notices_misses(&self) -> bool {
        on_policy!(self, policy => policy.notices_misses())
    }

    #[inline(always)]
    fn on_replace(&mut self, slot: Slot, hash: u64) {
        on_policy!(self, policy => policy.on_replace(slot, hash));
    }

    #[inline]
    fn on_remove(&mut self, slot: Slot) {
        on_policy!(self, policy => policy.on_remove(slot));
    }

    #[inline]
    fn on_evict(&mut self, slot: Slot, hash: u64) {
        on_policy!(self, policy => policy.on_evict(slot, hash));
    }

    #[inline(always)]
    fn on_reuse(&mut self, slot: Slot, evicted: u64, hash: u64) {
        on_policy!(self, policy => policy.on_reuse(slot, evicted, hash));
    }

    #[inline(always)]
    fn victim(&mut self, entries: &impl Entries) -> Option<Slot> {
        on_policy!(self, policy => policy.victim(entries))
    }

    fn order(&self, entries: impl Entries) -> impl Iterator<Item = Slot> {
        any_order!(self, policy => policy.order(entries))
    }

    fn listing(&self, entries: impl Entries) -> impl Iterator<Item = Slot> {
        any_order!(self, policy => policy.listing(entries))
    }

    #[inline]
    fn first_listed(&self) -> Option<Slot> {
        on_policy!(self, policy => policy.first_listed())
    }

    #[inline(always)]
    fn listed_after(&self, slot: Slot) -> Option<Slot> {
        on_policy!(self, policy => policy.listed_after(slot))
    }

    fn rank(&self, slot: Slot, hash: u64) -> u64 {
        on_policy!(self, policy => policy.rank(slot, hash))
    }

    fn restore(&mut self, slot: Slot, hash: u64, rank: u64) {
        on_policy!(self, policy => policy.restore(slot, hash, rank));
    }

    fn at_rank(&self, rank: u64) -> Option<Slot> {
        on_policy!(self, policy => policy.at_rank(rank))
    }

    fn allocated_bytes(&self) -> usize {
        fn of<P: Policy>(policy: &P) -> usize {
            size_of::<P>() + policy.allocated_bytes()
        }
        match self {
            Self::Lru(policy) => policy.allocated_bytes(),
            Self::Fifo(policy) => policy.allocated_bytes(),
            Self::Lfu(policy) => of(&**policy),
            Self::Random(policy) => of(&**policy),
            Self::Sieve(policy) => of(&**policy),
            Self::S3Fifo(policy) => of(&**policy),
            Self::TinyLfu(policy) => of(&**policy),
            Self::Auto(policy) => of(&**policy),
            Self::ListedLru(policy) => of(&**policy),
            Self::ListedFifo(policy) => of(&**policy),
            Self::ListedLfu(policy) => of(&**policy),
            Self::ListedRandom(policy) => of(&**policy),
        }
    }

    fn check(&self, len: usize) -> Result<(), String> {
        on_policy!(self, policy => policy.check(len))
    }
}
