//! Files inside a cache's directory, and nothing outside it.
//!
//! Any user that can write to the directory can write any name into a row. A name is followed only if it is
//! relative, consists of plain components, and leads through real directories to a regular file: no `..`, no
//! link. Each directory is opened relative to the one before it, so that nobody can put a link there in
//! between.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::background::{do_soon, has_many_files};
use crate::faults::{Call, On, reach};
use crate::sessions::SESSIONS_DATABASE;

/// The name of the database in a directory.
pub const DATABASE: &str = "cache.db";

/// The databases that a directory may have. The names of their other files begin with the name of the database.
pub(crate) const DATABASES: [&str; 2] = [DATABASE, SESSIONS_DATABASE];

/// The most components of a name.
const DEEPEST: usize = 32;

/// Whether a name can be that of a file of a value inside a directory: relative, with a few plain components,
/// and not a file of the database.
#[must_use]
pub fn is_inside(name: &str) -> bool {
    let is_separator = |character: char| character == '/' || (cfg!(windows) && character == '\\');
    let is_database = |component: &str| {
        let begins =
            |name: &&str| component.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        DATABASES.iter().any(begins)
    };
    let has_meaning = |component: &str| {
        matches!(component, "" | "." | "..")
            || component.contains('\0')
            || (cfg!(windows) && component.contains(':'))
            || is_database(component)
    };
    let mut components = name.split(is_separator);
    !components.by_ref().take(DEEPEST).any(has_meaning) && components.next().is_none()
}

fn outside(name: &str) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidInput,
        format!("{name:?} is not the name of a file inside the directory"),
    )
}

#[cfg(unix)]
mod steps {
    //! The system's calls that start at an open directory.

