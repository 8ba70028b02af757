//! Processes that are killed or stopped between any two stores that belong together.

use std::time::{Duration, Instant};

use flexcache_shared::stall::Point;
use flexcache_shared::{Error, Options, Patience};

use crate::peer::Peer;
use crate::support::{
    Random, entry, files_in, get, key, marked, new, number_of, open, path_in, put, scaled, sized, small,
    wait_until,
};

/// How often a put of the churn passes a point before the one that is its last. Some points lie before any others.
const PASSES: [u32; 2] = [0, 37];

fn all_is_sound(cache: &flexcache_shared::SharedCache, keys: u64) {
    cache.check().expect("a sound cache");
    for name in 0..keys {
        if let Some(value) = get(cache, &name.to_le_bytes()) {
            number_of(name, &value);
        }
    }
}

#[test]
fn a_death_at_any_point_leaves_a_sound_cache() {
    for point in Point::OF_A_PUT {
        for passes in PASSES {
            let (cache, directory) = new(&small());
            let mut peer = Peer::new(&path_in(&directory));
            assert_eq!(peer.ask(&format!("arm {} {passes} 0", point as u32)), "armed");
            peer.tell("churn 5 50 400");
            while peer.answer() != "dead" {}
            peer.kill();
            // Reads do not need the lock.
            for name in 0..50_u64 {
                if let Some(value) = get(&cache, &name.to_le_bytes()) {
                    number_of(name, &value);
                }
            }
            assert!(!put(&cache, b"next", b"value"), "{point:?}");
            assert_eq!(cache.stats().resets, 1, "{point:?} after {passes} passes: nobody died inside");
            all_is_sound(&cache, 50);
            assert_eq!(get(&cache, b"next").as_deref(), Some(&b"value"[..]));
        }
    }
}

#[test]
fn a_death_costs_the_other_stripes_nothing() {
    let options = sized(4 << 20);
    for point in Point::OF_A_PUT {
        let (cache, directory) = new(&options);
        let stripes = cache.stats().stripes;
        assert!(stripes > 1);
        for name in 1000..1400_u64 {
            put(&cache, &name.to_le_bytes(), &marked(name, 1, 10));
        }
        let mut peer = Peer::new(&path_in(&directory));
        assert_eq!(peer.ask(&format!("arm {} 0 0", point as u32)), "armed");
        peer.tell("churn 5 50 4000");
        while peer.answer() != "dead" {}
        // Every stripe is locked by some of these.
        for name in 0..50_u64 {
            put(&cache, &name.to_le_bytes(), &marked(name, 1, 10));
        }
        assert_eq!(cache.stats().resets, 1, "{point:?}");
        all_is_sound(&cache, 50);
        let left = (1000..1400_u64).filter(|name| get(&cache, &name.to_le_bytes()).is_some()).count() as u64;
        assert!(left >= 400 / stripes / 2, "{point:?}: {left} of 400 are left");
    }
}

#[test]
fn a_death_while_another_death_is_mended_is_mended_too() {
    let (cache, directory) = new(&small());
    for point in [Point::Locked, Point::Reset] {
        let mut peer = Peer::new(&path_in(&directory));
        assert_eq!(peer.ask(&format!("arm {} 0 0", point as u32)), "armed");
        peer.tell("churn 5 50 400");
        while peer.answer() != "dead" {}
        peer.kill();
    }
    put(&cache, b"next", b"value");
    assert_eq!(cache.stats().resets, 2, "the first mending and its repetition");
    all_is_sound(&cache, 50);
}

#[test]
fn a_death_in_clear_leaves_a_sound_cache() {
    let (cache, directory) = new(&small());
    put(&cache, b"before", b"value");
    let mut peer = Peer::new(&path_in(&directory));
    assert_eq!(peer.ask(&format!("arm {} 0 0", Point::Clear as u32)), "armed");
    assert_eq!(peer.ask("clear"), "dead");
    assert_eq!(get(&cache, b"before"), None);
    put(&cache, b"next", b"value");
    assert_eq!(cache.stats().resets, 1);
    cache.check().expect("a sound cache");
}

