//! The operations on a store and their replies, which all kinds of stores share.

pub use crate::kind::{Cell, Key, Kind, StreamId};
use crate::number::Number;
use crate::pages::PAGE;
use crate::weight;

/// Longer than the text of any number.
const LONGEST_NUMBER: usize = 32;

/// What a write does to the deadline of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// The deadline stays.
    Keep,
    /// The key loses its deadline.
    Never,
    /// The key expires after this many microseconds.
    After(u64),
    /// The key expires after this many microseconds if the write creates it; otherwise the deadline stays.
    AfterIfNew(u64),
}

/// When a value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Always.
    Always,
    /// Only if the key is absent.
    IfAbsent,
    /// Only if the key is present.
    IfPresent,
}

/// How sets are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum Combine {
    Union,
    Intersection,
    Difference,
}

/// The whole value of a key.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum Whole {
    Scalar(Cell),
    List(Vec<Cell>),
    Queue(Vec<Cell>),
    Map(Vec<(Cell, Cell)>),
    Set(Vec<Cell>),
    Sorted(Vec<(Cell, f64)>),
    Stream(Vec<(StreamId, Cell)>),
    /// The set bits of a filter or of bits, which cannot be stored as a whole.
    Positions(Kind, Vec<u64>),
}

impl Whole {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Scalar(_) => Kind::Scalar,
            Self::List(_) => Kind::List,
            Self::Queue(_) => Kind::Queue,
            Self::Map(_) => Kind::Map,
            Self::Set(_) => Kind::Set,
            Self::Sorted(_) => Kind::Sorted,
            Self::Stream(_) => Kind::Stream,
            Self::Positions(kind, _) => *kind,
        }
    }

    /// The number of elements; 0 for a single value.
    #[must_use]
    pub fn elements(&self) -> usize {
        match self {
            Self::Scalar(_) => 0,
            Self::List(cells) | Self::Queue(cells) | Self::Set(cells) => cells.len(),
            Self::Map(pairs) => pairs.len(),
            Self::Sorted(members) => members.len(),
            Self::Stream(entries) => entries.len(),
            Self::Positions(_, positions) => positions.len(),
        }
    }
}

/// An operation on the container of one key.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "docs/sessions.md has the calls that these are")]
pub enum Act {
    Len,
    ListPush {
        cells: Vec<Cell>,
        left: bool,
        maxlen: Option<u64>,
    },
    ListPop {
        left: bool,
        count: u64,
    },
    ListAt(i64),
    ListPut(i64, Cell),
    ListRange(i64, i64),
    ListTrim(i64, i64),
    ListRemove {
        cell: Cell,
        count: i64,
    },
    ListInsert(i64, Cell),
    ListIndex(Cell),
    ListPage {
        after: Option<i64>,
        count: u64,
    },
    /// Reserves the first job for this many microseconds.
    Reserve(u64),
    Ack(u64),
    Release(u64),
    MapGet(Vec<Cell>),
    MapSet(Vec<(Cell, Cell)>),
    MapDefault(Cell, Cell),
    MapIncr {
        field: Cell,
        by: Number,
    },
    MapDelete(Vec<Cell>),
    MapPage {
        after: Option<Cell>,
        count: u64,
    },
    SetAdd(Vec<Cell>),
    SetDiscard(Vec<Cell>),
    SetHas(Vec<Cell>),
    SetPop(u64),
    SetPage {
        after: Option<Cell>,
        count: u64,
    },
    SortedAdd {
        members: Vec<(Cell, f64)>,
        if_absent: bool,
        greater: bool,
    },
    SortedIncr(Cell, f64),
    SortedScores(Vec<Cell>),
    SortedRank {
        member: Cell,
        reverse: bool,
    },
    SortedRange {
        start: i64,
        stop: i64,
        reverse: bool,
    },
    SortedByScore {
        low: f64,
        high: f64,
        limit: u64,
        reverse: bool,
    },
    SortedRemove(Vec<Cell>),
    SortedPop {
        count: u64,
        largest: bool,
    },
    SortedPage {
        after: Option<(f64, Cell)>,
        count: u64,
    },
    StreamAdd {
        fields: Cell,
        maxlen: Option<u64>,
    },
    /// The entries after one id, up to another.
    StreamRange {
        after: Option<StreamId>,
        until: Option<StreamId>,
        count: u64,
    },
    StreamTrim(u64),
    BitsGet(u64),
    BitsSet(u64, bool),
    BitsToggle(u64),
    BitsCount,
    /// Each item is given by the numbers of its bits.
    BloomAdd {
        items: Vec<Vec<u64>>,
        shape: Vec<u8>,
    },
    BloomHas {
        items: Vec<Vec<u64>>,
        shape: Vec<u8>,
    },
}

