//! An incremental decoder of RESP3, the protocol in which a server answers.
//!
//! A length that is announced reserves no memory: memory grows as bytes and parts arrive. Each byte is
//! examined once, even if an answer with many parts arrives in many pieces.

use crate::value::Value;

/// The most bytes of one text: the server's own limit.
const MOST_BYTES: usize = 1 << 29;

/// The most bytes of a line, which is a number, a status or an error.
const MOST_LINE: usize = 1 << 16;

/// The most parts of a reply, including the parts of its parts.
const MOST_PARTS: usize = 1 << 24;

/// How deeply parts may be nested.
const DEEPEST: usize = 16;

/// A buffer that is larger than this is freed once its bytes were used.
const KEPT: usize = 1 << 20;

/// A value whose parts have not all arrived.
struct Open {
    mark: u8,
    left: usize,
    parts: Vec<Value>,
}

/// The result of one step.
enum Step {
    /// More bytes are needed.
    Incomplete,
    /// The beginning of a value with parts, or something that is not a value, such as an attribute.
    Begun,
    /// A complete value.
    Whole(Value),
}

/// Takes bytes as they arrive, and returns values when they are complete.
#[derive(Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    at: usize,
    /// The line that begins at `at` does not end before this position.
    looked: usize,
    open: Vec<Open>,
    parts: usize,
    has_failed: bool,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("buffered", &(self.buffer.len() - self.at)).finish_non_exhaustive()
    }
}