#[cfg(unix)]
#[test]
fn reads_of_a_stopped_writers_stripe_succeed() {
    let options = Options { lock_timeout: Duration::from_millis(200), ..small() };
    let (cache, directory) = new(&options);
    for name in 0..100_u64 {
        put(&cache, &name.to_le_bytes(), &marked(name, 1, 10));
    }
    // Two of the points lie where something makes room, which the first put does not.
    let of_a_first_put = |point: &Point| !matches!(point, Point::BeforeTail | Point::AfterTail);
    for point in Point::OF_A_PUT.into_iter().filter(of_a_first_put) {
        // A handle of its own: one that met a timeout does not wait again for a while.
        let cache = open(&path_in(&directory), &options);
        let mut peer = Peer::new(&path_in(&directory));
        peer.ask(&format!("arm {} 0 1", point as u32));
        peer.tell("put written slowly");
        wait_until("the writer stops", || peer.state() == 'T');
        for n in 0..2000_u64 {
            let name = n % 100;
            let value = get(&cache, &name.to_le_bytes()).expect("nothing is lost");
            assert_eq!(number_of(name, &value), 1);
        }
        let mut keys = 0;
        cache.keys(Patience::Wait, |_, _| keys += 1).expect("no lock");
        assert!(keys >= 100);
        // Only writers wait, and only as long as they are told to.
        assert!(matches!(cache.put(key(b"k"), &entry(b"v"), Patience::Try), Err(Error::Busy)));
        assert_eq!(cache.put_at_once(key(b"k"), &entry(b"v")), None);
        let error = cache.put(key(b"k"), &entry(b"v"), Patience::Wait).expect_err("the lock is taken");
        let Error::Timeout { holder, waited } = error else { panic!("{error}") };
        assert_eq!(holder, Some(peer.id()));
        assert!(waited >= Duration::from_millis(200));
        // For a while the process does not wait for it again.
        let before = Instant::now();
        let error = cache.delete(key(b"k"), Patience::Wait).expect_err("the lock is taken");
        assert!(matches!(error, Error::Timeout { waited: Duration::ZERO, .. }), "{error}");
        assert!(before.elapsed() < Duration::from_millis(200));
        peer.signal("CONT");
        assert_eq!(peer.answer(), "false");
        assert_eq!(
            cache.delete(key(b"written"), Patience::Wait).map(|written| written.result).ok(),
            Some(true)
        );
    }
    assert_eq!(cache.stats().resets, 0);
    cache.check().expect("a sound cache");
}

#[cfg(unix)]
#[test]
fn a_wait_for_a_stopped_writer_can_be_interrupted() {
    let (cache, directory) = new(&small());
    put(&cache, b"k", b"v");
    let mut peer = Peer::new(&path_in(&directory));
    peer.ask(&format!("arm {} 0 1", Point::Locked as u32));
    peer.tell("put written slowly");
    wait_until("the writer stops", || peer.state() == 'T');
    let options = Options { lock_timeout: Duration::from_secs(3600), goes_on: || false, ..small() };
    let waiting = open(&path_in(&directory), &options);
    let error = waiting.put(key(b"k"), &entry(b"w"), Patience::Wait).expect_err("the lock is taken");
    assert!(matches!(error, Error::Interrupted), "{error}");
    let error = waiting.clear(Patience::Wait).expect_err("the lock is taken");
    assert!(matches!(error, Error::Interrupted), "{error}");
    assert_eq!(get(&cache, b"k").as_deref(), Some(&b"v"[..]));
    peer.signal("CONT");
    assert_eq!(peer.answer(), "false");
    // Nobody refuses to wait afterwards.
    put(&waiting, b"k", b"w");
}

#[cfg(unix)]
#[test]
fn a_stopped_writer_that_is_killed_lets_the_next_one_in() {
    for point in Point::OF_A_PUT {
        let (cache, directory) = new(&small());
        let mut peer = Peer::new(&path_in(&directory));
        peer.ask(&format!("arm {} 3 1", point as u32));
        peer.tell("churn 5 50 400");
        wait_until("the writer stops", || peer.state() == 'T');
        let before: Vec<_> = (0..50_u64).map(|name| get(&cache, &name.to_le_bytes())).collect();
        std::thread::scope(|scope| {
            let next = scope.spawn(|| put(&cache, b"next", b"value"));
            peer.kill();
            assert!(!next.join().expect("no panic"));
        });
        assert_eq!(cache.stats().resets, 1, "{point:?}");
        assert!(before.iter().any(Option::is_some), "{point:?}: there was something to lose");
        all_is_sound(&cache, 50);
        assert!(get(&cache, b"next").is_some());
    }
}