impl Act {
    /// Whether it may change something.
    #[must_use]
    pub fn writes(&self) -> bool {
        !matches!(
            self,
            Self::Len
                | Self::ListAt(_)
                | Self::ListRange(..)
                | Self::ListIndex(_)
                | Self::ListPage { .. }
                | Self::MapGet(_)
                | Self::MapPage { .. }
                | Self::SetHas(_)
                | Self::SetPage { .. }
                | Self::SortedScores(_)
                | Self::SortedRank { .. }
                | Self::SortedRange { .. }
                | Self::SortedByScore { .. }
                | Self::SortedPage { .. }
                | Self::StreamRange { .. }
                | Self::BitsGet(_)
                | Self::BitsCount
                | Self::BloomHas { .. }
        )
    }

    /// The most elements that it stores.
    #[must_use]
    pub fn elements(&self) -> usize {
        match self {
            Self::ListPush { cells, .. } | Self::SetAdd(cells) => cells.len(),
            Self::MapSet(pairs) => pairs.len(),
            Self::SortedAdd { members, .. } => members.len(),
            Self::BloomAdd { items, .. } => items.len(),
            _ => usize::from(self.creates()),
        }
    }

    /// The most bytes that it adds to a container.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::ListPush { cells, .. } | Self::SetAdd(cells) => weight::cells(cells),
            Self::ListPut(_, cell) | Self::ListInsert(_, cell) | Self::StreamAdd { fields: cell, .. } => {
                weight::cell(cell)
            }
            Self::MapSet(pairs) => {
                pairs.iter().map(|(field, value)| weight::cell(field) + weight::cell(value)).sum()
            }
            Self::MapDefault(field, value) => weight::cell(field) + weight::cell(value),
            Self::MapIncr { field, .. } => weight::cell(field) + weight::cell(&[0; LONGEST_NUMBER]),
            Self::SortedAdd { members, .. } => {
                members.iter().map(|(member, _)| 2 * weight::cell(member)).sum()
            }
            Self::SortedIncr(member, _) => 2 * weight::cell(member),
            Self::BitsSet(..) | Self::BitsToggle(_) => weight::bytes(PAGE),
            Self::BloomAdd { items, .. } => items.iter().map(|bits| weight::bytes(bits.len() * PAGE)).sum(),
            _ => 0,
        }
    }

    /// Whether it creates an absent key.
    #[must_use]
    pub fn creates(&self) -> bool {
        matches!(
            self,
            Self::ListPush { .. }
                | Self::ListInsert(..)
                | Self::MapSet(_)
                | Self::MapDefault(..)
                | Self::MapIncr { .. }
                | Self::SetAdd(_)
                | Self::SortedAdd { .. }
                | Self::SortedIncr(..)
                | Self::StreamAdd { .. }
                | Self::BitsSet(..)
                | Self::BitsToggle(_)
                | Self::BloomAdd { .. }
        )
    }
}

/// An operation on a store.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "docs/sessions.md has the calls that these are")]
pub enum Op {
    Get(Vec<Key>),
    Set {
        items: Vec<(Key, Whole)>,
        touch: Touch,
        mode: Mode,
    },
    Delete(Vec<Key>),
    Take(Key),
    Rename(Key, Key),
    KindOf(Key),
    Expire(Key, Touch),
    Persist(Key),
    Ttl(Key),
    Incr {
        key: Key,
        by: Number,
        initial: Number,
        touch: Touch,
    },
    On {
        key: Key,
        kind: Kind,
        touch: Touch,
        act: Act,
    },
    Combine {
        keys: Vec<Key>,
        how: Combine,
    },
    Keys {
        after: Option<Key>,
        count: u64,
    },
    Expiring,
    Count,
    CountExpired,
    Clear,
    Purge(u64),
    /// Lets `cost` calls through the gate if its rate allows it: one call each `interval` µs, where calls may
    /// come up to `burst` µs early.
    Gate {
        name: Key,
        interval: u64,
        burst: u64,
        cost: u64,
    },
    /// Lets `cost` calls through if fewer than `limit` were let through in the `window` µs before.
    Log {
        name: Key,
        limit: u64,
        window: u64,
        cost: u64,
    },
    Lease {
        name: Key,
        token: Cell,
        micros: u64,
    },
    Release {
        name: Key,
        token: Cell,
    },
}

