//! Compressed values.
//!
//! Stored values may be damaged or malicious. So a checksum reveals each changed byte. And the size that a
//! value claims to have reserves no memory: the buffer grows with the decompressed bytes, and the call fails
//! if memory runs out.

use std::borrow::Cow;

use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd::zstd_safe::{CCtx, CParameter, DCtx, InBuffer, OutBuffer, compress_bound, get_frame_content_size};

use crate::error::{Error, Result};
use crate::row::mode;

/// Values of fewer bytes are not compressed: they would gain less than it costs.
const LEAST: usize = 256;

/// The buffer of a value that claims to be larger begins with this many times the compressed bytes, and grows.
const USUAL_RATIO: usize = 16;

/// The least size in bytes by which the buffer of a value grows.
const STEP: usize = 1 << 16;

/// An LZ4 block becomes at most this many times as long when it is decompressed. One that claims more is
/// damaged.
const LZ4_MOST: usize = 255;

/// The size in bytes of the length before an LZ4 block, and of the checksum after it.
const LZ4_LENGTH: usize = 4;
const LZ4_SUM: usize = 4;

/// How values are compressed. Each value's mode says how it was, so any cache can read all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Smaller.
    Zstd,
    /// Faster.
    Lz4,
}

impl Compression {
    /// Returns the compression of this name, or `None` if there is none.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "zstd" => Some(Self::Zstd),
            "lz4" => Some(Self::Lz4),
            _ => None,
        }
    }

    /// The bit that is added to the mode of a compressed value.
    fn mark(self) -> i64 {
        match self {
            Self::Zstd => mode::ZSTD,
            Self::Lz4 => mode::LZ4_SUMMED,
        }
    }

    /// The bytes and the mode with which to store a value. They stay as they are if compression does not make the value
    /// smaller, or if there is no memory for it.
    #[must_use]
    pub fn compress(self, bytes: &[u8], mode: i64) -> (Cow<'_, [u8]>, i64) {
        let compressed = match self {
            _ if bytes.len() < LEAST => None,
            Self::Zstd => zstd_frame(bytes),
            Self::Lz4 => lz4_block(bytes),
        };
        match compressed {
            Some(compressed) if compressed.len() < bytes.len() => {
                (Cow::Owned(compressed), mode | self.mark())
            }
            _ => (Cow::Borrowed(bytes), mode),
        }
    }
}

/// A frame with a checksum of the content. `None` without memory for it.
fn zstd_frame(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut context = CCtx::try_create()?;
    // The level that zstd's own tool uses.
    context.set_parameter(CParameter::CompressionLevel(zstd::DEFAULT_COMPRESSION_LEVEL)).ok()?;
    context.set_parameter(CParameter::ChecksumFlag(true)).ok()?;
    let mut frame = with_room(compress_bound(bytes.len())).ok()?;
    context.compress2(&mut frame, bytes).ok()?;
    Some(frame)
}

/// The length, a block, and a checksum of both. `None` without memory for it.
fn lz4_block(bytes: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(bytes.len()).ok()?;
    let most = lz4_flex::block::get_maximum_output_size(bytes.len());
    let mut block = with_room(LZ4_LENGTH + most + LZ4_SUM).ok()?;
    block.extend_from_slice(&length.to_le_bytes());
    block.resize(LZ4_LENGTH + most, 0);
    let written = lz4_flex::block::compress_into(bytes, &mut block[LZ4_LENGTH..]).ok()?;
    block.truncate(LZ4_LENGTH + written);
    let sum = crc32fast::hash(&block);
    block.extend_from_slice(&sum.to_le_bytes());
    Some(block)
}

/// All bits that may be added to the mode of a compressed value.
pub(crate) const MARKS: i64 = mode::ZSTD | mode::LZ4 | mode::LZ4_SUMMED;

/// Whether a mode says that a value is compressed.
#[must_use]
pub fn is_compressed(mode: i64) -> bool {
    mode & MARKS != 0
}