#[cfg(unix)]
/// Where the word of a small cache's holder lies in its file: after the header, the version words and the tag words.
fn holder_at(path: &std::path::Path) -> u64 {
    let words = std::fs::metadata(path).expect("it is there").len() / 8;
    (512 + (1 << (words / 32).ilog2()) + 4096 + 7) * 8
}

#[cfg(unix)]
#[test]
fn a_lock_whose_holder_is_gone_is_left_and_never_taken() {
    use std::os::unix::fs::FileExt;
    let (cache, directory) = new(&Options { lock_timeout: Duration::from_millis(100), ..small() });
    let path = path_in(&directory);
    put(&cache, b"before", b"value");
    let mut peer = Peer::new(&path);
    peer.ask(&format!("arm {} 0 1", Point::Locked as u32));
    peer.tell("put written slowly");
    wait_until("the writer stops", || peer.state() == 'T');
    // As if the kernel had lost track of a thread that was killed: the holder is a process that started at another time.
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).expect("ours");
    let mut word = [0; 8];
    file.read_exact_at(&mut word, holder_at(&path)).expect("it can be read");
    let holder = u64::from_le_bytes(word);
    assert_eq!(holder >> 42, u64::from(peer.id()));
    file.write_all_at(&(holder - 1).to_le_bytes(), holder_at(&path)).expect("it can be written");
    assert!(!put(&cache, b"next", b"value"));
    assert_eq!(get(&cache, b"before"), None, "this is another file");
    // The other one was not dead after all. It finds that the file is left, and follows.
    peer.signal("CONT");
    assert_eq!(peer.answer(), "false");
    assert_eq!(get(&cache, b"written").as_deref(), Some(&b"slowly"[..]));
    assert_eq!(cache.stats().resets, 0);
}

#[test]
fn random_kills_leave_a_sound_cache() {
    let (cache, directory) = new(&small());
    let mut random = Random(11);
    let rounds = scaled(500);
    let mut peers: Vec<Peer> = Vec::new();
    for round in 0..rounds {
        while peers.len() < 2 {
            let mut peer = Peer::new(&path_in(&directory));
            peer.tell(&format!("mix {} 60", round * 2 + peers.len() as u32));
            assert_eq!(peer.answer(), "mixing");
            peers.push(peer);
        }
        // Reads go on beside them.
        let until = Instant::now() + Duration::from_micros(500 + random.below(8000));
        while Instant::now() < until {
            let name = random.below(60);
            if let Some(value) = get(&cache, &name.to_le_bytes()) {
                number_of(name, &value);
            }
        }
        // Kills at a random moment seldom meet a section of a microsecond: every other one is put inside.
        if round % 2 == 0 {
            peers.swap_remove(random.below(2) as usize).kill();
        } else {
            let mut peer = Peer::new(&path_in(&directory));
            let point = Point::OF_A_PUT[random.below(8) as usize] as u32;
            peer.ask(&format!("arm {point} {} 0", random.below(60)));
            peer.tell("churn 7 60 300");
            while peer.answer() != "dead" {}
        }
        put(&cache, b"next", b"value");
        cache.check().expect("a sound cache");
        if let Some(value) = get(&cache, b"next") {
            assert_eq!(value, b"value");
        }
    }
    drop(peers);
    put(&cache, b"next", b"value");
    cache.check().expect("a sound cache");
    let stats = cache.stats();
    assert!(stats.resets > 0, "no kill met a section");
    assert_eq!(stats.damaged, 0, "what a death leaves is no damage");
}

#[test]
fn a_creator_that_dies_leaves_nothing() {
    for named in [0, 1] {
        let directory = crate::support::directory();
        let path = path_in(&directory);
        let mut peer = Peer::silent(&path, &format!("create-and-die {} {named}", Point::BeforeLink as u32));
        assert_eq!(peer.answer(), "dead");
        assert!(!path.exists());
        let cache = open(&path, &small());
        put(&cache, b"k", b"v");
        assert_eq!(files_in(&directory), 1);
    }
}

#[test]
fn creators_that_are_killed_at_any_moment_leave_nothing() {
    let mut random = Random(17);
    for round in 0..scaled(100) {
        let directory = crate::support::directory();
        let path = path_in(&directory);
        let mut peer = Peer::silent(&path, &format!("create-and-die {} {}", u32::MAX, round % 2));
        std::thread::sleep(Duration::from_micros(random.below(8000)));
        peer.kill();
        let cache = open(&path, &small());
        put(&cache, b"k", b"v");
        cache.check().expect("a sound cache");
        assert_eq!(files_in(&directory), 1);
    }
}
