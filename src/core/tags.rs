//! Tags: names that entries share, so that they can be removed together.
//!
//! A *membership* says that one entry has one tag. It is in two lists. The list of its tag is doubly linked,
//! so that an entry can be removed without a search. The list of its entry is singly linked, since all
//! memberships of an entry end at once. Each name is kept once, for as long as it has members. A store has
//! this structure only once an entry was given a tag. It grows in pieces, like the store itself.
//!
//! Invariants: every membership is in the list of its tag and in that of its entry; an entry has at most one
//! membership of each tag; a tag has at least one membership.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::iter;

use crate::arena::Arena;
use crate::column::Column;
use crate::index::{Index, short};
use crate::list::{Links, List};
use crate::memory::{OutOfMemory, TryClone, copied_str};
use crate::slot::Slot;

/// The slot of a tag in the arena, valid while the tag has members.
pub(crate) type TagId = Slot;

/// The slot of a membership in its arena.
type MembershipId = Slot;

#[derive(Debug)]
struct Tag {
    name: Box<str>,
    hash: u32,
    /// The first to join is the first in the list.
    members: List,
    len: u32,
}

/// One entry has one tag.
#[derive(Clone, Copy, Debug)]
struct Membership {
    slot: Slot,
    tag: TagId,
    /// The next of the same entry.
    sibling: MembershipId,
}

/// The first of the memberships that were made for an entry which is not stored yet.
#[derive(Debug)]
#[must_use]
pub(crate) struct Prepared(MembershipId);

#[derive(Debug)]
pub(crate) struct Tags {
    /// Names may come from an attacker, so their hashes are keyed with a random secret.
    hasher: RandomState,
    index: Index,
    interned: Arena<Tag>,
    name_bytes: usize,
    memberships: Arena<Membership>,
    links: Column<Links>,
    /// The first membership of each entry.
    first: Column<MembershipId>,
}

