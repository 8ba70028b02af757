//! Bytes in atomic words: copied in, copied out, compared.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// The number of words that `bytes` bytes take.
#[inline(always)]
pub(crate) const fn words_for(bytes: usize) -> usize {
    // No object in memory is so long that this wraps.
    bytes.wrapping_add(7) / 8
}

/// The incomplete last word of some bytes, which has their last `rest` bytes (1 to 7).
#[inline(always)]
fn last_word(bytes: &[u8], rest: usize) -> u64 {
    // `memcpy` for so few bytes would cost a function call.
    if let Some(word) = bytes.last_chunk::<8>() {
        return u64::from_le_bytes(*word) >> (8 * (8 - rest));
    }
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Stores bytes, and fills up the last word with zeros. `to` must be long enough.
#[inline(always)]
pub(crate) fn store_bytes(to: &[AtomicU64], bytes: &[u8]) {
    let (whole, rest) = bytes.as_chunks::<8>();
    for (word, chunk) in to.iter().zip(whole) {
        word.store(u64::from_le_bytes(*chunk), Relaxed);
    }
    if !rest.is_empty() {
        to[whole.len()].store(last_word(bytes, rest.len()), Relaxed);
    }
}

/// Whether the words are these bytes. `words` must be long enough.
#[inline(always)]
pub(crate) fn equal_bytes(words: &[AtomicU64], bytes: &[u8]) -> bool {
    let (whole, rest) = bytes.as_chunks::<8>();
    words.iter().zip(whole).all(|(word, chunk)| word.load(Relaxed) == u64::from_le_bytes(*chunk))
        && (rest.is_empty() || words[whole.len()].load(Relaxed) == last_word(bytes, rest.len()))
}

/// Appends the first `bytes` bytes of the words to `to`, which has room for all of these words.
#[inline]
pub(crate) fn append_bytes(words: &[AtomicU64], bytes: usize, to: &mut Vec<u8>) {
    let words = &words[..words_for(bytes)];
    let start = to.len();
    to.resize(start + words.len() * 8, 0);
    for (chunk, word) in to[start..].chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.load(Relaxed).to_le_bytes());
    }
    to.truncate(start + bytes);
}