    use std::fs::File;
    use std::io;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, mkdirat, open, openat, statat, unlinkat};
    use rustix::io::Errno;

    /// The permissions of new files and directories, before the umask of the process is applied.
    const FILE: Mode = Mode::from_raw_mode(0o666);
    const DIRECTORY: Mode = Mode::from_raw_mode(0o777);

    /// The flags with which the first directory is opened.
    #[cfg(target_os = "linux")]
    const ROOT: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
    #[cfg(not(target_os = "linux"))]
    const ROOT: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

    const TO_DIRECTORY: OFlags = ROOT.union(OFlags::NOFOLLOW);

    /// Splits a name into the names of the directories and the name of the file.
    fn split(name: &str) -> (Vec<&str>, &str) {
        let mut names: Vec<&str> = name.split('/').collect();
        let last = names.pop().unwrap_or_default();
        (names, last)
    }

    /// Opens a name in a directory with one call, if the system has it and no link is on the way to the
    /// directory either. `None` means that the caller has to open the directories one by one.
    #[cfg(target_os = "linux")]
    fn open_at_once(directory: &Path, name: &str, flags: OFlags, mode: Mode) -> io::Result<Option<OwnedFd>> {
        use rustix::fs::{CWD, ResolveFlags, openat2};

        match openat2(CWD, directory.join(name), flags, mode, ResolveFlags::NO_SYMLINKS) {
            Ok(file) => Ok(Some(file)),
            // The kernel does not have the call, or forbids it, or a directory was moved meanwhile, or there
            // is a link. A link is allowed on the way to the directory itself, which the user has chosen.
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::AGAIN | Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn open_at_once(_: &Path, _: &str, _: OFlags, _: Mode) -> io::Result<Option<OwnedFd>> {
        Ok(None)
    }

    /// Opens a directory inside the directory. If `create`, missing directories on the way are made.
    fn open_directory(directory: &Path, names: &[&str], create: bool) -> io::Result<OwnedFd> {
        if !create
            && let Some(opened) = open_at_once(directory, &names.join("/"), TO_DIRECTORY, Mode::empty())?
        {
            return Ok(opened);
        }
        let mut opened = open(directory, ROOT, Mode::empty())?;
        for step in names {
            opened = match openat(&opened, *step, TO_DIRECTORY, Mode::empty()) {
                Err(Errno::NOENT) if create => {
                    super::reach(super::On::Directory, super::Call::Create)?;
                    match mkdirat(&opened, *step, DIRECTORY) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    openat(&opened, *step, TO_DIRECTORY, Mode::empty())?
                }
                opened => opened?,
            };
        }
        Ok(opened)
    }

    /// `NONBLOCK`, since opening a pipe would block.
    const TO_READ: OFlags =
        OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

    const TO_CREATE: OFlags = OFlags::WRONLY
        .union(OFlags::CREATE)
        .union(OFlags::EXCL)
        .union(OFlags::NOFOLLOW)
        .union(OFlags::CLOEXEC);

    pub(super) fn open_file(directory: &Path, name: &str) -> io::Result<(File, u64)> {
        let file = match open_at_once(directory, name, TO_READ, Mode::empty())? {
            Some(file) => file,
            None => {
                let (names, last) = split(name);
                openat(&open_directory(directory, &names, false)?, last, TO_READ, Mode::empty())?
            }
        };
        let size = size_of_file(&fstat(&file)?, name)?;
        Ok((file.into(), size))
    }

    pub(super) fn file_size(directory: &Path, name: &str) -> io::Result<u64> {
        let (names, last) = split(name);
        let parent = open_directory(directory, &names, false)?;
        size_of_file(&statat(&parent, last, AtFlags::SYMLINK_NOFOLLOW)?, name)
    }

    pub(super) fn is_directory(directory: &Path, name: &str) -> io::Result<bool> {
        let (names, last) = split(name);
        let parent = open_directory(directory, &names, false)?;
        let found = statat(&parent, last, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(FileType::from_raw_mode(found.st_mode) == FileType::Directory)
    }

    /// The size of a regular file; an error for anything else.
    fn size_of_file(found: &Stat, name: &str) -> io::Result<u64> {
        if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile {
            Ok(u64::try_from(found.st_size).unwrap_or(0))
        } else {
            Err(super::outside(name))
        }
    }

    pub(super) fn create_file(directory: &Path, name: &str) -> io::Result<File> {
        match open_at_once(directory, name, TO_CREATE, FILE) {
            Ok(Some(file)) => return Ok(file.into()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // A directory is missing, or the directories have to be opened one by one.
            Ok(None) | Err(_) => {}
        }
        let (names, last) = split(name);
        Ok(openat(&open_directory(directory, &names, true)?, last, TO_CREATE, FILE)?.into())
    }

    pub(super) fn rename_file(directory: &Path, from: &str, to: &str) -> io::Result<()> {
        let ((names, last), (new_names, new_last)) = (split(from), split(to));
        let source = open_directory(directory, &names, false)?;
        let target = open_directory(directory, &new_names, false)?;
        Ok(rustix::fs::renameat(&source, last, &target, new_last)?)
    }

    /// Opens a file so that its space is not freed at the moment when its name is removed, which takes time.
    #[cfg(target_os = "linux")]
    fn hold(parent: &OwnedFd, name: &str) -> Option<File> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(parent, name, flags, Mode::empty()).ok().map(File::from)
    }

    #[cfg(not(target_os = "linux"))]
    fn hold(_parent: &OwnedFd, _name: &str) -> Option<File> {
        None
    }

    /// Removes a file, and then up to `levels` directories that are empty without it. If this returns a file,
    /// the space is freed when that is closed.
    pub(super) fn remove_file(directory: &Path, name: &str, levels: usize) -> io::Result<Option<File>> {
        let (names, last) = split(name);
        let parent = open_directory(directory, &names, false)?;
        let held = hold(&parent, last);
        unlinkat(&parent, last, AtFlags::empty())?;
        for level in (0..names.len()).rev().take(levels) {
            let removed = super::remove_directory(|| {
                let above = open_directory(directory, &names[..level], false)?;
                Ok(unlinkat(&above, names[level], AtFlags::REMOVEDIR)?)
            });
            if removed.is_err() {
                break;
            }
        }
        Ok(held)
    }
}

#[cfg(not(unix))]
mod steps {
    //! The same by paths, on other systems. A link that is put there in between would be followed.

    use std::fs::{self, File, OpenOptions};
    use std::io::{self, ErrorKind};
    use std::path::{Path, PathBuf};

    fn make_directory(path: &Path) -> io::Result<()> {
        super::reach(super::On::Directory, super::Call::Create)?;
        fs::create_dir(path)
    }

    /// The path of a file that is reached through real directories.
    fn path(directory: &Path, name: &str, create: bool) -> io::Result<PathBuf> {
        let mut path = directory.to_owned();
        let steps: Vec<_> = name.split(['/', '\\']).collect();
        for (place, step) in steps.iter().enumerate() {
            path.push(step);
            if place + 1 == steps.len() {
                break;
            }
            let kind = match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound && create => match make_directory(&path) {
                    Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                    _ => fs::symlink_metadata(&path)?,
                },
                found => found?,
            };
            if !kind.is_dir() {
                return Err(super::outside(name));
            }
        }
        Ok(path)
    }

    pub(super) fn open_file(directory: &Path, name: &str) -> io::Result<(File, u64)> {
        let path = path(directory, name, false)?;
        if !fs::symlink_metadata(&path)?.is_file() {
            return Err(super::outside(name));
        }
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    }

    pub(super) fn file_size(directory: &Path, name: &str) -> io::Result<u64> {
        let found = fs::symlink_metadata(path(directory, name, false)?)?;
        if found.is_file() { Ok(found.len()) } else { Err(super::outside(name)) }
    }

    pub(super) fn is_directory(directory: &Path, name: &str) -> io::Result<bool> {
        Ok(fs::symlink_metadata(path(directory, name, false)?)?.is_dir())
    }

    pub(super) fn create_file(directory: &Path, name: &str) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(path(directory, name, true)?)
    }

    pub(super) fn rename_file(directory: &Path, from: &str, to: &str) -> io::Result<()> {
        fs::rename(path(directory, from, false)?, path(directory, to, false)?)
    }

    pub(super) fn remove_file(directory: &Path, name: &str, levels: usize) -> io::Result<Option<File>> {
        let path = path(directory, name, false)?;
        fs::remove_file(&path)?;
        let inside = name.split(['/', '\\']).count() - 1;
        for parent in path.ancestors().skip(1).take(inside.min(levels)) {
            if super::remove_directory(|| fs::remove_dir(parent)).is_err() {
                break;
            }
        }
        Ok(None)
    }
}

