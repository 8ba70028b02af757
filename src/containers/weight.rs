//! Estimates how many bytes something takes in memory.

/// The bytes of an element besides its own: its place in the container, and the overhead of the allocator.
const ELEMENT: u64 = 48;

/// The bytes of a key besides its own and those of its value: its entry, and its places in the tables.
pub(crate) const ENTRY: u64 = 160;

/// A length as a number of bytes.
pub(crate) fn bytes(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// The bytes of one element.
pub(crate) fn cell(cell: &[u8]) -> u64 {
    ELEMENT + bytes(cell.len())
}

/// The bytes of several elements.
pub(crate) fn cells<'a>(cells: impl IntoIterator<Item = &'a Vec<u8>>) -> u64 {
    cells.into_iter().map(|one| cell(one)).sum()
}
