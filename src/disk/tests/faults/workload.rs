//! What is done to a store while the file system fails, and what must be there after each step.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use flexcache_disk::{
    DiskStore, Error, Key, Label, LeaseTerms, LeaseToken, Number, OwnedKey, Put, Record, Result, Rules, Side,
    Value, ValueRef, files, mode,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const NOW: f64 = 1_700_000_000.0;

/// Keys from here on have a tag.
const TAGGED: i64 = 100;
/// Keys from here on expire.
const EXPIRING: i64 = 200;
const TAG: ValueRef<'static> = ValueRef::Text(b"tag");
const QUEUE: &str = "jobs";
/// The key that the queue gives to its first value.
const FIRST_JOB: &str = "jobs-500000000000000";

/// How SQLite keeps a transaction whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Journal {
    Wal,
    /// The log is not synchronized by every commit, as usual.
    QuickWal,
    /// The same, and it is written back after every transaction, by the thread of the process.
    BusyWal,
    /// The journal is deleted, as on network file systems.
    Delete,
    /// The journal is cut to nothing.
    Truncate,
}

impl Journal {
    pub(crate) const ALL: [Self; 5] =
        [Self::Wal, Self::QuickWal, Self::BusyWal, Self::Delete, Self::Truncate];

    fn pragma(self) -> &'static str {
        match self {
            Self::Wal | Self::QuickWal | Self::BusyWal => "wal",
            Self::Delete | Self::Truncate => self.name(),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Wal => "wal",
            Self::QuickWal => "quick-wal",
            Self::BusyWal => "busy-wal",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
        }
    }

    /// How often SQLite synchronizes: each kind at least once.
    fn synchronous(self) -> i64 {
        match self {
            Self::Wal | Self::Truncate => 2,
            // Also the directory after the journal is deleted.
            Self::Delete => 3,
            Self::QuickWal | Self::BusyWal => 1,
        }
    }

    /// Whether the thread of the process changes files as well, so that no two runs have the same points.
    pub(crate) fn is_busy(self) -> bool {
        self == Self::BusyWal
    }

    fn settings(self) -> Vec<(String, Value)> {
        let mut settings = vec![
            ("size_limit".to_owned(), Value::Integer(1 << 40)),
            ("sqlite_auto_vacuum".to_owned(), Value::Integer(1)),
            // Transactions spill.
            ("sqlite_cache_size".to_owned(), Value::Integer(5)),
            ("sqlite_journal_mode".to_owned(), Value::Text(self.pragma().to_owned())),
            ("sqlite_synchronous".to_owned(), Value::Integer(self.synchronous())),
            ("tag_index".to_owned(), Value::Integer(1)),
        ];
        if self.is_busy() {
            settings.push(("sqlite_wal_autocheckpoint".to_owned(), Value::Integer(1)));
        }
        settings
    }
}

/// Where a value is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Row,
    File,
    /// In a file that is renamed when it is whole.
    WholeFile,
}

/// One step. It happens as a whole or not at all.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Open,
    Set(i64, usize, Place),
    Add(i64, usize, Place),
    Increment(i64),
    Touch(i64),
    Delete(i64),
    Pop(i64),
    /// Sets `count` keys from `first`, each of `length` bytes and every seventh in a file, then some of them again.
    Transaction {
        first: i64,
        count: i64,
        length: usize,
        commits: bool,
    },
    EvictTag,
    Expire,
    Push,
    Pull,
    ResetStats,
    /// Another store of the directory gets the lease of a key.
    Lease(i64),
    /// It stores its result. Where a fault has taken its lease from it, it stores without one.
    Land(i64, usize),
    /// It stores its result, if a write that failed has left it its lease. Otherwise its result is discarded.
    LandLate(i64),
    /// It gives the lease back with a failure.
    Fail(i64),
    /// The database of leases is damaged.
    DamageLeases,
    Check,
    Close,
    Clear,
}

