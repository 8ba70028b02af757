"""Directories on network filesystems, where SQLite's fast ways are not safe."""

from __future__ import annotations

import os
import re
from pathlib import Path

_NETWORKED = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|smb3|9p|afs|auristorfs|beegfs|ceph|coda|fuse|fuse\..*|fuseblk|gfs2?|glusterfs|gpfs|"
    r"lustre|ncpfs|ocfs2|orangefs|panfs|pvfs2|vboxsf|virtiofs|webdav"
)

_MOUNTS = Path("/proc/self/mountinfo")

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
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    path = os.path.realpath(directory)
    found, depth = None, -1
    for line in mounts.splitlines():
        # "36 35 98:0 /root /mount/point options - type source options"; \040 is a space.
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if len(fields) < 5:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        # Of two mounts on one point the later one is seen.
        if inside and len(point) >= depth:
            found, depth = kinds[0], len(point)
    return found if found is not None and _NETWORKED.fullmatch(found) else None
