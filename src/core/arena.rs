//! The slab of nodes. It grows with what is stored, so that no single insertion copies much of it.
//!
//! The first nodes, up to the capacity given to [`Arena::new`], are in one piece of memory, which doubles as
//! it fills; an access to them is one bounds check. That is all nodes of a store with a small bound. Further
//! nodes go to pieces of [`PIECE`] nodes each.
//!
//! Invariant: the list of vacant slots, `vacant`, holds every slot below `slots` that is neither taken nor
//! claimed.

use crate::memory::{OutOfMemory, TryBox, grown};
use crate::slot::Slot;

/// Nodes in a piece of the tail.
const PIECE: usize = 1 << 13;

#[derive(Debug)]
enum Place<T> {
    Taken(T),
    /// The next vacant slot.
    Vacant(Slot),
}

type Pieces<T> = Vec<Vec<Place<T>>>;

#[derive(Debug)]
pub(crate) struct Arena<T> {
    head: Vec<Place<T>>,
    /// Made with the first piece.
    tail: Option<TryBox<Pieces<T>>>,
    /// The most nodes of the head.
    contiguous: u32,
    /// The first of the vacant slots, which is claimed next.
    vacant: Slot,
    len: usize,
}

impl<T> Arena<T> {
    /// An empty arena, whose first `capacity` nodes will be contiguous; 0 asks for pieces only. Allocates nothing.
    pub(crate) fn new(capacity: usize) -> Self {
        let contiguous = if capacity == 0 { PIECE } else { capacity };
        let contiguous = u32::try_from(contiguous).unwrap_or(u32::MAX);
        Self { head: Vec::new(), tail: None, contiguous, vacant: Slot::NIL, len: 0 }
    }

    /// The most nodes of the head.
    #[inline(always)]
    fn contiguous(&self) -> usize {
        self.contiguous as usize
    }