impl Op {
    /// Whether it may change something.
    #[must_use]
    pub fn writes(&self) -> bool {
        match self {
            Self::On { act, .. } => act.writes(),
            Self::Get(_)
            | Self::KindOf(_)
            | Self::Ttl(_)
            | Self::Combine { .. }
            | Self::Keys { .. }
            | Self::Expiring
            | Self::Count
            | Self::CountExpired => false,
            _ => true,
        }
    }
}

impl Op {
    /// The name of an operation on all keys.
    #[must_use]
    pub fn of_all_keys(&self) -> Option<&'static str> {
        Some(match self {
            Self::Keys { .. } => "keys",
            Self::Expiring => "expiring",
            Self::Count => "count",
            Self::CountExpired => "count_expired",
            Self::Clear => "clear",
            Self::Purge(_) => "purge",
            _ => return None,
        })
    }

    /// The most elements of containers that it stores.
    #[must_use]
    pub fn elements(&self) -> usize {
        match self {
            Self::Set { items, .. } => items.iter().map(|(_, whole)| whole.elements()).sum(),
            Self::On { act, .. } => act.elements(),
            _ => 0,
        }
    }
}

/// The reply to an operation.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "docs/sessions.md has the calls that these are")]
pub enum Reply {
    Bool(bool),
    Int(i64),
    Float(f64),
    Number(Number),
    Place(Option<i64>),
    Cell(Option<Cell>),
    Cells(Vec<Cell>),
    Options(Vec<Option<Cell>>),
    Pairs(Vec<(Cell, Cell)>),
    Scored(Vec<(Cell, f64)>),
    Scores(Vec<Option<f64>>),
    Bools(Vec<bool>),
    Id(StreamId),
    Entries(Vec<(StreamId, Cell)>),
    Places(Vec<(i64, Cell)>),
    Job(Option<(u64, Cell)>),
    Wholes(Vec<Option<Whole>>),
    Keys(Vec<Key>),
    /// Keys with deadlines, and the microseconds that they have left: less than 0 if the key has expired and
    /// was not removed yet.
    Expiring(Vec<(Key, i64)>),
    Kind(Option<Kind>),
    /// The microseconds left: the outer `None` if there is no key, the inner one if it never expires.
    Ttl(Option<Option<u64>>),
    /// Whether the call may go on, the microseconds after which it may if not, and the number of further
    /// calls that may go on at once.
    Gate {
        allowed: bool,
        micros: u64,
        remaining: u64,
    },
    /// The microseconds for which another holder has the lease; `None` if the caller has it.
    Lease(Option<u64>),
}

/// The reply of a log to a call of this cost. `log` has the calls that count, the oldest first, each as the
/// time until which it counts and its cost.
#[must_use]
pub fn logged(log: impl Iterator<Item = (u64, u64)> + Clone, now: u64, limit: u64, cost: u64) -> Reply {
    let counted: u64 = log.clone().map(|(_, cost)| cost).sum();
    if counted.saturating_add(cost) <= limit {
        return Reply::Gate { allowed: true, micros: 0, remaining: limit - counted - cost };
    }
    let mut excess = counted.saturating_add(cost) - limit;
    let mut micros = 0;
    for (until, cost) in log {
        if excess == 0 {
            break;
        }
        excess = excess.saturating_sub(cost);
        micros = until.saturating_sub(now);
    }
    Reply::Gate { allowed: false, micros, remaining: limit.saturating_sub(counted) }
}

/// The part of a sequence of `len` elements from `start` to `stop`, both included. Negative numbers count
/// from the end, as in Redis.
#[must_use]
pub fn bounds(start: i64, stop: i64, len: usize) -> std::ops::Range<usize> {
    let len_signed = i64::try_from(len).unwrap_or(i64::MAX);
    let from_start = |index: i64| if index < 0 { len_signed.saturating_add(index) } else { index };
    let first = usize::try_from(from_start(start).max(0)).unwrap_or(usize::MAX).min(len);
    let end = from_start(stop).saturating_add(1).max(0);
    let end = usize::try_from(end).unwrap_or(usize::MAX).min(len);
    first..end.max(first)
}