impl Decoder {
    /// A decoder of a new connection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes.
    ///
    /// # Errors
    ///
    /// There is not enough memory.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.looked = self.looked.saturating_sub(self.at);
            self.at = 0;
            if self.buffer.is_empty() && self.buffer.capacity() > KEPT {
                self.buffer = Vec::new();
            }
        }
        self.buffer.try_reserve(bytes.len()).map_err(|_| "there is no memory for an answer".to_owned())?;
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next value that is complete.
    ///
    /// # Errors
    ///
    /// The bytes are not valid RESP3. Nothing that follows can be decoded either.
    #[expect(clippy::should_implement_trait, reason = "None is not the end")]
    pub fn next(&mut self) -> Result<Option<Value>, String> {
        if self.has_failed {
            return Err("the connection's bytes could not be read before".to_owned());
        }
        let next = self.complete();
        self.has_failed = next.is_err();
        next
    }

    fn complete(&mut self) -> Result<Option<Value>, String> {
        loop {
            let mut value = match self.part()? {
                Step::Incomplete => return Ok(None),
                Step::Begun => continue,
                Step::Whole(value) => value,
            };
            loop {
                let Some(last) = self.open.last_mut() else {
                    self.parts = 0;
                    return Ok(Some(value));
                };
                last.parts.try_reserve(1).map_err(|_| "there is no memory for an answer".to_owned())?;
                last.parts.push(value);
                last.left -= 1;
                if last.left > 0 {
                    break;
                }
                let Some(Open { mark, parts, .. }) = self.open.pop() else { break };
                match closed(mark, parts) {
                    Some(closed) => value = closed,
                    // An attribute is additional data for the value that follows.
                    None => break,
                }
            }
        }
    }

    fn part(&mut self) -> Result<Step, String> {
        let Some((start, end)) = self.line()? else { return Ok(Step::Incomplete) };
        let Some((&mark, rest)) = self.buffer.get(start..end).and_then(<[u8]>::split_first) else {
            return Err("an empty line begins no answer".to_owned());
        };
        self.parts += 1;
        if self.parts > MOST_PARTS {
            return Err(format!("an answer has more than {MOST_PARTS} parts"));
        }
        let value = match mark {
            b'+' => Value::Bytes(copied(rest)?),
            b'-' => Value::Error(copied(rest)?),
            b'(' => Value::BigNumber(copied(rest)?),
            b':' => Value::Int(number(rest)?),
            b',' => Value::Double(double(rest)?),
            b'_' => Value::Null,
            b'#' => match rest {
                b"t" => Value::Bool(true),
                b"f" => Value::Bool(false),
                _ => return Err(shown("is neither true nor false", rest)),
            },
            b'$' | b'=' | b'!' => {
                let length = number(rest)?;
                return if length == -1 { self.used(end, Value::Null) } else { self.text(mark, length, end) };
            }
            b'*' | b'~' | b'%' | b'>' | b'|' => {
                let length = number(rest)?;
                return if length == -1 { self.used(end, Value::Null) } else { self.many(mark, length, end) };
            }
            _ => return Err(shown("begins no answer", &self.buffer[start..end])),
        };
        self.used(end, value)
    }

    #[expect(clippy::unnecessary_wraps, reason = "what its callers return")]
    fn used(&mut self, end: usize, value: Value) -> Result<Step, String> {
        self.at = end + 2;
        self.looked = self.at;
        Ok(Step::Whole(value))
    }

    /// The position of the next line.
    fn line(&mut self) -> Result<Option<(usize, usize)>, String> {
        let from = self.looked.max(self.at);
        let found = self.buffer[from..].iter().position(|&byte| byte == b'\n').map(|place| from + place);
        let length = found.unwrap_or(self.buffer.len()) - self.at;
        if length > MOST_LINE {
            return Err(format!("a line has more than {MOST_LINE} bytes"));
        }
        let Some(end) = found else {
            self.looked = self.buffer.len();
            return Ok(None);
        };
        // If the text after the line has not arrived, its line is searched again.
        self.looked = end;
        if end == self.at || self.buffer[end - 1] != b'\r' {
            return Err(shown("does not end as lines do", &self.buffer[self.at..end]));
        }
        Ok(Some((self.at, end - 1)))
    }

    fn text(&mut self, mark: u8, length: i64, line_end: usize) -> Result<Step, String> {
        let length = usize::try_from(length).ok().filter(|&length| length <= MOST_BYTES);
        let Some(length) = length else { return Err("a text cannot be as long as it says".to_owned()) };
        let start = line_end + 2;
        let end = start + length;
        if self.buffer.len() < end + 2 {
            // The part is counted again when it has arrived.
            self.parts -= 1;
            return Ok(Step::Incomplete);
        }
        if &self.buffer[end..end + 2] != b"\r\n" {
            return Err("a text does not end where it says".to_owned());
        }
        let text = &self.buffer[start..end];
        let value = match mark {
            b'!' => Value::Error(copied(text)?),
            b'=' if text.get(3) == Some(&b':') => Value::Bytes(copied(&text[4..])?),
            b'=' => return Err(shown("does not say what kind of text it is", text)),
            _ => Value::Bytes(copied(text)?),
        };
        self.used(end, value)
    }

    fn many(&mut self, mark: u8, length: i64, line_end: usize) -> Result<Step, String> {
        let each = if matches!(mark, b'%' | b'|') { 2 } else { 1 };
        let left = usize::try_from(length).ok().and_then(|length| length.checked_mul(each));
        let Some(left) = left.filter(|&left| left <= MOST_PARTS) else {
            return Err("an answer cannot have as many parts as it says".to_owned());
        };
        if self.open.len() == DEEPEST {
            return Err(format!("an answer is nested more than {DEEPEST} deep"));
        }
        self.at = line_end + 2;
        self.looked = self.at;
        if left == 0 {
            return Ok(closed(mark, Vec::new()).map_or(Step::Begun, Step::Whole));
        }
        self.open.push(Open { mark, left, parts: Vec::new() });
        Ok(Step::Begun)
    }
}

/// The value with these parts; `None` for an attribute, which is not a value.
fn closed(mark: u8, parts: Vec<Value>) -> Option<Value> {
    match mark {
        b'~' => Some(Value::Set(parts)),
        b'%' => Some(Value::Map(parts)),
        b'>' => Some(Value::Push(parts)),
        b'|' => None,
        _ => Some(Value::Array(parts)),
    }
}

fn copied(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| "there is no memory for an answer".to_owned())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

fn shown(what: &str, bytes: &[u8]) -> String {
    format!("{:?} {what}", String::from_utf8_lossy(&bytes[..bytes.len().min(32)]))
}

fn number(digits: &[u8]) -> Result<i64, String> {
    let text = std::str::from_utf8(digits).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| shown("is no number", digits))
}

fn double(digits: &[u8]) -> Result<f64, String> {
    let text = std::str::from_utf8(digits).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| shown("is no number", digits))
}
