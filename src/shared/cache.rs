//! `SharedCache`: a segment by name or path, opened anew whenever another one takes its place.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;

use crate::clock::Now;
use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::hold::{Fault, Held};
use crate::layout::{head, header};
use crate::lookup::Looked;
use crate::open::{self, Place, Wanted};
use crate::record::{HashedKey, Key, Value};
use crate::segment::{Patience, Segment};
use crate::stall::Point;
use crate::terms::{
    Condition, Entry, Location, Options, Put, Stats, Version, Written, directory_of_names, place_of, wanted,
};
use crate::write::Copied;

/// One segment in the line of those that had the name while the cache was open.
///
/// An earlier one stays mapped until the cache is dropped, so that no call can outlive it. That happens only after
/// `unlink`, a change of size, or damage.
pub(crate) struct Link {
    pub(crate) segment: Segment,
    /// Its place in the line.
    pub(crate) number: usize,
    next: OnceLock<Box<Link>>,
}

/// A cache in memory that several processes map. See the [crate](crate) for what it promises.
pub struct SharedCache {
    place: Place,
    options: Options,
    first: Link,
    created: bool,
}

impl SharedCache {
    /// Opens a cache, and creates it if there is none.
    ///
    /// # Errors
    ///
    /// An option is out of range; the directory or the file is not ours; no room, by file system or memory limit;
    /// the file is not a cache, or another layout's or pid namespace's.
    pub fn open(location: &Location, options: Options) -> Result<Self> {
        let place = place_of(location)?;
        if place.is_among_names() {
            // A program that was killed has removed nothing. What prevents this is said where it prevents more.
            let _ = remove_left();
        }
        let (segment, created) = open::open(&place, &wanted(&options)?)?;
        let first = Link { segment, number: 0, next: OnceLock::new() };
        Ok(Self { place, options, first, created })
    }

    /// Says that this process uses the cache no longer. A temporary one is removed if no other process has it open. The memory
    /// stays mapped until the cache is dropped. Waits for nobody.
    pub fn leave(&self) {
        let mut link = Some(&self.first);
        while let Some(left) = link {
            left.segment.leave();
            link = left.next.get().map(|next| &**next);
        }
        if self.place.is_temporary() {
            // Where that fails, the next program that opens a cache tries again.
            let _ = remove_left();
        }
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.place.directory.join(&self.place.name)
    }

