//! Bytes in atomic words: copied in, copied out, compared.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// The number of words that `bytes` bytes take.
#[inline(always)]
pub(crate) const fn words_for(bytes: usize) -> usize {
    bytes.div_ceil(8)
}

/// The last, incomplete word of some bytes.
#[inline(always)]
fn last_word(rest: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(bytes)
}

/// Stores bytes, the last word filled up with zeros. `to` is long enough.
#[inline]
pub(crate) fn store_bytes(to: &[AtomicU64], bytes: &[u8]) {
    let (whole, rest) = bytes.as_chunks::<8>();
    for (word, chunk) in to.iter().zip(whole) {
        word.store(u64::from_le_bytes(*chunk), Relaxed);
    }
    if !rest.is_empty() {
        to[whole.len()].store(last_word(rest), Relaxed);
    }
}

/// Whether the words are these bytes. `words` is long enough.
#[inline(always)]
pub(crate) fn equal_bytes(words: &[AtomicU64], bytes: &[u8]) -> bool {
    let (whole, rest) = bytes.as_chunks::<8>();
    words.iter().zip(whole).all(|(word, chunk)| word.load(Relaxed) == u64::from_le_bytes(*chunk))
        && (rest.is_empty() || words[whole.len()].load(Relaxed) == last_word(rest))
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
