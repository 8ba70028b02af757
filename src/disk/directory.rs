//! Files inside a cache's directory, and nothing outside it.
//!
//! Any user that can write to the directory can write any name into a row. A name is followed only if it is
//! relative, made of
//! plain components, and leads through real directories to a regular file: no `..`, no link. Each step is taken from the
//! directory before it, so that nobody can put a link there in between.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::background::close_later;
use crate::faults::{Call, On, reach};

/// The name of the database in a directory.
pub const DATABASE: &str = "cache.db";

/// The most components of a name. Each takes a descriptor while the file is looked for.
const DEEPEST: usize = 32;

/// Whether a name is that of a file inside a directory: relative, with a few plain components,
/// and not one of a database's.
#[must_use]
pub fn is_inside(name: &str) -> bool {
    let is_separator = |character: char| character == '/' || (cfg!(windows) && character == '\\');
    let is_database = |component: &str| {
        component.get(..DATABASE.len()).is_some_and(|start| start.eq_ignore_ascii_case(DATABASE))
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

    use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, mkdirat, open, openat, statat, unlinkat};
    use rustix::io::Errno;

    /// The permissions of new files and directories, of which the process's umask takes some away.
    const FILE: Mode = Mode::from_raw_mode(0o666);
    const DIRECTORY: Mode = Mode::from_raw_mode(0o777);

    /// How a directory is opened to start from it.
    #[cfg(target_os = "linux")]
    const ROOT: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
    #[cfg(not(target_os = "linux"))]
    const ROOT: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

    const TO_DIRECTORY: OFlags = ROOT.union(OFlags::NOFOLLOW);

    /// Opens the directory in which a file lies, and all on the way to it, the outermost first. The name of the file.
    pub(super) fn parents<'a>(
        directory: &Path,
        name: &'a str,
        create: bool,
    ) -> io::Result<(Vec<OwnedFd>, Vec<&'a str>)> {
        let mut names: Vec<&str> = name.split('/').collect();
        let last = names.pop().into_iter().collect::<Vec<_>>();
        // The directory itself may be a link, which its user has chosen.
        let mut opened = vec![open(directory, ROOT, Mode::empty())?];
        for step in &names {
            let from = &opened[opened.len() - 1];
            let next = match openat(from, *step, TO_DIRECTORY, Mode::empty()) {
                Err(Errno::NOENT) if create => {
                    super::reach(super::On::Directory, super::Call::Create)?;
                    match mkdirat(from, *step, DIRECTORY) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    openat(from, *step, TO_DIRECTORY, Mode::empty())?
                }
                opened => opened?,
            };
            opened.push(next);
        }
        names.extend(last);
        Ok((opened, names))
    }

    /// A pipe would keep the call waiting.
    const TO_READ: OFlags =
        OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

    /// Linux takes all the steps in one call. `None` where it does not have that call, or may not be asked for it.
    #[cfg(target_os = "linux")]
    fn open_at_once(directory: &Path, name: &str) -> io::Result<Option<OwnedFd>> {
        use rustix::fs::{ResolveFlags, openat2};

        let root = open(directory, ROOT, Mode::empty())?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match openat2(&root, name, TO_READ, Mode::empty(), resolve) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn open_at_once(_directory: &Path, _name: &str) -> io::Result<Option<OwnedFd>> {
        Ok(None)
    }

    pub(super) fn open_file(directory: &Path, name: &str) -> io::Result<File> {
        let file = match open_at_once(directory, name)? {
            Some(file) => file,
            None => {
                let (opened, names) = parents(directory, name, false)?;
                openat(&opened[opened.len() - 1], names[names.len() - 1], TO_READ, Mode::empty())?
            }
        };
        if FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::RegularFile {
            Ok(file.into())
        } else {
            Err(super::outside(name))
        }
    }

    pub(super) fn file_size(directory: &Path, name: &str) -> io::Result<u64> {
        let (opened, names) = parents(directory, name, false)?;
        let found = statat(&opened[opened.len() - 1], names[names.len() - 1], AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile {
            Ok(u64::try_from(found.st_size).unwrap_or(0))
        } else {
            Err(super::outside(name))
        }
    }

    pub(super) fn create_file(directory: &Path, name: &str) -> io::Result<File> {
        let (opened, names) = parents(directory, name, true)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&opened[opened.len() - 1], names[names.len() - 1], flags, FILE)?.into())
    }

    pub(super) fn rename_file(directory: &Path, from: &str, to: &str) -> io::Result<()> {
        let (opened, names) = parents(directory, from, false)?;
        let (target, new_names) = parents(directory, to, false)?;
        let last = |names: &[&str]| names[names.len() - 1].to_owned();
        let (source, target) = (&opened[opened.len() - 1], &target[target.len() - 1]);
        Ok(rustix::fs::renameat(source, last(&names), target, last(&new_names))?)
    }

    /// Keeps what a name leads to from being given back to the file system as soon as the name is gone.
    #[cfg(target_os = "linux")]
    fn hold(parent: &OwnedFd, name: &str) -> Option<File> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(parent, name, flags, Mode::empty()).ok().map(File::from)
    }

    #[cfg(not(target_os = "linux"))]
    fn hold(_parent: &OwnedFd, _name: &str) -> Option<File> {
        None
    }

    /// Removes a file, and then up to `levels` directories that are empty without it. Its room is given back when what
    /// this returns is closed, if it returns something.
    pub(super) fn remove_file(directory: &Path, name: &str, levels: usize) -> io::Result<Option<File>> {
        let (opened, names) = parents(directory, name, false)?;
        let (parent, last) = (&opened[opened.len() - 1], names[names.len() - 1]);
        let held = hold(parent, last);
        unlinkat(parent, last, AtFlags::empty())?;
        for level in (1..names.len()).rev().take(levels) {
            let removed = super::remove_directory(|| {
                Ok(unlinkat(&opened[level - 1], names[level - 1], AtFlags::REMOVEDIR)?)
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
    //! The same by paths, where a link that is put there in between would be followed.

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

    pub(super) fn open_file(directory: &Path, name: &str) -> io::Result<File> {
        let path = path(directory, name, false)?;
        if fs::symlink_metadata(&path)?.is_file() { File::open(path) } else { Err(super::outside(name)) }
    }

    pub(super) fn file_size(directory: &Path, name: &str) -> io::Result<u64> {
        let found = fs::symlink_metadata(path(directory, name, false)?)?;
        if found.is_file() { Ok(found.len()) } else { Err(super::outside(name)) }
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

/// Opens a regular file to read it.
pub(crate) fn open_file(directory: &Path, name: &str) -> io::Result<File> {
    checked(name)?;
    steps::open_file(directory, name)
}

/// The size of a regular file in bytes.
pub(crate) fn file_size(directory: &Path, name: &str) -> io::Result<u64> {
    checked(name)?;
    steps::file_size(directory, name)
}

/// Makes a file that was not there, and the directories on the way to it.
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

/// Removes a file, and then up to `levels` directories that are empty without it. Its name is gone when this returns; its
/// room may be given back a little later.
pub(crate) fn remove_file(directory: &Path, name: &str, levels: usize) -> io::Result<()> {
    checked(name)?;
    reach(On::Value, Call::Unlink)?;
    if let Some(held) = steps::remove_file(directory, name, levels)? {
        close_later(held);
    }
    Ok(())
}

/// Removes a directory, which stays where it is not empty.
fn remove_directory(remove: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    reach(On::Directory, Call::Unlink)?;
    remove()
}

/// Whether an error says that a name leads to no file, or not to one inside.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidInput) {
        return true;
    }
    // A link where none may be, or a name that is too long.
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let errors = [Errno::LOOP, Errno::NOTDIR, Errno::NAMETOOLONG, Errno::NXIO];
        error.raw_os_error().is_some_and(|number| errors.iter().any(|errno| errno.raw_os_error() == number))
    }
    #[cfg(not(unix))]
    false
}
