//! Insertion of entries into a store, and making room for them.

use super::{Cause, EntryStore, Present, RemovalSink, Removed};
use crate::clock::{Clock, Nanos};
use crate::error::Error;
use crate::index::short;
use crate::memory::{OutOfMemory, TryBox};
use crate::node::Node;
use crate::policy::Policy;
use crate::slot::Slot;
use crate::tags::{Prepared, Tags};
use crate::wheel::Wheel;

/// The most expired entries that a call which makes room removes first.
const EXPIRED_A_CALL: usize = 64;

/// An entry to store.
#[derive(Clone, Copy, Debug)]
pub struct New<K, V> {
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
    /// Its weight.
    pub weight: u64,
    /// When it expires; `None` for never.
    pub deadline: Option<Nanos>,
}

/// The slot at which an entry will be stored, and whether that slot is vacant. If it is not, it is the
/// victim's.
#[derive(Debug)]
#[must_use]
pub struct PlainPlace(Slot, bool);

impl<K, V, P: Policy> EntryStore<K, V, P> {
    /// Checks that an entry of this weight can be stored, once room is made.
    ///
    /// # Errors
    ///
    /// [`Error`] says why not.
    #[inline]
    pub fn admit(&self, found: Option<Slot>, weight: u64) -> Result<(), Error> {
        if weight > self.most_weight {
            return Err(Error::TooHeavy { weight, limit: self.most_weight });
        }
        if self.most_weight == u64::MAX {
            // Without a limit of weight nothing is evicted for it, so the sum itself must fit.
            self.weights.admit(weight, found.map_or(0, |slot| self.weights.get(slot)))?;
        }
        if found.is_none() && self.len() >= Slot::LIMIT && self.most_items >= Slot::LIMIT {
            return Err(Error::Full);
        }
        Ok(())
    }

    /// Whether an entry can be stored without an eviction.
    #[inline(always)]
    #[must_use]
    pub fn has_room(&self, weight: u64) -> bool {
        self.len() < self.most_items && self.weights.total() <= self.most_weight.saturating_sub(weight)
    }

    /// Stores an entry, or replaces the value of the one that [`find`](Self::find) found. O(1)
    /// for each entry that is removed.
    ///
    /// A replaced entry counts as accessed, takes the new weight and deadline, and loses its tags;
    /// its key stays.
    ///
    /// # Errors
    ///
    /// [`Error`] and the entry itself, if it is refused; nothing has changed. There is one exception: if the
    /// sink runs out of memory while entries are evicted, those that it took stay evicted.
    #[inline]
    pub fn put(
        &mut self,
        found: Option<Slot>,
        hash: u64,
        new: New<K, V>,
        clock: &impl Clock,
        sink: &mut impl RemovalSink<K, V>,
    ) -> Result<Slot, (Error, New<K, V>)> {
        self.put_tagged(found, hash, new, &[] as &[&str], clock, sink)
    }

