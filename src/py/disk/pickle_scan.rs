//! Scans an untrusted pickle before Python's own unpickler loads it.
//!
//! Python's unpickler is written in C, and a subclass can only restrict which globals it finds. That leaves
//! three gaps: it allocates memory for lengths and memo slots that the pickle claims; `EXT` opcodes may find
//! a class in a cache without asking the subclass; and `BUILD` and the opcodes that append and set items
//! change any object on the stack, even an allowed class. This scan walks through the opcodes with a stack
//! that has, instead of objects, only the origin of each.

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;

pyo3::import_exception!(pickle, UnpicklingError);

/// The origin of an object on the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Mark,
    /// Found by its name: it belongs to the process.
    Global,
    /// Made by a class's `__new__`.
    Made,
    /// Returned by something that was called.
    Returned,
    /// A value of Python's own.
    Value,
}

/// The operations of a pickle that Python's unpickler must restrict.
#[derive(Clone, Copy, Default)]
struct Found {
    builds_made: bool,
    builds_returned: bool,
}

type Scan<T> = Result<T, &'static str>;

const TRUNCATED: &str = "the pickle ends within an argument, or claims more than it has";
const OUT_OF_MEMORY: &str = "there is no memory to look through the pickle";
const UNDERFLOW: &str = "the pickle takes more from the stack than there is";

struct Scanner<'a> {
    data: &'a [u8],
    at: usize,
    stack: Vec<Origin>,
    memo: Vec<Option<Origin>>,
    memoized: usize,
    found: Found,
}

