//! Files: where they lie, locks, allocation and mappings.

#![expect(unsafe_code, reason = "it calls the system")]

use std::ffi::{OsString, c_void};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::mem::{MaybeUninit, size_of};
use std::os::windows::ffi::OsStringExt;
use std::os::windows::fs::FileExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::PathBuf;
use std::ptr;

use windows_sys::Win32::Foundation::{ERROR_LOCK_VIOLATION, S_OK};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_ATTRIBUTE_COMPRESSED, FILE_ATTRIBUTE_SPARSE_FILE, FILE_ID_INFO,
    FILE_INFO_BY_HANDLE_CLASS, FILE_REMOTE_PROTOCOL_INFO, FileIdInfo, FileRemoteProtocolInfo,
    GetFileInformationByHandle, GetFileInformationByHandleEx, GetVolumeInformationByHandleW,
    LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx, UnlockFileEx,
};
use windows_sys::Win32::System::Com::CoTaskMemFree;
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::Win32::System::Memory::{
    CreateFileMappingW, FILE_MAP_READ, FILE_MAP_WRITE, MEMORY_MAPPED_VIEW_ADDRESS, MapViewOfFile,
    PAGE_READWRITE, UnmapViewOfFile,
};
use windows_sys::Win32::UI::Shell::{
    FOLDERID_LocalAppData, KF_FLAG_CREATE, KF_FLAG_DONT_VERIFY, SHGetKnownFolderPath,
};

use crate::system::Status;

/// The byte of a file that is locked. It is behind all data, because a lock keeps others from reading what it covers.
const LOCKED_AT: u64 = 1 << 62;

