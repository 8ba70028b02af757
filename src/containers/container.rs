//! Containers: the values of keys that have elements.

use std::collections::VecDeque;
use std::ops::Bound;

use crate::encoding::{Reader, Times, Writer};
use crate::error::{Error, Result};
use crate::list::{List, at_most, length};
use crate::map::{Map, Set};
use crate::number::Number;
use crate::operation::{Act, Cell, Kind, Reply, StreamId, Whole};
use crate::pages::Pages;
use crate::sorted::Sorted;
use crate::weight;

/// Entries in the order of their ids.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    entries: VecDeque<(StreamId, Cell)>,
    last: StreamId,
    bytes: u64,
}

/// A Bloom filter: its bits, and their number.
#[derive(Clone, Debug, Default)]
pub struct Bloom {
    bits: Pages,
    shape: Vec<u8>,
    added: i64,
}

/// A container.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum Container {
    List(List),
    Queue(List),
    Map(Map),
    Set(Set),
    Sorted(Sorted),
    Stream(Stream),
    Bloom(Bloom),
    Bits(Pages),
}

/// The time of an operation, on two clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Microseconds on the store's clock.
    pub clock: u64,
    /// Milliseconds since 1970.
    pub wall: u64,
}

/// The entries after `after`, at most `count`.
fn page<T: Clone>(later: impl Iterator<Item = T>, count: u64, len: usize) -> Vec<T> {
    later.take(at_most(count, len)).collect()
}

fn start(after: Option<&Cell>) -> Bound<Cell> {
    after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.clone()))
}

/// The sum of the number in a cell, or 0 without a cell, and another number.
///
/// # Errors
///
/// [`Error::NotANumber`], and those of [`Number::plus`].
pub fn sum(old: Option<&[u8]>, by: Number) -> Result<Number> {
    match old {
        Some(old) => Number::parse(old).ok_or(Error::NotANumber)?.plus(by),
        None => Number::Int(0).plus(by),
    }
}

impl Container {
    /// An empty container; `None` if the kind is a single value.
    #[must_use]
    pub fn empty(kind: Kind) -> Option<Self> {
        Some(match kind {
            Kind::Scalar => return None,
            Kind::List => Self::List(List::default()),
            Kind::Queue => Self::Queue(List::default()),
            Kind::Map => Self::Map(Map::default()),
            Kind::Set => Self::Set(Set::default()),
            Kind::Sorted => Self::Sorted(Sorted::default()),
            Kind::Stream => Self::Stream(Stream::default()),
            Kind::Bloom => Self::Bloom(Bloom::default()),
            Kind::Bits => Self::Bits(Pages::default()),
        })
    }

