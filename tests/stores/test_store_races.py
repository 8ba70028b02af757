"""Many threads over one store: whatever the order, memory ends with what the store has.

The order is up to the machine here; `test_store_commits.py` fixes it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from scale import scaled
from store_kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from store_process import OtherProcess


def together(*works: Callable[[], Any]) -> None:
    """Run all at once, each in a thread, and raise what one of them raised."""
    start = threading.Barrier(len(works))
    raised: list[BaseException] = []

    def run(work: Callable[[], Any]) -> None:
        start.wait()
        try:
            work()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def agree(kind: Kind, store: Any, caches: list[Any], keys: list[Any]) -> None:
    """Every cache has what the store has, twice: from wherever it comes, and from memory."""
    expected = [kind.front(store).get(key) for key in keys]
    for cache in caches:
        assert [cache.get(key) for key in keys] == expected
        assert [cache.get(key) for key in keys] == expected


def fronts(kind: Kind, store: Any, **options: Any) -> list[Any]:
    """Two caches over the store, or one where it cannot notice the other."""
    return [kind.front(store, **options) for _ in range(2 if kind.notices else 1)]


def fronts_told(kind: Kind, store: Any) -> list[Any]:
    """Caches that do not ask the store whether somebody else wrote, two if each is told of the other's writes."""
    return [kind.front(store, coherence=None) for _ in range(2 if kind.keeps else 1)]


@pytest.mark.parametrize("bound", ["the kind's", None, 3600])
def test_writers_of_one_key_beside_readers(kind: Kind, store: Any, bound: Any) -> None:
    """One cache, every sort of write."""
    cache = kind.front(store, **({} if bound == "the kind's" else {"coherence": bound}))

    def work(name: int) -> None:
        for number in range(scaled(400)):
            match (name + number) % 6:
                case 0:
                    cache.delete("k")
                case 1 | 2:
                    cache.get("k")
                case 3:
                    cache.set_many({"k": (name, number), "l": (name, number)})
                case 4:
                    cache.add("k", (name, -number))
                case _:
                    cache["k"] = (name, number)

    together(*(lambda name=name: work(name) for name in range(4)))
    agree(kind, store, [cache], ["k", "l"])


def test_two_caches_over_one_store(kind: Kind, store: Any) -> None:
    """Writers and readers of both."""
    caches = fronts(kind, store)

    def write(name: int) -> None:
        for number in range(scaled(400)):
            caches[name % len(caches)]["k"] = (name, number)

    def read(name: int) -> None:
        for _ in range(scaled(1000)):
            caches[name % len(caches)].get("k")

    together(
        *(lambda name=name: write(name) for name in range(2)), *(lambda name=name: read(name) for name in range(2))
    )
    agree(kind, store, caches, ["k"])


@pytest.mark.parametrize("make", [fronts, fronts_told])
def test_readers_never_go_back(kind: Kind, store: Any, make: Callable[[Kind, Any], list[Any]]) -> None:
    """A thread that has seen a value sees no older one, whichever cache it asks."""
    caches = make(kind, store)
    caches[0]["k"] = 0
    done = threading.Event()

    def write() -> None:
        try:
            for number in range(1, scaled(1000)):
                caches[0]["k"] = number
        finally:
            done.set()

    def read() -> None:
        last = 0
        while not done.is_set():
            for cache in caches:
                number = cache["k"]
                assert number >= last, f"{number} after {last}"
                last = number

    together(write, read, read)
    agree(kind, store, caches, ["k"])


@pytest.mark.parametrize("removes", ["clear", "evict_tag", "delete_many", "set_many"])
def test_writes_of_many_keys_beside_readers(kind: Kind, store: Any, removes: str) -> None:
    """They write to every key they are about; what is read meanwhile does not outlast them."""
    if removes == "evict_tag" and not kind.evicts_tags:
        pytest.skip("the store has no evict_tag()")
    caches = fronts(kind, store)
    keys = [f"k{number}" for number in range(50)]
    call = {
        "clear": lambda: caches[0].clear(),
        "evict_tag": lambda: caches[0].evict_tag("t"),
        "delete_many": lambda: caches[0].delete_many(keys),
        "set_many": lambda: caches[0].set_many(dict.fromkeys(keys, "after")),
    }[removes]
    for _ in range(scaled(60)):
        caches[0].set_many(dict.fromkeys(keys, "before"), tags=("t",) if kind.evicts_tags else ())
        for cache in caches:
            assert cache.get_many(keys) == dict.fromkeys(keys, "before")
        done = threading.Event()

        def write(done: threading.Event = done) -> None:
            try:
                call()
            finally:
                done.set()

        def read(cache: Any, done: threading.Event = done) -> None:
            while not done.is_set():
                cache.get("k0")
                cache.get_many(keys[-3:])

        together(write, *(lambda cache=cache: read(cache) for cache in caches))
        after = "after" if removes == "set_many" else None
        for cache in caches:
            assert [cache.get(key) for key in keys] == [after] * len(keys)


@pytest.mark.needs(transactions=True, divided=False)
def test_transactions_beside_readers(kind: Kind, store: Any) -> None:
    """A reader sees both writes of a transaction or none; what is undone is never seen."""
    caches = fronts(kind, store)
    caches[0].set_many({"a": 0, "b": 0})
    done = threading.Event()

    def write() -> None:
        try:
            for number in range(1, scaled(200)):
                try:
                    with kind.transaction(store):
                        caches[0]["a"] = number if number % 2 else "undone"
                        caches[0]["b"] = number if number % 2 else "undone"
                        if number % 2 == 0:
                            raise ZeroDivisionError
                except ZeroDivisionError:
                    pass
        finally:
            done.set()

    def read() -> None:
        while not done.is_set():
            for cache in caches:
                # "b" is written last, so that "a", which is read after it, is at least as new.
                b, a = cache["b"], cache["a"]
                assert "undone" not in (a, b)
                assert a >= b

    together(write, read, read)
    agree(kind, store, caches, ["a", "b"])


@pytest.mark.needs(shared=True)
def test_another_process_beside_threads(kind: Kind, store: Any, other: OtherProcess) -> None:
    """Both write one key and read it all the time; afterwards all have the same."""
    caches = fronts(kind, store)
    rounds = scaled(300)

    def theirs() -> None:
        for number in range(rounds):
            other.ask("put", "k", ("theirs", number))
            other.ask("read", "k")

    def ours() -> None:
        for number in range(rounds):
            caches[number % 2]["k"] = ("ours", number)

    def read() -> None:
        for _ in range(rounds * 5):
            assert caches[1].get("k") is None or len(caches[0]["k"]) == 2

    together(theirs, ours, read)
    agree(kind, store, caches, ["k"])
    assert other.ask("read", "k") == (caches[0]["k"],) * 2


def test_what_a_read_brings_is_no_older_than_the_last_commit(kind: Kind, store: Any) -> None:
    """A read that overlaps a commit may bring the old value, which is not served once the write has returned.

    The reader's cache has room for one of two keys, so that every read asks the store and fills memory.
    """
    writer = kind.front(store)
    reader = kind.front(store, max_items=1) if kind.notices else writer
    done = threading.Event()

    def write() -> None:
        try:
            for number in range(scaled(2000, 200)):
                writer["k"] = number
                assert reader["k"] == number
                assert writer["k"] == number
        finally:
            done.set()

    def read() -> None:
        while not done.is_set():
            reader.get("k")
            reader.get("another")

    writer["another"] = 0
    together(write, read, read)
