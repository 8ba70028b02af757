//! The handling of removed entries: notifications, and closing values.

pub(crate) mod aclose;
pub(crate) mod hook_errors;
pub(crate) mod nesting;
pub(crate) mod notifier;
pub(crate) mod observers;
pub(crate) mod removed_entries;