fn checked(name: &str) -> io::Result<()> {
    if is_inside(name) { Ok(()) } else { Err(outside(name)) }
}

/// Opens a regular file to read it. Returns it with its size in bytes.
pub(crate) fn open_file(directory: &Path, name: &str) -> io::Result<(File, u64)> {
    checked(name)?;
    steps::open_file(directory, name)
}

/// The size of a regular file in bytes.
pub(crate) fn file_size(directory: &Path, name: &str) -> io::Result<u64> {
    checked(name)?;
    steps::file_size(directory, name)
}

/// Whether this is the name of a directory.
pub(crate) fn is_directory(directory: &Path, name: &str) -> io::Result<bool> {
    checked(name)?;
    steps::is_directory(directory, name)
}

/// Makes a new file, and the missing directories on the way to it.
pub(crate) fn create_file(directory: &Path, name: &str) -> io::Result<File> {
    checked(name)?;
    reach(On::Value, Call::Create)?;
    steps::create_file(directory, name)
}

/// Gives a file another name.
pub(crate) fn rename_file(directory: &Path, from: &str, to: &str) -> io::Result<()> {
    checked(from)?;
    checked(to)?;
    reach(On::Value, Call::Rename)?;
    steps::rename_file(directory, from, to)
}

/// Removes a file, and then up to `levels` directories that are empty without it. Its name is gone when this
/// returns; its space may be freed a little later.
pub(crate) fn remove_file(directory: &Path, name: &str, levels: usize) -> io::Result<()> {
    checked(name)?;
    reach(On::Value, Call::Unlink)?;
    if let Some(held) = steps::remove_file(directory, name, levels)? {
        do_soon(move || drop(held));
    }
    Ok(())
}

/// Removes a file now, or soon if many are being removed.
pub(crate) fn remove_file_soon(directory: &Path, name: &str, levels: usize) -> io::Result<()> {
    if !has_many_files() {
        return remove_file(directory, name, levels);
    }
    checked(name)?;
    reach(On::Value, Call::Unlink)?;
    let (directory, name) = (directory.to_owned(), name.to_owned());
    // A file that cannot be removed stays, and `check` finds it.
    do_soon(move || drop(steps::remove_file(&directory, &name, levels)));
    Ok(())
}

/// Removes a directory if it is empty.
fn remove_directory(remove: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    reach(On::Directory, Call::Unlink)?;
    remove()
}

/// Whether an error means that a name leads to no file, or to none inside the directory.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidInput) {
        return true;
    }
    // A forbidden link, or a name that is too long.
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let errors = [Errno::LOOP, Errno::NOTDIR, Errno::NAMETOOLONG, Errno::NXIO];
        error.raw_os_error().is_some_and(|number| errors.iter().any(|errno| errno.raw_os_error() == number))
    }
    #[cfg(not(unix))]
    false
}
