//! A record in a log, decoded from its words. No length in it is trusted before it is checked against the
//! log's end.

use std::mem::MaybeUninit;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::words::{equal_bytes, store_bytes, words_for};

/// Words before the tags.
pub(crate) const RECORD_HEAD: usize = 3;
/// The words of a lease: its owner, its number, its deadline.
pub(crate) const LEASE_WORDS: usize = 3;
/// The most tags of a record.
pub(crate) const MOST_TAGS: usize = 255;

const LEASED: u64 = 1 << 56;
/// The position of the number of bytes that fill up the value's last word.
const FILL_SHIFT: u32 = 57;
/// The bit of a record that no slot names any more, so that the tail passes it without looking for its slot.
/// Only writers use this bit.
pub(crate) const DEAD: u64 = 1 << 60;
/// The bit of a pad: the rest of the lap is empty. The low half of the word is its length, as in a record.
pub(crate) const PAD: u64 = 1 << 63;

/// Marks the record that begins with this word as dead: no slot names it any more. It was published before,
/// and no tail has passed it.
#[inline(always)]
pub(crate) fn mark_dead(meta: &AtomicU64) {
    meta.store(meta.load(Relaxed) | DEAD, Relaxed);
}

/// Positions in the head.
pub(crate) const META: usize = 0;
/// The length of the key and half of its hash. Most other keys differ in this word.
pub(crate) const KEY: usize = 1;
pub(crate) const DEADLINE: usize = 2;

/// The kinds of values that this crate itself uses. All others are chosen by the caller, and have no meaning
/// here.
pub mod kind {
    /// An integer: one word, which [`SharedCache::increment`](crate::SharedCache::increment) changes in place.
    pub const INTEGER: u8 = 255;
    /// The state of [`SharedCache::limit`](crate::SharedCache::limit): the time at which all uses taken so
    /// far have returned.
    pub const LIMITER: u8 = 254;
    /// No value, only a lease. Reads do not find it.
    pub(crate) const LEASE: u8 = 253;
    /// The first reserved kind. Those of callers are below.
    pub const FIRST_RESERVED: u8 = 253;
}

/// A key: its bytes, and the kind of thing that they encode. Keys are equal if both are equal.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The kind, which the caller chooses.
    pub kind: u8,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// A tag with the version that it had when the computation of a value began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub(crate) u64);

/// A key with its hash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HashedKey<'a> {
    pub(crate) key: Key<'a>,
    pub(crate) hash: u64,
}

impl HashedKey<'_> {
    /// The second word of a record of the key. No key is so long that its length does not fit.
    #[inline(always)]
    pub(crate) fn word(&self) -> u64 {
        (self.key.bytes.len().min(LARGEST_LENGTH) as u64) << 32 | self.hash & 0xFFFF_FFFF
    }
}

/// The limit of the bytes of a record, whose number fits half a word.
pub(crate) const LARGEST_LENGTH: usize = 0xFFFF_FFFF;

/// The number of words of a meta word's record or pad.
#[inline(always)]
pub(crate) fn length_of(meta: u64) -> usize {
    (meta & 0xFFFF_FFFF) as usize
}

/// The contents of a new record besides its key.
#[derive(Clone, Copy)]
pub(crate) struct Content<'a> {
    pub(crate) kind: u8,
    pub(crate) value: ValueRef<'a>,
    /// 0: none.
    pub(crate) deadline: u64,
    pub(crate) tags: &'a [Tag],
    pub(crate) lease: Option<[u64; LEASE_WORDS]>,
}

/// A value to be stored.
#[derive(Clone, Copy)]
pub(crate) enum ValueRef<'a> {
    Bytes(&'a [u8]),
    Word(u64),
}

impl ValueRef<'_> {
    fn bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Word(_) => 8,
        }
    }
}

/// The words that a record takes.
#[inline]
pub(crate) fn words_of(key: usize, value: usize, tags: usize, is_leased: bool) -> usize {
    RECORD_HEAD + tags + if is_leased { LEASE_WORDS } else { 0 } + words_for(key) + words_for(value)
}