    /// Like [`put`](Self::put), and gives the entry these tags. O(1) for each tag and for each entry
    /// that is removed. A tag that is named twice counts once.
    ///
    /// # Errors
    ///
    /// As for [`put`](Self::put).
    #[inline]
    pub fn put_tagged(
        &mut self,
        found: Option<Slot>,
        hash: u64,
        new: New<K, V>,
        tags: &[impl AsRef<str>],
        clock: &impl Clock,
        sink: &mut impl RemovalSink<K, V>,
    ) -> Result<Slot, (Error, New<K, V>)> {
        let live = found.filter(|&slot| !self.has_expired(slot, clock));
        let prepared = self.admit(found, new.weight).and_then(|()| {
            if found.is_some() {
                // Room for the entry at `found`, which has expired or will be replaced.
                sink.try_reserve()?;
            }
            self.prepare(live, hash, new.weight, new.deadline, tags, clock)
        });
        let (slot, memberships) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Err((error, new)),
        };
        if let (Some(expired), None) = (found, live) {
            self.remove_entry(expired, Cause::Expired, sink);
        }
        let room = match live {
            Some(slot) => self.make_room_for_replacement(slot, new.weight, clock, sink),
            None if self.has_room(new.weight) => Ok(()),
            None => self.make_room(1, new.weight, None, clock, sink),
        };
        if let Err(OutOfMemory) = room {
            if let (Some(tags), Some(memberships)) = (&mut self.tags, memberships) {
                tags.give_back(memberships);
            }
            if live.is_none() {
                self.nodes.give_back(slot);
            }
            return Err((OutOfMemory.into(), new));
        }
        match live {
            Some(slot) => self.replace(slot, new, sink),
            None => self.insert(slot, hash, new),
        }
        if let (Some(tags), Some(memberships)) = (&mut self.tags, memberships) {
            tags.join(slot, memberships);
        }
        self.recount();
        Ok(slot)
    }

    /// Allocates all that storing an entry needs, and claims a slot where there is no live entry.
    #[inline]
    fn prepare(
        &mut self,
        live: Option<Slot>,
        hash: u64,
        weight: u64,
        deadline: Option<Nanos>,
        tags: &[impl AsRef<str>],
        clock: &impl Clock,
    ) -> Result<(Slot, Option<Prepared>), Error> {
        let slot = match live {
            Some(slot) => slot,
            None => self.claim(hash)?,
        };
        match self.prepare_slot(slot, weight, deadline, tags, clock) {
            Ok(memberships) => Ok((slot, memberships)),
            Err(error) => {
                if live.is_none() {
                    self.nodes.give_back(slot);
                }
                Err(error)
            }
        }
    }

    #[inline]
    fn prepare_slot(
        &mut self,
        slot: Slot,
        weight: u64,
        deadline: Option<Nanos>,
        tags: &[impl AsRef<str>],
        clock: &impl Clock,
    ) -> Result<Option<Prepared>, Error> {
        self.weights.try_reserve(slot, weight)?;
        if deadline.is_some() {
            self.prepare_deadline(slot, clock)?;
        }
        if tags.is_empty() { Ok(None) } else { self.prepare_tags(slot, tags).map(Some) }
    }

    #[inline]
    fn prepare_deadline(&mut self, slot: Slot, clock: &impl Clock) -> Result<(), OutOfMemory> {
        let wheel = match &mut self.wheel {
            Some(wheel) => wheel,
            none => none.insert(TryBox::new(Wheel::new(clock.now())?)?),
        };
        wheel.try_reserve(slot)
    }

    fn prepare_tags(&mut self, slot: Slot, names: &[impl AsRef<str>]) -> Result<Prepared, Error> {
        let tags = match &mut self.tags {
            Some(tags) => tags,
            none => none.insert(TryBox::new(Tags::new())?),
        };
        if !tags.have_room(names.len()) {
            return Err(Error::Full);
        }
        Ok(tags.try_prepare(slot, names)?)
    }

    /// A slot for an entry under `hash`, and room for it in the index and the policy.
    #[inline]
    fn claim(&mut self, hash: u64) -> Result<Slot, OutOfMemory> {
        let slot = self.nodes.try_claim()?;
        match self.reserve_for(slot, hash) {
            Ok(()) => Ok(slot),
            Err(error) => {
                self.nodes.give_back(slot);
                Err(error)
            }
        }
    }

    #[inline(always)]
    fn reserve_for(&mut self, slot: Slot, hash: u64) -> Result<(), OutOfMemory> {
        self.hashes.try_reserve(slot)?;
        self.policy.try_reserve(slot, &Present(&self.hashes, &self.weights))?;
        self.reserve_in_index(hash)
    }

    #[inline(always)]
    fn reserve_in_index(&mut self, hash: u64) -> Result<(), OutOfMemory> {
        let hashes = &self.hashes;
        self.index.try_reserve(short(hash), |moved| hashes.get(moved))
    }

    /// Adds a slot under a hash. There must be room.
    #[inline(always)]
    fn insert_in_index(&mut self, slot: Slot, hash: u64) {
        self.hashes.set(slot, short(hash));
        self.index.insert(short(hash), slot);
    }

    #[inline]
    fn insert(&mut self, slot: Slot, hash: u64, new: New<K, V>) {
        self.nodes.fill(slot, Node { key: new.key, value: new.value });
        self.insert_in_index(slot, hash);
        self.weights.add(slot, new.weight);
        self.policy.on_insert(slot, u64::from(short(hash)));
        if new.deadline.is_some() {
            self.change_deadline(slot, new.deadline);
        }
        self.stats.insertions += 1;
    }

    /// Tells the policy of a replacement, and makes room where the entry becomes heavier.
    #[inline]
    fn make_room_for_replacement(
        &mut self,
        slot: Slot,
        weight: u64,
        clock: &impl Clock,
        sink: &mut impl RemovalSink<K, V>,
    ) -> Result<(), OutOfMemory> {
        self.policy.on_replace(slot, self.hash(slot));
        if self.weights.get(slot) == weight { Ok(()) } else { self.reweigh(slot, weight, clock, sink) }
    }

    #[inline]
    fn replace(&mut self, slot: Slot, new: New<K, V>, sink: &mut impl RemovalSink<K, V>) {
        let value = std::mem::replace(&mut self.nodes.get_mut(slot).value, new.value);
        sink.push(Removed { key: new.key, value, cause: Cause::Replaced });
        self.remove_tags(slot);
        self.stats.updates += 1;
        self.change_deadline(slot, new.deadline);
    }

    /// Changes the weight of an entry, and evicts others if the limit is exceeded.
    #[cold]
    fn reweigh(
        &mut self,
        slot: Slot,
        weight: u64,
        clock: &impl Clock,
        sink: &mut impl RemovalSink<K, V>,
    ) -> Result<(), OutOfMemory> {
        let (old, deadline) = (self.weights.get(slot), self.deadline(slot));
        // Without a deadline the entry cannot expire while room is made.
        self.change_deadline(slot, None);
        self.weights.remove(slot);
        let room = if self.weights.total() > self.most_weight - weight {
            self.make_room(0, weight, Some(slot), clock, sink).and_then(|()| sink.try_reserve())
        } else {
            Ok(())
        };
        self.weights.add(slot, if room.is_ok() { weight } else { old });
        self.change_deadline(slot, deadline);
        room
    }

    /// Changes the weight of the live entry at `slot`, whose value was changed in place, and evicts others if
    /// the limit is exceeded. This does not count as an access. O(1) for each entry that is removed.
    ///
    /// # Errors
    ///
    /// [`Error`]; the entry keeps its weight. If the sink runs out of memory while entries are evicted, those
    /// that it took stay evicted.
    pub fn set_weight(
        &mut self,
        slot: Slot,
        weight: u64,
        clock: &impl Clock,
        sink: &mut impl RemovalSink<K, V>,
    ) -> Result<(), Error> {
        if self.weights.get(slot) == weight {
            return Ok(());
        }
        self.admit(Some(slot), weight)?;
        self.weights.try_reserve(slot, weight)?;
        self.reweigh(slot, weight, clock, sink)?;
        Ok(())
    }

    /// Replaces the value of the live entry at `slot`, whose key has the hash `hash`, and returns the old
    /// value. The entry keeps its weight and deadline, and loses its tags. O(1).
    #[inline(always)]
    pub fn exchange(&mut self, slot: Slot, hash: u64, value: V) -> V {
        // Nobody lives to see it overflow.
        self.stats.updates = self.stats.updates.wrapping_add(1);
        self.remove_tags(slot);
        debug_assert_eq!(self.hashes.get(slot), short(hash));
        self.policy.on_replace(slot, u64::from(short(hash)));
        std::mem::replace(&mut self.nodes.get_mut(slot).value, value)
    }

    /// Whether no entry has had a deadline or a weight other than 1, so that
    /// [`insert_plain`](Self::insert_plain) may be called.
    #[inline(always)]
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.wheel.is_none() && self.weights.all_one() && self.len() < Slot::LIMIT
    }

    /// Finds a place for an entry whose key is absent, in a [plain](Self::is_plain) store: a vacant slot, or
    /// the next victim's. The caller passes it to [`insert_plain`](Self::insert_plain) before any other call.
    /// O(1).
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]; nothing has changed.
    #[inline(always)]
    pub fn reserve_plain(&mut self, hash: u64) -> Result<PlainPlace, OutOfMemory> {
        if self.has_room(1) {
            return Ok(PlainPlace(self.claim(hash)?, true));
        }
        self.reserve_in_index(hash)?;
        let victim = self.policy.victim(&Present(&self.hashes, &self.weights));
        match victim {
            Some(slot) => Ok(PlainPlace(slot, false)),
            None => unreachable!("a full store has a victim"),
        }
    }

    /// Stores an entry of weight 1, without deadline or tags, at its place. Returns the victim whose place it
    /// takes. Does what [`put`](Self::put) does, in fewer steps. O(1).
    #[inline(always)]
    pub fn insert_plain(
        &mut self,
        PlainPlace(slot, vacant): PlainPlace,
        hash: u64,
        key: K,
        value: V,
    ) -> Option<Removed<K, V>> {
        debug_assert!(self.is_plain());
        // Nobody lives to see them overflow.
        self.stats.insertions = self.stats.insertions.wrapping_add(1);
        let new = Node { key, value };
        if vacant {
            self.nodes.fill(slot, new);
            self.insert_in_index(slot, hash);
            self.weights.add(slot, 1);
            self.policy.on_insert(slot, u64::from(short(hash)));
            self.recount();
            return None;
        }
        // The new entry takes the victim's slot, and its weight of 1.
        let node = std::mem::replace(self.nodes.get_mut(slot), new);
        let evicted = self.hashes.get(slot);
        self.index.remove(evicted, slot);
        self.insert_in_index(slot, hash);
        self.policy.on_reuse(slot, u64::from(evicted), u64::from(short(hash)));
        self.remove_tags(slot);
        self.stats.evictions = self.stats.evictions.wrapping_add(1);
        self.recount();
        Some(Removed { key: node.key, value: node.value, cause: Cause::Evicted })
    }

    /// Sets, moves or removes an entry's deadline. O(1).
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]; the entry keeps its deadline.
    #[inline]
    pub fn set_deadline(
        &mut self,
        slot: Slot,
        deadline: Option<Nanos>,
        clock: &impl Clock,
    ) -> Result<(), OutOfMemory> {
        if deadline.is_some() {
            self.prepare_deadline(slot, clock)?;
        }
        self.change_deadline(slot, deadline);
        Ok(())
    }

    /// [`set_deadline`](Self::set_deadline), for a slot that has room for a deadline.
    #[inline]
    fn change_deadline(&mut self, slot: Slot, deadline: Option<Nanos>) {
        if let Some(wheel) = &mut self.wheel {
            wheel.set(slot, deadline);
        }
    }

    /// Removes entries until `items` more entries, of weight `weight` together, fit: first expired ones, then
    /// victims. Never evicts `kept`.
    #[inline]
    fn make_room(
        &mut self,
        items: usize,
        weight: u64,
        kept: Option<Slot>,
        clock: &impl Clock,
        sink: &mut impl RemovalSink<K, V>,
    ) -> Result<(), OutOfMemory> {
        let now = self.wheel.is_some().then(|| clock.now());
        if let Some(now) = now {
            self.expire(now, EXPIRED_A_CALL, sink);
        }
        let (most_items, most_weight) = (self.most_items - items, self.most_weight - weight);
        while self.len() > most_items || self.weights.total() > most_weight {
            if now.is_some_and(|now| self.expire(now, 1, sink) > 0) {
                continue;
            }
            let present = Present(&self.hashes, &self.weights);
            let victim = match self.policy.victim(&present) {
                Some(victim) if Some(victim) == kept => self.slots().find(|&slot| slot != victim),
                victim => victim,
            };
            let Some(victim) = victim else { break };
            sink.try_reserve()?;
            self.remove_entry(victim, Cause::Evicted, sink);
        }
        Ok(())
    }
}
