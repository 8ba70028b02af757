//! Removals that cause removals.
//!
//! A hook may close another cache, whose values' hooks may close another one, and so on. Beyond a certain
//! depth, removed entries are finished only when the outermost call is done, so that no chain of caches
//! overflows the stack.

use std::cell::{Cell, RefCell};

use pyo3::prelude::*;

/// The depth of nested removals beyond which removed entries have to wait.
const DEEPEST: u32 = 40;

type Work = Box<dyn FnOnce(Python<'_>)>;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static WAITING: RefCell<Vec<Work>> = const { RefCell::new(Vec::new()) };
}

/// One level of nesting, until dropped.
struct Deeper(u32);

impl Deeper {
    fn than(depth: u32) -> Self {
        DEPTH.set(depth + 1);
        Self(depth)
    }
}

impl Drop for Deeper {
    fn drop(&mut self) {
        DEPTH.set(self.0);
    }
}

/// Runs `work`, which drops many objects: now or, if the nesting is too deep, when the outermost call is
/// done.
pub(crate) fn not_too_deep(py: Python<'_>, work: impl FnOnce(Python<'_>) + 'static) {
    let depth = DEPTH.get();
    if depth >= DEEPEST {
        WAITING.with_borrow_mut(|waiting| waiting.push(Box::new(work)));
        return;
    }
    let _deeper = Deeper::than(depth);
    work(py);
    while depth == 0
        && let Some(work) = WAITING.with_borrow_mut(Vec::pop)
    {
        work(py);
    }
}