    /// A container with this content; `None` for a single value.
    #[must_use]
    pub fn of(whole: &Whole) -> Option<Self> {
        Some(match whole {
            Whole::Scalar(_) => return None,
            Whole::List(cells) => Self::List(List::of(cells.clone())),
            Whole::Queue(cells) => Self::Queue(List::of(cells.clone())),
            Whole::Map(pairs) => Self::Map(pairs.iter().cloned().collect()),
            Whole::Set(members) => Self::Set(members.iter().cloned().collect()),
            Whole::Sorted(members) => {
                let mut sorted = Sorted::default();
                for (member, score) in members {
                    sorted.put(member, *score);
                }
                Self::Sorted(sorted)
            }
            Whole::Stream(entries) => {
                let last = entries.last().map_or((0, 0), |(id, _)| *id);
                Self::Stream(Stream::of(entries.iter().cloned().collect(), last))
            }
            Whole::Positions(_, positions) => {
                let mut bits = Pages::default();
                for bit in positions {
                    bits.set(*bit, true);
                }
                Self::Bits(bits)
            }
        })
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::List(_) => Kind::List,
            Self::Queue(_) => Kind::Queue,
            Self::Map(_) => Kind::Map,
            Self::Set(_) => Kind::Set,
            Self::Sorted(_) => Kind::Sorted,
            Self::Stream(_) => Kind::Stream,
            Self::Bloom(_) => Kind::Bloom,
            Self::Bits(_) => Kind::Bits,
        }
    }

    /// The whole content.
    #[must_use]
    pub fn whole(&self) -> Whole {
        match self {
            Self::List(list) => Whole::List(list.items.iter().cloned().collect()),
            Self::Queue(list) => Whole::Queue(list.items.iter().cloned().collect()),
            Self::Map(map) => {
                Whole::Map(map.fields().iter().map(|(field, value)| (field.clone(), value.clone())).collect())
            }
            Self::Set(set) => Whole::Set(set.members().iter().cloned().collect()),
            Self::Sorted(sorted) => Whole::Sorted(sorted.all()),
            Self::Stream(stream) => Whole::Stream(stream.entries.iter().cloned().collect()),
            Self::Bloom(bloom) => Whole::Positions(Kind::Bloom, bloom.bits.positions()),
            Self::Bits(bits) => Whole::Positions(Kind::Bits, bits.positions()),
        }
    }

    /// Runs an operation that changes nothing.
    #[must_use]
    pub fn read(&self, act: &Act) -> Reply {
        match (self, act) {
            (Self::List(list) | Self::Queue(list), _) => list.read(act),
            (Self::Map(map), Act::MapGet(fields)) => {
                Reply::Options(fields.iter().map(|field| map.fields().get(field).cloned()).collect())
            }
            (Self::Map(map), Act::MapPage { after, count }) => {
                let later = map.fields().range((start(after.as_ref()), Bound::Unbounded));
                Reply::Pairs(page(
                    later.map(|(field, value)| (field.clone(), value.clone())),
                    *count,
                    map.fields().len(),
                ))
            }
            (Self::Map(map), _) => length(map.fields().len()),
            (Self::Set(set), Act::SetHas(members)) => {
                Reply::Bools(members.iter().map(|member| set.members().contains(member)).collect())
            }
            (Self::Set(set), Act::SetPage { after, count }) => {
                let later = set.members().range((start(after.as_ref()), Bound::Unbounded));
                Reply::Cells(page(later.cloned(), *count, set.members().len()))
            }
            (Self::Set(set), _) => length(set.members().len()),
            (Self::Sorted(sorted), _) => sorted.read(act),
            (Self::Stream(stream), Act::StreamRange { after, until, count }) => {
                let first = stream.entries.partition_point(|(id, _)| after.is_some_and(|after| *id <= after));
                let later = stream.entries.range(first..).cloned();
                let later = later.take_while(|(id, _)| until.is_none_or(|until| *id <= until));
                Reply::Entries(page(later, *count, stream.entries.len()))
            }
            (Self::Stream(stream), _) => length(stream.entries.len()),
            (Self::Bloom(bloom), Act::BloomHas { items, .. }) => {
                Reply::Bools(items.iter().map(|item| item.iter().all(|bit| bloom.bits.get(*bit))).collect())
            }
            (Self::Bloom(bloom), _) => Reply::Int(bloom.added),
            (Self::Bits(bits), Act::BitsGet(bit)) => Reply::Bool(bits.get(*bit)),
            (Self::Bits(bits), _) => Reply::Int(bits.count()),
        }
    }

    /// Runs an operation that may change the container.
    ///
    /// # Errors
    ///
    /// [`Error`]; nothing has changed then.
    pub fn write(&mut self, act: &Act, moment: Moment) -> Result<Reply> {
        Ok(match (self, act) {
            (Self::List(list) | Self::Queue(list), _) => list.write(act, moment.clock)?,
            (Self::Map(map), Act::MapSet(pairs)) => {
                let added = pairs.iter().filter(|(field, value)| map.insert(field.clone(), value.clone()));
                length(added.count())
            }
            (Self::Map(map), Act::MapDefault(field, value)) => {
                let found = map.fields().get(field).cloned();
                if found.is_none() {
                    map.insert(field.clone(), value.clone());
                }
                Reply::Cell(found.or_else(|| Some(value.clone())))
            }
            (Self::Map(map), Act::MapIncr { field, by }) => {
                let sum = sum(map.fields().get(field).map(Vec::as_slice), *by)?;
                map.insert(field.clone(), sum.text());
                Reply::Number(sum)
            }
            (Self::Map(map), Act::MapDelete(fields)) => {
                length(fields.iter().filter(|field| map.remove(field)).count())
            }
            (Self::Set(set), Act::SetAdd(members)) => {
                length(members.iter().filter(|member| set.insert((*member).clone())).count())
            }
            (Self::Set(set), Act::SetDiscard(members)) => {
                length(members.iter().filter(|member| set.remove(member)).count())
            }
            (Self::Set(set), Act::SetPop(count)) => {
                let count = at_most(*count, set.members().len());
                Reply::Cells((0..count).filter_map(|_| set.pop_first()).collect())
            }
            (Self::Sorted(sorted), _) => sorted.write(act)?,
            (Self::Stream(stream), Act::StreamAdd { fields, maxlen }) => {
                let (millis, number) = stream.last;
                let id = if moment.wall > millis { (moment.wall, 0) } else { (millis, number + 1) };
                stream.entries.push_back((id, fields.clone()));
                stream.last = id;
                stream.bytes += weight::cell(fields);
                if let Some(maxlen) = maxlen {
                    stream.trim(*maxlen);
                }
                Reply::Id(id)
            }
            (Self::Stream(stream), Act::StreamTrim(maxlen)) => length(stream.trim(*maxlen)),
            (Self::Bits(bits), Act::BitsSet(bit, value)) => Reply::Bool(bits.set(*bit, *value)),
            (Self::Bits(bits), Act::BitsToggle(bit)) => {
                let was = bits.get(*bit);
                Reply::Bool(!bits.set(*bit, !was))
            }
            (Self::Bloom(bloom), Act::BloomAdd { items, shape }) => {
                if bloom.shape.is_empty() {
                    bloom.shape.clone_from(shape);
                }
                let mut added = 0;
                for item in items {
                    let mut is_new = false;
                    for bit in item {
                        is_new |= !bloom.bits.set(*bit, true);
                    }
                    added += i64::from(is_new);
                }
                bloom.added += added;
                Reply::Int(added)
            }
            (other, _) => other.read(act),
        })
    }

    pub(crate) fn write_image(&self, writer: &mut Writer<'_>) {
        match self {
            Self::List(list) | Self::Queue(list) => list.write_image(writer),
            Self::Map(map) => {
                writer.len(map.fields().len());
                for (field, value) in map.fields() {
                    writer.cell(field);
                    writer.cell(value);
                }
            }
            Self::Set(set) => {
                writer.len(set.members().len());
                for member in set.members() {
                    writer.cell(member);
                }
            }
            Self::Sorted(sorted) => {
                let members = sorted.all();
                writer.len(members.len());
                for (member, score) in &members {
                    writer.cell(member);
                    writer.number(score.to_bits());
                }
            }
            Self::Stream(stream) => {
                writer.number(stream.last.0);
                writer.number(stream.last.1);
                writer.len(stream.entries.len());
                for ((millis, number), cell) in &stream.entries {
                    writer.number(*millis);
                    writer.number(*number);
                    writer.cell(cell);
                }
            }
            Self::Bloom(bloom) => {
                writer.cell(&bloom.shape);
                writer.signed(bloom.added);
                bloom.bits.write_image(writer);
            }
            Self::Bits(bits) => bits.write_image(writer),
        }
    }

    /// Reads a container that [`write_image`](Self::write_image) has written; `None` if it is damaged.
    pub(crate) fn read_image(kind: Kind, reader: &mut Reader<'_>) -> Option<Self> {
        Some(match kind {
            Kind::Scalar => return None,
            Kind::List => Self::List(List::read_image(reader)?),
            Kind::Queue => Self::Queue(List::read_image(reader)?),
            Kind::Map => Self::Map(reader.several(|reader| Some((reader.cell()?, reader.cell()?)))?),
            Kind::Set => Self::Set(reader.several(Reader::cell)?),
            Kind::Sorted => {
                let mut sorted = Sorted::default();
                let members: Vec<_> =
                    reader.several(|reader| Some((reader.cell()?, f64::from_bits(reader.number()?))))?;
                for (member, score) in members {
                    if score.is_nan() {
                        return None;
                    }
                    sorted.put(&member, score);
                }
                Self::Sorted(sorted)
            }
            Kind::Stream => {
                let last = (reader.number()?, reader.number()?);
                let id = |reader: &mut Reader<'_>| Some((reader.number()?, reader.number()?));
                let entries = reader.several(|reader| Some((id(reader)?, reader.cell()?)))?;
                Self::Stream(Stream::of(entries, last))
            }
            Kind::Bloom => Self::Bloom(Bloom {
                shape: reader.cell()?,
                added: reader.signed()?,
                bits: Pages::read_image(reader)?,
            }),
            Kind::Bits => Self::Bits(Pages::read_image(reader)?),
        })
    }

    /// A copy, made by writing and reading an image.
    pub(crate) fn copied(&self) -> Option<Self> {
        let times = Times { clock: 0, wall: 0 };
        let mut bytes = Vec::new();
        self.write_image(&mut Writer { bytes: &mut bytes, times });
        Self::read_image(self.kind(), &mut Reader { rest: &bytes, times })
    }

    /// The number of bytes that its elements take. O(1).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::List(list) | Self::Queue(list) => list.bytes(),
            Self::Map(map) => map.bytes(),
            Self::Set(set) => set.bytes(),
            Self::Sorted(sorted) => sorted.bytes(),
            Self::Stream(stream) => stream.bytes,
            Self::Bloom(bloom) => bloom.bits.bytes(),
            Self::Bits(bits) => bits.bytes(),
        }
    }

    /// The shape that a filter was made with.
    #[must_use]
    pub fn shape(&self) -> Option<&[u8]> {
        match self {
            Self::Bloom(bloom) if !bloom.shape.is_empty() => Some(&bloom.shape),
            _ => None,
        }
    }
}

impl Stream {
    fn of(entries: VecDeque<(StreamId, Cell)>, last: StreamId) -> Self {
        let bytes = weight::cells(entries.iter().map(|(_, cell)| cell));
        Self { entries, last, bytes }
    }

    fn trim(&mut self, maxlen: u64) -> usize {
        let extra = self.entries.len() - at_most(maxlen, self.entries.len());
        self.bytes -=
            weight::cells(self.entries.drain(..extra).map(|(_, cell)| cell).collect::<Vec<_>>().iter());
        extra
    }
}
