//! The state of the process rather than of one cache: clock, locks, log, threads and forks.

pub(crate) mod at_exit;
pub(crate) mod background;
pub(crate) mod clock;
pub(crate) mod fork;
pub(crate) mod guard;
pub(crate) mod logging;
pub(crate) mod mutex;
pub(crate) mod panics;
pub(crate) mod per_process;
pub(crate) mod raised_later;
pub(crate) mod recorder;
pub(crate) mod stack;
pub(crate) mod wall_clock;
