//! The values of keys in memory.

use std::sync::Arc;

use crate::container::Container;
use crate::kind::{Cell, Kind};
use crate::operation::Whole;
use crate::weight;

/// A single value in a form of the caller's.
pub trait Held: Clone {
    /// The value as a cell.
    fn cell(&self) -> Cell;

    /// How many bytes it takes in memory, about.
    fn bytes(&self) -> u64;
}

/// The value of a key.
#[derive(Clone, Debug)]
pub enum Value<V> {
    /// A single value.
    Cell(Cell),
    /// A single value in the caller's form.
    Held(V),
    /// Anything else.
    Container(Arc<Container>),
}

impl<V: Held> Value<V> {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Cell(_) | Self::Held(_) => Kind::Scalar,
            Self::Container(container) => container.kind(),
        }
    }

    /// All of it, as cells.
    #[must_use]
    pub fn whole(&self) -> Whole {
        match self {
            Self::Cell(cell) => Whole::Scalar(cell.clone()),
            Self::Held(held) => Whole::Scalar(held.cell()),
            Self::Container(container) => container.whole(),
        }
    }

    /// How many bytes it takes in memory, about.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Cell(cell) => weight::cell(cell),
            Self::Held(held) => held.bytes(),
            Self::Container(container) => container.bytes(),
        }
    }

    pub(crate) fn of(whole: &Whole) -> Self {
        match (whole, Container::of(whole)) {
            (_, Some(container)) => Self::Container(Arc::new(container)),
            (Whole::Scalar(cell), None) => Self::Cell(cell.clone()),
            (_, None) => Self::Cell(Cell::new()),
        }
    }
}
