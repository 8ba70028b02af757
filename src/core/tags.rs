//! Names under which entries can be removed together.
//!
//! A membership is one tag of one entry. It stands in two lists: that of its tag's members, linked
//! both ways so that it can be taken out of the middle, and that of its entry's tags, which are
//! always given up together.
//!
//! Invariant: a tag is known as long as it has a member, and every membership stands in exactly one
//! list of each kind.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::sync::Arc;

use slab::Slab;

use crate::column::Column;
use crate::slot::Slot;

#[derive(Clone, Debug)]
struct Membership {
    slot: Slot,
    tag: usize,
    /// The same entry's next.
    next_of_entry: Option<usize>,
    /// The same tag's neighbours.
    before: Option<usize>,
    after: Option<usize>,
}

#[derive(Clone, Debug)]
struct Tag {
    name: Arc<str>,
    first: usize,
    members: usize,
}

/// Which entries have which tags.
#[derive(Clone, Debug)]
pub(crate) struct Tags {
    /// The first membership of each entry, plus one; 0 for none.
    first_of_entry: Column<usize>,
    memberships: Slab<Membership>,
    named: Slab<Tag>,
    by_name: HashMap<Arc<str>, usize, RandomState>,
}

impl Tags {
    pub(crate) fn new() -> Self {
        Self {
            first_of_entry: Column::new(0),
            memberships: Slab::new(),
            named: Slab::new(),
            by_name: HashMap::default(),
        }
    }

    fn first(&self, slot: Slot) -> Option<usize> {
        self.first_of_entry.get(slot).checked_sub(1)
    }

    /// Gives an entry that has no tags some; a name that comes twice counts once. O(tags²), for few.
    pub(crate) fn add(&mut self, slot: Slot, names: &[Arc<str>]) {
        debug_assert!(self.first(slot).is_none());
        for (at, name) in names.iter().enumerate() {
            if !names[..at].contains(name) {
                self.add_one(slot, name);
            }
        }
    }

    fn add_one(&mut self, slot: Slot, name: &Arc<str>) {
        let known = self.by_name.get(name).copied();
        let after = known.map(|tag| self.named[tag].first);
        let next_of_entry = self.first(slot);
        let entry = self.memberships.vacant_entry();
        let at = entry.key();
        let tag = match known {
            Some(tag) => {
                let members = &mut self.named[tag];
                (members.first, members.members) = (at, members.members + 1);
                tag
            }
            None => {
                let tag = self.named.insert(Tag { name: Arc::clone(name), first: at, members: 1 });
                self.by_name.insert(Arc::clone(name), tag);
                tag
            }
        };
        entry.insert(Membership { slot, tag, next_of_entry, before: None, after });
        if let Some(after) = after {
            self.memberships[after].before = Some(at);
        }
        self.first_of_entry.set(slot, at + 1);
    }

    /// Takes all tags from an entry. O(tags).
    pub(crate) fn remove(&mut self, slot: Slot) {
        let mut next = self.first(slot);
        if next.is_some() {
            self.first_of_entry.set(slot, 0);
        }
        while let Some(at) = next {
            let membership = self.memberships.remove(at);
            next = membership.next_of_entry;
            self.unlink(&membership);
        }
    }

    fn unlink(&mut self, membership: &Membership) {
        if let Some(after) = membership.after {
            self.memberships[after].before = membership.before;
        }
        let tag = &mut self.named[membership.tag];
        tag.members -= 1;
        match (membership.before, membership.after) {
            (Some(before), after) => self.memberships[before].after = after,
            (None, Some(after)) => tag.first = after,
            (None, None) => {
                let tag = self.named.remove(membership.tag);
                self.by_name.remove(&tag.name);
            }
        }
    }

    /// One entry that has the tag, if there is any. O(1).
    pub(crate) fn member(&self, name: &str) -> Option<Slot> {
        let tag = *self.by_name.get(name)?;
        Some(self.memberships[self.named[tag].first].slot)
    }

    /// An entry's tags.
    pub(crate) fn of(&self, slot: Slot) -> impl Iterator<Item = &Arc<str>> {
        let memberships = std::iter::successors(self.first(slot), |&at| self.memberships[at].next_of_entry);
        memberships.map(|at| &self.named[self.memberships[at].tag].name)
    }

    pub(crate) fn allocated_bytes(&self) -> usize {
        self.first_of_entry.allocated_bytes()
            + self.memberships.capacity() * size_of::<Membership>()
            + self.named.capacity() * size_of::<Tag>()
            + self.by_name.capacity() * size_of::<(Arc<str>, usize)>()
            + self.by_name.keys().map(|name| name.len() + 2 * size_of::<usize>()).sum::<usize>()
    }

    /// Recounts everything; `present` are the slots of all entries.
    pub(crate) fn check(&self, present: impl Iterator<Item = Slot>) -> Result<(), String> {
        let of_entries: usize = present.map(|slot| self.of(slot).count()).sum();
        let of_tags: usize = self.named.iter().map(|(_, tag)| tag.members).sum();
        if of_entries != self.memberships.len() || of_tags != self.memberships.len() {
            return Err(format!(
                "entries have {of_entries} tags and tags {of_tags} entries, of {} memberships",
                self.memberships.len()
            ));
        }
        for (tag, Tag { name, first, members }) in &self.named {
            let listed = std::iter::successors(Some(*first), |&at| self.memberships[at].after);
            if listed.take(members + 1).count() != *members || self.by_name.get(name) != Some(&tag) {
                return Err(format!("the list of the tag {name:?} is damaged"));
            }
        }
        Ok(())
    }
}
