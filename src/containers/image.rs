//! The image of a store: its entries as bytes, for snapshots.

use std::sync::Arc;

use crate::container::Container;
pub use crate::encoding::Times;
use crate::encoding::{NEVER, Reader, Writer};
use crate::kind::{Cell, Kind};
use crate::value::{Held, Value};

/// One entry of a store.
#[derive(Clone, Debug)]
pub struct ImageEntry<V> {
    /// Its namespace.
    pub namespace: Arc<[u8]>,
    /// Its key.
    pub key: Box<[u8]>,
    /// Its value.
    pub value: Value<V>,
    /// When it expires, on the store's clock, in microseconds.
    pub deadline: Option<u64>,
}

/// The bytes are not those of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

impl<V: Held> ImageEntry<V> {
    /// The same entry, with its value converted to a cell, so that writing it runs no code of the caller.
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

/// Stands for the caller's form of values where there is none.
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

    /// Reads an entry: `Some(None)` if it has expired, `None` if it is damaged.
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

/// Encodes entries in blocks of about `size` bytes. An entry is never divided.
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
