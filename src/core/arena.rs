//! The slab of nodes, grown piece by piece so that no single insertion copies what is stored.
//!
//! A bounded store gets one slab of its bound, and every access is one bounds check. Past that
//! size, and in an unbounded store, entries go to further slabs of [`PIECE`] nodes each.
//!
//! Invariant: `vacant` names exactly the pieces of `tail` that have room.

use slab::Slab;

use crate::slot::Slot;

/// Nodes in a piece of the tail.
const PIECE: usize = 1 << 13;

#[derive(Clone, Debug)]
pub(crate) struct Arena<T> {
    head: Slab<T>,
    head_capacity: usize,
    tail: Vec<Slab<T>>,
    vacant: Vec<usize>,
    len: usize,
}

impl<T> Arena<T> {
    /// An arena whose first `capacity` nodes are contiguous; 0 asks for growth in pieces only.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            head: Slab::with_capacity(capacity),
            head_capacity: if capacity == 0 { PIECE } else { capacity },
            tail: Vec::new(),
            vacant: Vec::new(),
            len: 0,
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes allocated for nodes.
    pub(crate) fn allocated_bytes(&self) -> usize {
        let nodes: usize = self.head.capacity() + self.tail.iter().map(Slab::capacity).sum::<usize>();
        // A node and the word in which the slab keeps its free list share their memory where the
        // type has a niche, so this is exact there and an underestimate of a word elsewhere.
        nodes * size_of::<Option<T>>()
            + self.tail.capacity() * size_of::<Slab<T>>()
            + self.vacant.capacity() * size_of::<usize>()
    }

    #[inline]
    pub(crate) fn insert(&mut self, node: T) -> Slot {
        self.len += 1;
        if self.head.len() < self.head_capacity {
            return Slot::new(self.head.insert(node));
        }
        self.insert_in_tail(node)
    }

    fn insert_in_tail(&mut self, node: T) -> Slot {
        let piece = match self.vacant.last() {
            Some(&piece) => piece,
            None => {
                self.tail.push(Slab::with_capacity(PIECE));
                self.vacant.push(self.tail.len() - 1);
                self.tail.len() - 1
            }
        };
        let index = self.tail[piece].insert(node);
        if self.tail[piece].len() == PIECE {
            self.vacant.pop();
        }
        Slot::new(self.head_capacity + piece * PIECE + index)
    }

    #[inline]
    pub(crate) fn remove(&mut self, slot: Slot) -> T {
        self.len -= 1;
        match self.head.try_remove(slot.index()) {
            Some(node) => node,
            None => self.remove_from_tail(slot),
        }
    }

    fn remove_from_tail(&mut self, slot: Slot) -> T {
        let (piece, index) = self.place(slot);
        if self.tail[piece].len() == PIECE {
            self.vacant.push(piece);
        }
        self.tail[piece].remove(index)
    }

    #[inline]
    fn place(&self, slot: Slot) -> (usize, usize) {
        let beyond = slot.index() - self.head_capacity;
        (beyond / PIECE, beyond % PIECE)
    }

    #[inline(always)]
    pub(crate) fn get(&self, slot: Slot) -> &T {
        match self.head.get(slot.index()) {
            Some(node) => node,
            None => self.get_in_tail(slot),
        }
    }

    #[inline(never)]
    fn get_in_tail(&self, slot: Slot) -> &T {
        let (piece, index) = self.place(slot);
        &self.tail[piece][index]
    }

    /// `None` where no entry has this slot.
    pub(crate) fn try_get(&self, slot: Slot) -> Option<&T> {
        if slot.index() < self.head_capacity {
            return self.head.get(slot.index());
        }
        let (piece, index) = self.place(slot);
        self.tail.get(piece)?.get(index)
    }

    #[inline(always)]
    pub(crate) fn get_mut(&mut self, slot: Slot) -> &mut T {
        if slot.index() < self.head_capacity {
            return &mut self.head[slot.index()];
        }
        self.get_mut_in_tail(slot)
    }

    #[inline(never)]
    fn get_mut_in_tail(&mut self, slot: Slot) -> &mut T {
        let (piece, index) = self.place(slot);
        &mut self.tail[piece][index]
    }

    /// Every node, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &T)> {
        let head = self.head.iter().map(|(index, node)| (Slot::new(index), node));
        let tail = self.tail.iter().enumerate().flat_map(move |(piece, slab)| {
            slab.iter()
                .map(move |(index, node)| (Slot::new(self.head_capacity + piece * PIECE + index), node))
        });
        head.chain(tail)
    }

    /// Every node by value, in no particular order.
    pub(crate) fn into_nodes(self) -> impl Iterator<Item = T> {
        self.head
            .into_iter()
            .map(|(_, node)| node)
            .chain(self.tail.into_iter().flatten().map(|(_, node)| node))
    }

    /// The same arena, slot by slot, with every node mapped.
    pub(crate) fn map<U>(&self, mut convert: impl FnMut(&T) -> U) -> Arena<U> {
        let mut convert_slab =
            |slab: &Slab<T>| slab.iter().map(|(index, node)| (index, convert(node))).collect();
        Arena {
            head: convert_slab(&self.head),
            head_capacity: self.head_capacity,
            tail: self.tail.iter().map(convert_slab).collect(),
            vacant: self.vacant.clone(),
            len: self.len,
        }
    }
}
