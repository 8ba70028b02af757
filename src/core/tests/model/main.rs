//! The store against a model that is as plain as can be, operation by operation.

mod orders;
mod plain;
mod run;

use flexcache_core::Limits;
use flexcache_core::policy::{
    Auto, ExactLfu, Fifo, Lfu, Listed, Lru, Random, Requeue, S3Fifo, Sieve, TinyLfu,
};
use proptest::prelude::*;

use orders::{AnyOrder, ExactLfuOrder, FifoOrder, LfuOrder, LruOrder, RequeueOrder, S3FifoOrder, SieveOrder};
use run::{Hashing, Op, Run, agree};

/// Lifetimes in nanoseconds: within a tick of the wheel, over some, and on every level.
fn lifetime() -> impl Strategy<Value = u64> {
    prop_oneof![0..3_000_000_u64, 0..300_000_000_u64, (0..63_u32).prop_map(|bits| 1 << bits), Just(u64::MAX)]
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..12_u8;
    let weight = || prop_oneof![4 => Just(1), 2 => 0..6_u64, 1 => Just(u64::MAX)];
    prop_oneof![
        6 => key().prop_map(Op::Get),
        6 => (key(), weight(), proptest::option::weighted(0.3, lifetime()))
            .prop_map(|(key, weight, lifetime)| Op::Put { key, weight, lifetime }),
        4 => (
            key(), weight(), proptest::option::weighted(0.3, lifetime()), prop::collection::vec(0..4_u8, 0..5)
        )
            .prop_map(|(key, weight, lifetime, tags)| Op::PutTagged { key, weight, lifetime, tags }),
        2 => (0..4_u8, prop_oneof![0..4_usize, Just(usize::MAX)])
            .prop_map(|(tag, most)| Op::EvictTag { tag, most }),
        4 => key().prop_map(Op::PutPlain),
        2 => key().prop_map(Op::Remove),
        1 => Just(Op::PopVictim),
        1 => (key(), proptest::option::of(lifetime()))
            .prop_map(|(key, lifetime)| Op::SetDeadline { key, lifetime }),
        2 => lifetime().prop_map(|by| Op::Advance(by.min(1 << 60))),
        1 => (0..4_usize).prop_map(|most| Op::Expire { most }),
        1 => (0..10_u64, 0..20_u64).prop_map(|(items, weight)| Op::Resize { items, weight }),
        1 => Just(Op::Clear),
        1 => Just(Op::Map),
    ]
}

fn hashing() -> impl Strategy<Value = Hashing> {
    prop_oneof![
        3 => Just(Hashing::Spread),
        1 => Just(Hashing::AllAlike),
        1 => Just(Hashing::Low),
        1 => Just(Hashing::High)
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    (0..8_u64, prop_oneof![2 => Just(0), 1 => 1..16_u64])
        .prop_map(|(items, weight)| Limits::new(items, weight))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lru_agrees(limits in limits(), hashing in hashing(), ops in prop::collection::vec(op(), 0..120)) {
        agree::<Lru, LruOrder>(limits, hashing, &ops);
    }

    #[test]
    fn fifo_agrees(limits in limits(), hashing in hashing(), ops in prop::collection::vec(op(), 0..120)) {
        agree::<Fifo, FifoOrder>(limits, hashing, &ops);
    }

    #[test]
    fn lfu_agrees(limits in limits(), hashing in hashing(), ops in prop::collection::vec(op(), 0..120)) {
        agree::<Lfu, LfuOrder>(limits, hashing, &ops);
    }

    #[test]
    fn requeue_agrees(limits in limits(), hashing in hashing(), ops in prop::collection::vec(op(), 0..120)) {
        agree::<Requeue, RequeueOrder>(limits, hashing, &ops);
    }

    #[test]
    fn exact_lfu_agrees(limits in limits(), hashing in hashing(), ops in prop::collection::vec(op(), 0..120)) {
        agree::<ExactLfu, ExactLfuOrder>(limits, hashing, &ops);
    }

    #[test]
    fn listed_agrees(limits in limits(), hashing in hashing(), ops in prop::collection::vec(op(), 0..120)) {
        agree::<Listed<ExactLfu>, ExactLfuOrder>(limits, hashing, &ops);
    }

    #[test]
    fn random_agrees(limits in limits(), hashing in hashing(), ops in prop::collection::vec(op(), 0..120)) {
        agree::<Random, AnyOrder>(limits, hashing, &ops);
    }

    #[test]
    fn sieve_agrees(limits in limits(), hashing in hashing(), ops in prop::collection::vec(op(), 0..120)) {
        agree::<Sieve, SieveOrder>(limits, hashing, &ops);
    }

    #[test]
    fn s3fifo_agrees(limits in limits(), hashing in hashing(), ops in prop::collection::vec(op(), 0..120)) {
        agree::<S3Fifo, S3FifoOrder>(limits, hashing, &ops);
    }

    #[test]
    fn tinylfu_agrees(limits in limits(), hashing in hashing(), ops in prop::collection::vec(op(), 0..120)) {
        agree::<TinyLfu, AnyOrder>(limits, hashing, &ops);
    }

    #[test]
    fn auto_agrees(limits in limits(), hashing in hashing(), ops in prop::collection::vec(op(), 0..120)) {
        agree::<Auto, AnyOrder>(limits, hashing, &ops);
    }
}

/// Frequencies are halved after a thousand accesses, which random operations seldom reach.
#[test]
fn lfu_ages_as_described() {
    let mut run = Run::<Lfu, LfuOrder>::new(Limits::new(6, 0), Hashing::Spread);
    let mut state = 1_u64;
    for _ in 0..12_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Small keys are asked for more often.
        let key = ((state >> 33) % 8).min((state >> 40) % 12) as u8;
        run.step(&if run.find(key).is_some() {
            Op::Get(key)
        } else {
            Op::Put { key, weight: 1, lifetime: None }
        });
    }
}
