//! A native `pickletools.optimize` for the most common pickles of keys, and the pickle of a plain tuple.
//!
//! A key is found by its bytes, which must be those of python-diskcache: a pickle without the memo opcodes of
//! objects that are not referred to again. Python's own function takes longer than all the rest of a lookup.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyString, PyTuple};

/// The opcodes that matter, by name.
mod opcode {
    pub(super) const PROTO: u8 = 0x80;
    pub(super) const FRAME: u8 = 0x95;
    pub(super) const MEMOIZE: u8 = 0x94;
    pub(super) const BINGET: u8 = b'h';
    pub(super) const LONG_BINGET: u8 = b'j';
    pub(super) const STOP: u8 = b'.';
}

/// Longer pickles may have several frames.
const MOST: usize = 1 << 16;

/// Longer tuples are left to Python.
const MOST_ITEMS: usize = 16;

/// Shorter bodies have no frame.
const LEAST_FRAME: usize = 4;

/// The length of an opcode's argument.
#[derive(Clone, Copy)]
enum Argument {
    /// This many bytes.
    Fixed(usize),
    /// A length of one byte, and that many bytes.
    Counted1,
    /// A length of four bytes, and that many bytes.
    Counted4,
}

fn argument_of(opcode: u8) -> Option<Argument> {
    Some(match opcode {
        // STOP, NONE, the booleans; tuples, lists, dicts and sets; REDUCE, BUILD, NEWOBJ, STACK_GLOBAL.
        b'.'
        | b'N'
        | 0x88
        | 0x89
        | b'('
        | b')'
        | b't'
        | 0x85
        | 0x86
        | 0x87
        | b']'
        | b'a'
        | b'e'
        | b'}'
        | b's'
        | b'u'
        | 0x8f
        | 0x90
        | 0x91
        | b'R'
        | b'b'
        | 0x81
        | 0x93
        | opcode::MEMOIZE => Argument::Fixed(0),
        // BININT1, BINGET, PROTO.
        b'K' | opcode::BINGET | opcode::PROTO => Argument::Fixed(1),
        // BININT2, BININT, BINFLOAT, FRAME.
        b'M' => Argument::Fixed(2),
        b'J' | opcode::LONG_BINGET => Argument::Fixed(4),
        b'G' | opcode::FRAME => Argument::Fixed(8),
        // LONG1, SHORT_BINUNICODE, SHORT_BINBYTES.
        0x8a | 0x8c | b'C' => Argument::Counted1,
        // BINUNICODE, BINBYTES.
        b'X' | b'B' => Argument::Counted4,
        _ => return None,
    })
}

/// A part of a pickle.
enum Part<'a> {
    Bytes(&'a [u8]),
    /// The object of this number is marked.
    Put(usize),
    /// The object of this number is referred to.
    Get(usize),
}

/// The parts of a pickle after its header, and the references among them. `None` if it has an unknown opcode.
fn parts(pickle: &[u8]) -> Option<(Vec<Part<'_>>, Vec<usize>)> {
    let (mut parts, mut wanted, mut marked, mut at) = (Vec::new(), Vec::new(), 0, 2);
    loop {
        let opcode = *pickle.get(at)?;
        let start = at + 1;
        let end = start
            + match argument_of(opcode)? {
                Argument::Fixed(length) => length,
                Argument::Counted1 => 1 + usize::from(*pickle.get(start)?),
                Argument::Counted4 => 4 + little_endian(pickle.get(start..start + 4)?),
            };
        let argument = pickle.get(start..end)?;
        match opcode {
            opcode::PROTO => return None,
            opcode::FRAME => {}
            opcode::MEMOIZE => {
                parts.push(Part::Put(marked));
                marked += 1;
            }
            opcode::BINGET | opcode::LONG_BINGET => {
                wanted.push(little_endian(argument));
                parts.push(Part::Get(little_endian(argument)));
            }
            _ => parts.push(Part::Bytes(&pickle[at..end])),
        }
        at = end;
        if opcode == opcode::STOP {
            return (at == pickle.len()).then_some((parts, wanted));
        }
    }
}

