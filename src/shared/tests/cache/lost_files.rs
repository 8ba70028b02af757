//! Another program truncates the file of an open cache: calls fail with an error or go to a new file, return nothing that was
//! not stored, and no signal ends the process.

use std::ffi::{c_int, c_void};
use std::fs::{self, File};
use std::mem::{transmute, zeroed};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use libc::siginfo_t;

use flexcache_shared::{Error, Location, Patience, SharedCache, Version};

use crate::peer::Peer;
use crate::support::{
    Random, bytes_of, directory, entry, get, key, marked, new, number_of, open, path_in, put, scaled, sized,
    small,
};

fn truncate(path: &Path, length: u64) {
    File::options().write(true).open(path).expect("a file").set_len(length).expect("ours");
}

/// Lengths with which nothing, or less than a header, is left of a file.
const TOO_SHORT: [u64; 3] = [0, 1, 100];

#[test]
fn an_open_cache_tells_that_its_file_was_truncated() {
    for length in TOO_SHORT {
        let (cache, directory) = new(&small());
        let path = path_in(&directory);
        let (other, _other_directory) = new(&small());
        put(&cache, b"k", b"v");
        put(&other, b"k", b"other");
        truncate(&path, length);
        let told = |error: Error| {
            assert!(
                matches!(&error, Error::Truncated { size, expected, path: named }
                    if *size == length && *expected > 200_000 && *named == path),
                "{length}: {error}"
            );
        };
        // An access to a page that is still there may find nothing. The next call finds out.
        let _ = cache.get(key(b"k"), Patience::Wait, bytes_of).map_err(told);
        for _ in 0..2 {
            told(cache.put(key(b"k"), &entry(b"v"), Patience::Wait).expect_err("there is no file"));
            told(cache.get(key(b"k"), Patience::Wait, bytes_of).expect_err("there is no file"));
            told(cache.pop(key(b"k"), Patience::Wait, bytes_of).expect_err("there is no file"));
            told(cache.increment(key(b"n"), 1, 0, 0, Patience::Wait).expect_err("there is no file"));
            told(cache.keys(Patience::Wait, |_, _| {}).expect_err("there is no file"));
            told(cache.clear(Patience::Wait).expect_err("there is no file"));
        }
        assert_eq!(cache.len(), 0);
        assert_eq!(fs::metadata(&path).expect("it is left as it is").len(), length);
        assert_eq!(get(&other, b"k").as_deref(), Some(&b"other"[..]), "other caches go on");
        assert!(cache.unlink().expect("it is there"));
        assert_eq!(get(&cache, b"k"), None);
        put(&cache, b"k", b"new");
        assert_eq!(get(&open(&path, &small()), b"k").as_deref(), Some(&b"new"[..]));
    }
}

#[test]
fn a_file_that_still_begins_as_a_cache_is_replaced() {
    for length in [4096, 5000, 40_000, 128 << 10] {
        let (cache, directory) = new(&small());
        let path = path_in(&directory);
        let second = open(&path, &small());
        for name in 0..1000_u32 {
            put(&cache, &name.to_le_bytes(), &[7; 100]);
        }
        truncate(&path, length);
        put(&cache, b"k", b"new");
        assert_eq!(get(&cache, b"k").as_deref(), Some(&b"new"[..]), "{length}");
        assert_eq!(get(&second, b"k").as_deref(), Some(&b"new"[..]), "{length}: the other one has left, too");
        assert!(fs::metadata(&path).expect("it was replaced").len() > 200_000);
    }
}

#[test]
fn unlink_of_what_is_left_makes_others_leave() {
    let directory = directory();
    let path = path_in(&directory);
    let options = sized(4 << 20);
    let (cache, second) = (open(&path, &options), open(&path, &options));
    put(&cache, b"k", b"v");
    let stamp = second.stamp_of(key(b"k"), Patience::Wait).expect("a call").expect("nobody writes");
    truncate(&path, 2 << 20);
    // This finds the loss in the head of a stripe, and opens nothing.
    let _ = cache.stats();
    assert!(cache.unlink().expect("it is there"));
    assert!(!second.is_current(&stamp));
    put(&cache, b"k", b"new");
    assert_eq!(get(&second, b"k").as_deref(), Some(&b"new"[..]));
}

#[test]
fn no_copy_is_current_when_the_file_is_lost() {
    // The version of a key that was never written is 0, as is new memory.
    for length in TOO_SHORT {
        let (cache, directory) = new(&small());
        let stamp = cache.stamp_of(key(b"absent"), Patience::Wait).expect("a call").expect("nobody writes");
        let bits = cache.bits(&stamp).expect("it fits");
        assert!(cache.is_current(&stamp) && cache.is_current_in_bits(bits));
        truncate(&path_in(&directory), length);
        assert!(!cache.is_current(&stamp) && !cache.is_current_in_bits(bits));
        assert!(!cache.is_current_in_bits(bits) && !cache.is_current(&stamp));
    }
}

