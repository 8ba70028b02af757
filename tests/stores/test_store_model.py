"""Every call of a cache over every store, in random order, against a model (hypothesis).

The model is a dict by the store's own identity of keys. Two caches stand over one store object; the test also uses
the store object itself, other threads, forked children and, where the store is shared, another process. All of them
must agree with the model after each step. Each value is written only once, so that a stale one is recognized.

In a transaction the calling thread sees its own writes, and everybody else sees what was committed before.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
import pickle
import shutil
import subprocess
import tempfile
import threading
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import pytest
import store_remote
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from scale import SCALE, scaled
from store_kinds import ABSENT, KEYS, KINDS, Kind
from store_process import OtherProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from flexcache_rs import FlexCache

LIFETIME = 1000.0
OTHER = OtherProcess()
"""One process for all examples."""


@pytest.fixture(scope="module", autouse=True)
def other_process_ends() -> Iterator[None]:
    """It is stopped after the last example."""
    yield
    OTHER.stop()


class Row(NamedTuple):
    """What the model knows of an entry."""

    value: Any
    lives_for_ever: bool
    tags: tuple[str, ...]


keys = st.sampled_from(KEYS)
key_lists = st.lists(keys, max_size=4, unique=True)
fronts = st.sampled_from([0, 1])
lifetimes = st.sampled_from([None, None, LIFETIME, 0.0])
tag_lists = st.sampled_from([(), (), ("x",), ("y",), ("x", "y")])
quiet = precondition(lambda self: not self.ours and self.theirs is None)
"""No transaction is open."""
writable = precondition(lambda self: self.theirs is None)
"""The other process does not hold the store's lock for writing."""


