//! Values that take less room.

use std::borrow::Cow;

use crate::row::mode;

/// Shorter values would not gain what it costs.
const LEAST: usize = 256;

/// An LZ4 block is at most so many times as long when it is decompressed: more is a forgery.
const LZ4_MOST: usize = 255;

/// How values are compressed. Which way one is, is written beside it: any cache can read all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Smaller.
    Zstd,
    /// Faster.
    Lz4,
}

impl Compression {
    /// By its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "zstd" => Some(Self::Zstd),
            "lz4" => Some(Self::Lz4),
            _ => None,
        }
    }

    /// What is added to the mode of a value that is compressed.
    fn mark(self) -> i64 {
        match self {
            Self::Zstd => mode::ZSTD,
            Self::Lz4 => mode::LZ4,
        }
    }

    /// The bytes and the mode with which to store them; as they are where they would not get smaller.
    #[must_use]
    pub fn compress(self, bytes: &[u8], mode: i64) -> (Cow<'_, [u8]>, i64) {
        let compressed = match self {
            _ if bytes.len() < LEAST => None,
            // The level with which zstd's own tool works.
            Self::Zstd => zstd::bulk::compress(bytes, zstd::DEFAULT_COMPRESSION_LEVEL).ok(),
            Self::Lz4 => Some(lz4_flex::block::compress_prepend_size(bytes)),
        };
        match compressed {
            Some(compressed) if compressed.len() < bytes.len() => {
                (Cow::Owned(compressed), mode | self.mark())
            }
            _ => (Cow::Borrowed(bytes), mode),
        }
    }
}

/// Whether a mode says that a value is compressed.
#[must_use]
pub fn is_compressed(mode: i64) -> bool {
    mode & (mode::ZSTD | mode::LZ4) != 0
}

/// The bytes of a value that is compressed. `None` if they are damaged.
#[must_use]
pub fn decompress(bytes: &[u8], mode: i64) -> Option<Vec<u8>> {
    if mode & mode::ZSTD != 0 {
        return zstd::stream::decode_all(bytes).ok();
    }
    let (length, block) = lz4_flex::block::uncompressed_size(bytes).ok()?;
    let possible = length <= block.len().saturating_mul(LZ4_MOST);
    possible.then(|| lz4_flex::block::decompress(block, length).ok()).flatten()
}