impl Content<'_> {
    /// The words of the record.
    #[inline]
    pub(crate) fn words(&self, key: &Key<'_>) -> usize {
        words_of(key.bytes.len(), self.value.bytes(), self.tags.len(), self.lease.is_some())
    }

    /// The first word of the record, which has `words` words.
    #[inline]
    fn meta(&self, key: &Key<'_>, words: usize) -> u64 {
        words as u64
            | u64::from(key.kind) << 32
            | u64::from(self.kind) << 40
            | (self.tags.len() as u64) << 48
            | if self.lease.is_some() { LEASED } else { 0 }
            | (self.value.bytes().wrapping_neg() as u64 & 7) << FILL_SHIFT
    }

    /// Writes the record to `to`, which must have exactly its length.
    #[inline]
    pub(crate) fn write(&self, key: &HashedKey<'_>, to: &[AtomicU64]) {
        to[META].store(self.meta(&key.key, to.len()), Relaxed);
        to[KEY].store(key.word(), Relaxed);
        to[DEADLINE].store(self.deadline, Relaxed);
        let mut rest = &to[RECORD_HEAD..];
        if !self.tags.is_empty() || self.lease.is_some() {
            let extra = self.tags.iter().map(|tag| &tag.0).chain(self.lease.iter().flatten());
            for (word, value) in rest.iter().zip(extra) {
                word.store(*value, Relaxed);
            }
            rest = &to[words_of(0, 0, self.tags.len(), self.lease.is_some())..];
        }
        store_bytes(rest, key.key.bytes);
        let value = &rest[words_for(key.key.bytes.len())..];
        match self.value {
            ValueRef::Bytes(bytes) => store_bytes(value, bytes),
            ValueRef::Word(word) => value[0].store(word, Relaxed),
        }
    }
}

/// A record whose parts lie inside it.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    words: &'a [AtomicU64],
    meta: u64,
    key_word: u64,
    /// Where the value begins.
    value_at: usize,
}

impl<'a> Record<'a> {
    /// The record at the beginning of `log`, or `None` if its lengths contradict each other or the log's end.
    #[inline(always)]
    pub(crate) fn read(log: &'a [AtomicU64]) -> Option<Self> {
        let meta = log.get(META)?.load(Relaxed);
        let key_word = log.get(KEY)?.load(Relaxed);
        let mut record = Self { words: log.get(..length_of(meta))?, meta, key_word, value_at: 0 };
        record.value_at = record.key_at() + words_for(record.key_bytes());
        let value_words = record.words.len().checked_sub(record.value_at)?;
        // An empty value has no bytes that fill up a word.
        (record.fill() <= value_words * 8 && meta & PAD == 0).then_some(record)
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    /// Half of the key's hash, from which its buckets follow.
    #[inline(always)]
    pub(crate) fn half_hash(&self) -> u64 {
        self.key_word & 0xFFFF_FFFF
    }

    #[inline(always)]
    fn key_bytes(&self) -> usize {
        (self.key_word >> 32) as usize
    }

    #[inline(always)]
    fn fill(&self) -> usize {
        (self.meta >> FILL_SHIFT & 7) as usize
    }

    #[inline(always)]
    fn value_bytes(&self) -> usize {
        // `read` has checked these lengths.
        (self.words.len() - self.value_at) * 8 - self.fill()
    }

    #[inline(always)]
    fn tag_count(&self) -> usize {
        (self.meta >> 48 & 0xFF) as usize
    }

    #[inline(always)]
    pub(crate) fn is_leased(&self) -> bool {
        self.meta & LEASED != 0
    }

    #[inline(always)]
    pub(crate) fn kind(&self) -> u8 {
        (self.meta >> 40 & 0xFF) as u8
    }

    #[inline(always)]
    pub(crate) fn key_kind(&self) -> u8 {
        (self.meta >> 32 & 0xFF) as u8
    }

    #[inline(always)]
    pub(crate) fn deadline(&self) -> u64 {
        self.words[DEADLINE].load(Relaxed)
    }

    /// The word of its deadline.
    pub(crate) fn deadline_word(&self) -> &'a AtomicU64 {
        &self.words[DEADLINE]
    }

