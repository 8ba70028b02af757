//! What happens to entries that were removed: who is told, and how values are closed.

pub(crate) mod aclose;
pub(crate) mod hook_errors;
pub(crate) mod nesting;
pub(crate) mod notifier;
pub(crate) mod observers;
pub(crate) mod removed_entries;
