//! Encodes a store as bytes, and decodes it.
//!
//! Numbers are little-endian. Anything of variable length begins with its length. Times are since 1970, since
//! a store's own clock means nothing to another process. A reader allocates memory only for bytes that exist,
//! never for a length that is claimed.

use crate::kind::Cell;

/// The same moment on a store's clock and on the wall's, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// On the store's clock.
    pub clock: u64,
    /// Since 1970.
    pub wall: u64,
}

/// Stands for "never" where a time is written.
pub(crate) const NEVER: u64 = u64::MAX;

pub(crate) struct Writer<'a> {
    pub(crate) bytes: &'a mut Vec<u8>,
    pub(crate) times: Times,
}

impl Writer<'_> {
    pub(crate) fn number(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    pub(crate) fn signed(&mut self, number: i64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    pub(crate) fn len(&mut self, len: usize) {
        self.number(u64::try_from(len).unwrap_or(u64::MAX));
    }

    pub(crate) fn cell(&mut self, cell: &[u8]) {
        self.len(cell.len());
        self.bytes.extend_from_slice(cell);
    }

    /// Writes a time of the store's clock.
    pub(crate) fn time(&mut self, clock: u64) {
        let wall = self.times.wall.saturating_add(clock.saturating_sub(self.times.clock));
        self.number(wall.min(NEVER - 1));
    }
}

pub(crate) struct Reader<'a> {
    pub(crate) rest: &'a [u8],
    pub(crate) times: Times,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(crate) fn signed(&mut self) -> Option<i64> {
        Some(i64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    /// Reads a number of elements, each of which takes at least one byte.
    pub(crate) fn several<T, C: FromIterator<T>>(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<C> {
        let count = usize::try_from(self.number()?).ok().filter(|count| *count <= self.rest.len())?;
        (0..count).map(|_| one(self)).collect()
    }

    pub(crate) fn slice(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        self.take(len)
    }

    pub(crate) fn cell(&mut self) -> Option<Cell> {
        self.slice().map(<[u8]>::to_vec)
    }

    /// Reads a time, as one of this store's clock; a past time becomes now.
    pub(crate) fn time(&mut self) -> Option<u64> {
        let wall = self.number()?;
        Some(self.times.clock.saturating_add(wall.saturating_sub(self.times.wall)))
    }
}