#[test]
fn a_cache_by_its_name_begins_anew() {
    let name = format!("test-lost-{}", std::process::id());
    let cache = SharedCache::open(&Location::Name(name), small()).expect("there is room");
    for length in TOO_SHORT {
        put(&cache, b"k", b"old");
        truncate(&cache.path(), length);
        assert_eq!(get(&cache, b"k"), None);
        put(&cache, b"k", b"new");
        assert_eq!(get(&cache, b"k").as_deref(), Some(&b"new"[..]));
    }
    assert!(cache.unlink().expect("it is there"));
}

/// Reads and writes marked values as long as `goes_on` returns true. Checks that each value that is returned was stored.
pub(crate) fn use_while(cache: &SharedCache, seed: u64, goes_on: impl Fn() -> bool) {
    let mut random = Random(seed);
    let mut version: Option<(u64, Version)> = None;
    let mut count = 0;
    while goes_on() {
        count += 1;
        let name = random.below(300);
        let bytes = name.to_le_bytes();
        let value = marked(name, count, 3 + random.below(300) as usize);
        let check = |value: Option<Vec<u8>>| {
            value.map(|value| number_of(name, &value));
        };
        let outcome = match random.below(16) {
            0..=4 => cache.get(key(&bytes), Patience::Wait, bytes_of).map(check),
            5 | 6 => cache.pop(key(&bytes), Patience::Wait, bytes_of).map(check),
            7 => cache.delete(key(&bytes), Patience::Wait).map(drop),
            8 => cache.increment(key(&[9, bytes[0]]), 1, 0, 0, Patience::Wait).map(drop),
            9 => cache.touch(key(&bytes), 0, Patience::Wait).map(drop),
            10 if random.below(50) == 0 => cache.clear(Patience::Wait).map(drop),
            11 if random.below(10) == 0 => cache.keys(Patience::Wait, |_, key| {
                assert!(matches!(key, b"k" | [9, _] | [_, 0 | 1, 0, 0, 0, 0, 0, 0]), "no key: {key:?}");
            }),
            12 => cache.get_version(key(&bytes), Patience::Wait, bytes_of).map(|read| {
                version = read.map(|(value, _, version)| {
                    number_of(name, &value);
                    (name, version)
                });
            }),
            13 if version.is_some() => version.take().map_or(Ok(()), |(name, version)| {
                let value = marked(name, count, 5);
                cache.replace(key(&name.to_le_bytes()), &version, &entry(&value), Patience::Wait).map(drop)
            }),
            _ => cache.put(key(&bytes), &entry(&value), Patience::Wait).map(drop),
        };
        match outcome {
            // The file may be truncated while it is opened, too.
            Ok(()) | Err(Error::Truncated { .. } | Error::NotASegment { .. } | Error::Timeout { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Ends the threads of a test, also if it fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
#[cfg_attr(feature = "strict", ignore = "a recount finds the damage first")]
fn readers_and_writers_survive() {
    for round in 0..u64::from(scaled(40)) {
        let directory = directory();
        let path = path_in(&directory);
        let options = sized(1 << 20);
        let cache = open(&path, &options);
        let mut peers = [0, 1].map(|_| Peer::new(&path));
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _over = Over(&is_over);
            for thread in 0..3 {
                let (cache, is_over) = (&cache, &is_over);
                scope.spawn(move || use_while(cache, round * 8 + thread, || !is_over.load(Relaxed)));
            }
            for peer in &mut peers {
                assert_eq!(peer.ask(&format!("survive {round}")), "surviving");
            }
            let mut random = Random(round);
            for length in [0, 4096, 512 << 10, 100, 0] {
                // The others get some way into their calls, each round another one.
                for _ in 0..random.below(60) {
                    let _ = fs::metadata(&path);
                    std::thread::yield_now();
                }
                // It may be gone, and only the others begin another one. They replace none that is too short.
                let Ok(file) = File::options().write(true).open(&path) else { continue };
                file.set_len(length).expect("ours");
                if fs::metadata(&path).is_ok_and(|found| found.len() < 4096) {
                    fs::remove_file(&path).expect("it is there");
                }
            }
        });
        assert!(peers.iter().all(|peer| peer.state() != 'Z'), "a peer has died");
        // They would clear the cache now and then.
        peers.iter_mut().for_each(Peer::kill);
        // The last file was removed, or is a new one. If it was replaced between the look at its length and its removal, the
        // new one was removed, and no other cache finds it.
        match cache.put(key(b"k"), &entry(b"v"), Patience::Wait) {
            Ok(_) => assert_eq!(get(&cache, b"k").as_deref(), Some(&b"v"[..])),
            // The list of locks in which the system looks up what a killed thread held may have led through lost memory. A
            // lock whose holder had not put its name there stays locked then.
            Err(Error::Timeout { holder: None, .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

extern "C" fn previous(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes what it knows of the signal.
    called(unsafe { (*info).si_addr() }.addr() == MAPPED.load(Relaxed))
}

extern "C" fn plain(signal: c_int) {
    called(signal == libc::SIGBUS)
}

/// Tells of the call of a handler, and ends the process.
fn called(as_expected: bool) -> ! {
    let text = if as_expected { "peer: called\n" } else { "peer: odd\n" };
    // SAFETY: both are allowed in a handler.
    unsafe {
        libc::write(1, text.as_ptr().cast(), text.len());
        libc::_exit(0);
    }
}

/// Calls the handler that it has replaced, as the handlers of many programs do.
extern "C" fn wrapping(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: it was the handler, with this type.
    let wrapped = unsafe { transmute::<usize, extern "C" fn(_, _, _)>(WRAPPED.load(Relaxed)) };
    wrapped(signal, info, context);
}

static MAPPED: AtomicUsize = AtomicUsize::new(0);
static WRAPPED: AtomicUsize = AtomicUsize::new(0);

/// What the signal does before a cache is opened.
const DEFAULT: u32 = 0;
const CALLS_WITH_INFO: u32 = 1;
const CALLS: u32 = 2;
const IS_IGNORED: u32 = 3;
/// It does the default, and later another handler replaces ours and calls it.
const IS_WRAPPED: u32 = 4;

/// Sets what the signal does. Returns what it did.
fn set_action(handler: usize, flags: c_int) -> usize {
    // SAFETY: numbers and pointers, for which zero is valid.
    let (mut action, mut before): (libc::sigaction, libc::sigaction) = unsafe { (zeroed(), zeroed()) };
    (action.sa_sigaction, action.sa_flags) = (handler, flags);
    // SAFETY: the handler may be called at any time.
    let code = unsafe { libc::sigaction(libc::SIGBUS, &raw const action, &raw mut before) };
    assert_eq!(code, 0);
    before.sa_sigaction
}

/// Opens a cache, survives the loss of its file, and then loses another mapping, or sends itself the signal first.
pub(crate) fn bus_error(path: &Path, before: u32, sends: bool, say: fn(&str)) {
    match before {
        CALLS_WITH_INFO => set_action(previous as extern "C" fn(_, _, _) as usize, libc::SA_SIGINFO),
        CALLS => set_action(plain as extern "C" fn(_) as usize, 0),
        IS_IGNORED => set_action(libc::SIG_IGN, 0),
        _ => set_action(libc::SIG_DFL, 0),
    };
    let cache = open(path, &small());
    if before == IS_WRAPPED {
        let ours = set_action(wrapping as extern "C" fn(_, _, _) as usize, libc::SA_SIGINFO);
        WRAPPED.store(ours, Relaxed);
    }
    // The handler is there already.
    let _second = open(&path.with_extension("second"), &small());
    put(&cache, b"k", b"v");
    truncate(path, 0);
    let lost = cache.put(key(b"k"), &entry(b"v"), Patience::Wait);
    say(if matches!(lost, Err(Error::Truncated { .. })) { "told" } else { "not told" });
    if sends {
        // SAFETY: no memory is involved.
        unsafe { libc::raise(libc::SIGBUS) };
        say("the signal was ignored");
    }
    let file =
        File::options().read(true).write(true).create(true).truncate(true).open(path.with_extension("other"));
    let file = file.expect("a directory");
    file.set_len(4096).expect("ours");
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let mapped =
        // SAFETY: a new mapping.
        unsafe { libc::mmap(ptr::null_mut(), 4096, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    MAPPED.store(mapped.addr(), Relaxed);
    file.set_len(0).expect("ours");
    // SAFETY: it is mapped, and the access is what the test is about.
    unsafe { mapped.cast::<u8>().read_volatile() };
    say("the access went on");
}

/// What a process says after its cache has lost its file, and the signal that ends it.
fn after_loss(before: u32, sends: bool) -> (Vec<String>, Option<i32>) {
    let directory = directory();
    let mut peer = Peer::silent(&path_in(&directory), &format!("bus-error {before} {}", u32::from(sends)));
    assert_eq!(peer.answer(), "told");
    let mut answers = vec![peer.answer()];
    while answers.last().is_some_and(|last| last.starts_with("the")) {
        answers.push(peer.answer());
    }
    (answers, peer.end())
}

#[test]
fn other_mappings_get_what_the_signal_did_before() {
    let called = (vec!["called".to_owned()], None);
    let dead = (vec!["dead".to_owned()], Some(libc::SIGBUS));
    assert_eq!(after_loss(CALLS_WITH_INFO, false), called);
    assert_eq!(after_loss(CALLS, false), called);
    for before in [DEFAULT, IS_IGNORED, IS_WRAPPED] {
        assert_eq!(after_loss(before, false), dead, "{before}");
    }
}

#[test]
fn a_signal_that_a_program_sends_does_what_it_did_before() {
    assert_eq!(after_loss(CALLS, true), (vec!["called".to_owned()], None));
    assert_eq!(after_loss(DEFAULT, true), (vec!["dead".to_owned()], Some(libc::SIGBUS)));
    let ignored = vec!["the signal was ignored".to_owned(), "dead".to_owned()];
    assert_eq!(after_loss(IS_IGNORED, true), (ignored, Some(libc::SIGBUS)));
}
