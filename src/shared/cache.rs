//! `SharedCache`: a segment with a name or path. The cache opens the successor when the segment is replaced.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;

use crate::clock::Now;
use crate::error::{Error, Result};
use crate::hold::{Fault, Held};
use crate::layout::{head, header};
use crate::lookup::Looked;
use crate::open::{self, Place, Wanted};
use crate::record::{HashedKey, Key, Value};
use crate::segment::{Patience, Segment};
use crate::stall::Point;
use crate::terms::{Condition, Entry, Location, Options, Put, Stats, Version, Written, place_of, wanted};
use crate::write::Copied;

/// One of the segments that have had the name while the cache was open, in a linked list.
///
/// Earlier segments stay mapped until the cache is dropped, so that no call can outlive its segment. There
/// are earlier ones only after `unlink`, a change of size, or damage.
pub(crate) struct Link {
    pub(crate) segment: Segment,
    /// Its index in the list.
    pub(crate) number: usize,
    next: OnceLock<Box<Link>>,
}

/// A cache in memory that several processes map. See the [crate](crate) for what it promises.
pub struct SharedCache {
    place: Place,
    options: Options,
    first: Link,
    created: bool,
    /// Dropped after the segments, whose mappings have ended then.
    #[cfg(windows)]
    #[expect(dead_code, reason = "it is there to be dropped")]
    leftovers: open::Leftovers,
}

impl SharedCache {
    /// Opens a cache, and creates it if there is none.
    ///
    /// # Errors
    ///
    /// An option is out of range; the directory or the file belongs to another user; the file system or the
    /// memory limit has no room; the file is not a cache, or a cache of another layout or pid namespace.
    pub fn open(location: &Location, options: Options) -> Result<Self> {
        let place = place_of(location)?;
        if place.is_among_names() {
            // A program that was killed has not removed its temporary cache. Errors are ignored: if they
            // matter, a later call reports them.
            let _ = open::remove_left();
        }
        let (segment, created) = open::open(&place, &wanted(&options)?)?;
        let first = Link { segment, number: 0, next: OnceLock::new() };
        #[cfg(windows)]
        let leftovers = open::Leftovers(place.directory.clone());
        Ok(Self {
            place,
            options,
            first,
            created,
            #[cfg(windows)]
            leftovers,
        })
    }

    /// Declares that this process no longer uses the cache. A temporary cache is removed if no other process
    /// has it open. The memory stays mapped until the cache is dropped. Never waits.
    pub fn leave(&self) {
        let mut link = Some(&self.first);
        while let Some(left) = link {
            left.segment.leave();
            link = left.next.get().map(|next| &**next);
        }
        if self.place.is_temporary() {
            // If this fails, the next program that opens a cache tries again.
            let _ = open::remove_left();
        }
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.place.directory.join(&self.place.name)
    }

    /// Whether `open` created the file.
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

    /// Calls `act` with the current segment, and again with its successor if it is retired meanwhile.
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

