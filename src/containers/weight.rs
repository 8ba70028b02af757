//! An estimate of the bytes that something takes in memory. The allocator is not asked.

/// What an element takes besides its own bytes: its place in the container, and what the allocator adds.
const ELEMENT: u64 = 48;

/// What a key takes besides its own bytes and its value: its entry, and its places in the tables.
pub(crate) const ENTRY: u64 = 160;

/// A length as a number of bytes.
pub(crate) fn bytes(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// What one element takes.
pub(crate) fn cell(cell: &[u8]) -> u64 {
    ELEMENT + bytes(cell.len())
}

/// What several elements take.
pub(crate) fn cells<'a>(cells: impl IntoIterator<Item = &'a Vec<u8>>) -> u64 {
    cells.into_iter().map(|one| cell(one)).sum()
}