impl<'a> Scanner<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, stack: Vec::new(), memo: Vec::new(), memoized: 0, found: Found::default() }
    }

    fn bytes(&mut self, count: usize) -> Scan<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or(TRUNCATED)?;
        let bytes = self.data.get(self.at..end).ok_or(TRUNCATED)?;
        self.at = end;
        Ok(bytes)
    }

    fn number(&mut self, width: usize) -> Scan<usize> {
        let number = self.bytes(width)?.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        usize::try_from(number).map_err(|_| TRUNCATED)
    }

    /// Skips as many bytes as the number of this width says.
    fn counted(&mut self, width: usize) -> Scan<()> {
        let count = self.number(width)?;
        self.bytes(count).map(|_| ())
    }

    fn line(&mut self) -> Scan<&'a [u8]> {
        let rest = &self.data[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or(TRUNCATED)?;
        self.at += length + 1;
        Ok(&rest[..length])
    }

    /// Checks the number of a memo slot. Python allocates all slots below it, and a pickle cannot use more
    /// slots than it has bytes.
    fn slot(&self, number: usize) -> Scan<usize> {
        if number > self.data.len() {
            Err("the pickle claims more memo slots than it can fill")
        } else {
            Ok(number)
        }
    }

    fn slot_in_line(&mut self) -> Scan<usize> {
        let line = self.line()?;
        let digits =
            std::str::from_utf8(line).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let number =
            digits.and_then(|text| text.parse().ok()).ok_or("the number of a memo slot is damaged")?;
        self.slot(number)
    }

    fn put(&mut self, slot: usize) -> Scan<()> {
        let origin = self.top()?;
        if self.memo.len() <= slot {
            self.memo.try_reserve(slot + 1 - self.memo.len()).map_err(|_| OUT_OF_MEMORY)?;
            self.memo.resize(slot + 1, None);
        }
        if self.memo[slot].replace(origin).is_none() {
            self.memoized += 1;
        }
        Ok(())
    }

    fn get(&mut self, slot: usize) -> Scan<()> {
        let origin = self.memo.get(slot).copied().flatten();
        self.push(origin.ok_or("the pickle refers to a memo slot that is empty")?)
    }

    fn top(&self) -> Scan<Origin> {
        self.stack.last().copied().filter(|origin| *origin != Origin::Mark).ok_or(UNDERFLOW)
    }

    fn pop(&mut self, count: usize) -> Scan<()> {
        for _ in 0..count {
            self.top()?;
            self.stack.pop();
        }
        Ok(())
    }

    fn pop_to_mark(&mut self) -> Scan<()> {
        let mark = self.stack.iter().rposition(|origin| *origin == Origin::Mark).ok_or(UNDERFLOW)?;
        self.stack.truncate(mark);
        Ok(())
    }

    fn push(&mut self, origin: Origin) -> Scan<()> {
        self.stack.try_reserve(1).map_err(|_| OUT_OF_MEMORY)?;
        self.stack.push(origin);
        Ok(())
    }

    /// Checks that the object on top of the stack may be changed.
    fn change(&mut self) -> Scan<Origin> {
        match self.top()? {
            Origin::Global => Err("the pickle changes what it has found by name, not an object of its own"),
            origin => Ok(origin),
        }
    }

    fn build(&mut self) -> Scan<()> {
        self.pop(1)?;
        match self.change()? {
            Origin::Made => self.found.builds_made = true,
            Origin::Returned => self.found.builds_returned = true,
            _ => {}
        }
        Ok(())
    }

    /// Handles opcodes that push a value. Returns whether the opcode is one of these.
    fn value(&mut self, opcode: u8) -> Scan<bool> {
        match opcode {
            b'N' | 0x88 | 0x89 | b']' | b'}' | b')' | 0x8f => {}
            b'K' => self.bytes(1).map(|_| ())?,
            b'M' => self.bytes(2).map(|_| ())?,
            b'J' => self.bytes(4).map(|_| ())?,
            b'G' => self.bytes(8).map(|_| ())?,
            0x8a | b'U' | b'C' | 0x8c => self.counted(1)?,
            0x8b | b'T' | b'B' | b'X' => self.counted(4)?,
            0x8e | 0x96 | 0x8d => self.counted(8)?,
            b'I' | b'L' | b'S' | b'V' | b'F' => self.line().map(|_| ())?,
            _ => return Ok(false),
        }
        self.push(Origin::Value)?;
        Ok(true)
    }

    /// Handles opcodes that read or write the memo. Returns whether the opcode is one of these.
    fn memo(&mut self, opcode: u8) -> Scan<bool> {
        match opcode {
            b'p' => {
                let slot = self.slot_in_line()?;
                self.put(slot)?;
            }
            b'q' | b'r' => {
                let number = self.number(if opcode == b'q' { 1 } else { 4 })?;
                let slot = self.slot(number)?;
                self.put(slot)?;
            }
            0x94 => self.put(self.memoized)?,
            b'g' => {
                let slot = self.slot_in_line()?;
                self.get(slot)?;
            }
            b'h' => {
                let slot = self.number(1)?;
                self.get(slot)?;
            }
            b'j' => {
                let slot = self.number(4)?;
                self.get(slot)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Handles one opcode. Returns whether it was the last.
    fn step(&mut self) -> Scan<bool> {
        let opcode = self.bytes(1)?[0];
        if self.value(opcode)? || self.memo(opcode)? {
            return Ok(false);
        }
        match opcode {
            b'.' => return self.top().map(|_| true),
            0x80 => self.bytes(1).map(|_| ())?,
            0x95 => {
                let length = self.number(8)?;
                if length > self.data.len() - self.at {
                    return Err(TRUNCATED);
                }
            }
            b'(' => self.push(Origin::Mark)?,
            b'0' => self.stack.pop().map(|_| ()).ok_or(UNDERFLOW)?,
            b'1' => self.pop_to_mark()?,
            b'2' => self.push(self.top()?)?,
            b'a' | b's' => {
                self.pop(if opcode == b'a' { 1 } else { 2 })?;
                self.change()?;
            }
            b'e' | b'u' | 0x90 => {
                self.pop_to_mark()?;
                self.change()?;
            }
            b'l' | b't' | b'd' | 0x91 => {
                self.pop_to_mark()?;
                self.push(Origin::Value)?;
            }
            0x85..=0x87 => {
                self.pop(usize::from(opcode) - 0x84)?;
                self.push(Origin::Value)?;
            }
            b'c' => {
                self.line()?;
                self.line()?;
                self.push(Origin::Global)?;
            }
            0x93 => {
                self.pop(2)?;
                self.push(Origin::Global)?;
            }
            b'R' => {
                self.pop(2)?;
                self.push(Origin::Returned)?;
            }
            0x81 | 0x92 => {
                self.pop(if opcode == 0x81 { 2 } else { 3 })?;
                self.push(Origin::Made)?;
            }
            b'i' | b'o' => {
                if opcode == b'i' {
                    self.line()?;
                    self.line()?;
                }
                self.pop_to_mark()?;
                self.push(Origin::Returned)?;
            }
            b'b' => self.build()?,
            0x82..=0x84 => return Err("the pickle names a class by an extension code"),
            b'P' | b'Q' | 0x97 | 0x98 => return Err("the pickle refers to something outside"),
            _ => return Err("the pickle has an opcode that does not exist"),
        }
        Ok(false)
    }
}

/// Check a pickle. Returns whether it sets the state of objects that classes created, and of objects that calls
/// returned.
///
/// Raises:
///     MemoryError: There is no memory for the check.
///     pickle.UnpicklingError: It is damaged, claims more memory than it has bytes for, changes an object that it
///         finds by name, or avoids the choice of what may be loaded.
#[pyfunction]
pub(crate) fn scan_pickle(py: Python<'_>, data: &[u8]) -> PyResult<(bool, bool)> {
    let scanned = py.detach(|| {
        let mut scanner = Scanner::new(data);
        while !scanner.step()? {}
        Ok(scanner.found)
    });
    scanned.map(|found| (found.builds_made, found.builds_returned)).map_err(|what: &'static str| match what {
        OUT_OF_MEMORY => PyMemoryError::new_err(what),
        _ => UnpicklingError::new_err(what),
    })
}