/// Many kinds of steps, in an order in which each finds something to do.
pub(crate) const STEPS: &[Step] = &[
    Step::Open,
    Step::Set(1, 10, Place::Row),
    Step::Set(2, 9000, Place::Row),
    Step::Set(3, 500, Place::File),
    Step::Set(4, 700, Place::WholeFile),
    Step::Set(3, 600, Place::WholeFile),
    Step::Set(4, 20, Place::Row),
    Step::Set(2, 300, Place::File),
    Step::Add(2, 10, Place::File),
    Step::Add(5, 10, Place::File),
    Step::Increment(6),
    Step::Increment(6),
    Step::Touch(2),
    Step::Set(7, 50, Place::File),
    Step::Delete(7),
    Step::Set(8, 60, Place::File),
    Step::Pop(8),
    Step::Transaction { first: 10, count: 22, length: 1500, commits: true },
    Step::Transaction { first: 10, count: 24, length: 1200, commits: false },
    Step::Close,
    Step::Transaction { first: TAGGED, count: 5, length: 900, commits: true },
    Step::Transaction { first: EXPIRING, count: 5, length: 900, commits: true },
    Step::EvictTag,
    Step::Expire,
    Step::Push,
    Step::Pull,
    Step::Push,
    Step::ResetStats,
    Step::Lease(20),
    Step::Land(20, 30),
    Step::Lease(21),
    Step::Set(21, 40, Place::Row),
    Step::LandLate(21),
    Step::Lease(20),
    Step::Delete(20),
    Step::LandLate(20),
    Step::Lease(21),
    Step::Transaction { first: 20, count: 3, length: 40, commits: true },
    Step::LandLate(21),
    Step::Lease(22),
    Step::EvictTag,
    Step::Fail(22),
    Step::Lease(22),
    Step::DamageLeases,
    Step::Set(22, 50, Place::Row),
    Step::LandLate(22),
    Step::Lease(23),
    Step::Close,
    Step::Set(23, 50, Place::File),
    Step::LandLate(23),
    Step::Lease(23),
    Step::DamageLeases,
    Step::Lease(24),
    Step::Land(24, 50),
    Step::Set(9, 40, Place::File),
    Step::Check,
    Step::Set(9, 30, Place::WholeFile),
    Step::Lease(9),
    Step::Clear,
    Step::LandLate(9),
    Step::Set(1, 80, Place::File),
    Step::Close,
];

/// Steps that write no file of a value, and no lease: what is written is SQLite's alone.
pub(crate) const POWER_STEPS: &[Step] = &[
    Step::Open,
    Step::Set(1, 10, Place::Row),
    Step::Set(2, 9000, Place::Row),
    Step::Increment(6),
    Step::Increment(6),
    Step::Transaction { first: 15, count: 6, length: 1500, commits: true },
    Step::Delete(2),
    Step::Transaction { first: 15, count: 6, length: 1200, commits: false },
    Step::Set(1, 20, Place::Row),
    Step::Close,
    Step::Set(3, 3000, Place::Row),
    Step::Transaction { first: 29, count: 6, length: 4000, commits: true },
    Step::Push,
    Step::Increment(6),
    Step::Clear,
    Step::Set(5, 5000, Place::Row),
    Step::Close,
];

/// What is there before the block of [`BLOCK_STEPS`].
const BEFORE_BLOCK: &[Step] = &[
    Step::Open,
    Step::Set(1, 10, Place::Row),
    Step::Set(2, 3000, Place::Row),
    Step::Set(3, 500, Place::File),
    Step::Set(4, 500, Place::WholeFile),
    Step::Increment(6),
    Step::Transaction { first: TAGGED, count: 5, length: 900, commits: true },
    Step::Transaction { first: EXPIRING, count: 5, length: 900, commits: true },
    Step::Push,
];

/// Each kind of write, in one block, long enough to spill.
pub(crate) const BLOCK_STEPS: &[Step] = &[
    Step::Set(20, 9000, Place::Row),
    Step::Set(1, 9000, Place::Row),
    Step::Set(21, 600, Place::File),
    Step::Set(3, 700, Place::WholeFile),
    Step::Add(22, 9000, Place::Row),
    Step::Add(1, 10, Place::File),
    Step::Increment(6),
    Step::Increment(7),
    Step::Touch(2),
    Step::Delete(2),
    Step::Set(23, 9000, Place::Row),
    Step::Pop(4),
    Step::EvictTag,
    Step::Expire,
    Step::Pull,
    Step::Push,
    Step::ResetStats,
    Step::Set(24, 9000, Place::Row),
];

/// Does without a fault what comes before the block. Returns what is stored.
pub(crate) fn prepare_block(subject: &Subject) -> Contents {
    let mut contents = Contents::new();
    for (place, &step) in BEFORE_BLOCK.iter().enumerate() {
        subject.run(place + 100, step).unwrap_or_else(|error| panic!("{step:?} without a fault: {error}"));
        expect(&mut contents, place + 100, step);
    }
    contents
}