impl Tags {
    pub(crate) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            index: Index::new(0),
            interned: Arena::new(0),
            name_bytes: 0,
            memberships: Arena::new(0),
            links: Column::new(0),
            first: Column::new(0),
        }
    }

    /// Whether there are slots for `more` memberships.
    pub(crate) fn have_room(&self, more: usize) -> bool {
        more < Slot::LIMIT - self.memberships.len()
    }

    /// The tag of this name, if any entry has it. O(1).
    pub(crate) fn find(&self, name: &str) -> Option<TagId> {
        self.find_hashed(short(self.hasher.hash_one(name)), name)
    }

    fn find_hashed(&self, hash: u32, name: &str) -> Option<TagId> {
        self.index.find(hash, |id| {
            let tag = self.interned.get(id);
            tag.hash == hash && *tag.name == *name
        })
    }

    /// The number of entries that have a tag.
    pub(crate) fn len(&self, id: TagId) -> usize {
        self.interned.get(id).len as usize
    }

    /// The entry that has had a tag for longest.
    pub(crate) fn oldest(&self, id: TagId) -> Option<Slot> {
        Some(self.memberships.get(self.interned.get(id).members.front()?).slot)
    }

    /// The names of an entry's tags, in the order in which they were given.
    pub(crate) fn of(&self, slot: Slot) -> impl Iterator<Item = &str> {
        self.memberships_of(slot).map(|id| &*self.interned.get(self.memberships.get(id).tag).name)
    }

    fn memberships_of(&self, slot: Slot) -> impl Iterator<Item = MembershipId> {
        iter::successors(self.first.get(slot).some(), |&id| self.memberships.get(id).sibling.some())
    }

    /// Makes memberships for [`join`](Self::join), which then cannot fail, and returns the first of them.
    /// O(1) for each name. A name that is given twice counts once.
    pub(crate) fn try_prepare(
        &mut self,
        slot: Slot,
        names: &[impl AsRef<str>],
    ) -> Result<Prepared, OutOfMemory> {
        self.first.try_reserve(slot)?;
        let (mut first, mut last) = (MembershipId::NIL, MembershipId::NIL);
        for name in names {
            match self.try_prepare_one(name.as_ref()) {
                Ok(None) => {}
                Ok(Some(id)) => {
                    match last.some() {
                        Some(last) => self.memberships.get_mut(last).sibling = id,
                        None => first = id,
                    }
                    last = id;
                }
                Err(error) => {
                    self.end(first);
                    return Err(error);
                }
            }
        }
        Ok(Prepared(first))
    }

    /// A membership without an entry; `None` if this call was given the same name before.
    fn try_prepare_one(&mut self, name: &str) -> Result<Option<MembershipId>, OutOfMemory> {
        let id = self.memberships.try_claim()?;
        let tag = match self.links.try_reserve(id).and_then(|()| self.try_intern(name)) {
            Ok(tag) => tag,
            Err(error) => {
                self.memberships.give_back(id);
                return Err(error);
            }
        };
        // If this call was given the name before, the last member of the tag is still without an entry.
        let back = self.interned.get(tag).members.back();
        if back.is_some_and(|back| self.memberships.get(back).slot == Slot::NIL) {
            self.memberships.give_back(id);
            return Ok(None);
        }
        self.memberships.fill(id, Membership { slot: Slot::NIL, tag, sibling: MembershipId::NIL });
        let tag = self.interned.get_mut(tag);
        tag.members.push_back(&mut self.links, id);
        tag.len += 1;
        Ok(Some(id))
    }

    /// Gives an entry the tags that were prepared instead of those it has. O(1) for each.
    pub(crate) fn join(&mut self, slot: Slot, Prepared(first): Prepared) {
        self.clear(slot);
        self.first.set(slot, first);
        let mut at = first;
        while let Some(id) = at.some() {
            let membership = self.memberships.get_mut(id);
            membership.slot = slot;
            at = membership.sibling;
        }
    }

    /// Undoes what was prepared.
    pub(crate) fn give_back(&mut self, Prepared(first): Prepared) {
        self.end(first);
    }

    /// The tag of this name, which is made if it does not exist. The caller adds a member to it.
    fn try_intern(&mut self, name: &str) -> Result<TagId, OutOfMemory> {
        let hash = short(self.hasher.hash_one(name));
        if let Some(id) = self.find_hashed(hash, name) {
            return Ok(id);
        }
        let interned = &self.interned;
        self.index.try_reserve(hash, |moved| interned.get(moved).hash)?;
        let name = copied_str(name)?;
        let id = self.interned.try_claim()?;
        self.name_bytes += name.len();
        self.interned.fill(id, Tag { name, hash, members: List::default(), len: 0 });
        self.index.insert(hash, id);
        Ok(id)
    }

    /// Takes all tags from an entry. O(1) for each.
    pub(crate) fn clear(&mut self, slot: Slot) {
        if let Some(first) = self.first.get(slot).some() {
            self.first.set(slot, MembershipId::NIL);
            self.end(first);
        }
    }

    /// Ends the memberships of an entry, from the first one on.
    fn end(&mut self, first: MembershipId) {
        let mut at = first;
        while let Some(id) = at.some() {
            let Membership { tag: of, sibling, .. } = self.memberships.remove(id);
            at = sibling;
            let tag = self.interned.get_mut(of);
            tag.members.unlink(&mut self.links, id);
            tag.len -= 1;
            if tag.len == 0 {
                let tag = self.interned.remove(of);
                self.index.remove(tag.hash, of);
                self.name_bytes -= tag.name.len();
            }
        }
    }

    /// Bytes allocated, names included.
    pub(crate) fn allocated_bytes(&self) -> usize {
        size_of::<Self>()
            + self.index.allocated_bytes()
            + self.interned.allocated_bytes()
            + self.name_bytes
            + self.memberships.allocated_bytes()
            + self.links.allocated_bytes()
            + self.first.allocated_bytes()
    }

    /// Recounts all memberships. `slots` must be the slots of all entries.
    pub(crate) fn check(&self, slots: impl Iterator<Item = Slot>) -> Result<(), String> {
        let len = self.memberships.len();
        let mut of_entries = 0;
        for slot in slots {
            let mut seen = Vec::new();
            for id in self.memberships_of(slot) {
                let Some(membership) = self.memberships.try_get(id) else {
                    return Err(format!("{slot:?} has a membership that has ended"));
                };
                if membership.slot != slot || seen.contains(&membership.tag) {
                    return Err(format!("a membership of {slot:?} is another's, or there twice"));
                }
                seen.push(membership.tag);
            }
            of_entries += seen.len();
        }
        let (mut of_tags, mut name_bytes) = (0, 0);
        for (id, tag) in self.interned.iter() {
            if self.find(&tag.name) != Some(id) {
                return Err(format!("the tag {:?} is not in the index", tag.name));
            }
            let count = tag.members.count(&self.links, len);
            if tag.len == 0 || count != Some(tag.len as usize) {
                return Err(format!("the tag {:?} has {count:?} members, {} counted", tag.name, tag.len));
            }
            let members = iter::successors(tag.members.front(), |&at| List::next(&self.links, at));
            if members.map(|at| self.memberships.get(at)).any(|membership| membership.tag != id) {
                return Err(format!("a member of the tag {:?} is another's", tag.name));
            }
            of_tags += tag.len as usize;
            name_bytes += tag.name.len();
        }
        if of_entries != len || of_tags != len {
            return Err(format!("{len} memberships, {of_entries} of entries, {of_tags} of tags"));
        }
        if self.interned.len() != self.index.len() || name_bytes != self.name_bytes {
            return Err(format!("{} tags, {} in the index", self.interned.len(), self.index.len()));
        }
        Ok(())
    }
}

impl TryClone for Tag {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        Ok(Self { name: copied_str(&self.name)?, hash: self.hash, members: self.members, len: self.len })
    }
}

impl TryClone for Tags {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        Ok(Self {
            hasher: self.hasher.clone(),
            index: self.index.try_clone()?,
            interned: self.interned.try_map(Tag::try_clone)?,
            name_bytes: self.name_bytes,
            memberships: self.memberships.try_map(|&membership| Ok(membership))?,
            links: self.links.try_clone()?,
            first: self.first.try_clone()?,
        })
    }
}
