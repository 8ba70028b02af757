"""The action ``watch`` of the command ``shared``: shows the activity of caches in shared memory repeatedly."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flexcache_rs._shared_files import files, has_separator, name_of, processes_of
from flexcache_rs._terminal import bytes_shown, on_terminal, printable
from flexcache_rs.shared import SharedCache

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from flexcache_rs.shared import SharedStats

_RATES = ("hits", "misses", "evicted")
_CLEAR = "\x1b[H\x1b[2J"


class _Watched(NamedTuple):
    """An open cache, and its counters at the previous look."""

    cache: SharedCache
    inode: int
    seen: float
    sums: SharedStats


def _paths(name: str | None) -> list[Path]:
    if name is not None and has_separator(name):
        return [path for path in (Path(name),) if path.name and path.exists()]
    return [path for path in files() if name is None or name == name_of(path)]


class Watch:
    """Keeps caches open, and reports what has happened in them since the previous look."""

    def __init__(self, name: str | None) -> None:
        self._name = name
        self._watched: dict[Path, _Watched] = {}

    def look(self) -> list[dict[str, Any]]:
        """Return name, counters and rates per second of every cache. A new cache has no rates yet."""
        found = list(self._look())
        for path in self._watched.keys() - {content["path"] for content in found}:
            self._watched.pop(path).cache.close()
        return [{**content, "path": str(content["path"])} for content in found]

    def _look(self) -> Iterator[dict[str, Any]]:
        for path, processes in processes_of(_paths(self._name)).items():
            content: dict[str, Any] = {"name": name_of(path), "path": path}
            try:
                inode = path.stat().st_ino
                before = self._watched.get(path)
                if before is None or before.inode != inode:
                    # The name has another file now: the cache was resized, or removed and created again.
                    cache, before = SharedCache(path, create=False), None
                else:
                    cache = before.cache
                sums, now = cache.stats(), time.monotonic()
                content["processes"] = [process for process in processes if process != os.getpid()]
            except FileNotFoundError:
                continue
            except OSError as error:
                yield {**content, "error": str(error)}
                continue
            self._watched[path] = _Watched(cache, inode, now, sums)
            content["stats"] = sums._asdict()
            if before is not None:
                seconds = max(now - before.seen, 1e-9)
                content["per_second"] = {
                    name: (getattr(sums, name) - getattr(before.sums, name)) / seconds for name in _RATES
                }
            yield content

    def close(self) -> None:
        """Close the caches."""
        for watched in self._watched.values():
            watched.cache.close()


def _as_table(found: list[dict[str, Any]], name: str | None) -> str:
    rates = " ".join(f"{name + '/s':>10}" for name in _RATES)
    lines = [f"{'name':<24} {'entries':>10} {'full':>5} {'of':>9} {rates}  processes"]
    for content in found:
        if "error" in content:
            lines.append(f"{printable(content['name']):<24} {printable(content['error'])}")
            continue
        sums = content["stats"]
        known = content.get("per_second")
        shown = [f"{known[name]:>10.0f}" if known else f"{'-':>10}" for name in _RATES]
        lines.append(
            f"{printable(content['name']):<24} {sums['entries']:>10} {sums['live_bytes'] / sums['capacity']:>5.0%} "
            f"{bytes_shown(sums['bytes']):>9} {' '.join(shown)}  {len(content['processes'])}"
        )
    return "\n".join(lines if found else ["no caches" if name is None else f"no cache {name!r}"])


def watch(options: argparse.Namespace) -> int:
    """Print rates every `options.interval` seconds, `options.count` times or until Ctrl-C."""
    caches = Watch(options.name)
    shown = 0
    try:
        while True:
            found = caches.look()
            if options.json:
                print(json.dumps(found), flush=True)
            else:
                clear = _CLEAR if on_terminal(sys.stdout) else ""
                print(f"{clear}{_as_table(found, options.name)}", flush=True)
            shown += 1
            if options.count is not None and shown >= options.count:
                return 0
            time.sleep(options.interval)
    except KeyboardInterrupt:
        # Ctrl-C is the usual end of watching.
        return 0
    finally:
        caches.close()
