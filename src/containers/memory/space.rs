//! Operations on the keys of one namespace.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use flexcache_core::policy::Policy;
use flexcache_core::{Cause, Clock, Nanos, Slot};

use super::{
    Entry, Held, MemoryStore, MemoryTransaction, Seen, Touched, Value, admits, deadline_after, micros,
};
use crate::container::{Container, Moment, sum};
use crate::error::{Error, Result};
use crate::operation::{Act, Cell, Combine, Key, Kind, Mode, Op, Reply, Touch, logged};
use crate::weight;

/// One namespace of a store, or of a transaction.
pub(super) struct Space<'a, V, P: Policy, C> {
    pub(super) store: &'a mut MemoryStore<V, P>,
    pub(super) transaction: Option<&'a mut MemoryTransaction<V>>,
    pub(super) namespace: &'a Arc<[u8]>,
    pub(super) clock: &'a C,
    pub(super) wall: u64,
}

impl<V: Held, P: Policy, C: Clock> Space<'_, V, P, C> {
    fn entry(&mut self, key: &[u8]) -> Option<&mut Entry<V>> {
        let Some(transaction) = self.transaction.as_mut() else {
            let (_, slot) = self.store.live(self.namespace, key, self.clock);
            let slot = slot?;
            self.store.entries.hit(slot);
            return Some(self.store.entries.value_mut(slot));
        };
        let full = (Arc::clone(self.namespace), Box::from(key));
        let touched = transaction.touched.entry(full).or_insert_with(|| {
            let (_, slot) = self.store.live(self.namespace, key, self.clock);
            let entry = slot.map(|slot| self.store.entries.value(slot).clone());
            let version = entry.as_ref().map_or(0, |entry| entry.version);
            let seen = Seen { version, deadline: entry.as_ref().and_then(|entry| entry.deadline) };
            Touched { seen, entry, is_changed: false }
        });
        let is_over = |entry: &Entry<V>| entry.deadline.is_some_and(|deadline| self.clock.reached(deadline));
        if touched.entry.as_ref().is_some_and(is_over) {
            touched.entry = None;
        }
        touched.entry.as_mut()
    }

    /// Stores an entry under a key, or removes it.
    fn leave(&mut self, key: &[u8], value: Option<(Value<V>, Option<Nanos>)>) -> Result<()> {
        if self.transaction.is_some() {
            self.entry(key);
        }
        if let Some((value, _)) = &value {
            self.store.admit(key, value)?;
        }
        let version = self.store.next_version();
        let entry = value.map(|(value, deadline)| Entry { value, deadline, version });
        if let Some(transaction) = self.transaction.as_mut() {
            let full = (Arc::clone(self.namespace), Box::from(key));
            if let Some(touched) = transaction.touched.get_mut(&full) {
                touched.entry = entry;
                touched.is_changed = true;
            }
            return Ok(());
        }
        match entry {
            Some(entry) => self.store.put(self.namespace, key, entry, self.clock),
            None => {
                if let (_, Some(slot)) = self.store.find(self.namespace, key) {
                    self.store.entries.remove(slot, Cause::Deleted, &mut Vec::new());
                }
                Ok(())
            }
        }
    }

    /// Completes a change of an entry in place, which has this deadline now. The entry may have become
    /// heavier, but not too heavy.
    fn changed(&mut self, key: &[u8], deadline: Option<Nanos>) -> Result<()> {
        let version = self.store.next_version();
        let in_transaction = self.transaction.is_some();
        let Some(entry) = self.entry(key) else { return Ok(()) };
        let moved = entry.deadline != deadline;
        entry.deadline = deadline;
        entry.version = version;
        if in_transaction {
            let full = (Arc::clone(self.namespace), Box::from(key));
            if let Some(transaction) = self.transaction.as_mut()
                && let Some(touched) = transaction.touched.get_mut(&full)
            {
                touched.is_changed = true;
            }
            return Ok(());
        }
        if (moved || self.store.entries.limits().weight.is_some())
            && let (_, Some(slot)) = self.store.find(self.namespace, key)
        {
            let entries = &mut self.store.entries;
            if moved {
                entries.set_deadline(slot, deadline, self.clock).map_err(|_| Error::OutOfMemory)?;
            }
            let weight = self.store.weight(key, &self.store.entries.value(slot).value);
            let weighed = self.store.entries.set_weight(slot, weight, self.clock, &mut Vec::new());
            weighed.map_err(|_| Error::OutOfMemory)?;
        }
        Ok(())
    }

    fn moment(&self) -> Moment {
        Moment { clock: micros(self.clock.now()), wall: self.wall }
    }

    pub(super) fn apply(&mut self, op: &Op) -> Result<Reply> {
        let now = self.clock.now();
        if self.transaction.is_some()
            && let Some(name) = op.of_all_keys()
        {
            // It would miss the transaction's writes, and a rollback would not undo its own.
            return Err(Error::NotInTransaction(name));
        }
        Ok(match op {
            Op::Get(keys) => Reply::Wholes(
                keys.iter().map(|key| self.entry(key).map(|entry| entry.value.whole())).collect(),
            ),
            Op::Set { items, touch, mode } => {
                let mut count = 0;
                let values: Vec<_> = items.iter().map(|(key, whole)| (key, Value::of(whole))).collect();
                for (key, value) in &values {
                    self.store.admit(key, value)?;
                }
                for (key, value) in values {
                    let old = self.entry(key).map(|entry| entry.deadline);
                    let is_wanted = match mode {
                        Mode::Always => true,
                        Mode::IfAbsent => old.is_none(),
                        Mode::IfPresent => old.is_some(),
                    };
                    if is_wanted {
                        self.leave(key, Some((value, deadline_after(*touch, old, now))))?;
                        count += 1;
                    }
                }
                Reply::Int(count)
            }
            Op::Delete(keys) => {
                let mut count = 0;
                for key in keys {
                    if self.entry(key).is_some() {
                        self.leave(key, None)?;
                        count += 1;
                    }
                }
                Reply::Int(count)
            }
            Op::Take(key) => {
                let whole = self.entry(key).map(|entry| entry.value.whole());
                if whole.is_some() {
                    self.leave(key, None)?;
                }
                Reply::Wholes(vec![whole])
            }
            Op::Rename(from, to) => Reply::Bool(self.rename(from, to)?),
            Op::KindOf(key) => Reply::Kind(self.entry(key).map(|entry| entry.value.kind())),
            Op::Expire(key, touch) => {
                let Some(old) = self.entry(key).map(|entry| entry.deadline) else {
                    return Ok(Reply::Bool(false));
                };
                self.changed(key, deadline_after(*touch, Some(old), now))?;
                Reply::Bool(true)
            }
            Op::Persist(key) => {
                let had = self.entry(key).is_some_and(|entry| entry.deadline.is_some());
                if had {
                    self.changed(key, None)?;
                }
                Reply::Bool(had)
            }
            Op::Ttl(key) => Reply::Ttl(
                self.entry(key)
                    .map(|entry| entry.deadline.map(|deadline| micros(deadline.saturating_sub(now)))),
            ),
            Op::Incr { key, by, initial, touch } => {
                let old = match self.entry(key) {
                    Some(entry) => Some(scalar(key, &entry.value)?),
                    None => None,
                };
                let sum = match &old {
                    Some(cell) => sum(Some(cell), *by)?,
                    None => initial.plus(*by)?,
                };
                let before = self.entry(key).map(|entry| entry.deadline);
                self.leave(key, Some((Value::Cell(sum.text()), deadline_after(*touch, before, now))))?;
                Reply::Number(sum)
            }
            Op::On { key, kind, touch, act } => self.act(key, *kind, *touch, act)?,
            Op::Combine { keys, how } => Reply::Cells(self.combine(keys, *how)?),
            Op::Gate { name, interval, burst, cost } => self.gate(name, *interval, *burst, *cost),
            Op::Log { name, limit, window, cost } => self.log(name, *limit, *window, *cost),
            Op::Lease { name, token, micros } => self.lease(name, token, *micros),
            Op::Release { name, token } => {
                let full = (Arc::clone(self.namespace), Box::from(name.as_slice()));
                let is_own = self.store.leases.get(&full).is_some_and(|(holder, _)| holder == token);
                if is_own {
                    self.store.leases.remove(&full);
                }
                Reply::Bool(is_own)
            }
            Op::Keys { .. } | Op::Expiring | Op::Count | Op::CountExpired | Op::Clear | Op::Purge(_) => {
                self.all(op)
            }
        })
    }

    /// Gives a key another name. Returns whether there is such a key.
    fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<bool> {
        let Some(entry) = self.entry(from).cloned() else { return Ok(false) };
        if from == to {
            return Ok(true);
        }
        self.store.admit(to, &entry.value)?;
        // Before the other name is stored. Otherwise, there would be one key more for a moment, for which another
        // one might be evicted.
        self.leave(from, None)?;
        if let Err(error) = self.leave(to, Some((entry.value.clone(), entry.deadline))) {
            self.leave(from, Some((entry.value, entry.deadline)))?;
            return Err(error);
        }
        Ok(true)
    }

    /// Operations on all keys of the namespace.
    fn all(&mut self, op: &Op) -> Reply {
        let now = self.clock.now();
        let namespace = Arc::clone(self.namespace);
        let entries = &self.store.entries;
        let own = || entries.slots().filter(|slot| entries.key(*slot).0 == namespace);
        let live = || own().filter(|slot| !entries.has_expired(*slot, self.clock));
        let count = |count: usize| Reply::Int(i64::try_from(count).unwrap_or(i64::MAX));
        match op {
            Op::Keys { after, count } => {
                let later = |key: &&[u8]| after.as_ref().is_none_or(|after| *key > after.as_slice());
                let mut keys: Vec<&[u8]> = live().map(|slot| &*entries.key(slot).1).filter(later).collect();
                keys.sort_unstable();
                let most = usize::try_from(*count).unwrap_or(usize::MAX);
                Reply::Keys(keys.into_iter().take(most).map(<[u8]>::to_vec).collect())
            }
            Op::Expiring => {
                let signed = |nanos: Nanos| i64::try_from(micros(nanos)).unwrap_or(i64::MAX);
                let left = |slot| entries.deadline(slot).map(|at| (slot, signed(at) - signed(now)));
                let mut expiring: Vec<_> =
                    own().filter_map(left).map(|(slot, left)| (entries.key(slot).1.to_vec(), left)).collect();
                expiring.sort_unstable();
                Reply::Expiring(expiring)
            }
            Op::CountExpired => count(own().count() - live().count()),
            Op::Clear => {
                let all: Vec<Slot> = own().collect();
                let gone = live().count();
                self.store.next_version();
                for slot in all {
                    self.store.entries.remove(slot, Cause::Cleared, &mut Vec::new());
                }
                count(gone)
            }
            Op::Purge(most) => {
                let most = usize::try_from(*most).unwrap_or(usize::MAX);
                count(self.store.entries.expire(now, most, &mut Vec::new()))
            }
            _ => count(live().count()),
        }
    }

    fn act(&mut self, key: &[u8], kind: Kind, touch: Touch, act: &Act) -> Result<Reply> {
        let moment = self.moment();
        let now = self.clock.now();
        let limit = self.store.entries.limits().weight;
        let own = weight::ENTRY + weight::bytes(key.len());
        let Some(entry) = self.entry(key) else {
            let Some(mut container) = Container::empty(kind) else { return Err(Error::NotANumber) };
            if !act.writes() {
                return Ok(container.read(act));
            }
            let reply = container.write(act, moment)?;
            if act.creates() {
                let deadline = deadline_after(touch, None, now);
                self.leave(key, Some((Value::Container(Arc::new(container)), deadline)))?;
            }
            return Ok(reply);
        };
        let held = entry.value.kind();
        let container = match &mut entry.value {
            Value::Container(container) if held == kind => container,
            _ => return Err(Error::Kind { key: key.to_vec(), held, wanted: kind }),
        };
        if let Act::BloomAdd { shape, .. } | Act::BloomHas { shape, .. } = act
            && container.shape().is_some_and(|made| made != shape)
        {
            return Err(Error::Shape);
        }
        if !act.writes() {
            return Ok(container.read(act));
        }
        let reply = if admits(limit, own + container.bytes() + act.bytes()).is_ok() {
            Arc::make_mut(container).write(act, moment)?
        } else {
            // Changes a copy first, as it may become too heavy.
            let mut changed = Container::clone(container);
            let reply = changed.write(act, moment)?;
            admits(limit, own + changed.bytes())?;
            *container = Arc::new(changed);
            reply
        };
        let deadline = deadline_after(touch, Some(entry.deadline), now);
        self.changed(key, deadline)?;
        Ok(reply)
    }

    fn combine(&mut self, keys: &[Key], how: Combine) -> Result<Vec<Cell>> {
        let mut result: Option<BTreeSet<Cell>> = None;
        for key in keys {
            let empty = BTreeSet::new();
            let set = match self.entry(key).map(|entry| &entry.value) {
                None => &empty,
                Some(Value::Container(container)) if let Container::Set(set) = &**container => set.members(),
                Some(other) => {
                    let held = other.kind();
                    return Err(Error::Kind { key: key.clone(), held, wanted: Kind::Set });
                }
            };
            result = Some(match result {
                None => set.clone(),
                Some(result) => match how {
                    Combine::Union => result.union(set).cloned().collect(),
                    Combine::Intersection => result.intersection(set).cloned().collect(),
                    Combine::Difference => result.difference(set).cloned().collect(),
                },
            });
        }
        Ok(result.unwrap_or_default().into_iter().collect())
    }

    pub(super) fn gate(&mut self, name: &[u8], interval: u64, burst: u64, cost: u64) -> Reply {
        let now = micros(self.clock.now());
        let full = (Arc::clone(self.namespace), Box::from(name));
        let price = interval.saturating_mul(cost);
        let gate = self.store.gates.get_mut(&full);
        let next = gate.as_deref().map_or(now, |next| now.max(*next)).saturating_add(price);
        if next - now > burst {
            return Reply::Gate { allowed: false, micros: next - now - burst, remaining: 0 };
        }
        match gate {
            Some(gate) => *gate = next,
            None => self.store.gates.insert(full, next, |next| *next <= now),
        }
        Reply::Gate { allowed: true, micros: 0, remaining: (burst - (next - now)) / interval.max(1) }
    }

    fn log(&mut self, name: &[u8], limit: u64, window: u64, cost: u64) -> Reply {
        let now = micros(self.clock.now());
        let full = (Arc::clone(self.namespace), Box::from(name));
        let found = self.store.logs.get_mut(&full);
        let none = VecDeque::new();
        let log = found.as_deref().unwrap_or(&none);
        let reply = logged(log.iter().copied().filter(|(until, _)| *until > now), now, limit, cost);
        if !matches!(reply, Reply::Gate { allowed: true, .. }) {
            return reply;
        }
        let call = (now.saturating_add(window), cost);
        match found {
            Some(log) => {
                while log.front().is_some_and(|(until, _)| *until <= now) {
                    log.pop_front();
                }
                log.push_back(call);
            }
            None => {
                let is_over = |log: &VecDeque<(u64, u64)>| log.back().is_none_or(|(until, _)| *until <= now);
                self.store.logs.insert(full, VecDeque::from([call]), is_over);
            }
        }
        reply
    }

    fn lease(&mut self, name: &[u8], token: &Cell, for_micros: u64) -> Reply {
        let now = micros(self.clock.now());
        let full = (Arc::clone(self.namespace), Box::from(name));
        let lease = (token.clone(), now.saturating_add(for_micros));
        match self.store.leases.get_mut(&full) {
            Some((holder, until)) if holder != token && *until > now => {
                return Reply::Lease(Some(*until - now));
            }
            Some(found) => *found = lease,
            None => self.store.leases.insert(full, lease, |(_, until)| *until <= now),
        }
        Reply::Lease(None)
    }
}

fn scalar<V: Held>(key: &[u8], value: &Value<V>) -> Result<Cell> {
    match value {
        Value::Cell(cell) => Ok(cell.clone()),
        Value::Held(held) => Ok(held.cell()),
        Value::Container(container) => {
            Err(Error::Kind { key: key.to_vec(), held: container.kind(), wanted: Kind::Scalar })
        }
    }
}
