"""`Cache`, and the setup of its directory."""

from __future__ import annotations

import os
import warnings

from flexcache_rs._arguments import described, shown
from flexcache_rs._core import Disk, DiskCache, Timeout
from flexcache_rs._first_use import importing
from flexcache_rs._suggest import suggesting
from flexcache_rs.disk.aio import awaitable, taking, transaction
from flexcache_rs.disk.check_report import CheckReport, EmptyDirWarning, UnknownFileWarning
from flexcache_rs.disk.checks import (
    ARGUMENTS_OF_DISK,
    check_compression,
    check_recorded,
    check_serializer,
    checked_setting,
    checked_settings,
    duration,
    flag,
    is_known,
    number,
    policy_of,
    refuse_setting,
    refuse_unknown,
    unreadable_is_missing,
    whole,
)
from flexcache_rs.disk.constants import ENOVAL, UNKNOWN, Constant
from flexcache_rs.disk.directory import prepare_directory, write_file
from flexcache_rs.disk.format import (
    DBNAME,
    DEFAULT_SETTINGS,
    EVICTION_POLICY,
    METADATA,
    MODE_BINARY,
    MODE_NONE,
    MODE_PICKLE,
    MODE_RAW,
    MODE_TEXT,
)
from flexcache_rs.disk.memoize import args_to_key, full_name
from flexcache_rs.disk.mixins import CacheMixin
from flexcache_rs.disk.network import SETTINGS, NetworkFilesystemWarning, filesystem_of
from flexcache_rs.disk.overridden import OF_CACHE, follow_overrides
from flexcache_rs.disk.query import QueryMixin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from datetime import timedelta
    from typing import Any, ClassVar, Literal

    from flexcache_rs.disk.json_disk import JSONDisk
    from flexcache_rs.disk.serializers import Serializer

__all__ = [
    "DBNAME",
    "DEFAULT_SETTINGS",
    "ENOVAL",
    "EVICTION_POLICY",
    "METADATA",
    "MODE_BINARY",
    "MODE_NONE",
    "MODE_PICKLE",
    "MODE_RAW",
    "MODE_TEXT",
    "UNKNOWN",
    "Cache",
    "CheckReport",
    "Constant",
    "Disk",
    "EmptyDirWarning",
    "JSONDisk",
    "Timeout",
    "UnknownFileWarning",
    "args_to_key",
    "full_name",
]

_RULES = frozenset(("statistics", "eviction_policy", "size_limit", "cull_limit"))

PARAMETERS = ("directory", "timeout", "disk", "serializer", "compression", "network", "unreadable")