    /// [`SharedCache::with`] after the segment was retired. It is a function of its own because a loop makes
    /// the compiler produce slower code.
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
        // A change of size was requested, and done or refused, when the cache was opened.
        let wanted = Wanted { resize: false, create, ..wanted(&self.options)? };
        let (segment, _) = open::open(&self.place, &wanted).map_err(|error| match error {
            Error::NotASegment { path, .. } if link.segment.is_lost() => Error::Truncated {
                size: std::fs::metadata(&path).map_or(0, |found| found.len()),
                expected: link.segment.geometry().words() as u64 * 8,
                path,
            },
            error => error,
        })?;
        // If another thread was faster, its segment is used.
        let _ = link.next.set(Box::new(Link { segment, number: link.number + 1, next: OnceLock::new() }));
        Ok(())
    }

    /// The current segment. `None` if it was removed and nobody has created another one yet: calls that only
    /// look create none.
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

    /// Calls `act` under the lock of a key's stripe.
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

    /// [`SharedCache::write`] when it may take several attempts.
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

    /// Waits until the stripe of a key can be written, and changes nothing. For callers that must not wait in
    /// the call that writes.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] for the lock; errors of [`SharedCache::open`] if a successor of the segment has to
    /// be opened.
    pub fn wait_for_writers(&self, key: Key<'_>) -> Result<()> {
        self.write(key, Patience::Wait, |_, _| Ok(())).map(drop)
    }

    /// Reads a key's value without a lock, and marks the entry as used. Returns the result of `make`, or
    /// `None` if there is no value.
    ///
    /// `make` may be called several times, and with arbitrary bytes if the value is overwritten meanwhile;
    /// its last result counts. If the stripe is damaged or is written all the time, it is read under its
    /// lock; if that is not free, the call finds nothing.
    ///
    /// # Errors
    ///
    /// Errors of `make`; with [`Patience::Try`], [`Error::Busy`] if a successor of the segment has to be
    /// opened.
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

    /// [`SharedCache::get`] in the unusual cases: a successor has to be opened, the stripe has to be read
    /// under its lock, or `make` failed.
    #[cold]
    fn get_slowly<R>(
        &self,
        key: Key<'_>,
        patience: Patience,
        mut make: impl FnMut(Value<'_>) -> Result<R>,
    ) -> Result<Option<R>> {
        self.with(patience, |segment, _| Ok(segment.read(key, &mut make)?.map(|(result, _)| result)))
    }

    /// Like [`SharedCache::get`], but also returns the time at which the entry expires (0: never), and the
    /// version for [`SharedCache::replace`].
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

    /// Whether a key has a live value. This marks the entry as used.
    ///
    /// # Errors
    ///
    /// As `get`.
    pub fn contains(&self, key: Key<'_>, patience: Patience) -> Result<bool> {
        Ok(self.get(key, patience, |_| Ok(()))?.is_some())
    }

    /// Stores an entry and replaces whatever the key has. Returns whether it replaced a live value.
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

    /// Stores an entry like [`SharedCache::put`], if that needs neither a wait nor a second attempt. Returns
    /// whether it replaced a live value. `None` means that it stored nothing, and the caller should call
    /// `put`.
    ///
    /// This is the fastest way to store an entry, as it returns neither an error nor a stamp.
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

    /// Stores an entry under a condition, which is checked under the lock.
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

    /// Stores an entry if the key's value is still the one with this `version`, which
    /// [`SharedCache::get_version`] returned. Returns whether it did. The value keeps its tags; those of
    /// `entry` are ignored.
    ///
    /// The result may be false although the value is the same, because the entry has moved. Read the value
    /// again then.
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

    /// Writes in the file in which a value was read. Returns false if that is no longer the current one.
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

    /// Removes a key's value if it is still the one with this `version`. Returns whether it was removed; see
    /// [`SharedCache::replace`].
    ///
    /// # Errors
    ///
    /// As `delete`.
    pub fn delete_version(&self, key: Key<'_>, version: &Version, patience: Patience) -> Result<bool> {
        self.write_version(key, version, patience, |held, key| held.delete_seen(key, &version.seen))
    }

    /// Removes a key's value, and returns the result of `make` for it.
    ///
    /// # Errors
    ///
    /// As `delete`; [`Error::OutOfMemory`], with nothing removed; errors of `make`, after the removal.
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
            // Other caches may have copies although there is no entry here, so `delete` invalidates them.
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

    /// Removes everything. Returns the number of entries that there were, including expired ones.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] or [`Error::Timeout`] for a stripe's lock: the other stripes have been emptied.
    /// [`Error::Interrupted`]: some stripes have been emptied.
    pub fn clear(&self, patience: Patience) -> Result<u64> {
        self.with(patience, |segment, _| {
            let mut removed = 0;
            let mut failed = None;
            for number in 0..segment.geometry().stripes {
                let cleared = segment.write_stripe(number, patience, |held| {
                    let entries = held.stripe.entries();
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

    /// Calls `visit` with the kind and the bytes of every key that has a live value. A key that is present
    /// during the whole call is visited exactly once. Takes no lock.
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

    /// The number of entries, including expired ones that were not removed yet. May wait for a file if the
    /// segment was replaced.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.present().map_or(0, |segment| segment.stripes().map(|stripe| stripe.entries()).sum())
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds to the sums of hits and misses, which all processes share. Reads do not count by themselves,
    /// because an addition in shared memory would cost more than the read.
    pub fn count(&self, hits: u64, misses: u64) {
        self.link().segment.count(hits, misses);
    }

    /// Sums over all stripes. Each number is exact, but they are read at slightly different moments. May wait
    /// like `len`.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let Some(segment) = self.present() else { return Stats::of(self.link().segment.geometry()) };
        let geometry = segment.geometry();
        // Any of the words may be damaged.
        let sum = |word: usize| {
            segment.stripes().map(|stripe| stripe.head[word].load(Relaxed)).fold(0, u64::saturating_add)
        };
        Stats {
            entries: segment.stripes().map(|stripe| stripe.entries()).sum(),
            leases: sum(head::LEASES),
            live_bytes: sum(head::LIVE).saturating_add(sum(head::LIVE + 1)).saturating_mul(8),
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

    /// Removes the file. Every process that uses it leaves it: its next call creates a new one. Returns
    /// whether the file still existed. The memory is freed when all processes have left it.
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
    /// A description of the inconsistency, or that a lock was not free.
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
