//! Bytes of a server that lies: an error, and no memory for what it claims.

#![expect(clippy::unwrap_used, reason = "a test fails there")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use flexcache_remote::Decoder;

struct Counting;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: it does what the system's allocator does, and notes how much was asked for.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn read(bytes: &[u8]) -> Result<usize, String> {
    let mut decoder = Decoder::new();
    decoder.feed(bytes)?;
    let mut found = 0;
    while decoder.next()?.is_some() {
        found += 1;
    }
    Ok(found)
}

/// One test: what is measured is the process's.
#[test]
fn nothing_is_believed() {
    LARGEST.store(0, Ordering::Relaxed);
    // Claims that may be true: more has to come.
    for bytes in [
        "*16000000\r\n:1\r\n",
        "$500000000\r\nabc",
        "%8000000\r\n",
        "~9999999\r\n",
        ">3\r\n*9999999\r\n*9999999\r\n",
    ] {
        assert_eq!(read(bytes.as_bytes()), Ok(0), "{bytes}");
    }
    let deep = "*1\r\n".repeat(1000);
    let refused = [
        "\r\n",
        "\n",
        "x\r\n",
        ":\r\n",
        ":1x\r\n",
        ":99999999999999999999\r\n",
        "#x\r\n",
        ",x\r\n",
        "$-2\r\n",
        "$x\r\n",
        "$99999999999\r\n",
        "$1\r\nabc",
        "*-2\r\n",
        "*99999999999\r\n",
        "%9223372036854775807\r\n",
        "=2\r\nab\r\n",
        "$?\r\n",
        "*?\r\n",
        "+a\n",
        deep.as_str(),
    ];
    for bytes in refused {
        assert!(read(bytes.as_bytes()).is_err(), "{bytes:?}");
    }
    let long = "+".repeat(70_000);
    assert!(read(long.as_bytes()).is_err());
    assert!(LARGEST.load(Ordering::Relaxed) < 1 << 18, "{}", LARGEST.load(Ordering::Relaxed));
}

#[test]
fn after_an_error_nothing_is_read() {
    let mut decoder = Decoder::new();
    decoder.feed(b"x\r\n:1\r\n").unwrap();
    assert!(decoder.next().is_err() && decoder.next().is_err());
}