/// A transaction after which the log is long enough to be written back at once.
pub(crate) const LONG_STEPS: &[Step] = &[
    Step::Open,
    Step::Set(1, 10, Place::Row),
    Step::Transaction { first: 10, count: 260, length: 16000, commits: true },
    Step::Set(1, 20, Place::Row),
    Step::Set(2, 20, Place::File),
    Step::Close,
];

/// What is stored: the bytes of each value by its key, or its number in decimal digits.
pub(crate) type Contents = BTreeMap<String, Vec<u8>>;

fn name_of(key: i64) -> String {
    format!("{:?}", Value::Integer(key))
}

/// A value that tells which step has stored it.
fn content(place: usize, key: i64, length: usize) -> Vec<u8> {
    let seed = format!("{place}/{key}/").into_bytes();
    seed.iter().copied().cycle().take(length).collect()
}

/// The keys and lengths of a transaction, in its order.
fn in_transaction(first: i64, count: i64, length: usize) -> impl Iterator<Item = (i64, usize, Place)> {
    let place = |key: i64| match key % 14 {
        0 => Place::File,
        7 => Place::WholeFile,
        _ => Place::Row,
    };
    let once = (first..first + count).map(move |key| (key, length, place(key)));
    // Pages that have been spilled are changed again.
    once.chain((first..first + count).step_by(5).map(move |key| (key, length - 1, place(key))))
}

/// What is stored after a step that was done over `contents`. `place` is its place among the steps.
pub(crate) fn expect(contents: &mut Contents, place: usize, step: Step) {
    match step {
        Step::Set(key, length, _) | Step::Land(key, length) => {
            contents.insert(name_of(key), content(place, key, length));
        }
        Step::Add(key, length, _) => {
            contents.entry(name_of(key)).or_insert_with(|| content(place, key, length));
        }
        Step::Increment(key) => {
            let number = contents.entry(name_of(key)).or_insert_with(|| b"0".to_vec());
            let sum = String::from_utf8_lossy(number).parse::<i64>().expect("a number") + 1;
            *number = sum.to_string().into_bytes();
        }
        Step::Delete(key) | Step::Pop(key) => drop(contents.remove(&name_of(key))),
        Step::Transaction { first, count, length, commits } => {
            for (key, length, _) in in_transaction(first, count, length).filter(|_| commits) {
                contents.insert(name_of(key), content(place, key, length));
            }
        }
        Step::EvictTag => (TAGGED..EXPIRING).for_each(|key| drop(contents.remove(&name_of(key)))),
        Step::Expire => (EXPIRING..EXPIRING + 100).for_each(|key| drop(contents.remove(&name_of(key)))),
        Step::Push => {
            let key = format!("{:?}", Value::Text(FIRST_JOB.to_owned()));
            contents.insert(key, content(place, 0, 30));
        }
        Step::Pull => drop(contents.remove(&format!("{:?}", Value::Text(FIRST_JOB.to_owned())))),
        Step::Clear => contents.clear(),
        Step::LandLate(_)
        | Step::Fail(_)
        | Step::DamageLeases
        | Step::Open
        | Step::Touch(_)
        | Step::ResetStats
        | Step::Check
        | Step::Close
        | Step::Lease(_) => {}
    }
}

/// A store and what its calls need.
pub(crate) struct Subject {
    pub(crate) store: DiskStore,
    rules: Rules,
    journal: Journal,
    /// The number of files that were named. Names do not depend on chance, so that every run has the same points.
    named: Cell<u32>,
    /// Has the leases. The store that writes is foreign to it.
    holder: DiskStore,
    /// The key that is leased, and whether a write of it has returned since.
    leased: Cell<Option<(i64, bool)>>,
    /// The step that has got the last lease.
    given: Cell<usize>,
}

/// The lease of every step: a lease that is given after another one must not be taken for it.
fn token_of(place: usize) -> LeaseToken {
    [u8::try_from(place).expect("few steps"); 16]
}

impl Subject {
    pub(crate) fn new(directory: &Path, journal: Journal) -> Self {
        let rules = Rules { cull_limit: 0, ..Rules::default() };
        Self {
            store: DiskStore::new(directory),
            rules,
            journal,
            named: Cell::new(0),
            holder: DiskStore::new(directory),
            leased: Cell::new(None),
            given: Cell::new(0),
        }
    }

