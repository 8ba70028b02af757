//! The recount that builds with the feature `strict` make after each write.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::files::{cache_versions_and_tags, overwrite};
use crate::support::{get, new, path_in, put, small};

/// The words of a stripe's head that are sums: live words of both logs, entries, leases, words of leased records.
const SUMS: [u64; 5] = [18, 19, 20, 21, 22];

#[test]
fn a_sum_that_is_wrong_is_found_by_the_next_write() {
    for word in SUMS {
        let (cache, directory) = new(&small());
        let path = path_in(&directory);
        put(&cache, b"before", b"v");
        let stripe = 4096 + cache_versions_and_tags(fs::metadata(&path).expect("it is there").len());
        overwrite(&path, stripe + word * 8, &77_u64.to_le_bytes());
        let panic =
            catch_unwind(AssertUnwindSafe(|| put(&cache, b"after", b"v"))).expect_err("the sum is wrong");
        let text = panic.downcast_ref::<String>().expect("a text");
        assert!(text.contains("recount") && text.contains(&format!("word {word} ")), "{text}");
        // A panic under the lock empties the stripe, and with it the sums.
        assert_eq!((get(&cache, b"before"), cache.stats().resets), (None, 1));
        put(&cache, b"after", b"v");
        assert_eq!(cache.len(), 1);
    }
}

#[test]
fn a_record_that_is_marked_dead_and_lives_is_found_by_the_next_write() {
    let (cache, directory) = new(&small());
    let path = path_in(&directory);
    put(&cache, b"a key of its own", b"v");
    let bytes = fs::read(&path).expect("it is there");
    let at = bytes.windows(16).position(|bytes| bytes == b"a key of its own").expect("it was stored");
    // Three words are before the key, and the first one has the mark.
    let record = at - 24;
    overwrite(&path, record as u64 + 7, &[bytes[record + 7] | 1 << 4]);
    let panic = catch_unwind(AssertUnwindSafe(|| put(&cache, b"after", b"v"))).expect_err("it lives");
    let text = panic.downcast_ref::<String>().expect("a text");
    assert!(text.contains("recount") && text.contains("marked dead"), "{text}");
}
