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

# The backslash is last, for the others begin with one.
_ESCAPES = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))

SETTINGS: dict[str, str | int] = {
    "sqlite_journal_mode": "delete",
    "sqlite_mmap_size": 0,
    "sqlite_synchronous": 2,
}
"""How SQLite works on a network filesystem: without shared memory, which has no meaning between machines."""


class NetworkFilesystemWarning(UserWarning):
    """A directory lies on a network filesystem."""


def filesystem_of(directory: str) -> str | None:
    """The type of the network filesystem that a directory lies on; None where it is local, or not known.

    Known is what Linux says of its mounts. On other systems give `network=True` by hand.
    """
    try:
        with open(_MOUNTS, "rb", buffering=0) as file:  # noqa: PTH123
            mounts = file.read().decode("utf-8", "surrogateescape")
    except OSError:
        return None
    # On most machines there is none at all.
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
        # Of two mounts on one point the later one is seen.
        if inside and len(point) >= depth:
            found, depth = kinds[0], len(point)
    return found if found is not None and found.partition(".")[0] in _NETWORKED else None
