//! The memory that the process's control group still allows. Beyond it, the kernel kills the process instead
//! of refusing memory.

use std::fs;
use std::path::{Path, PathBuf};

use crate::system::Room;

/// The least room of this process's groups. `None` without a limit, or if it is unknown.
pub(crate) fn room() -> Option<Room> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    room_of(&groups, Path::new("/sys/fs/cgroup"))
}

/// The same for the text of /proc/self/cgroup and a mounted hierarchy.
fn room_of(groups: &str, root: &Path) -> Option<Room> {
    groups.lines().filter_map(|line| room_of_line(line, root)).min_by_key(|room| room.free)
}

fn room_of_line(line: &str, root: &Path) -> Option<Room> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, group) = rest.split_once(':')?;
    let files: [&str; 3];
    let (mount, names) = if controllers.is_empty() {
        files = ["memory.max", "memory.current", "inactive_file"];
        (root.to_owned(), files)
    } else if controllers.split(',').any(|controller| controller == "memory") {
        files = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"];
        (root.join("memory"), files)
    } else {
        return None;
    };
    let mut least: Option<Room> = None;
    let mut at: PathBuf = mount.join(group.trim_start_matches('/'));
    while at.starts_with(&mount) {
        if let Some(room) = room_at(&at, names)
            && least.is_none_or(|least| room.free < least.free)
        {
            least = Some(room);
        }
        if !at.pop() {
            break;
        }
    }
    least
}

fn room_at(group: &Path, [limit, usage, reclaimable]: [&str; 3]) -> Option<Room> {
    let number = |file: &str| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
    // The second version of control groups writes "max" for no limit, the first an enormous number.
    let limit = number(limit).filter(|&limit| limit < 1 << 60)?;
    let usage = number(usage)?;
    let statistics = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let reclaimable = statistics
        .lines()
        .find_map(|line| line.strip_prefix(reclaimable)?.trim().parse::<u64>().ok())
        .unwrap_or(0);
    Some(Room { limit, free: limit.saturating_sub(usage.saturating_sub(reclaimable)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_room_of_all_groups_counts() {
        let root = tempfile::tempdir().expect("a directory");
        let group = |name: &str, limit: &str, usage: &str, statistics: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(&path).expect("a directory");
            fs::write(path.join("memory.max"), limit).expect("a file");
            fs::write(path.join("memory.current"), usage).expect("a file");
            fs::write(path.join("memory.stat"), statistics).expect("a file");
        };
        group("a", "1000\n", "900\n", "anon 5\ninactive_file 300\n");
        group("a/b", "max\n", "500\n", "");
        group("a/b/c", "800\n", "100\n", "");
        assert_eq!(room_of("0::/a/b/c\n", root.path()), Some(Room { limit: 1000, free: 400 }));
        assert_eq!(room_of("0::/a/b\n", root.path()), Some(Room { limit: 1000, free: 400 }));
        assert_eq!(room_of("0::/elsewhere\n", root.path()), None);
        assert_eq!(room_of("nonsense", root.path()), None);
    }

    #[test]
    fn the_first_version_is_read_too() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("memory/docker/x");
        fs::create_dir_all(&path).expect("a directory");
        fs::write(path.join("memory.limit_in_bytes"), "67108864").expect("a file");
        fs::write(path.join("memory.usage_in_bytes"), "1108864").expect("a file");
        let groups = "3:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n";
        assert_eq!(room_of(groups, root.path()), Some(Room { limit: 67_108_864, free: 66_000_000 }));
        fs::write(path.join("memory.limit_in_bytes"), "9223372036854771712").expect("a file");
        assert_eq!(room_of(groups, root.path()), None);
    }
}
