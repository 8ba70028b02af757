//! Lists and queues.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::encoding::{Reader, Writer};
use crate::error::{Error, Result};
use crate::operation::{Act, Cell, Reply, bounds};
use crate::weight;

/// A list or queue: its elements in their order, and the reserved jobs of a queue.
#[derive(Clone, Debug, Default)]
pub struct List {
    pub(crate) items: VecDeque<Cell>,
    /// The position of the first element. Reading in pages continues at a position, even if elements are
    /// added or removed at the ends.
    first: i64,
    /// The reserved jobs by number, each with the end of its reservation.
    reserved: BTreeMap<u64, (u64, Cell)>,
    next_job: u64,
    /// The number of bytes that the elements and the reserved jobs take.
    bytes: u64,
}

/// A length as a reply.
#[must_use]
pub fn length(len: usize) -> Reply {
    Reply::Int(i64::try_from(len).unwrap_or(i64::MAX))
}

/// `count`, limited to `len`.
pub(crate) fn at_most(count: u64, len: usize) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX).min(len)
}

/// The number of the last reserved job, of all queues. A worker may still hold a job of a removed queue, and
/// must not acknowledge a job of the new queue under that key by its number.
static LAST_JOB: AtomicU64 = AtomicU64::new(0);

impl List {
    pub(crate) fn of(items: Vec<Cell>) -> Self {
        Self { bytes: weight::cells(&items), items: items.into(), ..Self::default() }
    }

    pub(crate) fn write_image(&self, writer: &mut Writer<'_>) {
        writer.signed(self.first);
        writer.number(self.next_job);
        writer.len(self.items.len());
        for item in &self.items {
            writer.cell(item);
        }
        writer.len(self.reserved.len());
        for (number, (until, job)) in &self.reserved {
            writer.number(*number);
            writer.time(*until);
            writer.cell(job);
        }
    }

    pub(crate) fn read_image(reader: &mut Reader<'_>) -> Option<Self> {
        let (first, next_job) = (reader.signed()?, reader.number()?);
        let items: VecDeque<Cell> = reader.several(Reader::cell)?;
        let job = |reader: &mut Reader<'_>| Some((reader.number()?, (reader.time()?, reader.cell()?)));
        let reserved: BTreeMap<_, (u64, Cell)> = reader.several(job)?;
        let bytes = weight::cells(&items) + weight::cells(reserved.values().map(|(_, job)| job));
        Some(Self { items, first, reserved, next_job, bytes })
    }

    fn place(&self, index: i64) -> Option<usize> {
        let len = i64::try_from(self.items.len()).unwrap_or(i64::MAX);
        let place = if index < 0 { index.checked_add(len)? } else { index };
        usize::try_from(place).ok().filter(|place| *place < self.items.len())
    }

    fn range(&self, start: i64, stop: i64) -> Vec<Cell> {
        self.items.range(bounds(start, stop, self.items.len())).cloned().collect()
    }

    pub(crate) fn read(&self, act: &Act) -> Reply {
        match act {
            Act::ListAt(index) => Reply::Cell(self.place(*index).map(|place| self.items[place].clone())),
            Act::ListRange(start, stop) => Reply::Cells(self.range(*start, *stop)),
            Act::ListIndex(cell) => {
                let place = self.items.iter().position(|item| item == cell);
                Reply::Place(place.and_then(|place| i64::try_from(place).ok()))
            }
            Act::ListPage { after, count } => {
                let passed =
                    after.map_or(0, |after| after.saturating_add(1).saturating_sub(self.first).max(0));
                let start = usize::try_from(passed).unwrap_or(usize::MAX).min(self.items.len());
                let page = self.items.range(start..).take(at_most(*count, self.items.len()));
                let position = self.first.saturating_add(i64::try_from(start).unwrap_or(i64::MAX));
                Reply::Places((position..).zip(page.cloned()).collect())
            }
            _ => length(self.items.len()),
        }
    }

    /// The number of bytes that its elements take.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts an element, whose bytes are counted already, before the others.
    fn put_front(&mut self, cell: Cell) {
        self.first = self.first.saturating_sub(1);
        self.items.push_front(cell);
    }

    fn drop_front(&mut self, count: usize) {
        self.first = self.first.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
        self.bytes -= weight::cells(self.items.range(..count));
        self.items.drain(..count);
    }