    pub(crate) fn open(&self) -> Result<()> {
        self.store.create(&self.journal.settings(), &self.rules.policy, PATIENCE)
    }

    fn set(&self, key: i64, content: &[u8], place: Place, only_new: bool) -> Result<()> {
        let datum = Key { datum: ValueRef::Integer(key), raw: true };
        let label = Label {
            now: NOW,
            expire_time: (EXPIRING..EXPIRING + 100).contains(&key).then_some(NOW + 1.0),
            tag: if (TAGGED..EXPIRING).contains(&key) { TAG } else { ValueRef::Null },
        };
        let store = |record: Record<'_>| {
            if only_new {
                self.store.add(datum, record, label, &self.rules, PATIENCE).map(drop)
            } else {
                self.store.set(datum, record, label, &self.rules, PATIENCE).map(drop)
            }
        };
        let directory = self.store.directory();
        let number = self.named.replace(self.named.get() + 1);
        let name = format!("{:02x}/{:02x}/{number:028x}.val", number % 3, number % 5);
        let size = i64::try_from(content.len()).expect("small");
        let name = match place {
            Place::Row => {
                let value = ValueRef::Blob(content);
                return store(Record { size: 0, mode: mode::RAW, filename: None, value });
            }
            Place::File => files::write(directory, &name, content).map(|()| name)?,
            Place::WholeFile => {
                let fill = |file: &mut (dyn io::Write + Send)| {
                    content.chunks(400).try_for_each(|piece| file.write_all(piece))
                };
                files::write_whole(directory, name, fill)?.0
            }
        };
        store(Record { size, mode: mode::BINARY, filename: Some(&name), value: ValueRef::Null })
    }

    fn transaction(&self, place: usize, first: i64, count: i64, length: usize, commits: bool) -> Result<()> {
        self.store.begin(PATIENCE)?;
        let done = in_transaction(first, count, length)
            .try_for_each(|(key, length, where_)| self.set(key, &content(place, key, length), where_, false));
        let committed = match done {
            Ok(()) if commits => return self.store.commit(PATIENCE).map(drop),
            done => done,
        };
        match self.store.rollback() {
            // SQLite has rolled it back, and the call that failed said so.
            Err(Error::NoTransaction) if committed.is_err() => committed,
            rolled_back => committed.and(rolled_back),
        }
    }

    /// Stores the result of the computation that has the last lease.
    fn land(&self, key: i64, content: &[u8]) -> Result<Put> {
        let key = Key { datum: ValueRef::Integer(key), raw: true };
        let record = Record { size: 0, mode: mode::RAW, filename: None, value: ValueRef::Blob(content) };
        let label = Label { now: NOW, expire_time: None, tag: TAG };
        let (token, never) = (token_of(self.given.get()), || false);
        let put = self.holder.put(key, record, label, false, &never, Some(&token), &self.rules, PATIENCE)?;
        Ok(put.result)
    }

    /// Does a step, and takes note of whether it was a write of the leased key that returned.
    pub(crate) fn run(&self, place: usize, step: Step) -> Result<()> {
        self.step(place, step)?;
        let written = |leased| match step {
            Step::Set(key, ..) | Step::Delete(key) => key == leased,
            Step::Transaction { first, count, .. } => (first..first + count).contains(&leased),
            Step::Clear | Step::EvictTag => true,
            _ => false,
        };
        if let Some((leased, false)) = self.leased.get() {
            self.leased.set(Some((leased, written(leased))));
        }
        Ok(())
    }

    fn step(&self, place: usize, step: Step) -> Result<()> {
        let store = &self.store;
        let key = |key: i64| Key { datum: ValueRef::Integer(key), raw: true };
        match step {
            Step::Open => self.open(),
            Step::Set(key, length, where_) => self.set(key, &content(place, key, length), where_, false),
            Step::Add(key, length, where_) => self.set(key, &content(place, key, length), where_, true),
            Step::Increment(number) => {
                let begin = Record { size: 0, mode: mode::RAW, filename: None, value: ValueRef::Integer(1) };
                let one = Number::Integer(1);
                store.increment(key(number), one, Some(begin), NOW, &self.rules, PATIENCE).map(drop)
            }
            Step::Touch(number) => store.touch(key(number), NOW, Some(NOW + 1e9), PATIENCE).map(drop),
            Step::Delete(number) => store.delete(key(number), NOW, PATIENCE).map(drop),
            Step::Pop(number) => {
                let taken = store.pop(key(number), NOW, PATIENCE)?.result;
                if let Some(entry) = &taken {
                    store.discard(entry);
                }
                Ok(())
            }
            Step::Transaction { first, count, length, commits } => {
                self.transaction(place, first, count, length, commits)
            }
            Step::EvictTag => store.evict_tag_some(TAG, i64::MAX, PATIENCE).map(drop),
            Step::Expire => store.expire_some(NOW + 100.0, PATIENCE).map(drop),
            Step::Push => {
                let value = content(place, 0, 30);
                let record =
                    Record { size: 0, mode: mode::RAW, filename: None, value: ValueRef::Blob(&value) };
                let label = Label { now: NOW, expire_time: None, tag: ValueRef::Null };
                store.push(Some(QUEUE), Side::Back, record, label, &self.rules, PATIENCE).map(drop)
            }
            Step::Pull => store.at_end(Some(QUEUE), Side::Front, true, NOW, PATIENCE).map(drop),
            Step::ResetStats => {
                self.store.count_as_miss(&Rules { statistics: true, ..self.rules.clone() }, PATIENCE)?;
                store.stats(true, PATIENCE).map(drop)
            }
            Step::Check => {
                // Something to remove, which the file system makes without a fault.
                let stray = store.directory().join("aa");
                std::fs::create_dir_all(&stray).expect("a directory");
                std::fs::write(stray.join("stray.val"), "x").expect("a file");
                store.check(true, PATIENCE).map(drop)
            }
            Step::Lease(number) => {
                // It computes also where it gets no lease.
                let terms = LeaseTerms { seconds: 1e6, tag: TAG, awaited: None, takes_over: true };
                self.given.set(place);
                self.leased.set(Some((number, false)));
                self.holder.lease(key(number), &token_of(place), terms, PATIENCE).map(drop)
            }
            Step::Land(number, length) => {
                let content = content(place, number, length);
                match self.land(number, &content)? {
                    Put::Discarded => self.set(number, &content, Place::Row, false),
                    _ => Ok(()),
                }
            }
            Step::LandLate(number) => {
                let is_void = self.leased.get() == Some((number, true));
                if is_void {
                    assert_eq!(
                        self.land(number, b"late")?,
                        Put::Discarded,
                        "{step:?}: it lands after a write"
                    );
                }
                self.holder.release(key(number), &token_of(self.given.get()), None, PATIENCE)
            }
            Step::Fail(number) => {
                let failure = Some((&b"failed"[..], 1.0));
                self.holder.release(key(number), &token_of(self.given.get()), failure, PATIENCE)
            }
            Step::DamageLeases => {
                store.close();
                self.holder.close();
                for file in ["cache.db-gates", "cache.db-gates-wal"] {
                    let file = store.directory().join(file);
                    if file.exists() {
                        std::fs::write(file, [7; 5000]).expect("damage");
                    }
                }
                Ok(())
            }
            Step::Close => {
                store.close();
                self.holder.close();
                Ok(())
            }
            Step::Clear => store.clear_some(i64::MAX, PATIENCE).map(drop),
        }
    }

    /// What is stored, and the names of the files.
    pub(crate) fn contents(&self, what: &str) -> Result<(Contents, Vec<String>)> {
        let (mut contents, mut names) = (Contents::new(), Vec::new());
        let mut last: Option<OwnedKey> = None;
        loop {
            let keys = self.store.keys_by_key(last.as_ref(), flexcache_disk::Order::Ascending, PATIENCE)?;
            let Some(end) = keys.last() else { return Ok((contents, names)) };
            last = Some(end.clone());
            for key in &keys {
                let entry =
                    self.store.get(key.borrow(), NOW, &self.rules, PATIENCE)?.expect("it has not expired");
                let value = match (entry.value, entry.filename) {
                    (Value::Integer(number), None) => number.to_string().into_bytes(),
                    (Value::Blob(bytes), None) => bytes,
                    (_, Some(name)) => {
                        let content = files::read(self.store.directory(), &name, entry.size)?;
                        let content =
                            content.unwrap_or_else(|| panic!("{what}: {key:?} has lost its file {name}"));
                        assert!(files::is_intact(&name, &content), "{what}: {name}");
                        names.push(name);
                        content
                    }
                    other => panic!("{what}: {key:?} is {other:?}"),
                };
                contents.insert(format!("{:?}", key.datum), value);
            }
        }
    }
}
