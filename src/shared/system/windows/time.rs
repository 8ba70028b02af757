//! The clock, and the identity of the boot.

#![expect(unsafe_code, reason = "it asks the system")]

use std::mem::{MaybeUninit, size_of};
use std::ptr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use windows_sys::Wdk::System::SystemInformation::{NtQuerySystemInformation, SystemTimeOfDayInformation};
use windows_sys::Win32::System::Performance::{QueryPerformanceCounter, QueryPerformanceFrequency};

use crate::system::number_of;

/// The nanoseconds since the machine booted, including the time that it sleeps.
pub(crate) fn now() -> u64 {
    static FREQUENCY: AtomicU64 = AtomicU64::new(0);
    let mut frequency = FREQUENCY.load(Relaxed);
    if frequency == 0 {
        let mut found = 0;
        // SAFETY: it stores a number.
        unsafe { QueryPerformanceFrequency(&raw mut found) };
        frequency = u64::try_from(found).unwrap_or(0).max(1);
        FREQUENCY.store(frequency, Relaxed);
    }
    let mut count = 0;
    // SAFETY: as above. It cannot fail.
    unsafe { QueryPerformanceCounter(&raw mut count) };
    let nanoseconds = u128::try_from(count).unwrap_or(0) * 1_000_000_000 / u128::from(frequency);
    u64::try_from(nanoseconds).unwrap_or(u64::MAX)
}

/// What the system tells of its time, in units of 100 nanoseconds.
#[repr(C)]
struct TimeOfDay {
    boot: i64,
    now: i64,
    zone: i64,
    zone_number: u32,
    reserved: u32,
    /// By how much the clock was set since the boot. `boot` was moved as much.
    boot_bias: u64,
    sleep_bias: u64,
}

/// Stands for the present boot, or 0 if that cannot be told.
pub(crate) fn boot() -> u64 {
    let mut found = MaybeUninit::<TimeOfDay>::zeroed();
    // SAFETY: at most as many bytes are written.
    let status = unsafe {
        NtQuerySystemInformation(
            SystemTimeOfDayInformation,
            found.as_mut_ptr().cast(),
            size_of::<TimeOfDay>() as u32,
            ptr::null_mut(),
        )
    };
    if status < 0 {
        return 0;
    }
    // SAFETY: numbers only, which were zero before.
    let found = unsafe { found.assume_init() };
    number_of(&found.boot.wrapping_sub_unsigned(found.boot_bias).to_le_bytes())
}