class StoreMachine(RuleBasedStateMachine):
    """Caches over a store beside a dict."""

    kind: ClassVar[Kind]

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.store = self.kind.make(self.directory)
        self.caches = [
            self.kind.front(self.store, "lru", max_items=3, negative_ttl=LIFETIME),
            self.kind.front(self.store, "fifo", max_items=6),
        ]
        if not self.kind.notices:
            del self.caches[1]
        self.rows: dict[Any, Row] = {}
        self.values = itertools.count()
        # Our open transactions, and the rows before the outermost of them.
        self.ours: list[Any] = []
        self.before: dict[Any, Row] = {}
        # What the other process's open transaction makes of the rows.
        self.theirs: dict[Any, Row] | None = None
        if self.kind.shared:
            OTHER.open(self.kind, self.directory)

    def teardown(self) -> None:
        while self.ours:
            self.ours.pop().__exit__(None, None, None)
        if self.kind.shared:
            OTHER.release()
        self.kind.close(self.store)
        store_remote.close_all()
        shutil.rmtree(self.directory)

    # What the model says.

    def row(self, key: Any) -> Row | None:
        return self.rows.get(self.kind.identity(key))

    def expected(self, key: Any, default: Any = None) -> Any:
        row = self.row(key)
        return default if row is None else row.value

    def write(self, key: Any, value: Any, ttl: float | None = None, tags: Iterable[str] = ()) -> None:
        if ttl == 0:
            self.forget(key)
        else:
            self.rows[self.kind.identity(key)] = Row(value, ttl is None, tuple(tags))

    def forget(self, key: Any) -> bool:
        return self.rows.pop(self.kind.identity(key), None) is not None

    def front(self, number: int) -> FlexCache[Any, Any]:
        return self.caches[number % len(self.caches)]

    def labels(self, tags: tuple[str, ...], ttl: float | None) -> tuple[str, ...]:
        return () if ttl == 0 else tags[: self.kind.most_tags]

    def read_everywhere(self, key: Any) -> None:
        """Afterwards all caches have the key in memory, if they keep it."""
        assert [cache.get(key) for cache in self.caches] == [self.expected(key)] * len(self.caches)

    # Calls of a cache.

    @writable
    @rule(front=fronts, key=keys, ttl=lifetimes, tags=tag_lists)
    def put(self, front: int, key: Any, ttl: float | None, tags: tuple[str, ...]) -> None:
        value, tags = next(self.values), self.labels(tags, ttl)
        self.front(front).put(key, value, ttl, tags)
        self.write(key, value, ttl, tags)

    @writable
    @rule(front=fronts, key=keys)
    def assign(self, front: int, key: Any) -> None:
        value = next(self.values)
        self.front(front)[key] = value
        self.write(key, value)

    @writable
    @rule(front=fronts, key=keys, sets=st.booleans())
    def store_if_absent(self, front: int, key: Any, sets: bool) -> None:
        value, row = next(self.values), self.row(key)
        if sets and row is not None:
            with pytest.raises(KeyError):
                self.front(front).set(key, value)
        elif sets:
            self.front(front).set(key, value)
        else:
            assert self.front(front).add(key, value) is (row is None)
        if row is None:
            self.write(key, value)

    @rule(front=fronts, key=keys, how=st.sampled_from(["get", "peek", "in", "[]", "get_or_set"]))
    def read(self, front: int, key: Any, how: str) -> None:
        cache, expected = self.front(front), self.expected(key, ABSENT)
        if how == "get":
            assert cache.get(key, ABSENT) == expected
        elif how == "peek":
            assert cache.peek(key, ABSENT) == expected
        elif how == "in":
            assert (key in cache) is (expected is not ABSENT)
        elif expected is not ABSENT:
            assert (cache[key] if how == "[]" else cache.get_or_set(key, lambda: "computed")) == expected
        else:
            with pytest.raises(KeyError):
                cache[key]

    @writable
    @rule(front=fronts, key=keys)
    def compute(self, front: int, key: Any) -> None:
        value = next(self.values)
        expected = self.expected(key, value)
        assert self.front(front).get_or_set(key, lambda: value) == expected
        if expected == value:
            self.write(key, value)

    @rule(front=fronts, some=key_lists)
    def get_many(self, front: int, some: list[Any]) -> None:
        expected = {key: self.expected(key) for key in some if self.row(key) is not None}
        assert self.front(front).get_many(some) == expected

    @rule(front=fronts)
    def get_all(self, front: int) -> None:
        assert [self.front(front).get(key) for key in KEYS] == [self.expected(key) for key in KEYS]

    @writable
    @rule(
        front=fronts,
        key=keys,
        how=st.sampled_from(["delete", "pop", "touch", "add", "evict_tag", "delete_many", "set_many"]),
    )
    def write_nothing(self, front: int, key: Any, how: str) -> None:
        cache, absent = self.front(front), self.row(key) is None
        if how in ("set_many", "delete_many"):
            assert getattr(cache, how)({}) in (None, 0)
        elif how == "evict_tag" and self.kind.evicts_tags:
            assert cache.evict_tag("nobody's") == 0
        elif how == "add" and not absent:
            assert cache.add(key, "refused") is False
        elif how == "pop" and absent:
            assert cache.pop(key, ABSENT) is ABSENT
        elif absent:
            assert (cache.touch(key, 5) if how == "touch" else cache.delete(key)) is False

    @rule(front=fronts, key=keys)
    def time_to_live(self, front: int, key: Any) -> None:
        row = self.row(key)
        if row is None:
            with pytest.raises(KeyError):
                self.front(front).ttl(key)
        else:
            ttl = self.front(front).ttl(key)
            assert ttl is None if row.lives_for_ever else LIFETIME - 100 < ttl <= LIFETIME

    @writable
    @rule(front=fronts, key=keys, ttl=lifetimes)
    def touch(self, front: int, key: Any, ttl: float | None) -> None:
        row = self.row(key)
        # What has a tag stays, for an expired entry may still be counted by evict_tag().
        ttl = None if row is not None and row.tags and ttl == 0 else ttl
        assert self.front(front).touch(key, ttl) is (row is not None)
        if row is not None:
            self.write(key, row.value, ttl, row.tags)

    @writable
    @rule(front=fronts, key=keys, how=st.sampled_from(["delete", "del", "pop", "pop or"]))
    def remove(self, front: int, key: Any, how: str) -> None:
        cache, value = self.front(front), self.expected(key, ABSENT)
        there = self.forget(key)
        if how == "delete":
            assert cache.delete(key) is there
        elif how == "pop or":
            assert cache.pop(key, ABSENT) == value
        else:
            with contextlib.nullcontext() if there else pytest.raises(KeyError):
                if how == "del":
                    del cache[key]
                else:
                    assert cache.pop(key) == value

    @writable
    @rule(front=fronts, some=key_lists, tags=tag_lists)
    def set_many(self, front: int, some: list[Any], tags: tuple[str, ...]) -> None:
        pairs, tags = [(key, next(self.values)) for key in some], self.labels(tags, None)
        self.front(front).set_many(pairs, tags=tags)
        for key, value in pairs:
            self.write(key, value, tags=tags)

    @writable
    @rule(front=fronts, some=key_lists)
    def delete_many(self, front: int, some: list[Any]) -> None:
        assert self.front(front).delete_many(some) == sum([self.forget(key) for key in some])

    @writable
    @precondition(lambda self: self.kind.evicts_tags)
    @rule(front=fronts, tag=st.sampled_from(["x", "y", "nobody's"]))
    def evict_tag(self, front: int, tag: str) -> None:
        gone = [identity for identity, row in self.rows.items() if tag in row.tags]
        assert self.front(front).evict_tag(tag) == (len(gone) if self.kind.counts_evicted else 0)
        for identity in gone:
            del self.rows[identity]

    @writable
    @precondition(lambda self: len(self.rows) > 2)
    @rule(front=fronts)
    def clear(self, front: int) -> None:
        self.front(front).clear()
        self.rows.clear()

    @rule(front=fronts, most=st.integers(1, 6))
    def evict_from_memory(self, front: int, most: int) -> None:
        self.front(front).resize(max_items=most)

    @rule(front=fronts, how=st.sampled_from([copy.copy, lambda cache: cache.copy()]))
    def copy_cache(self, front: int, how: Callable[[Any], Any]) -> None:
        self.caches[front % len(self.caches)] = how(self.front(front))

    # The store object itself, and what it lives through.

    @writable
    @precondition(lambda self: self.kind.notices)
    @rule(key=keys, erases=st.booleans(), warm=st.booleans())
    def use_the_store(self, key: Any, erases: bool, warm: bool) -> None:
        if warm:
            self.read_everywhere(key)
        if erases:
            self.kind.erase(self.store, key)
            self.forget(key)
        else:
            value = next(self.values)
            self.kind.write(self.store, key, value)
            self.write(key, value)

    @rule(key=keys)
    def look_at_the_store(self, key: Any) -> None:
        assert self.kind.read(self.store, key) == self.expected(key, ABSENT)

    @quiet
    @rule(both=st.booleans())
    def close(self, both: bool) -> None:
        """The next call opens it again. The last process that closes a directory removes its log."""
        self.kind.close(self.store)
        if both and self.kind.shared:
            OTHER.ask("close")

    @quiet
    @precondition(lambda self: self.kind.durable and self.kind.pickles)
    @rule(front=fronts, key=keys)
    def pickle_cache(self, front: int, key: Any) -> None:
        twin = pickle.loads(pickle.dumps(self.front(front)))
        try:
            assert [twin.get(each) for each in KEYS] == [self.expected(each) for each in KEYS]
            twin[key] = value = next(self.values)
            self.write(key, value)
        finally:
            self.kind.close(twin.store)

    @precondition(lambda self: self.kind.notices)
    @rule(front=fronts, some=key_lists)
    def read_in_another_thread(self, front: int, some: list[Any]) -> None:
        """It sees nothing of our open transaction."""
        rows = self.before if self.ours else self.rows
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.extend(self.front(front).get(key) for key in some))
        thread.start()
        thread.join()
        missing = Row(None, True, ())
        assert found == [rows.get(self.kind.identity(key), missing).value for key in some]

    @quiet
    @rule(front=fronts, key=keys)
    def fork(self, front: int, key: Any) -> None:
        """The child sees everything; what it writes to a shared store is seen here."""
        value = next(self.values)
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads of other tests
            child = os.fork()
        if child == 0:
            complaint = "the child ended early"
            try:
                assert [self.front(front).get(each) for each in KEYS] == [self.expected(each) for each in KEYS]
                self.front(front)[key] = value
                assert self.front(front)[key] == self.front(front + 1)[key] == value
                complaint = ""
            except BaseException:
                complaint = traceback.format_exc()
            finally:
                os.write(writer, complaint.encode()[:4000])
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            complaint = pipe.read().decode(errors="replace")
        os.waitpid(child, 0)
        # News of a server take their time.
        store_remote.hear()
        assert not complaint, complaint
        if self.kind.shared:
            self.write(key, value)

    # Our transactions.

    @writable
    @precondition(lambda self: self.kind.transactions and len(self.ours) < 2)
    @rule()
    def enter(self) -> None:
        if not self.ours:
            self.before = dict(self.rows)
        transaction = self.kind.transaction(self.store)
        transaction.__enter__()
        self.ours.append(transaction)

    @precondition(lambda self: self.ours)
    @rule()
    def commit(self) -> None:
        self.ours.pop().__exit__(None, None, None)

    @precondition(lambda self: self.ours)
    @rule()
    def roll_back(self) -> None:
        """Only the outermost transaction undoes anything."""
        error = ZeroDivisionError()
        with contextlib.suppress(ZeroDivisionError):
            self.ours.pop().__exit__(ZeroDivisionError, error, None)
        if not self.ours:
            self.rows = self.before

    # The other process.

    @precondition(lambda self: self.kind.shared and not self.ours)
    @rule(key=keys, how=st.sampled_from(["write", "put", "erase", "wipe", "fork"]), warm=st.booleans())
    def let_the_other_write(self, key: Any, how: str, warm: bool) -> None:
        if warm:
            self.read_everywhere(key)
        ours, value = self.rows, next(self.values)
        self.rows = self.rows if self.theirs is None else self.theirs
        if how == "erase":
            assert OTHER.ask("erase", key) is self.forget(key)
        elif how == "wipe":
            OTHER.ask("wipe")
            self.rows.clear()
        elif how == "fork" and self.theirs is None:
            assert OTHER.ask("fork_and_write", key, value) == 0
            self.write(key, value)
        else:
            OTHER.ask("write" if how == "write" else "put", key, value)
            self.write(key, value)
        if self.theirs is not None:
            self.rows = ours

    @precondition(lambda self: self.kind.shared)
    @rule(key=keys)
    def let_the_other_read(self, key: Any) -> None:
        rows = self.before if self.ours else self.rows if self.theirs is None else self.theirs
        row = rows.get(self.kind.identity(key))
        value = None if row is None else row.value
        assert OTHER.ask("read", key) == (value, value)

    @quiet
    @precondition(lambda self: self.kind.shared and self.kind.transactions)
    @rule()
    def let_the_other_begin(self) -> None:
        OTHER.ask("enter")
        self.theirs = dict(self.rows)

    @precondition(lambda self: self.theirs is not None)
    @rule(end=st.sampled_from(["commit", "roll_back"]))
    def let_the_other_end(self, end: str) -> None:
        OTHER.ask(end)
        if end == "commit":
            assert self.theirs is not None
            self.rows = self.theirs
        self.theirs = None

    @precondition(lambda self: self.kind.shared and not self.ours)
    @rule(chance=st.integers(0, 9))
    def kill_the_other(self, chance: int) -> None:
        """Seldom, for the next request starts a process."""
        if chance == 7:
            OTHER.kill()
            self.theirs = None

    @quiet
    @precondition(lambda self: self.kind.shared and self.kind.transactions)
    @rule()
    def copy_the_directory(self) -> None:
        with tempfile.TemporaryDirectory() as place:
            # By a third process: one that has the database open loses its locks when it closes the file it copies.
            subprocess.run(["cp", "-r", str(self.directory / "store"), f"{place}/store"], check=True)
            backup = self.kind.make(Path(place))
            cache = self.kind.front(backup)
            assert [cache.get(key) for key in KEYS] == [self.expected(key) for key in KEYS]
            self.kind.close(backup)


PHASES = tuple(phase for phase in Phase if SCALE >= 1 or phase is not Phase.shrink)
"""Looking for the shortest example takes minutes, so that only `make soak` does it."""

for _kind in (kind for kind in KINDS if not kind.in_part):
    _name = "Test" + _kind.name.title().replace("-", "")
    _case = type(_name, (StoreMachine,), {"kind": _kind}).TestCase
    _case.kind = _kind
    _case.settings = settings(
        max_examples=scaled(300), stateful_step_count=40, report_multiple_bugs=False, phases=PHASES
    )
    globals()[_name] = _case
    del _case
