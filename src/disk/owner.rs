//! Names the process that owns something, and tells whether that process still lives.

use std::process;
use std::sync::Mutex;

/// The identity of this process, as text: the boot of the system, the namespace of process ids, the process
/// id, and its start time. `None` if the system does not provide all of them; then nobody can tell that the
/// process has ended.
///
/// A forked child has another identity.
pub(crate) fn this_process() -> Option<String> {
    static KNOWN: Mutex<Option<(u32, Option<String>)>> = Mutex::new(None);
    let number = process::id();
    // A child may have been forked while another thread held the lock.
    let Ok(mut known) = KNOWN.try_lock() else { return describe(number) };
    if let Some((of, known)) = &*known
        && *of == number
    {
        return known.clone();
    }
    let this = describe(number);
    *known = Some((number, this.clone()));
    this
}

/// Whether a process has certainly ended. A process of another machine, container or boot of the system may
/// still live.
pub(crate) fn has_ended(owner: &str) -> bool {
    let mut parts = owner.rsplitn(3, ' ');
    let (Some(began), Some(number), Some(place)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let this = this_process();
    if this.as_deref().and_then(|this| this.rsplitn(3, ' ').nth(2)) != Some(place) {
        return false;
    }
    match number.parse().ok().map(system::began) {
        Some(system::Began::At(then)) => then != began,
        Some(system::Began::Ended) => true,
        Some(system::Began::Unknown) | None => false,
    }
}

fn describe(number: u32) -> Option<String> {
    let place = system::place()?;
    match system::began(number) {
        system::Began::At(began) => Some(format!("{place} {number} {began}")),
        _ => None,
    }
}

mod system {
    use std::fs;
    use std::io::ErrorKind;

    pub(super) enum Began {
        At(String),
        Ended,
        Unknown,
    }

    /// The boot of the system and the namespace, within which a process id names one process.
    pub(super) fn place() -> Option<String> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
        Some(format!("{} {}", boot.trim(), namespace.to_str()?))
    }

    pub(super) fn began(number: u32) -> Began {
        let stat = match fs::read_to_string(format!("/proc/{number}/stat")) {
            Ok(stat) => stat,
            // The process may end while its file is read.
            Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(3) => {
                return Began::Ended;
            }
            Err(_) => return Began::Unknown,
        };
        // The second field is the name of the program, in parentheses, and may contain anything.
        let Some((_, fields)) = stat.rsplit_once(')') else { return Began::Unknown };
        let mut fields = fields.split_ascii_whitespace();
        match (fields.next(), fields.nth(18)) {
            (Some("Z" | "X" | "x"), _) => Began::Ended,
            (Some(_), Some(began)) => Began::At(began.to_owned()),
            _ => Began::Unknown,
        }
    }
}
