//! What lies under a name: created, damaged, replaced, removed; and what the file system has against it.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
#[cfg(unix)]
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

use flexcache_shared::{Error, Location, Options, Patience, SharedCache};

use crate::peer::Peer;
use crate::support::{
    Random, directory, entry, files_in, get, key, new, open, path_in, put, scaled, sized, small,
};

fn try_open(path: &Path) -> flexcache_shared::Result<SharedCache> {
    SharedCache::open(&Location::Path(path.to_owned()), small())
}

pub(crate) fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).expect("a file");
    file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(bytes)).expect("it can be written");
}

/// Writes a file that nobody else may use.
fn write_private(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("it can be written");
    #[cfg(unix)]
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("ours");
}

#[test]
fn a_file_that_is_no_cache_is_left_alone() {
    let directory = directory();
    let path = path_in(&directory);
    for bytes in [vec![], vec![1; 100], vec![0; 1 << 20], (0..1 << 20).map(|n| (n % 251) as u8).collect()] {
        write_private(&path, &bytes);
        let error = try_open(&path).err().expect("no cache");
        assert!(matches!(error, Error::NotASegment { .. }), "{error}");
        assert_eq!(fs::read(&path).expect("it is there"), bytes);
    }
}

#[test]
fn a_temporary_cache_goes_with_its_last_user() {
    let cache = SharedCache::open(&Location::Temporary, small()).expect("there is room");
    let path = cache.path();
    let other = open(&path, &small());
    put(&cache, b"k", b"v");
    assert_eq!(get(&other, b"k").as_deref(), Some(&b"v"[..]));
    drop(cache);
    assert!(path.exists(), "another one has it open");
    other.leave();
    assert!(!path.exists());
    assert_eq!(get(&other, b"k").as_deref(), Some(&b"v"[..]), "a call that was in it goes on");
}

#[test]
fn a_removed_or_replaced_file_goes_with_its_last_user() {
    let (cache, directory) = new(&small());
    let larger = open(&path_in(&directory), &Options { resize: true, ..sized(1 << 20) });
    put(&cache, b"k", b"v");
    assert!(larger.unlink().expect("a call"));
    put(&cache, b"k", b"v");
    drop((larger, cache));
    let names: Vec<_> = fs::read_dir(&directory)
        .expect("it is there")
        .map(|entry| entry.expect("ours").file_name())
        .collect();
    let expected: &[&str] = if cfg!(windows) { &[".flexcache-lock", "cache"] } else { &["cache"] };
    assert_eq!(names, expected);
}

#[test]
fn a_damaged_cache_is_replaced_and_its_users_leave() {
    // Every word of the header but the first two, which say whose it is.
    for word in 2..13 {
        let (cache, directory) = new(&small());
        put(&cache, b"k", b"old");
        overwrite(&path_in(&directory), word * 8, &0x1234_5678_u64.to_le_bytes());
        let fresh = try_open(&path_in(&directory));
        if word == 11 {
            // The namespace is covered by the check word too: it is damage, not another namespace.
            assert!(fresh.is_ok());
        }
        let fresh = fresh.unwrap_or_else(|error| panic!("word {word}: {error}"));
        assert!(fresh.is_new(), "word {word}");
        assert_eq!(get(&fresh, b"k"), None);
        put(&fresh, b"k", b"new");
        assert_eq!(
            get(&cache, b"k").as_deref(),
            Some(&b"new"[..]),
            "word {word}: the old one is still in use"
        );
    }
}

#[test]
fn a_truncated_or_extended_cache_is_replaced() {
    for length in [5000, 200_000, 300_000] {
        let directory = directory();
        let path = path_in(&directory);
        drop(open(&path, &small()));
        File::options().write(true).open(&path).expect("a file").set_len(length).expect("ours");
        assert!(try_open(&path).expect("a cache's file").is_new());
    }
}

#[test]
fn another_layout_is_named_and_left_alone() {
    let directory = directory();
    let path = path_in(&directory);
    drop(open(&path, &small()));
    overwrite(&path, 8, &0x77_u64.to_le_bytes());
    let error = try_open(&path).err().expect("another layout");
    assert!(error.to_string().contains("0x77"), "{error}");
    assert_eq!(fs::metadata(&path).expect("it is there").len() % 4096, 0);
}

