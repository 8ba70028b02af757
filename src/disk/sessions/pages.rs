//! Bits and Bloom filters: a row for each page of 4 KiB in which a bit was set.

use flexcache_containers::operation::{Act, Reply};
use flexcache_containers::pages::{PAGE, place};
use rusqlite::{OptionalExtension, params};

use super::head::{Head, signed};
use super::{Asked, Outcome};

impl Asked<'_> {
    fn page(&self, head: &Head, number: u64) -> Outcome<Option<Vec<u8>>> {
        let mut select =
            self.connection.prepare_cached("SELECT v FROM fx_page WHERE id = ?1 AND page = ?2")?;
        Ok(select.query_row((head.id, signed(number)), |row| row.get(0)).optional()?)
    }

    fn bit(&self, head: &Head, bit: u64) -> Outcome<bool> {
        let (page, byte, mask) = place(bit);
        let page = self.page(head, page)?;
        Ok(page.and_then(|page| page.get(byte).copied()).is_some_and(|byte| byte & mask != 0))
    }

    /// Sets a bit and returns what it was.
    fn set_bit(&self, head: &Head, bit: u64, value: bool) -> Outcome<bool> {
        let (number, byte, mask) = place(bit);
        let found = self.page(head, number)?;
        let mut page = found.unwrap_or_default();
        page.resize(PAGE, 0);
        let was = page[byte] & mask != 0;
        if was != value {
            page[byte] ^= mask;
            let mut put = self
                .connection
                .prepare_cached("INSERT OR REPLACE INTO fx_page (id, page, v) VALUES (?1, ?2, ?3)")?;
            put.execute(params![head.id, signed(number), page])?;
        }
        Ok(was)
    }

    pub(super) fn bits(&self, head: &mut Head, act: &Act) -> Outcome<Reply> {
        Ok(match act {
            Act::BitsGet(bit) => Reply::Bool(self.bit(head, *bit)?),
            Act::BitsSet(bit, value) => {
                let was = self.set_bit(head, *bit, *value)?;
                head.n += i64::from(*value) - i64::from(was);
                Reply::Bool(was)
            }
            Act::BitsToggle(bit) => {
                let was = self.bit(head, *bit)?;
                self.set_bit(head, *bit, !was)?;
                head.n += i64::from(!was) - i64::from(was);
                Reply::Bool(!was)
            }
            Act::BloomAdd { items, shape } => {
                head.value = Some(shape.clone());
                let mut added = 0;
                for item in items {
                    let mut is_new = false;
                    for bit in item {
                        is_new |= !self.set_bit(head, *bit, true)?;
                    }
                    added += i64::from(is_new);
                }
                head.n += added;
                Reply::Int(added)
            }
            Act::BloomHas { items, .. } => {
                let mut found = Vec::with_capacity(items.len());
                for item in items {
                    let mut all = true;
                    for bit in item {
                        all = all && self.bit(head, *bit)?;
                    }
                    found.push(all);
                }
                Reply::Bools(found)
            }
            _ => Reply::Int(head.n),
        })
    }
}
