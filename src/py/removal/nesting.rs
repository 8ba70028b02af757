//! Removals that cause removals.
//!
//! A hook may end another cache, whose values' hooks may end another, and so on: past a certain
//! depth what was removed waits until the outermost call is done, so that no chain of caches is too
//! long for the stack.

use std::cell::{Cell, RefCell};

use pyo3::prelude::*;

/// So many caches deep one is emptied by the hooks of another before what it removes has to wait.
const DEEPEST: u32 = 40;

type Work = Box<dyn FnOnce(Python<'_>)>;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static WAITING: RefCell<Vec<Work>> = const { RefCell::new(Vec::new()) };
}

/// One level down, until dropped.
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

/// Runs something that drops many objects: now, or where that would be too deep a nesting, when
/// the outermost of all is done.
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
