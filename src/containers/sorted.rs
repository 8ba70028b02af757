//! Sorted sets: members with scores, in the order of score and then of the member's bytes.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::list::{at_most, length};
use crate::operation::{Act, Cell, Reply, bounds};
use crate::weight;

/// A score, which is never NaN.
#[derive(Clone, Copy, Debug)]
struct Score(f64);

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Members by name, and by score.
#[derive(Clone, Debug, Default)]
pub struct Sorted {
    scores: BTreeMap<Cell, f64>,
    order: BTreeSet<(Score, Cell)>,
    bytes: u64,
}

/// The bytes that a member takes, in both maps.
fn weight(member: &Cell) -> u64 {
    2 * weight::cell(member)
}

/// The score, with -0.0 replaced by 0.0.
#[must_use]
pub fn plain_score(score: f64) -> f64 {
    if score == 0.0 { 0.0 } else { score }
}

impl Sorted {
    pub(crate) fn put(&mut self, member: &Cell, score: f64) {
        let score = plain_score(score);
        if let Some(old) = self.scores.insert(member.clone(), score) {
            self.order.remove(&(Score(old), member.clone()));
        } else {
            self.bytes += weight(member);
        }
        self.order.insert((Score(score), member.clone()));
    }

    fn remove(&mut self, member: &Cell) -> bool {
        let Some(old) = self.scores.remove(member) else { return false };
        self.order.remove(&(Score(old), member.clone()));
        self.bytes -= weight(member);
        true
    }

    /// The number of bytes that its elements take.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.scores.len()
    }

    pub(crate) fn all(&self) -> Vec<(Cell, f64)> {
        self.order.iter().map(|(score, member)| (member.clone(), score.0)).collect()
    }

    fn ordered(&self, reverse: bool) -> Box<dyn Iterator<Item = &(Score, Cell)> + '_> {
        if reverse { Box::new(self.order.iter().rev()) } else { Box::new(self.order.iter()) }
    }

    pub(crate) fn read(&self, act: &Act) -> Reply {
        let scored = |(score, member): &(Score, Cell)| (member.clone(), score.0);
        match act {
            Act::SortedScores(members) => {
                Reply::Scores(members.iter().map(|member| self.scores.get(member).copied()).collect())
            }
            Act::SortedRank { member, reverse } => Reply::Place(self.scores.get(member).map(|score| {
                let before = self.order.range(..(Score(*score), member.clone())).count();
                let rank = if *reverse { self.len() - 1 - before } else { before };
                i64::try_from(rank).unwrap_or(i64::MAX)
            })),
            Act::SortedRange { start, stop, reverse } => {
                let range = bounds(*start, *stop, self.len());
                Reply::Scored(
                    self.ordered(*reverse).skip(range.start).take(range.len()).map(scored).collect(),
                )
            }
            Act::SortedByScore { low, high, limit, reverse } => {
                let (low, high) = (plain_score(*low), plain_score(*high));
                if low > high {
                    return Reply::Scored(Vec::new());
                }
                let found = self.order.range((Score(low), Cell::new())..);
                let found: Vec<_> = found.take_while(|(score, _)| score.0 <= high).collect();
                let most = at_most(*limit, found.len());
                Reply::Scored(if *reverse {
                    found.into_iter().rev().take(most).map(scored).collect()
                } else {
                    found.into_iter().take(most).map(scored).collect()
                })
            }
            Act::SortedPage { after, count } => {
                let most = at_most(*count, self.len());
                let later: Box<dyn Iterator<Item = &(Score, Cell)>> = match after {
                    Some((score, member)) => Box::new(self.order.range((
                        std::ops::Bound::Excluded((Score(plain_score(*score)), member.clone())),
                        std::ops::Bound::Unbounded,
                    ))),
                    None => Box::new(self.order.iter()),
                };
                Reply::Scored(later.take(most).map(scored).collect())
            }
            _ => length(self.len()),
        }
    }

    pub(crate) fn write(&mut self, act: &Act) -> Result<Reply> {
        Ok(match act {
            Act::SortedAdd { members, if_absent, greater } => {
                let mut added = 0;
                for (member, score) in members {
                    match self.scores.get(member) {
                        None => added += 1,
                        Some(old) if *if_absent || *greater && *score <= *old => continue,
                        Some(_) => {}
                    }
                    self.put(member, *score);
                }
                length(added)
            }
            Act::SortedIncr(member, by) => {
                let sum = self.scores.get(member).copied().unwrap_or(0.0) + by;
                if sum.is_nan() {
                    return Err(Error::NoSum);
                }
                self.put(member, sum);
                Reply::Float(plain_score(sum))
            }
            Act::SortedRemove(members) => length(members.iter().filter(|member| self.remove(member)).count()),
            Act::SortedPop { count, largest } => {
                let taken: Vec<_> = self
                    .ordered(*largest)
                    .take(at_most(*count, self.len()))
                    .map(|(score, member)| (member.clone(), score.0))
                    .collect();
                for (member, _) in &taken {
                    self.remove(member);
                }
                Reply::Scored(taken)
            }
            _ => self.read(act),
        })
    }
}
