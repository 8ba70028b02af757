"""Opens a directory of `flexcache_rs.disk` for the classes with SciQLop-cache's names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from flexcache_rs import _core, disk
from flexcache_rs.disk.directory import path_of
from flexcache_rs.disk.format import DEFAULT_SETTINGS
from flexcache_rs.sciqlop.serializers import READS_ALSO, DiskSerializer, PickleSerializer, get_serializer_by_name

if TYPE_CHECKING:
    from datetime import timedelta

    from flexcache_rs.disk.serializers import Serializer as SerializerOfDisk
    from flexcache_rs.sciqlop.serializers import Serializer

UNLIMITED = 2**62
"""The size limit of a store without a limit."""

DATABASE = "sciqlop-cache.db"
"""The file name of SciQLop-cache's database, which identifies its directories."""

TIMEOUT = 600.0
"""The default time in seconds to wait for other writers."""

_IGNORED = frozenset(DEFAULT_SETTINGS) - {"size_limit"}


def refuse_settings(kind: str, given: object, settings: dict[str, Any]) -> None:
    """Refuse unknown arguments. Settings of python-diskcache are accepted without effect, as in SciQLop-cache.

    Raises:
        TypeError: There is an unknown argument.
    """
    if given is not None:
        raise TypeError("disk= is not supported, use serializer= instead")
    for name in settings:
        if name in _IGNORED:
            continue
        known = ["cache_path", "max_size", "size_limit", "serializer", "timeout"]
        if kind.startswith("Fanout"):
            known.append("shard_count")
        raise TypeError(_core._unexpected_argument(kind, name, known))  # pyright: ignore[reportPrivateUsage]


class Shard(disk.Cache):
    """A cache on disk that uses the serializer with which its directory was made. By default it has no limit."""

    # One entry at a time, because SciQLop-cache evicts no more than necessary.
    default_settings: ClassVar[dict[str, Any]] = DEFAULT_SETTINGS | {
        "size_limit": UNLIMITED,
        "eviction_policy": "none",
        "cull_limit": 1,
    }

    def _flexcache_agree_on_serializer(
        self, recorded: dict[str, Any], merged: dict[str, Any]
    ) -> SerializerOfDisk | None:
        made_with = recorded.get("serializer", "pickle" if recorded else None)
        given: Any = self._given()
        wanted = made_with or "pickle" if given is None else given.name
        if made_with not in (None, wanted, READS_ALSO.get(wanted)):
            raise ValueError(f"serializer must be the one that the store was made with, {made_with!r}, not {wanted!r}")
        # For pickle the directory records no serializer.
        used = None if wanted == "pickle" else given or DiskSerializer(get_serializer_by_name(wanted))
        if used is not None:
            merged["serializer"] = wanted
        self._flexcache_serializer: Any = used
        return used

    @property
    def values_serializer(self) -> Serializer:
        """Return the serializer that the user passed, or the one of the directory."""
        used = self._given()
        return PickleSerializer() if used is None else used.serializer

    def _given(self) -> DiskSerializer | None:
        given: Any = self._flexcache_serializer
        return given  # type: ignore[no-any-return]


class Shards(disk.FanoutCache):
    """Several shards in one directory."""

    _flexcache_class_of_shards = Shard


def open_shards(
    directory: str | os.PathLike[str],
    *,
    shards: int | None,
    serializer: Serializer | None,
    timeout: float | timedelta | None,
    max_size: int | None,
) -> Shard | Shards:
    """Open a directory, which is created if it does not exist. None for `shards` means a single database.

    Raises:
        TypeError: The directory is neither a str nor a path.
        ValueError: The directory is SciQLop-cache's own, or was made with another serializer.
    """
    place = path_of(directory)
    # SciQLop-cache's own shards have these names.
    if any(os.path.exists(os.path.join(place, folder, DATABASE)) for folder in ("", "00")):  # noqa: PTH110, PTH118
        raise ValueError(
            f"{place} is a directory of SciQLop-cache itself; copy it with flexcache_rs.sciqlop.migrate.migrate"
            f"({place!r}, 'a new directory')"
        )
    options: dict[str, Any] = {"timeout": TIMEOUT if timeout is None else timeout}
    if serializer is not None:
        options["serializer"] = DiskSerializer(serializer)
        if isinstance(serializer, PickleSerializer):
            options["disk_pickle_protocol"] = serializer.protocol
    if max_size is not None:
        # SciQLop-cache gives each shard the full limit, whereas `FanoutCache` divides it.
        options["size_limit"] = (max_size or UNLIMITED) * (shards or 1)
        options["eviction_policy"] = "least-recently-used" if max_size else "none"
    return Shard(place, **options) if shards is None else Shards(place, shards, **options)
