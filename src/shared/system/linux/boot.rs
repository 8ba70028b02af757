//! The identity of the system in the header of a segment: the boot and the namespaces. A segment of another
//! boot is not in use.

use std::fs;

use crate::error::{Error, Result};
use crate::system::number_of;

/// A number for the present boot, or 0 if that is unknown.
pub(crate) fn boot() -> u64 {
    match fs::read("/proc/sys/kernel/random/boot_id") {
        Ok(text) if !text.is_empty() => number_of(&text),
        _ => 0,
    }
}

/// The number in a link such as "pid:[4026531836]".
fn number(link: &str) -> Option<u32> {
    let text = fs::read_link(link).ok()?;
    text.to_str()?.split_once('[')?.1.strip_suffix(']')?.parse().ok()
}

/// A number for the process's pid and time namespaces. In another pid namespace, thread ids mean other
/// threads, so locks do not exclude each other. In another time namespace, deadlines mean other times.
pub(crate) fn namespace() -> Result<u64> {
    let pid = number("/proc/self/ns/pid").ok_or(Error::Unsupported(
        "the pid namespace cannot be told: /proc is not mounted, and a shared cache needs it",
    ))?;
    // Kernels before 5.6 have no time namespaces.
    let time = number("/proc/self/ns/time").unwrap_or(0);
    Ok(u64::from(time) << 32 | u64::from(pid))
}
