//! Switches off single rules of the seam, to check that the tests notice.

/// Whether `FLEXCACHE_DISABLE_RULE` names a rule. Only builds for tests ask.
#[cfg(feature = "negative-controls")]
pub(crate) fn is_off(rule: &str) -> bool {
    static OFF: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("FLEXCACHE_DISABLE_RULE").ok());
    OFF.as_deref() == Some(rule)
}

/// All rules are in force.
#[cfg(not(feature = "negative-controls"))]
#[inline(always)]
pub(crate) const fn is_off(_rule: &str) -> bool {
    false
}
