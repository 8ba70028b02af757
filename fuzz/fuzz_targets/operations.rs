//! Operations on a store, compared with a plain model and recounted after each: those of `src/core/tests/model`.

#![no_main]

#[path = "../../src/core/tests/model/orders.rs"]
mod orders;
#[path = "../../src/core/tests/model/plain.rs"]
mod plain;
#[path = "../../src/core/tests/model/run.rs"]
mod run;

use flexcache_core::Limits;
use flexcache_core::policy::{Auto, Fifo, Lfu, Lru, Random, S3Fifo, Sieve, TinyLfu};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

use orders::{AnyOrder, FifoOrder, LfuOrder, LruOrder, S3FifoOrder, SieveOrder};
use run::{Hashing, Op, TAGS, agree};

/// As many as a run of some milliseconds takes.
const MOST_OPERATIONS: usize = 300;

fn key(bytes: &mut Unstructured<'_>) -> Result<u8> {
    bytes.int_in_range(0..=11)
}

fn tag(bytes: &mut Unstructured<'_>) -> Result<u8> {
    bytes.choose_index(TAGS.len()).map(|tag| tag as u8)
}

fn weight(bytes: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match bytes.int_in_range(0..=6)? {
        0..=3 => 1,
        4 | 5 => bytes.int_in_range(0..=5)?,
        _ => u64::MAX,
    })
}

/// Within a tick of the wheel, over some, on every level, and at the end of time.
fn time(bytes: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match bytes.int_in_range(0..=3)? {
        0 => bytes.int_in_range(0..=3_000_000)?,
        1 => bytes.int_in_range(0..=300_000_000)?,
        2 => 1 << bytes.int_in_range(0..=62_u32)?,
        _ => u64::MAX,
    })
}

fn lifetime(bytes: &mut Unstructured<'_>) -> Result<Option<u64>> {
    if bytes.ratio(1, 3)? { time(bytes).map(Some) } else { Ok(None) }
}

fn operation(bytes: &mut Unstructured<'_>) -> Result<Op> {
    Ok(match bytes.int_in_range(0..=27)? {
        0..=5 => Op::Get(key(bytes)?),
        6..=10 => Op::Put { key: key(bytes)?, weight: weight(bytes)?, lifetime: lifetime(bytes)? },
        11..=14 => {
            let (key, weight, lifetime) = (key(bytes)?, weight(bytes)?, lifetime(bytes)?);
            let tags = (0..bytes.int_in_range(0..=4)?).map(|_| tag(bytes)).collect::<Result<_>>()?;
            Op::PutTagged { key, weight, lifetime, tags }
        }
        15 | 16 => {
            let most = bytes.int_in_range(0..=4)?;
            Op::EvictTag { tag: tag(bytes)?, most: if most == 4 { usize::MAX } else { most } }
        }
        17..=20 => Op::PutPlain(key(bytes)?),
        21 => Op::Remove(key(bytes)?),
        22 => Op::PopVictim,
        23 => Op::SetDeadline { key: key(bytes)?, lifetime: lifetime(bytes)? },
        24 => Op::Advance(time(bytes)?.min(1 << 60)),
        25 => Op::Expire { most: bytes.int_in_range(0..=3)? },
        26 => Op::Resize { items: bytes.int_in_range(0..=9)?, weight: bytes.int_in_range(0..=19)? },
        _ => if bytes.arbitrary()? { Op::Clear } else { Op::Map },
    })
}

fn run(bytes: &mut Unstructured<'_>) -> Result<()> {
    let policy = bytes.int_in_range(0..=7)?;
    let limits = Limits::new(
        bytes.int_in_range(0..=7)?,
        if bytes.ratio(1, 3)? { bytes.int_in_range(1..=15)? } else { 0 },
    );
    let all = [Hashing::Spread, Hashing::AllAlike, Hashing::Low, Hashing::High];
    let hashing = *bytes.choose(&all)?;
    let mut operations = Vec::new();
    while !bytes.is_empty() && operations.len() < MOST_OPERATIONS {
        operations.push(operation(bytes)?);
    }
    match policy {
        0 => agree::<Lru, LruOrder>(limits, hashing, &operations),
        1 => agree::<Fifo, FifoOrder>(limits, hashing, &operations),
        2 => agree::<Lfu, LfuOrder>(limits, hashing, &operations),
        3 => agree::<Random, AnyOrder>(limits, hashing, &operations),
        4 => agree::<Sieve, SieveOrder>(limits, hashing, &operations),
        5 => agree::<S3Fifo, S3FifoOrder>(limits, hashing, &operations),
        6 => agree::<TinyLfu, AnyOrder>(limits, hashing, &operations),
        _ => agree::<Auto, AnyOrder>(limits, hashing, &operations),
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    // Bytes that end too soon are no operations.
    let _ = run(&mut Unstructured::new(data));
});