pub(super) fn succeeded(code: i32) -> io::Result<()> {
    if code == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The directory of all named caches of this user. It is in the user's directory for data of this machine, which the
/// system keeps from other users, independent of the environment.
pub(crate) fn directory_of_names() -> PathBuf {
    let mut text = ptr::null_mut();
    // SAFETY: it stores a new text that ends with zero, which is freed below, or null.
    let found = unsafe {
        let flags = (KF_FLAG_CREATE | KF_FLAG_DONT_VERIFY).cast_unsigned();
        let code = SHGetKnownFolderPath(&FOLDERID_LocalAppData, flags, ptr::null_mut(), &raw mut text);
        let found = (code == S_OK && !text.is_null()).then(|| {
            let mut length = 0;
            while *text.add(length) != 0 {
                length += 1;
            }
            PathBuf::from(OsString::from_wide(std::slice::from_raw_parts(text, length)))
        });
        CoTaskMemFree(text.cast());
        found
    };
    // Without such a directory, opening a cache there fails. Other users may write to any other one.
    found.unwrap_or_else(|| PathBuf::from("NUL")).join("flexcache-rs-shared")
}

/// Whether a file with this name, whatever follows its first dot, is a device.
pub(crate) fn is_a_device(name: &str) -> bool {
    let name = name.split('.').next().unwrap_or_default().to_ascii_uppercase();
    let is_numbered = |rest: &str| rest.len() == 1 && rest.bytes().all(|byte| byte.is_ascii_digit());
    matches!(name.as_str(), "CON" | "PRN" | "AUX" | "NUL")
        || ["COM", "LPT"].iter().any(|kind| name.strip_prefix(kind).is_some_and(is_numbered))
}

fn information_of(file: &File) -> io::Result<BY_HANDLE_FILE_INFORMATION> {
    let mut found = MaybeUninit::<BY_HANDLE_FILE_INFORMATION>::zeroed();
    // SAFETY: the handle is open, and the data are stored there. They are numbers, which were zero before.
    unsafe {
        succeeded(GetFileInformationByHandle(file.as_raw_handle(), found.as_mut_ptr()))?;
        Ok(found.assume_init())
    }
}

/// One of the structures of what is known of a file. They consist of numbers.
fn asked<T>(file: &File, class: FILE_INFO_BY_HANDLE_CLASS) -> io::Result<T> {
    let mut found = MaybeUninit::<T>::zeroed();
    // SAFETY: the handle is open, and at most as many bytes are stored, which were zero before.
    unsafe {
        let (place, size) = (found.as_mut_ptr().cast(), size_of::<T>() as u32);
        succeeded(GetFileInformationByHandleEx(file.as_raw_handle(), class, place, size))?;
        Ok(found.assume_init())
    }
}

/// Whether a file is on another machine.
pub(super) fn is_remote(file: &File) -> bool {
    asked::<FILE_REMOTE_PROTOCOL_INFO>(file, FileRemoteProtocolInfo).is_ok()
}

/// The name of an open file's file system.
pub(super) fn filesystem_name(file: &File) -> io::Result<String> {
    let mut name = [0_u16; 64];
    let none = ptr::null_mut;
    // SAFETY: the handle is open, and at most as many units are stored.
    succeeded(unsafe {
        GetVolumeInformationByHandleW(
            file.as_raw_handle(),
            ptr::null_mut(),
            0,
            none(),
            none(),
            none(),
            name.as_mut_ptr(),
            name.len() as u32,
        )
    })?;
    Ok(String::from_utf16_lossy(name.split(|&unit| unit == 0).next().unwrap_or_default()))
}

fn joined(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// The status of an open file.
pub(crate) fn status_of(file: &File) -> io::Result<Status> {
    let found = information_of(file)?;
    let size = joined(found.nFileSizeHigh, found.nFileSizeLow);
    // Only files of one directory are compared, so the volume says nothing.
    let identity = match asked::<FILE_ID_INFO>(file, FileIdInfo) {
        Ok(id) => {
            let id = u128::from_le_bytes(id.FileId.Identifier);
            ((id >> 64) as u64, id as u64)
        }
        // File systems that know only 64 bits.
        Err(_) => (0, joined(found.nFileIndexHigh, found.nFileIndexLow)),
    };
    Ok(Status { identity, size, allocated: if has_holes(&found) { 0 } else { size } })
}

fn has_holes(file: &BY_HANDLE_FILE_INFORMATION) -> bool {
    file.dwFileAttributes & (FILE_ATTRIBUTE_COMPRESSED | FILE_ATTRIBUTE_SPARSE_FILE) != 0
}

/// Allocates a part of a file, so that no store to it fails later.
pub(crate) fn allocate(file: &File, at: u64, bytes: u64) -> io::Result<bool> {
    let found = information_of(file)?;
    if has_holes(&found) {
        // If the disk is full, a store to a hole ends the process.
        return Err(io::Error::new(
            ErrorKind::Unsupported,
            "a compressed or sparse file cannot hold a cache",
        ));
    }
    if joined(found.nFileSizeHigh, found.nFileSizeLow) < at + bytes {
        file.set_len(at + bytes)?;
    }
    Ok(true)
}

/// Writes bytes to a place in a file. Returns how many it wrote.
pub(crate) fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    file.seek_write(bytes, at)
}

/// The place of the byte that is locked.
fn place_of_lock() -> OVERLAPPED {
    // SAFETY: numbers and pointers, for which zero is valid.
    let mut place: OVERLAPPED = unsafe { MaybeUninit::zeroed().assume_init() };
    place.Anonymous.Anonymous.Offset = LOCKED_AT as u32;
    place.Anonymous.Anonymous.OffsetHigh = (LOCKED_AT >> 32) as u32;
    place
}

fn lock(file: &File, flags: u32) -> io::Result<()> {
    let mut place = place_of_lock();
    // SAFETY: the handle is open and not asynchronous, so that the call is over when it returns.
    let code = unsafe {
        LockFileEx(file.as_raw_handle(), flags | LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &raw mut place)
    };
    succeeded(code).map_err(|error| match error.raw_os_error().map(i32::cast_unsigned) {
        Some(ERROR_LOCK_VIOLATION) => ErrorKind::WouldBlock.into(),
        _ => error,
    })
}

/// Locks a file together with other processes that do so. The error is of the kind `WouldBlock` if one has it alone.
pub(crate) fn lock_shared(file: &File) -> io::Result<()> {
    lock(file, 0)
}

/// Locks a file alone. The error is of the kind `WouldBlock` if another process has locked it.
pub(crate) fn lock_exclusively(file: &File) -> io::Result<()> {
    lock(file, LOCKFILE_EXCLUSIVE_LOCK)
}

pub(super) fn unlock(file: &File) {
    let mut place = place_of_lock();
    // SAFETY: as for `lock`.
    unsafe { UnlockFileEx(file.as_raw_handle(), 0, 1, 0, &raw mut place) };
}

/// Maps the first bytes of a file, at an address that the system chooses. The mapping needs no open file.
pub(crate) fn map(file: &File, bytes: usize) -> io::Result<*mut c_void> {
    let size = bytes as u64;
    // SAFETY: the handle is open, and the result is a new handle, or null.
    let section = unsafe {
        let section = CreateFileMappingW(
            file.as_raw_handle(),
            ptr::null(),
            PAGE_READWRITE,
            (size >> 32) as u32,
            size as u32,
            ptr::null(),
        );
        if section.is_null() {
            return Err(io::Error::last_os_error());
        }
        OwnedHandle::from_raw_handle(section)
    };
    // SAFETY: a new mapping at an address that the system chooses.
    let view = unsafe { MapViewOfFile(section.as_raw_handle(), FILE_MAP_READ | FILE_MAP_WRITE, 0, 0, bytes) };
    if view.Value.is_null() { Err(io::Error::last_os_error()) } else { Ok(view.Value) }
}

/// Ends a mapping.
///
/// # Safety
///
/// It is one that `map` made, and no reference into it is left.
pub(crate) unsafe fn unmap(start: *mut c_void, _bytes: usize) {
    // SAFETY: the caller's promise. It fails only for other arguments.
    unsafe { UnmapViewOfFile(MEMORY_MAPPED_VIEW_ADDRESS { Value: start }) };
}