    fn pieces(&self) -> &[Vec<Place<T>>] {
        self.tail.as_ref().map_or(&[], |tail| tail)
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes allocated for nodes.
    pub(crate) fn allocated_bytes(&self) -> usize {
        let nodes: usize = self.head.capacity() + self.pieces().iter().map(Vec::capacity).sum::<usize>();
        let of_tail =
            |tail: &TryBox<Pieces<T>>| size_of::<Pieces<T>>() + tail.capacity() * size_of::<Vec<Place<T>>>();
        nodes * size_of::<Place<T>>() + self.tail.as_ref().map_or(0, of_tail)
    }

    /// Takes a slot out of the vacant ones, for [`fill`](Self::fill) or [`give_back`](Self::give_back). O(1).
    #[inline]
    pub(crate) fn try_claim(&mut self) -> Result<Slot, OutOfMemory> {
        let Some(slot) = self.vacant.some() else { return self.claim_new() };
        if let Place::Vacant(next) = *self.place_mut(slot) {
            self.vacant = next;
        }
        Ok(slot)
    }

    fn claim_new(&mut self) -> Result<Slot, OutOfMemory> {
        if self.head.len() + self.pieces().len().saturating_sub(1) * PIECE >= Slot::LIMIT - PIECE {
            // The last slots cannot be told from the end of a list.
            return Err(OutOfMemory);
        }
        let contiguous = self.contiguous();
        if self.head.len() < contiguous {
            if self.head.len() == self.head.capacity() {
                let wanted = grown(self.head.capacity(), self.head.len() + 1, contiguous);
                self.head.try_reserve_exact(wanted - self.head.len())?;
            }
            self.head.push(Place::Vacant(Slot::NIL));
            return Ok(Slot::new(self.head.len() - 1));
        }
        let tail = match &mut self.tail {
            Some(tail) => tail,
            none => none.insert(TryBox::new(Pieces::new())?),
        };
        if tail.last().is_none_or(|piece| piece.len() == PIECE) {
            tail.try_reserve(1)?;
            tail.push(Vec::new());
        }
        let before = contiguous + (tail.len() - 1) * PIECE;
        let piece = tail.last_mut().ok_or(OutOfMemory)?;
        if piece.len() == piece.capacity() {
            // As many as there are already, up to a whole piece, so that only the first pieces are ever
            // copied.
            let wanted = grown(piece.capacity(), before + piece.len() + 1, PIECE);
            piece.try_reserve_exact(wanted - piece.len())?;
        }
        piece.push(Place::Vacant(Slot::NIL));
        Ok(Slot::new(before + piece.len() - 1))
    }

    /// Puts a node into a slot that was claimed. O(1).
    #[inline]
    pub(crate) fn fill(&mut self, slot: Slot, node: T) {
        self.len += 1;
        // Nothing is dropped, since the place was vacant.
        std::mem::forget(std::mem::replace(self.place_mut(slot), Place::Taken(node)));
    }

    /// Gives back a slot that was claimed and not filled.
    pub(crate) fn give_back(&mut self, slot: Slot) {
        let vacated = Place::Vacant(self.vacant);
        std::mem::forget(std::mem::replace(self.place_mut(slot), vacated));
        self.vacant = slot;
    }

    #[inline]
    pub(crate) fn remove(&mut self, slot: Slot) -> T {
        let vacated = Place::Vacant(self.vacant);
        match std::mem::replace(self.place_mut(slot), vacated) {
            Place::Taken(node) => {
                self.vacant = slot;
                self.len -= 1;
                node
            }
            Place::Vacant(_) => unreachable!("no node is at {slot:?}"),
        }
    }

    #[inline]
    fn in_tail(&self, slot: Slot) -> (usize, usize) {
        let beyond = slot.index() - self.contiguous();
        (beyond / PIECE, beyond % PIECE)
    }

    #[inline(always)]
    fn place_mut(&mut self, slot: Slot) -> &mut Place<T> {
        if slot.index() < self.contiguous() {
            return &mut self.head[slot.index()];
        }
        self.place_mut_in_tail(slot)
    }

    #[inline(never)]
    fn place_mut_in_tail(&mut self, slot: Slot) -> &mut Place<T> {
        let (piece, index) = self.in_tail(slot);
        match &mut self.tail {
            Some(tail) => &mut tail[piece][index],
            None => unreachable!("there is no {slot:?}"),
        }
    }

    #[inline(always)]
    pub(crate) fn get(&self, slot: Slot) -> &T {
        match self.head.get(slot.index()) {
            Some(Place::Taken(node)) => node,
            _ => self.get_in_tail(slot),
        }
    }

    #[inline(never)]
    fn get_in_tail(&self, slot: Slot) -> &T {
        if slot.index() >= self.contiguous() {
            let (piece, index) = self.in_tail(slot);
            if let Place::Taken(node) = &self.pieces()[piece][index] {
                return node;
            }
        }
        unreachable!("no node is at {slot:?}")
    }

    /// `None` where no entry has this slot.
    #[inline(always)]
    pub(crate) fn try_get(&self, slot: Slot) -> Option<&T> {
        match self.head.get(slot.index()) {
            Some(Place::Taken(node)) => Some(node),
            Some(Place::Vacant(_)) => None,
            None => self.try_get_in_tail(slot),
        }
    }

    #[inline(never)]
    fn try_get_in_tail(&self, slot: Slot) -> Option<&T> {
        if slot.index() < self.contiguous() {
            return None;
        }
        let (piece, index) = self.in_tail(slot);
        match self.pieces().get(piece)?.get(index)? {
            Place::Taken(node) => Some(node),
            Place::Vacant(_) => None,
        }
    }

    #[inline(always)]
    pub(crate) fn get_mut(&mut self, slot: Slot) -> &mut T {
        match self.place_mut(slot) {
            Place::Taken(node) => node,
            Place::Vacant(_) => unreachable!("no node is at {slot:?}"),
        }
    }

    fn places(&self) -> impl Iterator<Item = &Place<T>> {
        self.head.iter().chain(self.pieces().iter().flatten())
    }

    /// Every node, in the order of slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &T)> {
        // The head is full where there is a tail, so places are in the order of slots.
        self.places().enumerate().filter_map(|(index, place)| match place {
            Place::Taken(node) => Some((Slot::new(index), node)),
            Place::Vacant(_) => None,
        })
    }

