//! The answers of a store that is empty and stores nothing.

use crate::container::{Container, Moment};
use crate::kind::Kind;
use crate::operation::{Act, Op, Reply};

impl Op {
    /// The answer to an operation by a store that is empty and stores nothing; `None` if there is no such
    /// answer.
    #[must_use]
    pub fn nothing(&self) -> Option<Reply> {
        Some(match self {
            Self::Get(keys) => Reply::Wholes(vec![None; keys.len()]),
            Self::Take(_) => Reply::Wholes(vec![None]),
            Self::Set { .. }
            | Self::Delete(_)
            | Self::Count
            | Self::CountExpired
            | Self::Clear
            | Self::Purge(_) => Reply::Int(0),
            Self::Rename(..) | Self::Expire(..) | Self::Persist(_) | Self::Release { .. } => {
                Reply::Bool(false)
            }
            Self::KindOf(_) => Reply::Kind(None),
            Self::Ttl(_) => Reply::Ttl(None),
            Self::Combine { .. } => Reply::Cells(Vec::new()),
            Self::Keys { .. } => Reply::Keys(Vec::new()),
            Self::Expiring => Reply::Expiring(Vec::new()),
            Self::On { kind, act, .. } => return act.nothing(*kind),
            // A caller that computes a value gets the lease.
            Self::Lease { name, .. } if name.starts_with(b"load:") => Reply::Lease(None),
            Self::Incr { .. } | Self::Gate { .. } | Self::Log { .. } | Self::Lease { .. } => return None,
        })
    }
}

impl Act {
    fn nothing(&self, kind: Kind) -> Option<Reply> {
        let mut empty = Container::empty(kind)?;
        match self {
            Self::ListPush { .. }
            | Self::MapSet(_)
            | Self::SetAdd(_)
            | Self::SortedAdd { .. }
            | Self::BloomAdd { .. } => Some(Reply::Int(0)),
            _ if !self.writes() => Some(empty.read(self)),
            _ if self.creates() => None,
            _ => empty.write(self, Moment { clock: 0, wall: 0 }).ok(),
        }
    }
}
