//! When a process started, and whether it is dead.

#![expect(unsafe_code, reason = "it asks the system")]

use std::io;
use std::mem::MaybeUninit;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};

use windows_sys::Win32::Foundation::{ERROR_INVALID_PARAMETER, FILETIME, WAIT_OBJECT_0};
use windows_sys::Win32::System::Threading::{
    GetProcessTimes, OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE, WaitForSingleObject,
};

/// The process with an id, which may have ended; `None` if there is none, an error if that cannot be told.
fn opened(id: u32) -> Result<Option<OwnedHandle>, ()> {
    // SAFETY: it returns a new handle, or null.
    let handle = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE, 0, id) };
    if !handle.is_null() {
        // SAFETY: it is new.
        return Ok(Some(unsafe { OwnedHandle::from_raw_handle(handle) }));
    }
    match io::Error::last_os_error().raw_os_error().map(i32::cast_unsigned) {
        Some(ERROR_INVALID_PARAMETER) => Ok(None),
        _ => Err(()),
    }
}

/// Ends this process at once.
#[cfg(feature = "stall-points")]
pub(crate) fn kill_this_process() -> ! {
    use windows_sys::Win32::System::Threading::{GetCurrentProcess, TerminateProcess};
    // SAFETY: it uses no memory of ours.
    unsafe { TerminateProcess(GetCurrentProcess(), 9) };
    std::process::abort()
}

/// Whether a process has the id, or had it and is still known.
pub(crate) fn exists(id: u32) -> bool {
    !matches!(opened(id), Ok(None))
}

/// When the process started, in milliseconds; `None` if it has ended, an error if that cannot be told.
pub(crate) fn start_of(id: u32) -> Result<Option<u64>, ()> {
    let Some(process) = opened(id)? else { return Ok(None) };
    // SAFETY: the handle is open.
    if unsafe { WaitForSingleObject(process.as_raw_handle(), 0) } == WAIT_OBJECT_0 {
        return Ok(None);
    }
    let mut times = [const { MaybeUninit::<FILETIME>::zeroed() }; 4];
    let [created, ended, in_kernel, in_user] = &mut times;
    // SAFETY: as above, and it stores four times.
    let is_known = unsafe {
        GetProcessTimes(
            process.as_raw_handle(),
            created.as_mut_ptr(),
            ended.as_mut_ptr(),
            in_kernel.as_mut_ptr(),
            in_user.as_mut_ptr(),
        )
    };
    if is_known == 0 {
        return Err(());
    }
    // SAFETY: numbers only, which were zero before.
    let created = unsafe { created.assume_init() };
    let units = u64::from(created.dwHighDateTime) << 32 | u64::from(created.dwLowDateTime);
    Ok(Some(units / 10_000))
}
