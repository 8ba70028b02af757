//! Reads from /proc when a process started, and whether it is dead.

use std::fs;
use std::io::ErrorKind;

/// When the process started, `None` if it is dead or a zombie, an error if that cannot be told.
pub(crate) fn start_of(id: u32) -> Result<Option<u64>, ()> {
    match fs::read(format!("/proc/{id}/stat")) {
        Ok(text) => parse(&text).ok_or(()),
        Err(error)
            if error.kind() == ErrorKind::NotFound && fs::exists("/proc/self/stat").unwrap_or(false) =>
        {
            Ok(None)
        }
        // The process ended while its file was read.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(_) => Err(()),
    }
}

/// State and start in the text of /proc/<pid>/stat. The name, in parentheses, may itself contain any byte.
#[expect(clippy::option_option, reason = "the text makes no sense, or says that the process is dead")]
fn parse(text: &[u8]) -> Option<Option<u64>> {
    let end_of_name = text.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(text.get(end_of_name + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    // The state is field 3, the number of threads is field 20, and the start is field 22.
    let threads: u64 = fields.nth(16)?.parse().ok()?;
    // A process whose first thread has ended looks like a zombie as long as its other threads run.
    if matches!(state, "X" | "x") || state == "Z" && threads <= 1 {
        return Some(None);
    }
    let start = fields.nth(1)?.parse().ok()?;
    Some(Some(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_contain_anything() {
        let line =
            |state: &str, threads| format!("12 (a) Z 0 (b) {state} {} {threads} 0 77 0", "1 ".repeat(16));
        assert_eq!(parse(line("S", 1).as_bytes()), Some(Some(77)));
        assert_eq!(parse(line("Z", 1).as_bytes()), Some(None));
        assert_eq!(parse(line("Z", 2).as_bytes()), Some(Some(77)), "its other thread runs");
        assert_eq!(parse(line("X", 1).as_bytes()), Some(None));
        assert_eq!(parse(b"12 (a"), None);
        assert_eq!(parse(b"12 (a) S 1 2"), None);
    }
}
