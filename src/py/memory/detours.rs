//! The reasons against the fast path, in one byte, so that a call checks them once.

use std::sync::atomic::{AtomicU8, Ordering};

/// What keeps calls from the fast path.
pub(crate) struct Detours(AtomicU8);

impl Detours {
    /// There is somebody to tell of lookups and writes, a tier, or a policy written in Python.
    pub(super) const SLOW_PATH: u8 = 1;
    /// A write has more to do than to store: a listener hears of it, or what it stores expires.
    pub(super) const WRITES: u8 = 2;
    /// A function of the user's says what an entry weighs.
    pub(super) const WEIGHER: u8 = 4;
    /// `[]=` and `del` are the subclass's own, in Python.
    pub(super) const IN_PYTHON: u8 = 8;
    /// Every entry weighs 1, whatever its value says: this shortens the path.
    pub(super) const WEIGHTLESS: u8 = 16;

    /// A subclass chooses in Python what is evicted: `[]=` of a new key makes room first.
    pub(super) const CHOOSES: u8 = 32;

    /// Those that concern the operators of a subclass, and no other call.
    pub(super) const OF_OPERATORS: u8 = Self::IN_PYTHON | Self::CHOOSES;

    pub(super) fn new(present: u8) -> Self {
        Self(AtomicU8::new(present))
    }

    /// All of them.
    #[inline(always)]
    pub(super) fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether this is one of them.
    #[inline(always)]
    pub(super) fn have(&self, detour: u8) -> bool {
        self.get() & detour != 0
    }

    /// Adds one, or takes it away.
    pub(super) fn set(&self, detour: u8, present: bool) {
        if present {
            self.0.fetch_or(detour, Ordering::Release);
        } else {
            self.0.fetch_and(!detour, Ordering::Release);
        }
    }
}
