//! Caches in a directory of their own, and short names for what all tests do.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flexcache_shared::{Entry, Key, Location, Options, Patience, SharedCache};
use tempfile::TempDir;

/// A directory which no one else uses, in memory where the system has one there.
pub(crate) fn directory() -> TempDir {
    let mut named = tempfile::Builder::new();
    named.prefix("flexcache-test-");
    if cfg!(windows) { named.tempdir() } else { named.tempdir_in("/dev/shm") }.expect("it is there")
}

/// The number of files in it, but for those that only Windows needs: the lock of the directory, and what is still mapped.
pub(crate) fn files_in(directory: &TempDir) -> usize {
    let names =
        std::fs::read_dir(directory).expect("it is there").map(|entry| entry.expect("ours").file_name());
    names.filter(|name| !(cfg!(windows) && name.to_string_lossy().starts_with(".flexcache-"))).count()
}

/// The smallest cache: a log of 18 KiB and one of 160 KiB.
pub(crate) fn small() -> Options {
    Options { max_bytes: 256 << 10, ..Options::default() }
}

/// A cache of this size.
pub(crate) fn sized(max_bytes: usize) -> Options {
    Options { max_bytes, ..Options::default() }
}

/// Opens a cache by its path.
pub(crate) fn open(path: &Path, options: &Options) -> SharedCache {
    SharedCache::open(&Location::Path(path.to_owned()), options.clone()).expect("a good place")
}

/// A new cache, and the directory that it lies in.
pub(crate) fn new(options: &Options) -> (SharedCache, TempDir) {
    let directory = directory();
    (open(&directory.path().join("cache"), options), directory)
}

/// The path of the cache in such a directory.
pub(crate) fn path_in(directory: &TempDir) -> PathBuf {
    directory.path().join("cache")
}

/// A key of kind 0.
pub(crate) fn key(bytes: &[u8]) -> Key<'_> {
    Key { kind: 0, bytes }
}

/// An entry of kind 1 that never expires.
pub(crate) fn entry(value: &[u8]) -> Entry<'_> {
    Entry { kind: 1, value, deadline: 0, tags: &[] }
}

/// Stores a value.
pub(crate) fn put(cache: &SharedCache, name: &[u8], value: &[u8]) -> bool {
    cache.put(key(name), &entry(value), Patience::Wait).expect("it fits").result
}

/// The value of a key.
pub(crate) fn get(cache: &SharedCache, name: &[u8]) -> Option<Vec<u8>> {
    cache.get(key(name), Patience::Wait, bytes_of).expect("it can be read")
}

/// A copy of a value.
pub(crate) fn bytes_of(value: flexcache_shared::Value<'_>) -> flexcache_shared::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    value.append_to(&mut bytes)?;
    Ok(bytes)
}

/// Waits until a condition holds, and fails if it does not within a minute.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How many rounds of a test to run, of those of a full run.
pub(crate) fn scaled(rounds: u32) -> u32 {
    let scale =
        std::env::var("FLEXCACHE_TEST_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(0.1_f64);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of rounds")]
    let scaled = (f64::from(rounds) * scale).ceil() as u32;
    scaled.clamp(1, rounds)
}

/// Pseudo-random numbers that a test can repeat.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A value that tells if it is torn: the key, the number and a sum, over and over.
pub(crate) fn marked(name: u64, number: u64, words: usize) -> Vec<u8> {
    let sum = name.wrapping_mul(31).wrapping_add(number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    [name, number, sum].iter().cycle().take(words.max(3)).flat_map(|word| word.to_le_bytes()).collect()
}

/// The number of a marked value, after a look at all of it.
pub(crate) fn number_of(name: u64, value: &[u8]) -> u64 {
    let words: Vec<u64> =
        value.chunks(8).map(|chunk| u64::from_le_bytes(chunk.try_into().expect("whole words"))).collect();
    let number = words[1];
    assert_eq!(value, marked(name, number, words.len()), "a torn value of key {name}");
    number
}