fn little_endian(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// The pickle without marks that nothing refers to; `None` if Python has to do it.
pub(super) fn optimize(pickle: &[u8]) -> Option<Vec<u8>> {
    // Before protocol 4 marks have numbers of their own.
    if pickle.len() > MOST || pickle.first() != Some(&opcode::PROTO) || *pickle.get(1)? < 4 {
        return None;
    }
    let (parts, wanted) = parts(pickle)?;
    let mut body = Vec::with_capacity(pickle.len());
    // The marks that stay, by their old numbers; their places are the new ones.
    let mut kept = Vec::new();
    for part in parts {
        match part {
            Part::Bytes(bytes) => body.extend_from_slice(bytes),
            Part::Put(number) if wanted.contains(&number) => {
                body.push(opcode::MEMOIZE);
                kept.push(number);
            }
            Part::Put(_) => {}
            Part::Get(number) => {
                let number = kept.iter().position(|kept| *kept == number)?;
                body.extend([opcode::BINGET, u8::try_from(number).ok()?]);
            }
        }
    }
    Some(framed(pickle[1], &body))
}

fn framed(protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut pickle = Vec::with_capacity(body.len() + 11);
    pickle.extend([opcode::PROTO, protocol]);
    if body.len() >= LEAST_FRAME {
        pickle.push(opcode::FRAME);
        pickle.extend((body.len() as u64).to_le_bytes());
    }
    pickle.extend_from_slice(body);
    pickle
}

/// The optimized pickle of a short tuple of text, numbers and None, which the key of a call is. `None` if
/// Python has to do it.
pub(super) fn of_tuple(key: &Bound<'_, PyAny>, protocol: i64) -> Option<Vec<u8>> {
    let protocol = u8::try_from(protocol).ok().filter(|protocol| matches!(protocol, 4 | 5))?;
    let items = key.cast_exact::<PyTuple>().ok()?.as_slice();
    if items.is_empty() || items.len() > MOST_ITEMS {
        return None;
    }
    let mut body = Vec::with_capacity(64);
    if items.len() > 3 {
        body.push(b'(');
    }
    for (place, item) in items.iter().enumerate() {
        append_plain(&mut body, item, &items[..place])?;
    }
    body.extend([[0x85, 0x86, 0x87].get(items.len() - 1).copied().unwrap_or(b't'), opcode::STOP]);
    (body.len() <= MOST).then(|| framed(protocol, &body))
}

/// Appends the pickle of text, a number or None that comes after other items of a tuple.
fn append_plain(body: &mut Vec<u8>, item: &Bound<'_, PyAny>, before: &[Bound<'_, PyAny>]) -> Option<()> {
    if item.is_none() {
        body.push(b'N');
    } else if let Ok(truth) = item.cast_exact::<PyBool>() {
        body.push(if truth.is_true() { 0x88 } else { 0x89 });
    } else if let Ok(number) = item.cast_exact::<PyInt>() {
        let number: i32 = number.extract().ok()?;
        match (u8::try_from(number), u16::try_from(number)) {
            (Ok(byte), _) => body.extend([b'K', byte]),
            (_, Ok(short)) => {
                body.push(b'M');
                body.extend(short.to_le_bytes());
            }
            _ => {
                body.push(b'J');
                body.extend(number.to_le_bytes());
            }
        }
    } else if let Ok(number) = item.cast_exact::<PyFloat>() {
        body.push(b'G');
        body.extend(number.value().to_be_bytes());
    } else {
        // A text that is there twice is a reference the second time.
        let text =
            item.cast_exact::<PyString>().ok().filter(|_| !before.iter().any(|other| other.is(item)))?;
        // A long text is not copied first.
        let bytes = text.to_str().ok().filter(|text| text.len() <= MOST)?.as_bytes();
        if let Ok(length) = u8::try_from(bytes.len()) {
            body.extend([0x8c, length]);
        } else {
            body.push(b'X');
            body.extend(u32::try_from(bytes.len()).ok()?.to_le_bytes());
        }
        body.extend_from_slice(bytes);
    }
    Some(())
}
