//! Random calls beside a plain map, with a recount after each.

use std::collections::HashMap;

use flexcache_shared::{Entry, Lease, Options, Patience, SharedCache, kind, now};
use proptest::prelude::*;

use crate::support::{bytes_of, key, new, sized, small};

#[derive(Clone, Debug)]
enum Op {
    Get(u16),
    Put(u16, usize, bool),
    Add(u16, usize),
    Delete(u16),
    Pop(u16),
    Touch(u16, bool),
    Increment(u16, i64),
    Replace(u16, usize),
    Compute(u16, usize),
    Refresh(u16, usize, bool),
    Tagged(u16, u8),
    EvictTag(u8),
    Keys,
    Clear,
}

fn op(keys: u16, largest: usize) -> impl Strategy<Value = Op> {
    let key = move || 0..keys;
    let size = move || prop_oneof![4 => 0..64_usize, 2 => 0..largest];
    prop_oneof![
        8 => key().prop_map(Op::Get),
        8 => (key(), size(), any::<bool>()).prop_map(|(key, size, expires)| Op::Put(key, size, expires)),
        2 => (key(), size()).prop_map(|(key, size)| Op::Add(key, size)),
        2 => key().prop_map(Op::Delete),
        2 => key().prop_map(Op::Pop),
        1 => (key(), any::<bool>()).prop_map(|(key, expires)| Op::Touch(key, expires)),
        2 => (key(), -5..5_i64).prop_map(|(key, by)| Op::Increment(key, by)),
        1 => (key(), size()).prop_map(|(key, size)| Op::Replace(key, size)),
        2 => (key(), size()).prop_map(|(key, size)| Op::Compute(key, size)),
        2 => (key(), size(), any::<bool>()).prop_map(|(key, size, fills)| Op::Refresh(key, size, fills)),
        1 => (key(), 0..3_u8).prop_map(|(key, tag)| Op::Tagged(key, tag)),
        1 => (0..3_u8).prop_map(Op::EvictTag),
        1 => Just(Op::Keys),
        // Seldom: it hides whatever comes before it.
        1 => (0..20_u8).prop_map(|n| if n == 0 { Op::Clear } else { Op::Keys }),
    ]
}

#[derive(Clone, Debug, PartialEq)]
struct Known {
    kind: u8,
    value: Vec<u8>,
    tag: Option<u8>,
}

struct Run {
    cache: SharedCache,
    known: HashMap<u16, Known>,
    /// Whether nothing may be missing.
    exact: bool,
    written: u64,
}

impl Run {
    /// Bytes that no other write has.
    fn value(&mut self, size: usize) -> Vec<u8> {
        self.written += 1;
        let mut bytes = vec![self.written as u8; size];
        for (byte, from) in bytes.iter_mut().zip(self.written.to_le_bytes()) {
            *byte = from;
        }
        bytes
    }

