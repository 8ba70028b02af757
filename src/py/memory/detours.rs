//! The reasons for which calls cannot take the fast path, as flags in one byte, which a call checks once.

use std::sync::atomic::{AtomicU8, Ordering};

/// Flags for the reasons.
pub(crate) struct Detours(AtomicU8);

impl Detours {
    /// There is an observer of lookups and writes, a tier, a given clock, or a policy written in Python.
    pub(super) const SLOW_PATH: u8 = 1;
    /// A write must do more than store: call a listener, or set a deadline.
    pub(super) const WRITES: u8 = 2;
    /// A function of the user computes the weight of an entry.
    pub(super) const WEIGHER: u8 = 4;
    /// The subclass implements `[]=` and `del` in Python.
    pub(super) const IN_PYTHON: u8 = 8;
    /// Every entry weighs 1, whatever methods its value has. This is no reason for the slow path, but
    /// shortens the fast one.
    pub(super) const WEIGHTLESS: u8 = 16;

    /// A subclass chooses victims in Python, so `[]=` of a new key makes room first.
    pub(super) const CHOOSES: u8 = 32;

    /// A subclass composes `get` and `setdefault` of operators that Python code overrides.
    pub(super) const COMPOSES: u8 = 64;

    /// The flags that concern only the operators of a subclass, and what is composed of them.
    pub(super) const OF_OPERATORS: u8 = Self::IN_PYTHON | Self::CHOOSES | Self::COMPOSES;

    pub(super) fn new(present: u8) -> Self {
        Self(AtomicU8::new(present))
    }

    /// All flags that are set.
    #[inline(always)]
    pub(super) fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether this flag is set.
    #[inline(always)]
    pub(super) fn have(&self, detour: u8) -> bool {
        self.get() & detour != 0
    }

    /// Sets or clears a flag.
    pub(super) fn set(&self, detour: u8, present: bool) {
        if present {
            self.0.fetch_or(detour, Ordering::Release);
        } else {
            self.0.fetch_and(!detour, Ordering::Release);
        }
    }
}