/// Decompresses a value.
///
/// # Errors
///
/// [`Error::DamagedValue`], [`Error::OutOfMemory`].
pub fn decompress(bytes: &[u8], mode: i64) -> Result<Vec<u8>> {
    if mode & mode::ZSTD != 0 {
        return decompress_zstd(bytes);
    }
    if mode & mode::LZ4_SUMMED == 0 {
        return decompress_lz4(bytes);
    }
    let (block, sum) = bytes.split_last_chunk::<LZ4_SUM>().ok_or(Error::DamagedValue)?;
    if crc32fast::hash(block) == u32::from_le_bytes(*sum) {
        decompress_lz4(block)
    } else {
        Err(Error::DamagedValue)
    }
}

/// Whether a compressed value can be decompressed. Takes little memory, whatever the size of the value.
///
/// # Errors
///
/// [`Error::OutOfMemory`].
pub(crate) fn is_intact(bytes: &[u8], mode: i64) -> Result<bool> {
    let done = if mode & mode::ZSTD != 0 {
        decode_zstd(bytes, with_room(STEP)?, |content| {
            content.clear();
            Ok(())
        })
    } else {
        decompress(bytes, mode)
    };
    match done {
        Ok(_) => Ok(true),
        Err(Error::DamagedValue) => Ok(false),
        Err(error) => Err(error),
    }
}

fn decompress_zstd(bytes: &[u8]) -> Result<Vec<u8>> {
    // The usual value is decompressed in one step, into a buffer of its size.
    let claimed = get_frame_content_size(bytes).ok().flatten().and_then(|size| usize::try_from(size).ok());
    let usual = bytes.len().saturating_mul(USUAL_RATIO).max(STEP);
    let content = with_room(claimed.map_or(STEP, |size| size.min(usual)))?;
    decode_zstd(bytes, content, |content| {
        content.try_reserve(content.len().max(STEP)).map_err(|_| Error::OutOfMemory)
    })
}

/// Decodes frames into `content`, and calls `make_room` whenever it is full.
fn decode_zstd(
    bytes: &[u8],
    mut content: Vec<u8>,
    make_room: impl Fn(&mut Vec<u8>) -> Result<()>,
) -> Result<Vec<u8>> {
    let mut decoder = DCtx::try_create().ok_or(Error::OutOfMemory)?;
    let mut input = InBuffer::around(bytes);
    loop {
        let (before, consumed) = (content.len(), input.pos());
        let mut output = OutBuffer::around_pos(&mut content, before);
        let left = decoder.decompress_stream(&mut output, &mut input).map_err(zstd_failure)?;
        if left == 0 && input.pos() == bytes.len() {
            return Ok(content);
        }
        if content.len() == content.capacity() {
            make_room(&mut content)?;
        } else if content.len() == before && input.pos() == consumed {
            // The value is cut off.
            return Err(Error::DamagedValue);
        }
    }
}

fn zstd_failure(code: usize) -> Error {
    let is_memory = code.wrapping_neg() == ZSTD_ErrorCode::ZSTD_error_memory_allocation as usize;
    if is_memory { Error::OutOfMemory } else { Error::DamagedValue }
}

fn decompress_lz4(bytes: &[u8]) -> Result<Vec<u8>> {
    let damaged = |_| Error::DamagedValue;
    let (length, block) = lz4_flex::block::uncompressed_size(bytes).map_err(damaged)?;
    if length > block.len().saturating_mul(LZ4_MOST) {
        return Err(Error::DamagedValue);
    }
    let mut content = with_room(length)?;
    content.resize(length, 0);
    let written = lz4_flex::block::decompress_into(block, &mut content).map_err(|_| Error::DamagedValue)?;
    if written == length { Ok(content) } else { Err(Error::DamagedValue) }
}

/// An empty buffer with room for `length` bytes.
pub(crate) fn with_room(length: usize) -> Result<Vec<u8>> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(length).map_err(|_| Error::OutOfMemory)?;
    Ok(buffer)
}