#[cfg(unix)]
#[test]
fn what_is_not_ours_is_refused() {
    let directory = directory();
    let path = path_in(&directory);
    let refused = |path: &Path, what: &str| {
        let error = try_open(path).err().unwrap_or_else(|| panic!("{what} was opened"));
        assert!(matches!(error, Error::NotOurs { .. }), "{what}: {error}");
        error.to_string()
    };
    drop(open(&path, &small()));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("ours");
    assert!(refused(&path, "a readable file").contains("640"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
    symlink(&path, directory.path().join("link")).expect("ours");
    refused(&directory.path().join("link"), "a link");
    fs::create_dir(directory.path().join("directory")).expect("ours");
    refused(&directory.path().join("directory"), "a directory");
    let link = directory.path().join("to-directory");
    symlink(directory.path(), &link).expect("ours");
    refused(&link.join("cache"), "a directory behind a link");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).expect("ours");
    refused(&path, "a file in an open directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).expect("ours");
    assert!(!try_open(&path).expect("all is well again").is_new());
    // Of another user, where this one may give files away.
    if std::os::unix::fs::chown(&path, Some(65_534), None).is_ok() {
        assert!(refused(&path, "another user's file").contains("65534"));
    }
}

#[test]
fn options_and_names_out_of_range_are_named() {
    let error = |location: &Location, options: Options| {
        SharedCache::open(location, options).err().expect("it is refused").to_string()
    };
    let name = |name: &str| Location::Name(name.into());
    assert!(error(&name("x"), sized(1000)).contains("max_bytes is 1000"));
    assert!(error(&name("x"), sized(usize::MAX)).contains("max_bytes"));
    assert!(error(&name("x"), Options { max_item: Some(1 << 30), ..small() }).contains("max_item"));
    for bad in ["", ".hidden", "a/b", "a\0b", "ü", &"x".repeat(101)] {
        assert!(error(&name(bad), small()).contains("cannot name a cache"), "{bad:?}");
    }
    for device in ["nul", "Con.x", "lpt1"].into_iter().filter(|_| cfg!(windows)) {
        assert!(error(&name(device), small()).contains("device"), "{device:?}");
    }
    assert!(error(&Location::Path("/".into()), small()).contains("cannot name"));
    let missing = directory().path().join("missing").join("deep").join("cache");
    // What is missing is the directory above.
    let above = missing.parent().and_then(Path::parent).expect("there is one").display().to_string();
    assert!(error(&Location::Path(missing), small()).starts_with(&format!("{above}:")));
}

#[test]
fn no_room_is_said_with_both_numbers() {
    let directory = directory();
    let error =
        SharedCache::open(&Location::Path(path_in(&directory)), sized(1 << 42)).err().expect("no room");
    assert!(matches!(error, Error::NoSpace { .. } | Error::MemoryLimit { .. }), "{error}");
    assert!(error.to_string().contains("max_bytes"), "{error}");
    assert_eq!(files_in(&directory), 0);
}

#[test]
fn a_name_leads_to_one_cache() {
    let name = Location::Name(format!("test-{}", std::process::id()));
    let one = SharedCache::open(&name, small()).expect("a good name");
    let two = SharedCache::open(&name, small()).expect("a good name");
    put(&one, b"k", b"v");
    assert!(get(&two, b"k").is_some());
    assert_eq!(one.path(), two.path());
    #[cfg(unix)]
    assert_eq!(fs::metadata(one.path()).expect("it is there").permissions().mode() & 0o777, 0o600);
    // Whatever lies under a name in the caches' own directory is replaced.
    assert!(one.unlink().expect("a call"));
    let path = one.path();
    drop((one, two));
    write_private(&path, b"rubbish");
    let three = SharedCache::open(&name, small()).expect("a good name");
    assert!(three.is_new());
    assert!(three.unlink().expect("a call"));
    assert!(!path.exists());
}

#[cfg(unix)]
#[test]
fn files_of_other_layouts_are_removed_when_nobody_has_them_open() {
    let name = format!("test-layouts-{}", std::process::id());
    let location = Location::Name(name.clone());
    let cache = SharedCache::open(&location, small()).expect("a good name");
    let path = cache.path();
    assert!(cache.unlink().expect("a call"));
    let of_another = |layout: &str, namespace: &str| {
        let file = path.file_name().and_then(|file| file.to_str()).expect("text");
        let own = file.rsplit('.').next().expect("there are dots");
        let namespace = if namespace.is_empty() { own } else { namespace };
        let path = path.with_file_name(format!("{name}.{layout}.{namespace}"));
        write_private(&path, b"of another version");
        path
    };
    let old = of_another("777777", "");
    let elsewhere = of_another("777777", "123");
    let unrelated = of_another("not-a-number", "");
    let in_use = of_another("888888", "");
    let user = File::open(&in_use).expect("ours");
    rustix::fs::flock(&user, rustix::fs::FlockOperation::LockShared).expect("nobody else has it");
    let cache = SharedCache::open(&location, small()).expect("a good name");
    assert!(cache.is_new());
    let there = [&old, &elsewhere, &unrelated, &in_use].map(|path| path.exists());
    assert_eq!(there, [false, true, true, true]);
    for path in [elsewhere, unrelated, in_use] {
        fs::remove_file(path).expect("ours");
    }
    assert!(cache.unlink().expect("a call"));
}

#[cfg(unix)]
/// What opening the cache says in a process that `unshare` starts. `None` where that is not allowed.
fn error_under_unshare(arguments: &[&str], directory: &Path) -> Option<String> {
    let output = std::process::Command::new("unshare")
        .args(arguments)
        .arg(directory)
        .arg(std::env::current_exe().expect("a program"))
        .args(["--exact", "peer::peer", "--ignored", "--nocapture", "--test-threads=1"])
        .env("FLEXCACHE_PEER", directory.join("cache"))
        .env("FLEXCACHE_PEER_FIRST", "error-of-open")
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().find_map(|line| line.split_once("peer: ")).map(|(_, answer)| answer.to_owned())
}

#[cfg(unix)]
#[test]
fn another_pid_namespace_has_another_cache() {
    let (cache, directory) = new(&small());
    put(&cache, b"k", b"v");
    let arguments = ["--pid", "--fork", "--mount-proc", "--", "sh", "-c", "shift 0; exec \"$@\""];
    let Some(error) = error_under_unshare(&arguments, directory.path()) else { return };
    assert!(error.contains("shareProcessNamespace"), "{error}");
    assert_eq!(get(&cache, b"k").as_deref(), Some(&b"v"[..]), "it was left alone");
}

#[cfg(unix)]
#[test]
fn a_full_file_system_is_said_with_both_numbers() {
    // A small tmpfs of our own, in a mount namespace that ends with the process.
    let directory = directory();
    let script = "mount -t tmpfs -o size=256k,mode=700 none \"$0\" && exec \"$@\"";
    let arguments = ["--mount", "--", "sh", "-c", script];
    let Some(error) = error_under_unshare(&arguments, directory.path()) else { return };
    assert!(error.contains("--shm-size") && error.contains("262144 free"), "{error}");
}

#[test]
fn file_systems_without_unnamed_files_do() {
    let directory = directory();
    let options = Options { named_files_only: true, ..small() };
    let left_over = directory.path().join(".flexcache-temporary-0123456789abcdef");
    fs::write(&left_over, b"of a process that died").expect("ours");
    let cache = open(&path_in(&directory), &options);
    put(&cache, b"k", b"v");
    let other = open(&path_in(&directory), &options);
    assert!(get(&other, b"k").is_some());
    assert_eq!(files_in(&directory), 1);
    // Replacing works the same way.
    let larger = open(&path_in(&directory), &Options { resize: true, max_bytes: 1 << 20, ..options });
    assert!(larger.is_new());
    assert_eq!(files_in(&directory), 1);
}

#[test]
fn a_cache_on_a_disk_works() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let cache = open(&path_in(&directory), &small());
    put(&cache, b"k", b"v");
    assert!(get(&open(&path_in(&directory), &small()), b"k").is_some());
}

#[test]
fn resize_replaces_and_all_follow() {
    let (cache, directory) = new(&small());
    put(&cache, b"k", b"old");
    let path = path_in(&directory);
    let kept = open(&path, &Options { resize: true, ..small() });
    assert!(!kept.is_new() && get(&kept, b"k").is_some(), "the size is the same");
    let larger = open(&path, &Options { resize: true, ..sized(2 << 20) });
    assert!(larger.is_new());
    assert_eq!(get(&larger, b"k"), None);
    put(&larger, b"k", b"new");
    // A call that may not wait says so, the next one that may opens the new file.
    assert!(matches!(cache.put(key(b"j"), &entry(b"v"), Patience::Try), Err(Error::Busy)));
    assert_eq!(get(&cache, b"k").as_deref(), Some(&b"new"[..]));
    assert_eq!(cache.stats().bytes, larger.stats().bytes);
    put(&cache, b"j", b"v");
    assert!(get(&larger, b"j").is_some());
    assert_eq!(files_in(&directory), 1);
}

#[test]
fn unlink_removes_only_its_own_file() {
    let (cache, directory) = new(&small());
    let path = path_in(&directory);
    let late = open(&path, &small());
    assert!(cache.unlink().expect("a call"));
    assert!(!path.exists());
    let fresh = open(&path, &small());
    put(&fresh, b"k", b"v");
    // `late` still has the old file: it must not remove the new one.
    assert!(!late.unlink().expect("a call"));
    assert!(path.exists());
    assert_eq!(get(&late, b"k").as_deref(), Some(&b"v"[..]), "and its next call joins the new one");
    assert!(late.unlink().expect("a call"));
    assert!(!path.exists());
}

#[test]
fn looking_at_a_cache_that_was_removed_makes_no_other_one() {
    let (cache, directory) = new(&small());
    let path = path_in(&directory);
    let other = open(&path, &small());
    put(&cache, b"k", b"v");
    let before = cache.stats();
    assert!(other.unlink().expect("a call"));
    assert_eq!((cache.len(), cache.stats().entries), (0, 0), "nothing is there any more");
    assert_eq!((cache.stats().bytes, cache.stats().capacity), (before.bytes, before.capacity));
    assert!(!path.exists());
    // Another one has the name: it is looked at, by all.
    let fresh = open(&path, &sized(1 << 20));
    put(&fresh, b"a", b"v");
    put(&fresh, b"b", b"v");
    assert_eq!((cache.len(), other.len()), (2, 2));
    assert_eq!(cache.stats().bytes, fresh.stats().bytes);
}

#[test]
fn a_cache_that_must_be_there_is_not_made() {
    let directory = directory();
    let path = path_in(&directory);
    let existing = || {
        let options = Options { create: false, ..small() };
        SharedCache::open(&Location::Path(path.clone()), options)
    };
    let is_missing = |error: &Error| matches!(error, Error::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound);
    assert!(existing().is_err_and(|error| is_missing(&error)));
    let cache = open(&path, &small());
    put(&cache, b"k", b"v");
    let found = existing().expect("it is there");
    assert!(!found.is_new() && get(&found, b"k").is_some());
    // Removed, or left by one who died while removing it.
    overwrite(&path, 16 * 8, &1_u64.to_le_bytes());
    assert!(existing().is_err_and(|error| is_missing(&error)));
    let error = found.put(key(b"k"), &entry(b"v"), Patience::Wait).expect_err("it was removed");
    assert!(is_missing(&error), "{error}");
    let fresh = open(&path, &small());
    put(&fresh, b"k", b"new");
    assert_eq!(get(&found, b"k").as_deref(), Some(&b"new"[..]));
    // What is damaged is said to be, and stays.
    overwrite(&path, 12 * 8, &1_u64.to_le_bytes());
    let error = existing().err().expect("it is damaged").to_string();
    assert!(error.contains("damaged"), "{error}");
    assert!(path.exists());
}

#[cfg(unix)]
#[test]
fn a_copy_with_holes_is_allocated_before_it_is_used() {
    use std::os::unix::fs::MetadataExt;
    let (cache, directory) = new(&small());
    put(&cache, b"k", b"v");
    let copy = directory.path().join("copy");
    let bytes = fs::read(path_in(&directory)).expect("a file");
    let file = File::create(&copy).expect("a directory");
    file.set_permissions(fs::Permissions::from_mode(0o600)).expect("ours");
    file.set_len(bytes.len() as u64).expect("a file");
    for (page, bytes) in
        bytes.chunks(4096).enumerate().filter(|(_, bytes)| bytes.iter().any(|&byte| byte != 0))
    {
        file.write_all_at(bytes, page as u64 * 4096).expect("a file");
    }
    let allocated = || fs::metadata(&copy).expect("a file").blocks() * 512;
    assert!(allocated() < bytes.len() as u64, "the copy has holes");
    let copied = open(&copy, &small());
    assert!(!copied.is_new() && get(&copied, b"k").is_some());
    assert!(allocated() >= bytes.len() as u64);
}

#[cfg(unix)]
#[test]
fn a_wait_for_the_directory_can_be_interrupted() {
    let directory = directory();
    let lock = File::open(directory.path()).expect("a directory");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("nobody else has it");
    let interrupted = Options { goes_on: || false, ..small() };
    let error = SharedCache::open(&Location::Path(path_in(&directory)), interrupted).err();
    assert!(matches!(error, Some(Error::Interrupted)), "{error:?}");
    drop(lock);
    assert_eq!(files_in(&directory), 0);
}

#[cfg(feature = "stall-points")]
#[test]
fn whoever_finds_a_retired_file_finishes_the_job() {
    let (cache, directory) = new(&small());
    put(&cache, b"k", b"old");
    // The header's flag is what a process leaves that dies while it unlinks.
    overwrite(&path_in(&directory), 16 * 8, &1_u64.to_le_bytes());
    let fresh = open(&path_in(&directory), &small());
    assert!(fresh.is_new());
    put(&fresh, b"k", b"new");
    assert_eq!(get(&cache, b"k").as_deref(), Some(&b"new"[..]));
    assert_eq!(files_in(&directory), 1);
}

#[test]
fn four_creators_at_once_make_one_cache() {
    for round in 0..scaled(200) {
        let directory = directory();
        let path = path_in(&directory);
        let caches: Vec<SharedCache> = std::thread::scope(|scope| {
            let options = Options { named_files_only: round % 4 == 3, ..small() };
            let creators: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn({
                        let (path, options) = (&path, options.clone());
                        move || open(path, &options)
                    })
                })
                .collect();
            creators.into_iter().map(|creator| creator.join().expect("no panic")).collect()
        });
        assert_eq!(caches.iter().filter(|cache| cache.is_new()).count(), 1);
        put(&caches[0], b"k", b"v");
        assert!(caches.iter().all(|cache| get(cache, b"k").is_some()));
        assert_eq!(files_in(&directory), 1);
    }
}