    /// Every node by value, in the order of slots.
    pub(crate) fn into_nodes(mut self) -> impl Iterator<Item = T> {
        let tail = self.tail.as_mut().map(|tail| std::mem::take(&mut **tail));
        self.head.into_iter().chain(tail.into_iter().flatten().flatten()).filter_map(|place| match place {
            Place::Taken(node) => Some(node),
            Place::Vacant(_) => None,
        })
    }

    /// The same arena, slot by slot, with every node mapped.
    pub(crate) fn try_map<U>(
        &self,
        mut convert: impl FnMut(&T) -> Result<U, OutOfMemory>,
    ) -> Result<Arena<U>, OutOfMemory> {
        let mut convert_piece = |piece: &Vec<Place<T>>, capacity: usize| {
            let mut converted = Vec::new();
            converted.try_reserve_exact(capacity)?;
            for place in piece {
                converted.push(match place {
                    Place::Taken(node) => Place::Taken(convert(node)?),
                    Place::Vacant(next) => Place::Vacant(*next),
                });
            }
            Ok::<_, OutOfMemory>(converted)
        };
        let head = convert_piece(&self.head, self.head.len())?;
        let mut tail = None;
        if let Some(pieces) = &self.tail {
            let mut converted = Pieces::new();
            converted.try_reserve_exact(pieces.len())?;
            for piece in pieces.iter() {
                converted.push(convert_piece(piece, piece.len())?);
            }
            tail = Some(TryBox::new(converted)?);
        }
        Ok(Arena { head, tail, contiguous: self.contiguous, vacant: self.vacant, len: self.len })
    }

    /// Counts the vacant slots.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (mut vacant, mut at) = (0, self.vacant);
        let slots = self.places().count();
        while let Some(slot) = at.some() {
            let place = if slot.index() < self.contiguous() {
                self.head.get(slot.index())
            } else {
                let (piece, index) = self.in_tail(slot);
                self.pieces().get(piece).and_then(|piece| piece.get(index))
            };
            let Some(Place::Vacant(next)) = place else { return Err(format!("{slot:?} is not vacant")) };
            (vacant, at) = (vacant + 1, *next);
            if vacant > slots {
                return Err("the vacant slots go round in a circle".into());
            }
        }
        if vacant + self.len == slots {
            return Ok(());
        }
        Err(format!("{vacant} vacant slots and {} nodes, of {slots}", self.len))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    #[test]
    fn a_vacant_place_takes_no_memory_of_its_own() {
        struct Node(NonZeroUsize, NonZeroUsize);
        assert_eq!(size_of::<Place<Node>>(), size_of::<Node>());
        let Node(one, other) = Node(NonZeroUsize::MIN, NonZeroUsize::MIN);
        assert_eq!(one, other);
    }

    #[test]
    fn grows_with_what_is_in_it() {
        let mut arena = Arena::<u64>::new(1 << 20);
        assert_eq!(arena.allocated_bytes(), 0);
        for at in 0..100_u64 {
            let slot = arena.try_claim().expect("there is memory");
            assert_eq!(slot.index() as u64, at);
            arena.fill(slot, at);
        }
        assert!(arena.allocated_bytes() <= 2 * 100 * size_of::<Place<u64>>());
        let claimed = arena.try_claim().expect("there is memory");
        arena.give_back(claimed);
        arena.remove(Slot::new(3));
        assert_eq!(arena.try_claim(), Ok(Slot::new(3)));
        arena.fill(Slot::new(3), 3);
        assert_eq!(arena.check(), Ok(()));
        assert!(arena.iter().all(|(slot, &node)| slot.index() as u64 == node));
    }
}