    /// Whether this call of `open` made the file.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.created
    }

    #[inline]
    pub(crate) fn link(&self) -> &Link {
        let mut link = &self.first;
        while let Some(next) = link.next.get() {
            link = next;
        }
        link
    }

    /// Calls `act` with the segment that has the name, and again with its successor if it is retired meanwhile.
    #[inline(always)]
    fn with<R>(&self, patience: Patience, mut act: impl FnMut(&Segment, usize) -> Result<R>) -> Result<R> {
        let link = self.link();
        if !link.segment.is_retired() {
            match act(&link.segment, link.number) {
                Err(Error::Retired) => {}
                result => return result,
            }
        }
        self.with_successor(patience, &mut act)
    }

    /// The same where the segment was retired. Apart, since the compiler makes a call that may be repeated slower.
    #[cold]
    #[inline(never)]
    fn with_successor<R>(
        &self,
        patience: Patience,
        act: &mut dyn FnMut(&Segment, usize) -> Result<R>,
    ) -> Result<R> {
        for _ in 0..8 {
            let link = self.link();
            if !link.segment.is_retired() {
                match act(&link.segment, link.number) {
                    Err(Error::Retired) => {}
                    result => return result,
                }
            }
            if patience == Patience::Try {
                // A new segment may have to be allocated.
                return Err(Error::Busy);
            }
            self.open_next(link, self.options.create)?;
        }
        Err(Error::Retired)
    }

    #[cold]
    fn open_next(&self, link: &Link, create: bool) -> Result<()> {
        if link.next.get().is_some() {
            return Ok(());
        }
        // The size that was asked for at first was granted or refused then.
        let wanted = Wanted { resize: false, create, ..wanted(&self.options)? };
        let (segment, _) = open::open(&self.place, &wanted)?;
        // If another thread was faster, its segment is the one.
        let _ = link.next.set(Box::new(Link { segment, number: link.number + 1, next: OnceLock::new() }));
        Ok(())
    }

    /// The segment that has the name. `None` where it was removed and nobody has made another one yet: those who only
    /// look make none.
    fn present(&self) -> Option<&Segment> {
        for _ in 0..8 {
            let link = self.link();
            if !link.segment.is_retired() {
                return Some(&link.segment);
            }
            self.open_next(link, false).ok()?;
        }
        None
    }

    /// Does something under the lock of a key's stripe.
    #[inline(always)]
    pub(crate) fn write<R>(
        &self,
        key: Key<'_>,
        patience: Patience,
        mut act: impl FnMut(&mut Held<'_>, &HashedKey<'_>) -> std::result::Result<R, Fault>,
    ) -> Result<Written<R>> {
        let link = self.link();
        if !link.segment.is_retired() {
            let key = link.segment.hashed(&key);
            if let Some((result, version)) = link.segment.write_at_once(key.hash, |held| act(held, &key)) {
                return Ok(Written { result, stamp: Self::stamp(link.number, key.hash, version) });
            }
        }
        self.write_slowly(key, patience, &mut act)
    }

    /// The same where it may take several attempts.
    #[cold]
    #[inline(never)]
    fn write_slowly<R>(
        &self,
        key: Key<'_>,
        patience: Patience,
        act: &mut dyn FnMut(&mut Held<'_>, &HashedKey<'_>) -> std::result::Result<R, Fault>,
    ) -> Result<Written<R>> {
        self.with(patience, |segment, number| {
            let key = segment.hashed(&key);
            let (result, version) = segment.write(key.hash, patience, |held| act(held, &key))?;
            Ok(Written { result, stamp: Self::stamp(number, key.hash, version) })
        })
    }

    /// Waits until the stripe of a key can be written, and leaves it as it is. For callers that must not wait in the call that
    /// writes.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] for the lock; those of [`SharedCache::open`] where the segment has to be opened anew.
    pub fn wait_for_writers(&self, key: Key<'_>) -> Result<()> {
        self.write(key, Patience::Wait, |_, _| Ok(())).map(drop)
    }

    /// Makes something of a key's value, without a lock, and notes that the entry was used. Returns `None` if there is none.
    ///
    /// `make` may be called several times, and on bytes that are nonsense; its last result counts. A stripe that is
    /// damaged or never at rest is read under its lock, or the call finds nothing.
    ///
    /// # Errors
    ///
    /// Those of `make`; with [`Patience::Try`], [`Error::Busy`] if the segment has to be opened anew.
    #[inline(always)]
    pub fn get<R>(
        &self,
        key: Key<'_>,
        patience: Patience,
        mut make: impl FnMut(Value<'_>) -> Result<R>,
    ) -> Result<Option<R>> {
        let segment = &self.link().segment;
        if !segment.is_retired() {
            let mut result = None;
            let looked = segment.look(&segment.hashed(&key), &mut |value| {
                result = make(value).ok();
                result.is_some()
            });
            match looked {
                Looked::Hit(_) => return Ok(result),
                Looked::Miss => return Ok(None),
                _ => {}
            }
        }
        self.get_slowly(key, patience, make)
    }

    /// The same where the segment may have to be opened anew, or read under a lock, or where `make` failed.
    #[cold]
    fn get_slowly<R>(
        &self,
        key: Key<'_>,
        patience: Patience,
        mut make: impl FnMut(Value<'_>) -> Result<R>,
    ) -> Result<Option<R>> {
        self.with(patience, |segment, _| Ok(segment.read(key, &mut make)?.map(|(result, _)| result)))
    }

    /// The same, with the time at which the entry expires (0: never), and what [`SharedCache::replace`] needs.
    ///
    /// # Errors
    ///
    /// As `get`.
    pub fn get_version<R>(
        &self,
        key: Key<'_>,
        patience: Patience,
        mut make: impl FnMut(Value<'_>) -> Result<R>,
    ) -> Result<Option<(R, u64, Version)>> {
        self.with(patience, |segment, number| {
            let read = segment.read(key, &mut make)?;
            Ok(read.map(|(result, seen)| (result, seen.deadline, Version { segment: number, seen })))
        })
    }

    /// Whether a key has a live value. Counts as a use.
    ///
    /// # Errors
    ///
    /// As `get`.
    pub fn contains(&self, key: Key<'_>, patience: Patience) -> Result<bool> {
        Ok(self.get(key, patience, |_| Ok(()))?.is_some())
    }

    /// Stores an entry, in place of whatever the key has. Returns whether that was a live value.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`]; [`Error::Busy`] or [`Error::Timeout`] for the lock.
    #[inline]
    pub fn put(&self, key: Key<'_>, entry: &Entry<'_>, patience: Patience) -> Result<Written<bool>> {
        entry.check()?;
        let content = entry.content();
        let written = self.write(key, patience, |held, key| held.store(key, &content))?;
        Ok(self.holding_tags(written, entry))
    }

    /// Stores an entry as [`SharedCache::put`] does, if nothing is in the way. Returns whether it replaced a live value, and
    /// `None` if it stored nothing: `put` stores it then, or says why not.
    ///
    /// This is the shortest way: it neither waits nor tries twice, and has no error or stamp to return.
    #[inline]
    #[must_use]
    pub fn put_at_once(&self, key: Key<'_>, entry: &Entry<'_>) -> Option<bool> {
        entry.check().ok()?;
        let link = self.link();
        if link.segment.is_retired() {
            return None;
        }
        let key = link.segment.hashed(&key);
        let content = entry.content();
        link.segment
            .write_at_once(key.hash, |held| held.store_inlined(&key, &content))
            .map(|(replaces, _)| replaces)
    }

    /// Stores an entry under a condition, which is looked at under the lock.
    ///
    /// # Errors
    ///
    /// As `put`.
    pub fn put_if(
        &self,
        key: Key<'_>,
        entry: &Entry<'_>,
        condition: &Condition<'_>,
        patience: Patience,
    ) -> Result<Written<Put>> {
        entry.check()?;
        self.with(patience, |segment, number| {
            if condition.lease.is_some_and(|token| token.segment != number) {
                return Ok(Written { result: Put::Refused, stamp: None });
            }
            let key = segment.hashed(&key);
            let (result, version) = segment.write(key.hash, patience, |held| {
                if (condition.unless)() {
                    return Ok(Put::Refused);
                }
                if let Some(token) = condition.lease
                    && !held.is_leased_as(&key, token.words, &token.tags)?
                {
                    return Ok(Put::Refused);
                }
                if condition.if_absent && held.find_live(&key)?.is_some() {
                    return Ok(Put::Present);
                }
                let replaces = held.store(&key, &entry.content())?;
                Ok(if replaces { Put::Replaced } else { Put::Inserted })
            })?;
            let written = Written { result, stamp: Self::stamp(number, key.hash, version) };
            Ok(self.holding_tags(written, entry))
        })
    }

    /// Stores an entry if the key has no live value. Returns whether it did.
    ///
    /// # Errors
    ///
    /// As `put`.
    pub fn add(&self, key: Key<'_>, entry: &Entry<'_>, patience: Patience) -> Result<Written<bool>> {
        let put =
            self.put_if(key, entry, &Condition { if_absent: true, ..Condition::default() }, patience)?;
        Ok(Written { result: put.result == Put::Inserted, stamp: put.stamp })
    }

    /// Stores an entry if the key's value is still the one of which [`SharedCache::get_version`] told. Returns whether it did. The
    /// value keeps its tags, whatever those of the entry are.
    ///
    /// Where it returns false the value may be the same all the same: the entry may have moved. Read it again.
    ///
    /// # Errors
    ///
    /// As `put`.
    pub fn replace(
        &self,
        key: Key<'_>,
        version: &Version,
        entry: &Entry<'_>,
        patience: Patience,
    ) -> Result<bool> {
        entry.check()?;
        self.write_version(key, version, patience, |held, key| {
            held.replace_seen(key, &version.seen, &entry.content())
        })
    }

    /// Writes in the file in which a value was read; in another one it is not there, and the answer is false.
    fn write_version(
        &self,
        key: Key<'_>,
        version: &Version,
        patience: Patience,
        act: impl Fn(&mut Held<'_>, &HashedKey<'_>) -> std::result::Result<bool, Fault>,
    ) -> Result<bool> {
        self.with(patience, |segment, number| {
            let key = segment.hashed(&key);
            Ok(number == version.segment && segment.write(key.hash, patience, |held| act(held, &key))?.0)
        })
    }

    /// Removes a key's value or lease. Returns whether there was a live value.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] or [`Error::Timeout`] for the lock: the value may then still be there.
    pub fn delete(&self, key: Key<'_>, patience: Patience) -> Result<Written<bool>> {
        self.write(key, patience, |held: &mut Held<'_>, key| held.delete(key))
    }

    /// Removes a key's value if it is still the one that was read. Whether it was removed; see [`SharedCache::replace`].
    ///
    /// # Errors
    ///
    /// As `delete`.
    pub fn delete_version(&self, key: Key<'_>, version: &Version, patience: Patience) -> Result<bool> {
        self.write_version(key, version, patience, |held, key| held.delete_seen(key, &version.seen))
    }

    /// Removes a key's value, and makes something of it.
    ///
    /// # Errors
    ///
    /// As `delete`; [`Error::OutOfMemory`], with nothing removed; those of `make`, after the removal.
    pub fn pop<R>(
        &self,
        key: Key<'_>,
        patience: Patience,
        make: impl FnOnce(Value<'_>) -> Result<R>,
    ) -> Result<Option<R>> {
        let mut copy = Copied::default();
        let found = self.with(patience, |segment, _| {
            let key = segment.hashed(&key);
            segment.copy_with(&key, patience, &mut copy, |held, key| held.delete(key).map(drop))
        })?;
        if !found {
            // Copies elsewhere may outlive the entry here.
            self.delete(key, patience)?;
            return Ok(None);
        }
        make(Value::from_words(copy.kind, &copy.words, copy.bytes)).map(Some)
    }

    /// Gives a live value another deadline (0: none). Returns whether there was one.
    ///
    /// # Errors
    ///
    /// As `delete`.
    pub fn touch(&self, key: Key<'_>, deadline: u64, patience: Patience) -> Result<Written<bool>> {
        self.write(key, patience, |held, key| held.touch(key, deadline))
    }

    /// Removes everything. Returns how many entries there were, expired ones included.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] or [`Error::Timeout`] for a stripe's lock. The other stripes are empty then. After [`Error::Interrupted`]
    /// some are.
    pub fn clear(&self, patience: Patience) -> Result<u64> {
        self.with(patience, |segment, _| {
            let mut removed = 0;
            let mut failed = None;
            for number in 0..segment.geometry().stripes {
                let cleared = segment.write_stripe(number, patience, |held| {
                    let entries = held.load(head::ENTRIES);
                    held.empty(Point::Clear)?;
                    Ok(entries)
                });
                match cleared {
                    Ok((entries, _)) => removed += entries,
                    Err(error @ Error::Interrupted) => return Err(error),
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            failed.map_or(Ok(removed), Err)
        })
    }

    /// Calls `visit` with the kind and the bytes of every key that has a live value. A key that is there all the time is
    /// visited exactly once. Takes no lock.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`]; as `get`.
    pub fn keys(&self, patience: Patience, mut visit: impl FnMut(u8, &[u8])) -> Result<()> {
        let mut copy = Vec::new();
        self.with(patience, |segment, _| {
            let now = Now::default();
            segment.stripes().try_for_each(|stripe| stripe.keys(segment.tags(), &now, &mut copy, &mut visit))
        })
    }

    /// The number of entries, those included that have expired and were not met yet. May wait for a file, if the segment was
    /// replaced.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.present().map_or(0, |segment| {
            segment.stripes().map(|stripe| stripe.head[head::ENTRIES].load(Relaxed)).sum()
        })
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds to the sums of hits and misses, which all processes share. Reads do not count by themselves: an addition in
    /// shared memory would cost more than they do.
    pub fn count(&self, hits: u64, misses: u64) {
        self.link().segment.count(hits, misses);
    }

    /// Sums over all stripes. Each is right by itself; together they are of slightly different moments. May wait as `len`.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let Some(segment) = self.present() else { return Stats::of(self.link().segment.geometry()) };
        let geometry = segment.geometry();
        let sum = |word: usize| segment.stripes().map(|stripe| stripe.head[word].load(Relaxed)).sum();
        Stats {
            entries: sum(head::ENTRIES),
            leases: sum(head::LEASES),
            live_bytes: (sum(head::LIVE) + sum(head::LIVE + 1)) * 8,
            hits: segment.words()[header::HITS].load(Relaxed),
            misses: segment.words()[header::MISSES].load(Relaxed),
            evicted: sum(head::EVICTED),
            moved: sum(head::MOVED),
            promoted: sum(head::PROMOTED),
            crowded: sum(head::CROWDED),
            forced: sum(head::FORCED),
            resets: sum(head::RESETS),
            damaged: sum(head::DAMAGED),
            ..Stats::of(geometry)
        }
    }

    /// Removes the file, and has every process that uses it leave it: their next calls create a new one. Returns whether it
    /// was still there. The memory is free when all have left.
    ///
    /// # Errors
    ///
    /// [`Error::DirectoryBusy`], [`Error::File`].
    pub fn unlink(&self) -> Result<bool> {
        open::unlink(&self.place, &self.link().segment)
    }

    /// Recounts every stripe, for tests.
    ///
    /// # Errors
    ///
    /// What is wrong, or that a lock was not free.
    pub fn check(&self) -> std::result::Result<(), String> {
        let Some(segment) = self.present() else { return Ok(()) };
        for number in 0..segment.geometry().stripes {
            let held = segment.hold(number, Patience::Wait).map_err(|error| error.to_string())?;
            let checked = held.check();
            segment.release(number, held);
            checked.map_err(|what| format!("stripe {number}: {what}"))?;
        }
        Ok(())
    }

    pub(crate) fn segment_with<R>(
        &self,
        patience: Patience,
        act: impl FnMut(&Segment, usize) -> Result<R>,
    ) -> Result<R> {
        self.with(patience, act)
    }
}

impl Drop for SharedCache {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Removes the temporary caches of this user that no process has open any more, since the last one was killed. Returns how many.
/// Opening any cache by its name does this too.
///
/// # Errors
///
/// [`Error::File`], [`Error::NotOurs`].
pub fn remove_left() -> Result<usize> {
    open::remove_left(&Directory::open(&directory_of_names())?)
}
