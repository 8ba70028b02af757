//! Maps, and sets.

use std::collections::{BTreeMap, BTreeSet};

use crate::kind::Cell;
use crate::weight;

/// Values by field, in the order of the fields' bytes.
#[derive(Clone, Debug, Default)]
pub struct Map {
    fields: BTreeMap<Cell, Cell>,
    bytes: u64,
}

impl Map {
    /// All of it.
    pub(crate) fn fields(&self) -> &BTreeMap<Cell, Cell> {
        &self.fields
    }

    /// How many bytes its elements take.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Stores a value. Returns whether the field is new.
    pub(crate) fn insert(&mut self, field: Cell, value: Cell) -> bool {
        let added = weight::cell(&value);
        let of_field = weight::cell(&field);
        match self.fields.insert(field, value) {
            Some(old) => {
                self.bytes = self.bytes - weight::cell(&old) + added;
                false
            }
            None => {
                self.bytes += of_field + added;
                true
            }
        }
    }

    /// Removes a field. Returns whether it was present.
    pub(crate) fn remove(&mut self, field: &Cell) -> bool {
        let removed = self.fields.remove(field);
        if let Some(old) = &removed {
            self.bytes -= weight::cell(field) + weight::cell(old);
        }
        removed.is_some()
    }
}

impl FromIterator<(Cell, Cell)> for Map {
    fn from_iter<T: IntoIterator<Item = (Cell, Cell)>>(pairs: T) -> Self {
        let mut map = Self::default();
        for (field, value) in pairs {
            map.insert(field, value);
        }
        map
    }
}

/// Members, in the order of their bytes.
#[derive(Clone, Debug, Default)]
pub struct Set {
    members: BTreeSet<Cell>,
    bytes: u64,
}

impl Set {
    /// All of it.
    pub(crate) fn members(&self) -> &BTreeSet<Cell> {
        &self.members
    }

    /// How many bytes its elements take.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a member. Returns whether it is new.
    pub(crate) fn insert(&mut self, member: Cell) -> bool {
        let added = weight::cell(&member);
        let is_new = self.members.insert(member);
        self.bytes += if is_new { added } else { 0 };
        is_new
    }

    /// Removes a member. Returns whether it was present.
    pub(crate) fn remove(&mut self, member: &Cell) -> bool {
        let was_there = self.members.remove(member);
        self.bytes -= if was_there { weight::cell(member) } else { 0 };
        was_there
    }

    /// Removes the first member.
    pub(crate) fn pop_first(&mut self) -> Option<Cell> {
        let member = self.members.pop_first()?;
        self.bytes -= weight::cell(&member);
        Some(member)
    }
}

impl FromIterator<Cell> for Set {
    fn from_iter<T: IntoIterator<Item = Cell>>(members: T) -> Self {
        let mut set = Self::default();
        for member in members {
            set.insert(member);
        }
        set
    }
}
