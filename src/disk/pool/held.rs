//! The transactions that each thread has open, whatever pool they are of.
//!
//! A thread that writes a database through one object while it is in a transaction of another object of the same
//! database would wait for itself.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use super::TransactionId;
use crate::sqlite_guard::File;

struct Transaction {
    id: TransactionId,
    file: File,
    /// Dead once the transaction is over.
    held: Weak<()>,
}

thread_local! {
    static OPEN: RefCell<Vec<Transaction>> = const { RefCell::new(Vec::new()) };
}

/// Kept with a transaction as long as it has the lock to write.
pub(super) struct Held(#[expect(dead_code, reason = "the list has a weak reference")] Arc<()>);

impl Held {
    /// Records that this thread has begun a transaction.
    pub(super) fn by_this_thread(file: File, id: TransactionId) -> Self {
        let held = Arc::new(());
        // A thread whose storage is gone is ending, and begins no transaction.
        let _ = OPEN.try_with(|open| {
            let mut open = open.borrow_mut();
            open.retain(Transaction::is_open);
            open.push(Transaction { id, file, held: Arc::downgrade(&held) });
        });
        Self(held)
    }
}

impl Transaction {
    fn is_open(&self) -> bool {
        // A forked child has a copy of the list, and none of its parent's locks.
        self.held.strong_count() > 0 && self.id.is_of_this_process()
    }
}

/// Whether this thread is in a transaction that has the lock to write a file.
pub(super) fn is_held_by_this_thread(file: File) -> bool {
    let held = OPEN.try_with(|open| open.borrow().iter().any(|it| it.file == file && it.is_open()));
    held.unwrap_or(false)
}