@suggesting
class Cache(CacheMixin, QueryMixin, DiskCache):
    """A cache in a directory, for any number of threads and processes.

    Args:
        directory: The directory, which is created if it does not exist. None means a new temporary directory, which
            is not removed.
        timeout: The number of seconds to wait for other writers before `Timeout` is raised. The default is 60.
        disk: The class that converts keys and values to the format of the directory.
        serializer: The serializer to use instead of pickle. See `flexcache_rs.disk.serializers`. The directory
            records its name.
        compression: "zstd" (smaller), "lz4" (faster) or None. Values of 256 bytes and more are compressed if that
            makes them smaller. The directory records it, and it applies when the directory is opened without it.
            python-diskcache cannot read such values.
        network: Whether the directory is on a network file system (NFS, SMB, FUSE and similar). SQLite then works
            without its shared log and without memory maps. Locks that fail are tried again. Files are written as a
            whole, with a checksum. None detects this if the system allows it, and issues a warning. The directory
            records it.
        unreadable: What to do with a value that cannot be read because it is damaged, its class no longer exists, or
            the serializer refuses it. "raise" raises an exception at each read and keeps the value. "missing" logs
            the error and treats the key as absent, so that a program computes the value again. The directory does not
            record it.
        **settings: The settings of the directory, which records them. They also apply when it is opened without them.
            Each setting is an attribute of the cache, and `reset` changes it. The most important ones are `size_limit`
            (2**30): the number of bytes beyond which entries are evicted; `eviction_policy` ("least-recently-stored"):
            also "least-recently-used", "least-frequently-used" or "none"; `cull_limit` (10): the largest number of
            entries that one write removes; `statistics` (0): 1 counts hits and misses; `tag_index` (0): 1 makes `evict`
            fast; and `disk_min_file_size` (2**15): the number of bytes from which a value has its own file.
            `DEFAULT_SETTINGS` has all of them with their defaults.

    Raises:
        OSError: The directory cannot be created, or a file of it must not be read. The exception names it.
        TypeError: A setting is unknown, or an argument has a wrong type.
        ValueError: An argument is invalid, `disk` is no subclass of `Disk`, `compression` is unknown, `serializer` is
            given with `JSONDisk`, or the directory was created with another serializer or compression.
        KeyError: The eviction policy is unknown.
        UserWarning: A warning: other users can write to the directory, or it belongs to one.
        NetworkFilesystemWarning: A warning: the directory is on a network file system.
        RuntimeError: The database is open in this process through another SQLite library.
        sqlite3.DatabaseError: The database is damaged, or the file is no database.
        sqlite3.OperationalError: The file system cannot lock files.
        Timeout: Other processes set up the directory for longer than a minute.

    >>> cache = Cache(size_limit=10**9, eviction_policy="least-recently-used")
    >>> cache["a"] = 1
    >>> "a" in cache, len(cache), list(cache), cache.size_limit
    (True, 1, ['a'], 1000000000)
    """

    default_settings: ClassVar[dict[str, Any]] = DEFAULT_SETTINGS
    """Settings of a new directory."""

    _flexcache_warns_of_writers = True
    """Whether opening it warns if other users can write to the directory. A `FanoutCache` does so for its shards."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        follow_overrides(cls, Cache, OF_CACHE)

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        timeout: float | timedelta = 60,
        disk: type[Disk] = Disk,
        *,
        serializer: Serializer | None = None,
        compression: Literal["lz4", "zstd"] | None = None,
        network: bool | None = None,
        unreadable: Literal["raise", "missing"] = "raise",
        **settings: Any,
    ) -> None:
        given: Any = disk
        if not (isinstance(given, type) and issubclass(given, Disk)):
            raise ValueError("disk must subclass diskcache.Disk")
        timeout = duration("timeout", timeout, least=0)
        is_missing = unreadable_is_missing(unreadable)
        if network is not None:
            network = flag("network", network)
        check_serializer(serializer, disk)
        check_compression(compression)
        settings = checked_settings(directory, settings, PARAMETERS, plain_disk=disk is Disk)
        directory = prepare_directory(directory)
        self._timeout = timeout
        self._flexcache_serializer = serializer
        self._flexcache_rules: dict[str, Any] = {}
        if self._flexcache_warns_of_writers and (message := DiskCache._other_writers(directory)):
            warnings.warn(message, stacklevel=2)
        recorded = DiskCache._connect(self, directory, timeout)
        DiskCache._set_unreadable_is_missing(self, is_missing)
        self._flexcache_unreadable = unreadable
        refuse_unknown(settings, recorded, PARAMETERS, plain_disk=disk is Disk)
        network = self._flexcache_is_networked(directory, network, recorded, settings)
        merged: dict[str, Any] = (
            self.default_settings | recorded | (SETTINGS | {"network": 1} if network else {}) | settings
        )
        serializer = self._flexcache_agree_on_serializer(recorded, merged)
        for key in METADATA:
            merged.pop(key, None)
        check_recorded(directory, recorded, settings, plain_disk=disk is Disk)
        policy = policy_of(merged["eviction_policy"])
        options = {
            key[5:]: value for key, value in merged.items() if key.startswith("disk_") and key not in ARGUMENTS_OF_DISK
        }
        if serializer is not None:
            options["serializer"] = serializer
        if network:
            options["whole_files"] = True
        compression = self._flexcache_agreed("compression", recorded, merged, compression)
        if compression is not None:
            options["compression"] = compression
        DiskCache._use_disk(self, disk(directory, **options))
        rules = {key: merged[key] for key in _RULES}
        # Check before writing, so that no directory records settings with which it cannot be opened again.
        self._flexcache_understood(rules)
        DiskCache._create(self, merged, policy["init"])
        self._flexcache_rules = rules
        self._flexcache_apply_rules()
        self._flexcache_show(merged, recorded)

    def _flexcache_show(self, merged: dict[str, Any], recorded: dict[str, Any]) -> None:
        """Make attributes of the settings and counters."""
        for key, value in merged.items():
            # Unknown names in the directory do not become attributes, because they could hide a method.
            if key not in _RULES and is_known(key):
                setattr(self, key, value)
        for key in METADATA:
            setattr(self, key, recorded.get(key, 0))

    @staticmethod
    def _flexcache_is_networked(
        directory: str, network: bool | None, recorded: dict[str, Any], settings: dict[str, Any]
    ) -> bool:
        if network and settings.get("sqlite_journal_mode", "delete") == "wal":
            raise ValueError("sqlite_journal_mode must not be 'wal' with network=True: it needs shared memory")
        if network is not None:
            return network
        if "network" in recorded:
            return bool(recorded["network"])
        kind = None if "sqlite_journal_mode" in settings else filesystem_of(directory)
        if kind is not None:
            message = (
                f"{directory} is on a network filesystem ({kind}): the cache works without SQLite's shared log, "
                "which is slower. Give network=True to confirm this, or network=False if the file system is local"
            )
            warnings.warn(message, NetworkFilesystemWarning, stacklevel=3)
        return kind is not None

    def _flexcache_agree_on_serializer(self, recorded: dict[str, Any], merged: dict[str, Any]) -> Serializer | None:
        """Return the serializer, and record it in `merged`. Raises ValueError if the directory has another one."""
        ours = "pickle" if self._flexcache_serializer is None else self._flexcache_serializer.name
        theirs = recorded.get("serializer", "pickle" if recorded else ours)
        if ours != theirs:
            raise ValueError(f"serializer must be the one that the directory was made with, {theirs!r}, not {ours!r}")
        if ours != "pickle":
            merged["serializer"] = ours
        return self._flexcache_serializer

    @staticmethod
    def _flexcache_agreed(name: str, recorded: dict[str, Any], merged: dict[str, Any], given: Any) -> Any:
        """Return the value that the directory was made with, and record it in `merged`.

        Raises ValueError if another value is given.
        """
        kept = recorded.get(name, given)
        if given not in (None, kept):
            raise ValueError(f"{name} must be the one that the directory was made with, {kept!r}, not {given!r}")
        if kept is not None:
            merged[name] = kept
        return kept

    @staticmethod
    def _flexcache_understood(rules: dict[str, Any]) -> tuple[str | None, str | None, float, int, bool]:
        """Check the eviction rules, and return them in the form of the native store."""
        policy = policy_of(rules["eviction_policy"])
        return (
            policy["get"],
            policy["cull"],
            number("size_limit", rules["size_limit"], least=0),
            whole("cull_limit", rules["cull_limit"], least=0),
            flag("statistics", rules["statistics"]),
        )

    def _flexcache_apply_rules(self) -> None:
        DiskCache._set_rules(self, *self._flexcache_understood(self._flexcache_rules))

    def _flexcache_change_rule(self, name: str, value: Any) -> None:
        before = self._flexcache_rules
        self._flexcache_rules = before | {name: value}
        try:
            self._flexcache_apply_rules()
        except BaseException:
            self._flexcache_rules = before
            raise

    @property
    def statistics(self) -> Any:
        """Whether hits and misses are counted. Each read then also writes."""
        return self._flexcache_rules["statistics"]

    @statistics.setter
    def statistics(self, value: Any) -> None:
        self._flexcache_change_rule("statistics", value)

    @property
    def eviction_policy(self) -> Any:
        """The eviction policy, a key of `EVICTION_POLICY`."""
        return self._flexcache_rules["eviction_policy"]

    @eviction_policy.setter
    def eviction_policy(self, value: Any) -> None:
        self._flexcache_change_rule("eviction_policy", value)

    @property
    def size_limit(self) -> Any:
        """The size on disk in bytes from which writes evict entries."""
        return self._flexcache_rules["size_limit"]

    @size_limit.setter
    def size_limit(self, value: Any) -> None:
        self._flexcache_change_rule("size_limit", value)

    @property
    def cull_limit(self) -> Any:
        """The largest number of entries that one write removes. With 0, a write removes none, not even expired ones."""
        return self._flexcache_rules["cull_limit"]

    @cull_limit.setter
    def cull_limit(self, value: Any) -> None:
        self._flexcache_change_rule("cull_limit", value)

    if TYPE_CHECKING:
        # Every setting is an attribute.
        def __getattr__(self, name: str) -> Any: ...

    @property
    def timeout(self) -> float:
        """The number of seconds to wait for other writers."""
        return self._timeout

    def reset(self, key: str, value: Any = ENOVAL, update: bool = True) -> Any:
        """Read a setting or a counter from the directory, or change a setting.

        Args:
            key: Its name.
            value: Its new value. Without it, the current value is read, because another process may have changed it.
            update: Whether to change the directory. False changes only this object.

        Returns:
            Its value.

        Raises:
            ValueError: There is no setting or counter of this name, or the value is invalid.
            TypeError: There is no setting of this name, or the value has a wrong type.
            KeyError: The eviction policy is unknown.
            Timeout: The write lock was not acquired within `timeout` seconds.

        >>> cache = Cache()
        >>> cache.reset("cull_limit", 3), cache.reset("cull_limit"), cache.cull_limit
        (3, 3, 3)
        """
        if not isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"key must be the name of a setting or counter, not {described(key)}")
        if value is ENOVAL:
            value = DiskCache._setting(self, key)
            if value is None:
                raise ValueError(f"key must be a setting or counter of the cache, not {shown(key)}")
        else:
            if not is_known(key) and DiskCache._setting(self, key) is None:
                refuse_setting(key)
            if key in ("compression", "serializer"):
                raise TypeError(f"{key} cannot be changed: the existing values could not be read any more")
            value = checked_setting(key, value, plain_disk=type(self.disk) is Disk)
            if key.startswith("disk_"):
                before = getattr(self._disk, key[5:], value)
                setattr(self._disk, key[5:], value)
                try:
                    DiskCache._change_setting(self, key, value, update)
                except BaseException:
                    setattr(self._disk, key[5:], before)
                    raise
            else:
                DiskCache._change_setting(self, key, value, update)
        if is_known(key) or key in METADATA:
            setattr(self, key, value)
        return value

    def stats(self, enable: bool = True, reset: bool = False) -> tuple[int, int]:
        """Return hits and misses, and set whether to count them from now on.

        Args:
            enable: Whether to count them from now on.
            reset: Whether to reset both to 0.

        Returns:
            (hits, misses) before the call.

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds.

        >>> cache = Cache()
        >>> cache.stats()
        (0, 0)
        >>> _ = cache.get("a")
        >>> cache.stats(enable=False, reset=True)
        (0, 1)
        """
        wanted = flag("enable", enable)
        counted = DiskCache._stats(self, bool(reset))
        if not self.read_only:
            self.reset("statistics", wanted)
        return counted

    # With the argument that overrides in programs for python-diskcache pass on.
    def __delitem__(self, key: Any, retry: bool = True) -> bool:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        if not DiskCache.delete(self, key, retry):
            raise KeyError(key)
        return True

    def reset_stats(self) -> None:
        """Reset the hit and miss counters.

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds.
        """
        DiskCache._stats(self, reset=True)

    def check(self, fix: bool = False, retry: bool = False) -> CheckReport:
        """Compare database, files and counters.

        Other processes cannot write during the check. With `fix`, a file that another process has just written, and
        whose entry is not yet stored, counts as unknown.

        Args:
            fix: Whether to repair the findings. This also makes the database as small as possible.
            retry: Whether to wait for other writers for longer than `timeout`.

        Returns:
            A list of warnings with attributes for each kind. It is empty if nothing is wrong.

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds.
            sqlite3.DatabaseError: The database is too damaged to be checked.

        >>> Cache().check()
        []
        """
        return CheckReport(DiskCache._check(self, bool(fix), bool(retry)))

    def create_tag_index(self) -> None:
        """Create the index that makes `evict` fast.

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds.
        """
        DiskCache._index_tags(self, True)
        self.reset("tag_index", 1)

    def drop_tag_index(self) -> None:
        """Drop the index that makes `evict` fast.

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds.
        """
        DiskCache._index_tags(self, False)
        self.reset("tag_index", 0)

    _flexcache_warn_not_stored = DiskCache._warn_not_stored

    aset = awaitable(DiskCache.set)
    aadd = awaitable(DiskCache.add)
    aget = awaitable(DiskCache.get)
    aread = awaitable(DiskCache.read)
    adelete = awaitable(DiskCache.delete)
    apop = taking(DiskCache.pop)
    atouch = awaitable(DiskCache.touch)
    aincr = awaitable(DiskCache.incr)
    adecr = awaitable(DiskCache.decr)
    apush = awaitable(DiskCache.push)
    apull = taking(DiskCache.pull)
    apeek = awaitable(DiskCache.peek)
    apeekitem = awaitable(DiskCache.peekitem)
    aget_many = awaitable(CacheMixin.get_many)
    aset_many = awaitable(CacheMixin.set_many)
    adelete_many = awaitable(CacheMixin.delete_many)
    aexpire = awaitable(DiskCache.expire)
    aevict = awaitable(DiskCache.evict)
    aevict_tag = awaitable(CacheMixin.evict_tag)
    aclear = awaitable(DiskCache.clear)
    acull = awaitable(DiskCache.cull)
    avolume = awaitable(DiskCache.volume)
    acheck = awaitable(check)
    aclose = awaitable(DiskCache.close)

    def atransact(self, retry: bool = False) -> AbstractAsyncContextManager[None]:
        """The same as `transact`, for `async with`.

        It covers the awaited calls of this task and of the tasks that it starts.

        >>> import asyncio
        >>> async def main():
        ...     cache = Cache()
        ...     async with cache.atransact():
        ...         await cache.aincr("total", 3)
        ...         await cache.aincr("count")
        ...     return await cache.aget("total"), await cache.aget("count")
        >>> asyncio.run(main())
        (3, 1)
        """
        return transaction(self, retry)

    def __getstate__(self) -> tuple[Any, ...]:
        state: tuple[Any, ...] = (self.directory, self.timeout, type(self.disk))
        if self._flexcache_unreadable != "raise":
            return (*state, self._flexcache_serializer, self._flexcache_unreadable)
        return state if self._flexcache_serializer is None else (*state, self._flexcache_serializer)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        directory, timeout, disk, *rest = state
        options = dict(zip(("serializer", "unreadable"), rest, strict=False))
        self.__init__(directory, timeout, disk, **options)  # type: ignore[misc]


# Subclasses of python-diskcache's class that replace `store` write their files with it.
Disk._write = write_file  # type: ignore[method-assign]

if not TYPE_CHECKING:
    __getattr__, __dir__ = importing(__name__, {"JSONDisk": "flexcache_rs.disk.json_disk"})
