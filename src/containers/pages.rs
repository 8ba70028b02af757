//! Bits in pages. A page exists only if one of its bits was set.

use std::collections::BTreeMap;

use crate::encoding::{Reader, Writer};
use crate::weight;

/// The bytes of a page.
pub const PAGE: usize = 4096;

/// The bits of a page.
pub const PAGE_BITS: u64 = PAGE as u64 * 8;

/// One page.
pub type Page = Box<[u8]>;

/// The page of a bit, its byte in the page, and its mask in the byte.
#[must_use]
pub fn place(bit: u64) -> (u64, usize, u8) {
    let within = bit % PAGE_BITS;
    (bit / PAGE_BITS, usize::try_from(within / 8).unwrap_or(0), 1 << (within % 8))
}

/// The positions of the bits that are set in a page.
pub fn positions(number: u64, page: &[u8]) -> impl Iterator<Item = u64> + '_ {
    (0_u64..).zip(page.iter()).filter(|(_, byte)| **byte != 0).flat_map(move |(at, byte)| {
        (0..8).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| number * PAGE_BITS + at * 8 + bit)
    })
}

/// Bits by number, all of them 0 at first.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    pages: BTreeMap<u64, Page>,
}

impl Pages {
    pub(crate) fn get(&self, bit: u64) -> bool {
        let (page, byte, mask) = place(bit);
        self.pages.get(&page).is_some_and(|page| page[byte] & mask != 0)
    }

    /// Sets a bit and returns what it was.
    pub(crate) fn set(&mut self, bit: u64, value: bool) -> bool {
        let was = self.get(bit);
        if was != value {
            let (page, byte, mask) = place(bit);
            let page = self.pages.entry(page).or_insert_with(|| vec![0; PAGE].into());
            page[byte] ^= mask;
        }
        was
    }

    /// The number of bytes that its pages take.
    pub(crate) fn bytes(&self) -> u64 {
        weight::bytes(self.pages.len()) * weight::bytes(PAGE)
    }

    pub(crate) fn count(&self) -> i64 {
        self.pages.values().flat_map(|page| page.iter()).map(|byte| i64::from(byte.count_ones())).sum()
    }

    pub(crate) fn write_image(&self, writer: &mut Writer<'_>) {
        writer.len(self.pages.len());
        for (number, page) in &self.pages {
            writer.number(*number);
            writer.cell(page);
        }
    }

    pub(crate) fn read_image(reader: &mut Reader<'_>) -> Option<Self> {
        let page = |reader: &mut Reader<'_>| {
            let (number, page) = (reader.number()?, reader.slice()?);
            (page.len() == PAGE).then(|| (number, Page::from(page)))
        };
        Some(Self { pages: reader.several(page)? })
    }

    pub(crate) fn positions(&self) -> Vec<u64> {
        self.pages.iter().flat_map(|(number, page)| positions(*number, page)).collect()
    }
}