    /// A tag's index in the tag table, and the version that the record was stored with.
    #[inline(always)]
    pub(crate) fn tags(&self) -> &'a [AtomicU64] {
        &self.words[RECORD_HEAD..RECORD_HEAD + self.tag_count()]
    }

    /// The words of its lease.
    pub(crate) fn lease(&self) -> Option<&'a [AtomicU64]> {
        let at = RECORD_HEAD + self.tag_count();
        self.is_leased().then(|| &self.words[at..at + LEASE_WORDS])
    }

    /// Its first word.
    #[inline(always)]
    pub(crate) fn meta_word(&self) -> &'a AtomicU64 {
        &self.words[META]
    }

    /// Whether it was marked as dead.
    pub(crate) fn is_dead(&self) -> bool {
        self.meta & DEAD != 0
    }

    /// Writes a copy with a lease to `to`, which must have exactly its length. The record itself must have no
    /// lease.
    pub(crate) fn copy_with_lease(&self, lease: [u64; LEASE_WORDS], to: &[AtomicU64]) {
        let at = self.key_at();
        let (head, rest) = to.split_at(at);
        let (lease_words, rest) = rest.split_at(LEASE_WORDS);
        for (to, from) in head.iter().chain(rest).zip(self.words) {
            to.store(from.load(Relaxed), Relaxed);
        }
        for (to, value) in lease_words.iter().zip(lease) {
            to.store(value, Relaxed);
        }
        to[META].store((to[META].load(Relaxed) + LEASE_WORDS as u64) | LEASED, Relaxed);
    }

    #[inline(always)]
    fn key_at(&self) -> usize {
        words_of(0, 0, self.tag_count(), self.is_leased())
    }

    /// The key's words and bytes.
    pub(crate) fn key(&self) -> Value<'a> {
        Value { kind: self.key_kind(), words: &self.words[self.key_at()..], bytes: self.key_bytes() }
    }

    /// Whether the record belongs to this key.
    #[inline(always)]
    pub(crate) fn is_of(&self, key: &HashedKey<'_>) -> bool {
        self.key_word == key.word()
            && self.key_kind() == key.key.kind
            && equal_bytes(&self.words[self.key_at()..], key.key.bytes)
    }

    /// The value.
    #[inline(always)]
    pub(crate) fn value(&self) -> Value<'a> {
        Value { kind: self.kind(), words: &self.words[self.value_at..], bytes: self.value_bytes() }
    }

    /// The value's word, if the value is of this kind.
    #[inline(always)]
    pub(crate) fn word_of_kind(&self, kind: u8) -> Option<&'a AtomicU64> {
        let value = self.value();
        if self.kind() == kind && value.bytes == 8 { value.words.first() } else { None }
    }
}

/// A stored value, in shared memory.
///
/// Other processes may overwrite it at any time. The cache checks afterwards that it was intact to the end,
/// and otherwise reads again. So the bytes may be arbitrary, and may change between two reads: copy them
/// first, then look at the copy.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    /// The kind that the caller stored it with.
    pub kind: u8,
    words: &'a [AtomicU64],
    bytes: usize,
}

impl<'a> Value<'a> {
    #[inline]
    pub(crate) fn from_words(kind: u8, words: &'a [AtomicU64], bytes: usize) -> Self {
        Self { kind, words, bytes }
    }

    /// Its length in bytes.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The value's first eight bytes as a number, which is the whole of an integer.
    #[must_use]
    #[inline]
    pub fn word(&self) -> u64 {
        if self.bytes < 8 { 0 } else { self.words[0].load(Relaxed) }
    }

    /// The words, for callers that copy them themselves. The last word is filled up with zeros.
    #[must_use]
    pub fn words(&self) -> &'a [AtomicU64] {
        &self.words[..words_for(self.bytes)]
    }

    /// Copies the bytes to `to`, which must have exactly their length. Returns the bitwise "or" of all words,
    /// the last one filled up with zeros: if the top bit of each byte is 0, the value is ASCII.
    #[inline]
    pub fn copy_to(&self, to: &mut [MaybeUninit<u8>]) -> u64 {
        let mut all = 0;
        let (whole, rest) = to.as_chunks_mut::<8>();
        let words = self.words;
        for (to, word) in whole.iter_mut().zip(words) {
            let word = word.load(Relaxed);
            all |= word;
            *to = word.to_le_bytes().map(MaybeUninit::new);
        }
        if let Some(last) = words.get(whole.len())
            && !rest.is_empty()
        {
            let word = last.load(Relaxed);
            all |= word;
            // Byte by byte, since `memcpy` for so few bytes would cost a function call.
            for (at, to) in rest.iter_mut().enumerate() {
                *to = MaybeUninit::new((word >> (8 * at)) as u8);
            }
        }
        all
    }

    /// Appends the bytes to `to`.
    ///
    /// # Errors
    ///
    /// There is not enough memory.
    #[inline]
    pub fn append_to(&self, to: &mut Vec<u8>) -> Result<(), crate::Error> {
        // The last word is copied whole, then truncated.
        to.try_reserve(words_for(self.bytes) * 8).map_err(|_| crate::Error::OutOfMemory)?;
        crate::words::append_bytes(self.words, self.bytes, to);
        Ok(())
    }
}
