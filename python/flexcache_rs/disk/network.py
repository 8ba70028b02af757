"""Detection of network file systems, on which SQLite's write-ahead log is not safe."""

from __future__ import annotations

import os

_NETWORKED = frozenset(
    (
        "9p", "afs", "auristorfs", "beegfs", "ceph", "cifs", "coda", "fuse", "fuseblk", "gfs", "gfs2",
        "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb3",
        "smbfs", "vboxsf", "virtiofs", "webdav",
    )
)  # fmt: skip

_MOUNTS = "/proc/self/mountinfo"

# The backslash is last, because the other escapes begin with one.
_ESCAPES = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))

SETTINGS: dict[str, str | int] = {
    "sqlite_journal_mode": "delete",
    "sqlite_mmap_size": 0,
    "sqlite_synchronous": 2,
}
"""SQLite's settings for a network filesystem. They avoid shared memory, which machines cannot share."""


class NetworkFilesystemWarning(UserWarning):
    """A directory lies on a network filesystem."""


def filesystem_of(directory: str) -> str | None:
    """Return the type of the network filesystem of a directory. None if it is local or unknown.

    The type is known on Linux only, from the list of mounts. Elsewhere the user passes `network=True`.
    """
    try:
        with open(_MOUNTS, "rb", buffering=0) as file:  # noqa: PTH123
            mounts = file.read().decode("utf-8", "surrogateescape")
    except OSError:
        return None
    # Most machines have no network filesystem at all.
    if not any(f" - {kind}" in mounts for kind in _NETWORKED):
        return None
    path = os.path.realpath(directory)
    found, depth = None, -1
    for line in mounts.splitlines():
        # "36 35 98:0 /root /mount/point options - type source options"
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if len(fields) < 5:
            continue
        point = fields[4]
        for escape, character in _ESCAPES:
            point = point.replace(escape, character)
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        # Of two mounts at one point, the later one hides the other.
        if inside and len(point) >= depth:
            found, depth = kinds[0], len(point)
    return found if found is not None and found.partition(".")[0] in _NETWORKED else None