#[test]
fn creators_in_several_processes_make_one_cache() {
    let directory = directory();
    let path = path_in(&directory);
    let mut peers: Vec<Peer> = (0..4).map(|_| Peer::silent(&path, "open")).collect();
    assert!(peers.iter_mut().all(|peer| peer.answer() == "ready"));
    assert_eq!(peers[0].ask("put k v"), "false");
    assert!(peers[1..].iter_mut().all(|peer| peer.ask("put k v") == "true"));
}

#[test]
#[cfg_attr(feature = "strict", ignore = "a recount finds the damage first")]
fn random_damage_while_it_is_open_is_found_or_harmless() {
    let mut random = Random(3);
    let mut resets = 0;
    for round in 0..scaled(300) {
        let (cache, directory) =
            new(&Options { lock_timeout: std::time::Duration::from_millis(20), ..small() });
        let path = path_in(&directory);
        for name in 0..200_u32 {
            put(&cache, &name.to_le_bytes(), &[name as u8; 100]);
        }
        let length = fs::metadata(&path).expect("it is there").len();
        // The head of the stripe, the index, the logs, or anywhere behind the header: but not the mutex, whose words
        // belong to the C library.
        let stripe = 4096 + cache_versions_and_tags(length);
        for _ in 0..=random.below(200) {
            let at = match round % 4 {
                0 => stripe + 64 + random.below(448) / 8 * 8,
                1 => stripe + 512 + random.below(16_000) / 8 * 8,
                2 => stripe + 16_000 + random.below(length - stripe - 16_008) / 8 * 8,
                _ => stripe + 64 + random.below(length - stripe - 72) / 8 * 8,
            };
            let word = match random.below(4) {
                0 => 0,
                1 => u64::MAX,
                2 => random.below(1 << 20),
                _ => random.next(),
            };
            overwrite(&path, at, &word.to_le_bytes());
        }
        for name in 0..200_u32 {
            let bytes = name.to_le_bytes();
            let _ = cache.get(key(&bytes), Patience::Wait, crate::support::bytes_of);
            let _ = cache.delete(key(&bytes), Patience::Wait);
            let _ = cache.put(key(&bytes), &entry(&[1; 700]), Patience::Wait);
            let _ = cache.increment(key(&bytes), 1, 0, 0, Patience::Wait);
        }
        let _ = cache.keys(Patience::Wait, |_, _| {});
        let _ = cache.clear(Patience::Wait);
        put(&cache, b"k", b"v");
        assert_eq!(get(&cache, b"k").as_deref(), Some(&b"v"[..]), "round {round}");
        resets += u64::from(cache.stats().resets > 0 || !cache.is_new());
    }
    assert!(resets > 0, "no damage was met");
}

/// The bytes of version words and tag words of a small cache of this length.
pub(crate) fn cache_versions_and_tags(length: u64) -> u64 {
    let words = length / 8;
    let versions = 1_u64 << (words / 32).ilog2();
    (versions + 4096) * 8
}