    fn drop_back(&mut self, kept: usize) {
        self.bytes -= weight::cells(self.items.range(kept..));
        self.items.truncate(kept);
    }

    /// Puts jobs back whose reservation has expired, in their order, before the waiting ones.
    fn reclaim(&mut self, now: u64) {
        let over: Vec<u64> =
            self.reserved.iter().filter(|(_, (until, _))| *until <= now).map(|(job, _)| *job).collect();
        for job in over.into_iter().rev() {
            if let Some((_, cell)) = self.reserved.remove(&job) {
                self.put_front(cell);
            }
        }
    }

    pub(crate) fn write(&mut self, act: &Act, now: u64) -> Result<Reply> {
        Ok(match act {
            Act::ListPush { cells, left, maxlen } => {
                for cell in cells {
                    self.bytes += weight::cell(cell);
                    if *left {
                        self.put_front(cell.clone());
                    } else {
                        self.items.push_back(cell.clone());
                    }
                }
                if let Some(maxlen) = maxlen {
                    let most = at_most(*maxlen, self.items.len());
                    if *left {
                        self.drop_back(most);
                    } else {
                        self.drop_front(self.items.len() - most);
                    }
                }
                length(self.items.len())
            }
            Act::ListPop { left, count } => {
                self.reclaim(now);
                let count = at_most(*count, self.items.len());
                let cells: Vec<Cell> = if *left {
                    self.first = self.first.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
                    self.items.drain(..count).collect()
                } else {
                    self.items.split_off(self.items.len() - count).into_iter().rev().collect()
                };
                self.bytes -= weight::cells(&cells);
                Reply::Cells(cells)
            }
            Act::ListPut(index, cell) => {
                let place = self.place(*index).ok_or(Error::NoElement(*index))?;
                self.bytes = self.bytes - weight::cell(&self.items[place]) + weight::cell(cell);
                self.items[place].clone_from(cell);
                Reply::Bool(true)
            }
            Act::ListTrim(start, stop) => {
                let kept = bounds(*start, *stop, self.items.len());
                self.drop_back(kept.end);
                self.drop_front(kept.start);
                length(self.items.len())
            }
            Act::ListRemove { cell, count } => length(self.remove(cell, *count)),
            Act::ListInsert(index, cell) => {
                let place = bounds(*index, -1, self.items.len()).start;
                self.bytes += weight::cell(cell);
                self.items.insert(place, cell.clone());
                length(self.items.len())
            }
            Act::Reserve(micros) => {
                self.reclaim(now);
                let Some(cell) = self.items.pop_front() else { return Ok(Reply::Job(None)) };
                self.first += 1;
                // The number must also be above those of this queue, which may come from the image of another
                // process.
                LAST_JOB.fetch_max(self.next_job, Ordering::Relaxed);
                self.next_job = LAST_JOB.fetch_add(1, Ordering::Relaxed) + 1;
                self.reserved.insert(self.next_job, (now.saturating_add(*micros), cell.clone()));
                Reply::Job(Some((self.next_job, cell)))
            }
            Act::Ack(job) => {
                self.reclaim(now);
                let done = self.reserved.remove(job);
                self.bytes -= done.as_ref().map_or(0, |(_, cell)| weight::cell(cell));
                Reply::Bool(done.is_some())
            }
            Act::Release(job) => {
                self.reclaim(now);
                let released = self.reserved.remove(job);
                let was_there = released.is_some();
                if let Some((_, cell)) = released {
                    self.put_front(cell);
                }
                Reply::Bool(was_there)
            }
            _ => self.read(act),
        })
    }

    /// Removes elements that equal `cell`: the first `count`, the last `-count` if that is negative, or all
    /// if it is 0.
    fn remove(&mut self, cell: &Cell, count: i64) -> usize {
        let most = if count == 0 { usize::MAX } else { at_most(count.unsigned_abs(), usize::MAX) };
        let mut removed = 0;
        let mut keep = |item: &Cell| {
            let goes = removed < most && item == cell;
            removed += usize::from(goes);
            !goes
        };
        if count < 0 {
            let kept: VecDeque<Cell> =
                std::mem::take(&mut self.items).into_iter().rev().filter(&mut keep).collect();
            self.items = kept.into_iter().rev().collect();
        } else {
            self.items.retain(keep);
        }
        self.bytes -= weight::cell(cell) * weight::bytes(removed);
        removed
    }
}
