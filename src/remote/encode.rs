//! Encodes commands.

use std::collections::TryReserveError;
use std::io::Write;

/// One command or several, which are sent without others in between.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub(crate) bytes: Vec<u8>,
    pub(crate) replies: usize,
}

impl Request {
    /// An empty request.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A request of one command with small parts.
    #[must_use]
    pub fn command<'a>(parts: impl IntoIterator<Item = &'a [u8], IntoIter: ExactSizeIterator>) -> Self {
        let mut request = Self::new();
        let parts = parts.into_iter();
        request.begin(parts.len());
        for part in parts {
            request.push(part);
        }
        request
    }

    /// Begins another command, of `parts` parts. Add each of them with [`try_part`](Self::try_part).
    pub fn begin(&mut self, parts: usize) {
        self.replies += 1;
        self.number(b'*', parts);
    }

    /// Adds a part to the command that was begun last.
    ///
    /// # Errors
    ///
    /// There is not enough memory.
    pub fn try_part(&mut self, part: &[u8]) -> Result<(), TryReserveError> {
        self.bytes.try_reserve(part.len().saturating_add(32))?;
        self.push(part);
        Ok(())
    }

    /// The bytes to send.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn push(&mut self, part: &[u8]) {
        self.number(b'$', part.len());
        self.bytes.extend_from_slice(part);
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn number(&mut self, mark: u8, number: usize) {
        self.bytes.push(mark);
        // Writing to a vector does not fail.
        let _ = write!(self.bytes, "{number}\r\n");
    }
}