    /// What the cache has must be what is known; what it has not may have been evicted, unless all must be there.
    fn agree(&mut self, name: u16, read: Option<&(u8, Vec<u8>)>) {
        match (read, self.known.get(&name)) {
            (Some((kind, value)), Some(known)) => {
                assert_eq!((kind, value), (&known.kind, &known.value), "key {name}");
            }
            (Some(read), None) => panic!("key {name} has {read:?}, and should be absent"),
            (None, Some(_)) => {
                assert!(!self.exact, "key {name} is lost");
                self.known.remove(&name);
            }
            (None, None) => {}
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each call")]
    fn apply(&mut self, op: &Op) {
        let wait = Patience::Wait;
        match *op {
            Op::Get(name) => {
                let read = self
                    .cache
                    .get(key(&name.to_le_bytes()), wait, |value| Ok((value.kind, bytes_of(value)?)));
                self.agree(name, read.expect("a call").as_ref());
            }
            Op::Put(name, size, expires) => {
                let value = self.value(size);
                let entry = Entry { kind: 1, value: &value, deadline: expires.into(), tags: &[] };
                let bytes = name.to_le_bytes();
                let replaces = if self.written.is_multiple_of(2) {
                    self.cache.put_at_once(key(&bytes), &entry).expect("nothing is in the way")
                } else {
                    let written = self.cache.put(key(&bytes), &entry, wait).expect("it fits");
                    assert!(written.stamp.is_some_and(|stamp| self.cache.is_current(&stamp)));
                    written.result
                };
                assert!(!replaces || self.known.contains_key(&name));
                assert!(replaces || !self.exact || !self.known.contains_key(&name));
                self.known.remove(&name);
                if !expires {
                    self.known.insert(name, Known { kind: 1, value, tag: None });
                }
            }
            Op::Add(name, size) => {
                let value = self.value(size);
                let entry = Entry { kind: 2, value: &value, deadline: 0, tags: &[] };
                if self.cache.add(key(&name.to_le_bytes()), &entry, wait).expect("it fits").result {
                    assert!(!self.exact || !self.known.contains_key(&name));
                    self.known.insert(name, Known { kind: 2, value, tag: None });
                } else {
                    assert!(self.known.contains_key(&name), "nothing is in the way of {name}");
                }
            }
            Op::Delete(name) => {
                let was_there = self.cache.delete(key(&name.to_le_bytes()), wait).expect("a call").result;
                let known = self.known.remove(&name).is_some();
                assert!(was_there == known || (known && !self.exact));
            }
            Op::Pop(name) => {
                let read = self
                    .cache
                    .pop(key(&name.to_le_bytes()), wait, |value| Ok((value.kind, bytes_of(value)?)));
                self.agree(name, read.expect("a call").as_ref());
                self.known.remove(&name);
            }
            Op::Touch(name, expires) => {
                let deadline = if expires { 1 } else { now() + (1 << 40) };
                let was_there =
                    self.cache.touch(key(&name.to_le_bytes()), deadline, wait).expect("a call").result;
                let known = self.known.contains_key(&name);
                assert!(was_there == known || (known && !self.exact));
                if expires || !was_there {
                    self.known.remove(&name);
                }
            }
            Op::Increment(name, by) => self.increment(name, by),
            Op::Replace(name, size) => {
                let value = self.value(size);
                let name_bytes = name.to_le_bytes();
                let read = self
                    .cache
                    .get_version(key(&name_bytes), wait, |value| Ok((value.kind, bytes_of(value)?)));
                let read = read.expect("a call");
                self.agree(name, read.as_ref().map(|(read, ..)| read));
                let Some((_, _, version)) = read else { return };
                let entry = Entry { kind: 3, value: &value, deadline: 0, tags: &[] };
                assert!(self.cache.replace(key(&name_bytes), &version, &entry, wait).expect("it fits"));
                let tag = self.known.get(&name).and_then(|known| known.tag);
                self.known.insert(name, Known { kind: 3, value, tag });
            }
            Op::Compute(name, size) => self.compute(name, size),
            Op::Refresh(name, size, fills) => self.refresh(name, size, fills),
            Op::Tagged(name, tag) => {
                let value = self.value(16);
                let tags = [self.cache.tag(&[tag], wait).expect("a call")];
                let entry = Entry { kind: 4, value: &value, deadline: 0, tags: &tags };
                self.cache.put(key(&name.to_le_bytes()), &entry, wait).expect("it fits");
                self.known.insert(name, Known { kind: 4, value, tag: Some(tag) });
            }
            Op::EvictTag(tag) => {
                self.cache.evict_tag(&[tag], wait).expect("a call");
                self.known.retain(|_, known| known.tag != Some(tag));
            }
            Op::Keys => {
                let mut seen = Vec::new();
                self.cache
                    .keys(wait, |_, bytes| {
                        seen.push(u16::from_le_bytes(bytes.try_into().expect("two bytes")));
                    })
                    .expect("a call");
                let count = seen.len();
                seen.sort_unstable();
                seen.dedup();
                assert_eq!(seen.len(), count, "a key was visited twice");
                assert!(seen.iter().all(|name| self.known.contains_key(name)));
                assert!(!self.exact || seen.len() == self.known.len());
            }
            Op::Clear => {
                self.cache.clear(wait).expect("a call");
                self.known.clear();
                assert_eq!(self.cache.len(), 0);
            }
        }
        self.cache.check().expect("a sound cache");
        let stats = self.cache.stats();
        assert_eq!((stats.resets, stats.damaged), (0, 0));
        assert!(!self.exact || stats.evicted + stats.crowded + stats.forced == 0 || stats.forced == 0);
    }

    fn increment(&mut self, name: u16, by: i64) {
        let sum = self.cache.increment(key(&name.to_le_bytes()), by, 7, 0, Patience::Wait);
        let before = self.known.get(&name).map(|known| match known.kind {
            kind::INTEGER => Some(i64::from_le_bytes(known.value[..8].try_into().expect("eight bytes"))),
            _ => None,
        });
        match (sum, before) {
            (Ok(sum), before) => {
                let expected = before.flatten().unwrap_or(7) + by;
                assert!(sum.result == expected || (!self.exact && sum.result == 7 + by));
                let value = sum.result.to_le_bytes().to_vec();
                let tag = None;
                self.known.insert(name, Known { kind: kind::INTEGER, value, tag });
            }
            (Err(flexcache_shared::Error::NotANumber), Some(None)) => {}
            (Err(error), before) => panic!("{error}; before: {before:?}"),
        }
    }

    fn compute(&mut self, name: u16, size: usize) {
        let value = self.value(size);
        let name_bytes = name.to_le_bytes();
        let lease =
            self.cache.lease(key(&name_bytes), std::time::Duration::from_secs(100), false, Patience::Wait);
        match lease.expect("a call") {
            Lease::Value => assert!(self.known.contains_key(&name)),
            Lease::Got(token) => {
                self.agree(name, None);
                assert!(!self.cache.contains(key(&name_bytes), Patience::Wait).expect("a call"));
                let entry = Entry { kind: 5, value: &value, deadline: 0, tags: &[] };
                assert!(
                    self.cache
                        .fill(key(&name_bytes), &token, &entry, Patience::Wait)
                        .expect("it fits")
                        .result
                );
                assert!(
                    !self
                        .cache
                        .fill(key(&name_bytes), &token, &entry, Patience::Wait)
                        .expect("it fits")
                        .result
                );
                self.known.insert(name, Known { kind: 5, value, tag: None });
            }
            Lease::Taken { .. } => panic!("nobody else computes"),
        }
    }

    /// A lease beside a value. It is filled, or given back, and the value stays.
    fn refresh(&mut self, name: u16, size: usize, fills: bool) {
        let value = self.value(size);
        let name_bytes = name.to_le_bytes();
        let lease =
            self.cache.lease(key(&name_bytes), std::time::Duration::from_secs(100), true, Patience::Wait);
        // The record of a large value has no room for a lease, or making room evicted it.
        let Ok(Lease::Got(token)) = lease else { return };
        self.cache.check().expect("a sound cache");
        let read =
            self.cache.get(key(&name_bytes), Patience::Wait, |value| Ok((value.kind, bytes_of(value)?)));
        self.agree(name, read.expect("a call").as_ref());
        if fills {
            let entry = Entry { kind: 6, value: &value, deadline: 0, tags: &[] };
            assert!(
                self.cache.fill(key(&name_bytes), &token, &entry, Patience::Wait).expect("it fits").result
            );
            self.known.insert(name, Known { kind: 6, value, tag: None });
        } else {
            assert!(self.cache.release(key(&name_bytes), &token, Patience::Wait).expect("a call"));
            assert!(!self.cache.release(key(&name_bytes), &token, Patience::Wait).expect("a call"));
        }
    }
}

fn run(options: &Options, exact: bool, ops: &[Op]) {
    let (cache, _directory) = new(options);
    let mut run = Run { cache, known: HashMap::new(), exact, written: 0 };
    for op in ops {
        run.apply(op);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::support::scaled(300), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn with_room_for_all_nothing_is_lost(ops in prop::collection::vec(op(40, 2000), 1..150)) {
        run(&sized(1 << 20), true, &ops);
    }

    #[test]
    fn without_room_what_is_there_is_right(ops in prop::collection::vec(op(60, 30_000), 1..400)) {
        run(&small(), false, &ops);
    }

    #[test]
    fn without_slots_what_is_there_is_right(ops in prop::collection::vec(op(600, 200), 1..600)) {
        run(&Options { expected_item: 100_000, ..small() }, false, &ops);
    }
}
