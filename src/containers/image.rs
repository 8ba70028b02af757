//! The image of a store: its entries as bytes, for snapshots.
//!
//! Numbers are little-endian, and everything whose length varies begins with that. Times are absolute: what a store's clock
//! says is nothing to another process. A reader never takes memory for what a length claims, only for bytes that are there.

use std::sync::Arc;

use crate::container::Container;
use crate::memory::{Held, Value};
use crate::operation::{Cell, Kind};

/// The same moment on a store's clock and on the wall's, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// On the store's clock.
    pub clock: u64,
    /// Since 1970.
    pub wall: u64,
}

/// Stands for "never" where a time is written.
const NEVER: u64 = u64::MAX;

/// One entry of a store.
#[derive(Clone, Debug)]
pub struct ImageEntry<V> {
    /// Its namespace.
    pub namespace: Arc<[u8]>,
    /// Its key.
    pub key: Box<[u8]>,
    /// What it holds.
    pub value: Value<V>,
    /// When it expires, on the store's clock, in microseconds.
    pub deadline: Option<u64>,
}

/// The bytes are not those of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

pub(crate) struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
    times: Times,
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

    /// A moment of the store's clock.
    pub(crate) fn time(&mut self, clock: u64) {
        let wall = self.times.wall.saturating_add(clock.saturating_sub(self.times.clock));
        self.number(wall.min(NEVER - 1));
    }
}

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    times: Times,
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

    /// So many elements, each of which takes a byte at least.
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

    /// A moment, on this store's clock; one that is over is now.
    pub(crate) fn time(&mut self) -> Option<u64> {
        let wall = self.number()?;
        Some(self.times.clock.saturating_add(wall.saturating_sub(self.times.wall)))
    }
}

/// A container that has read what another one has written.
pub(crate) fn copied(container: &Container) -> Option<Container> {
    let times = Times { clock: 0, wall: 0 };
    let mut bytes = Vec::new();
    container.write_image(&mut Writer { bytes: &mut bytes, times });
    Container::read_image(container.kind(), &mut Reader { rest: &bytes, times })
}

impl<V: Held> ImageEntry<V> {
    /// The same, with a value that needs no code of the caller's to be written.
    #[must_use]
    pub fn settled(self) -> ImageEntry<Never> {
        let value = match self.value {
            Value::Cell(cell) => Value::Cell(cell),
            Value::Held(held) => Value::Cell(held.cell()),
            Value::Container(container) => Value::Container(container),
        };
        ImageEntry { namespace: self.namespace, key: self.key, value, deadline: self.deadline }
    }
}

/// A form of values that nobody has.
#[derive(Clone, Copy, Debug)]
pub enum Never {}

impl Held for Never {
    fn cell(&self) -> Cell {
        match *self {}
    }

    fn bytes(&self) -> u64 {
        match *self {}
    }
}

impl ImageEntry<Never> {
    fn write(&self, bytes: &mut Vec<u8>, times: Times) {
        let mut writer = Writer { bytes, times };
        writer.cell(&self.namespace);
        writer.cell(&self.key);
        match self.deadline {
            Some(deadline) => writer.time(deadline),
            None => writer.number(NEVER),
        }
        match &self.value {
            Value::Cell(cell) => {
                writer.number(Kind::Scalar as u64);
                writer.cell(cell);
            }
            Value::Held(never) => match *never {},
            Value::Container(container) => {
                writer.number(container.kind() as u64);
                container.write_image(&mut writer);
            }
        }
    }

    /// An entry, or `None` in its place if it has expired.
    #[expect(clippy::option_option, reason = "damaged, or an entry that may have expired")]
    fn read(reader: &mut Reader<'_>) -> Option<Option<Self>> {
        let namespace = reader.slice()?.into();
        let key = reader.slice()?.into();
        let wall = reader.number()?;
        let deadline = (wall != NEVER)
            .then(|| reader.times.clock.saturating_add(wall.saturating_sub(reader.times.wall)));
        let kind = Kind::from_number(i64::try_from(reader.number()?).ok()?)?;
        let value = match Container::empty(kind) {
            None => Value::Cell(reader.cell()?),
            Some(_) => Value::Container(Arc::new(Container::read_image(kind, reader)?)),
        };
        let is_live = wall == NEVER || wall > reader.times.wall;
        Some(is_live.then_some(Self { namespace, key, value, deadline }))
    }
}

/// Entries as bytes, in blocks of about `size`. An entry is never divided.
#[must_use]
pub fn blocks(entries: &[ImageEntry<Never>], times: Times, size: usize) -> Vec<Vec<u8>> {
    let mut blocks = Vec::new();
    let mut block = Vec::new();
    for entry in entries {
        entry.write(&mut block, times);
        if block.len() >= size {
            blocks.push(std::mem::take(&mut block));
        }
    }
    if !block.is_empty() {
        blocks.push(block);
    }
    blocks
}

/// The live entries of a block.
///
/// # Errors
///
/// [`Damaged`].
pub fn entries(block: &[u8], times: Times) -> Result<Vec<ImageEntry<Never>>, Damaged> {
    let mut reader = Reader { rest: block, times };
    let mut entries = Vec::new();
    while !reader.rest.is_empty() {
        entries.extend(ImageEntry::read(&mut reader).ok_or(Damaged)?);
    }
    Ok(entries)
}
