"""Tags, and the removal of entries by tag."""

from __future__ import annotations

import pickle
import random
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scale import scaled
from specimens import EVERY_POLICY, Recency, Sized

from flexcache_rs import FlexCache
from flexcache_rs.testing import advance, check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from specimens import MakeCache


class Closing:
    """A value that counts how often it was closed."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Text(str):
    """A subclass of str that is equal to nothing."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        raise AssertionError("a tag is what it says, whatever its class thinks of it")


def test_a_tag_takes_its_entries_along(make_cache: MakeCache, any_policy: Any) -> None:
    """evict_tag() removes exactly the entries with the tag, and returns their number."""
    cache = make_cache(any_policy)
    for user in range(10):
        for page in range(5):
            cache.put((user, page), page, tags=(f"user:{user}", f"page:{page}"))
    cache["untagged"] = 1
    assert cache.evict_tag("user:3") == 5
    assert cache.evict_tag("page:4") == 9
    assert cache.evict_tag("page:4") == cache.evict_tag("") == cache.evict_tag("user") == 0
    assert len(cache) == 51 - 5 - 9
    assert (3, 0) not in cache
    assert (4, 4) not in cache
    assert (4, 3) in cache
    assert cache.tags((4, 3)) == ("user:4", "page:3")
    assert cache.tags("untagged") == ()
    assert cache.stats().removals == 14


@pytest.mark.parametrize("how", ["put", "set", "add", "set_many"])
def test_every_call_that_stores_takes_tags(make_cache: MakeCache, any_policy: Any, how: str) -> None:
    """Tags are passed by keyword, together with a time to live."""
    cache = make_cache(any_policy)
    store: Callable[..., object] = getattr(cache, how)
    args = lambda key: ({key: 1},) if how == "set_many" else (key, 1)  # noqa: E731
    store(*args("a"), tags=("x",))
    store(*args("b"), 60, tags=("x", "y"))
    store(*args("c"), ttl=60, tags=())
    store(*args("d"), tags=None)
    assert [cache.tags(key) for key in "abcd"] == [("x",), ("x", "y"), (), ()]
    assert cache.ttl("b") is not None
    assert cache.evict_tag("x") == 2


@pytest.mark.parametrize(
    "tags",
    [
        ["x", "y", "x", "x"],
        ("x", "y"),
        iter(["x", "y"]),
        {"x": 1, "y": 2},
        (tag for tag in "xyx"),
        [Text("x"), "y"],
        [Text("x"), Text("x"), Text("y")],
        type("Old", (), {"__getitem__": lambda self, at: "xy"[at]})(),
    ],
)
def test_tags_are_any_iterable_of_str(make_cache: MakeCache, tags: Any) -> None:
    """A duplicate tag counts once. Tags are returned in order."""
    cache = make_cache()
    cache.put("a", 1, tags=tags)
    assert cache.tags("a") == ("x", "y")
    assert [type(tag) for tag in cache.tags("a")] == [str, str]
    assert cache.evict_tag(Text("y")) == 1
    assert cache.evict_tag("x") == 0


def test_texts_of_every_kind(make_cache: MakeCache) -> None:
    """Tags may be empty, long, contain zeros, or be outside the basic plane. Different texts are different tags."""
    cache, texts = make_cache(), ["", "\0", "\0\0", "ä", "a\u0308", "\U0001f600", "x" * 100_000, "user:1", "User:1"]
    for number, text in enumerate(texts):
        cache.put(number, text, tags=(text,))
    for text in texts:
        assert cache.evict_tag(text) == 1
    assert len(cache) == 0


class Failing:
    """An iterable that fails after a tag."""

    def __iter__(self) -> Iterator[str]:
        yield "x"
        raise LookupError("half-way")


@pytest.mark.parametrize(
    ("tags", "error", "says"),
    [
        ("user:1", TypeError, r"such as \('user:1',\), not a str"),
        ("", TypeError, r"such as \('',\)"),
        (Text("user:1"), TypeError, r"such as \('user:1',\)"),
        ("\ud800", TypeError, "not a str"),
        (5, TypeError, "tags must be an iterable of str, not int"),
        (b"user:1", TypeError, "a tag must be a str, not int"),
        (["x", 5], TypeError, "a tag must be a str, not int"),
        (["x", None], TypeError, "a tag must be a str, not NoneType"),
        (["x", b"y"], TypeError, "a tag must be a str, not bytes"),
        (["x", "\ud800"], ValueError, "surrogates"),
        (Failing(), LookupError, "^half-way$"),
    ],
)
@pytest.mark.parametrize("how", ["put", "set", "add", "set_many"])
def test_bad_tags_change_nothing(
    make_cache: MakeCache, any_policy: Any, how: str, tags: Any, error: type[Exception], says: str
) -> None:
    """An existing entry keeps its value and its tags."""
    cache = make_cache(any_policy, max_items=2)
    cache.put("a", 1, tags=("x",))
    cache.put("b", 2)
    before = cache.stats()
    for key in "ac":
        with pytest.raises(error, match=says):
            getattr(cache, how)(*(({key: 3},) if how == "set_many" else (key, 3)), tags=tags)
    assert dict(cache.entries()) == {"a": 1, "b": 2}
    assert (cache.tags("a"), cache.stats()) == (("x",), before)
    assert cache.evict_tag("x") == 1


def test_a_refused_value_leaves_the_tags(make_cache: MakeCache, any_policy: Any) -> None:
    """The entry that would have been replaced is unchanged."""
    cache = make_cache(any_policy, max_bytes=10)
    cache.put("a", 1, tags=("x",))
    for call in (cache.put, cache.add, lambda key, value, tags: cache.set_many({"b": 1, key: value}, tags=tags)):
        with pytest.raises(ValueError, match="11"):
            call("a" if call != cache.add else "c", Sized(11), tags=("y",))
    with pytest.raises(TypeError, match="ttl"):
        cache.put("a", 2, "soon", ("y",))
    assert (cache.tags("a"), cache.evict_tag("y")) == (("x",), 0)
    assert not cache.add("a", 2, tags=("y",))
    with pytest.raises(KeyError):
        cache.set("a", 2, tags=("y",))
    assert (cache.tags("a"), cache.evict_tag("y")) == (("x",), 0)


@pytest.mark.parametrize("tag", [5, None, b"x", ("x",), ["x"]])
def test_the_tag_to_evict_is_a_str(make_cache: MakeCache, tag: Any) -> None:
    """Anything else is refused, including lone surrogates, which are not text."""
    cache = make_cache()
    cache.put("a", 1, tags=("x",))
    with pytest.raises(TypeError, match="a tag must be a str, not "):
        cache.evict_tag(tag)
    with pytest.raises(ValueError, match="surrogates"):
        cache.evict_tag("\ud800")
    assert "a" in cache


def test_tags_of_what_is_not_there(make_cache: MakeCache) -> None:
    """An absent or expired key has no tags. The call does not count as an access."""
    cache = make_cache("lru")
    cache.put("a", 1, 60, ("x",))
    cache["b"] = 1
    assert cache.tags("a") == ("x",)
    assert list(cache) == ["a", "b"]
    assert cache.stats().hits == 0
    assert cache.tags("c") == ()
    advance(61)
    assert cache.tags("a") == ()


REPLACEMENTS: dict[str, Callable[[Any], object]] = {
    "put": lambda cache: cache.put("a", 2),
    "[]": lambda cache: cache.__setitem__("a", 2),
    "put with others": lambda cache: cache.put("a", 2, tags=("y", "z")),
    "put with none": lambda cache: cache.put("a", 2, tags=()),
    "set_many": lambda cache: cache.set_many({"a": 2}),
    "another size": lambda cache: cache.put("a", Sized(3)),
    "the same value": lambda cache: cache.put("a", cache["a"]),
    "gone and back": lambda cache: (cache.pop("a"), cache.put("a", 2)),
    "expired and back": lambda cache: (cache.touch("a", 0), cache.add("a", 2)),
    "cleared and back": lambda cache: (cache.clear(), cache.put("a", 2)),
    "evicted and back": lambda cache: (cache.resize(max_items=1), cache.put("b", 1), cache.put("a", 2)),
}


@pytest.mark.parametrize("replace", REPLACEMENTS.values(), ids=list(REPLACEMENTS))
def test_what_replaces_an_entry_has_its_own_tags(make_cache: MakeCache, any_policy: Any, replace: Any) -> None:
    """The old entry may have been removed and replaced in any way."""
    cache = make_cache(any_policy)
    cache.put("a", 1, tags=("x", "y"))
    replace(cache)
    assert "a" in cache
    assert cache.tags("a") in ((), ("y", "z"))
    assert cache.evict_tag("x") == 0
    assert "a" in cache


def test_a_value_that_changes_its_tags_alone(make_cache: MakeCache) -> None:
    """touch() and hits keep the tags."""
    cache = make_cache()
    cache.put("a", 1, tags=("x",))
    cache.touch("a", 60)
    cache.get("a")
    assert cache.tags("a") == ("x",)


def test_hooks_run_once_when_all_are_gone(make_cache: MakeCache, any_policy: Any) -> None:
    """The listener gets "deleted" when all the entries are removed. Each value is closed once."""
    told: list[tuple[Any, str, int]] = []
    cache = make_cache(any_policy, on_evict=lambda key, _, reason: told.append((key, reason, len(cache))))
    values = [Closing() for _ in range(3000)]
    for key, value in enumerate(values):
        cache.put(key, value, tags=("all", f"every {key % 3}"))
    assert cache.evict_tag("every 1") == 1000
    assert cache.evict_tag("all") == 2000
    assert all(value.closed == 1 for value in values)
    assert Counter(reason for _, reason, _ in told) == {"deleted": 3000}
    assert {length for _, _, length in told} == {2000, 0}
    assert sorted(key for key, _, _ in told) == list(range(3000))
    assert cache.stats().removals == 3000


def test_a_listener_that_stores_them_anew(make_cache: MakeCache, any_policy: Any) -> None:
    """The call ends all the same, and the entries that the listener stored stay."""

    def again(key: Any, value: int, reason: str) -> None:
        if reason == "deleted":
            cache.put(key, value + 1, tags=("x",))

    cache = make_cache(any_policy, on_evict=again)
    for key in range(3000):
        cache.put(key, 0, tags=("x",))
    assert cache.evict_tag("x") == 3000
    assert list(cache.values()) == [1] * 3000


def test_hooks_that_evict_tags(make_cache: MakeCache, any_policy: Any) -> None:
    """Each hook evicts the next tag, to a great depth. Each removal is reported once."""
    told: list[int] = []

    def next_one(key: int, _: Any, reason: str) -> None:
        told.append(key)
        cache.evict_tag(str(key + 1))
        cache.evict_tag(str(key))

    cache = make_cache(any_policy, on_evict=next_one)
    for key in range(100):
        cache.put(key, key, tags=(str(key),))
    assert cache.evict_tag("0") == 1
    assert sorted(told) == list(range(100))


def test_a_failing_hook_stops_nothing(make_cache: MakeCache, any_policy: Any) -> None:
    """The exception of a hook is logged and counted, and the other hooks run."""
    values = [Closing() for _ in range(10)]

    def fail(*_: Any) -> None:
        raise LookupError

    cache = make_cache(any_policy, on_evict=fail)
    for key, value in enumerate(values):
        cache.put(key, value, tags=("x",))
    assert cache.evict_tag("x") == 10
    assert all(value.closed == 1 for value in values)
    assert cache.stats().hook_errors == 10


def test_a_policy_that_fails(make_cache: MakeCache) -> None:
    """All entries are removed and closed. The call raises the error of the policy, as other calls do."""

    class Bad(Recency):
        def on_remove(self, key: Any) -> None:
            super().on_remove(key)
            if key == 3:
                raise LookupError("three")

    cache, values = make_cache(Bad()), [Closing() for _ in range(10)]
    for key, value in enumerate(values):
        cache.put(key, value, tags=("x",))
    with pytest.raises(RuntimeError, match="three"):
        cache.evict_tag("x")
    assert (len(cache), [value.closed for value in values]) == (0, [1] * 10)


def test_a_policy_that_calls_back(make_cache: MakeCache) -> None:
    """The policy's call raises an error, and no entry is removed."""
    refused: list[str] = []

    class Calling(Recency):
        def on_access(self, key: Any) -> None:
            super().on_access(key)
            try:
                cache.evict_tag("x")
            except RuntimeError as error:
                refused.append(str(error))

    cache = make_cache(Calling())
    cache.put("a", 1, tags=("x",))
    assert cache["a"] == 1
    assert len(refused) == 1
    assert "called back" in refused[0]
    assert "a" in cache


def test_what_has_expired_leaves_as_that(make_cache: MakeCache, any_policy: Any) -> None:
    """An expired entry was absent already, so it is not counted as evicted by tag."""
    told: list[Any] = []
    cache = make_cache(any_policy, 3600, on_evict=lambda key, _, reason: told.append((key, reason)))
    cache.put("a", 1, 10, ("x",))
    cache.put("b", 1, 100, ("x",))
    cache.put("c", 1, tags=("x",))
    cache.put("d", 1, 10, ("y",))
    advance(50)
    assert cache.evict_tag("x") == 2
    assert sorted(told) == [("a", "expired"), ("b", "deleted"), ("c", "deleted")]
    stats = cache.stats()
    assert (stats.removals, stats.expirations) == (2, 1)
    assert cache.scan() == 1
    assert cache.evict_tag("y") == 0


def test_a_ttl_that_is_over_at_once(make_cache: MakeCache, any_policy: Any) -> None:
    """None of its tags remain."""
    cache = make_cache(any_policy)
    cache.put("a", 1, 0, ("x",))
    assert (len(cache), cache.evict_tag("x")) == (0, 0)


@pytest.mark.parametrize("thread_safe", [True, False])
def test_every_shard_is_asked(make_cache: MakeCache, policy: str, thread_safe: bool) -> None:
    """The entries may be in any shard."""
    cache = make_cache(policy, shards=7, thread_safe=thread_safe)
    for key in range(5000):
        cache.put(key, key, tags=("all", f"last digit {key % 10}"))
    assert cache.evict_tag("last digit 3") == 500
    cache.resize(max_items=700)
    assert cache.evict_tag("all") == 700
    assert len(cache) == 0


def test_ends_leave_no_tags(make_cache: MakeCache, any_policy: Any) -> None:
    """After clear() or close(), a cache has no tags."""
    cache = make_cache(any_policy)
    for end in (cache.clear, cache.close):
        for key in range(100):
            cache.put(key, key, tags=("x", str(key)))
        end()
        check(cache)
        cache.put(5, 5)
        assert (cache.tags(5), cache.evict_tag("x"), cache.evict_tag("5")) == ((), 0, 0)


def test_memory_is_counted_and_given_back(make_cache: MakeCache, policy: str) -> None:
    """Caches without tags need no memory for them. The reported size includes tags and their names."""
    plain, tagged = make_cache(policy), make_cache(policy)
    for cache, tags in ((plain, None), (tagged, ("x", "y"))):
        for key in range(50_000):
            cache.put(key, key, tags=tags)
    each = (sys.getsizeof(tagged) - sys.getsizeof(plain)) / 50_000
    assert 2 * 20 < each < 2 * 40 + 8
    before = sys.getsizeof(plain)
    assert plain.evict_tag("x") == 0
    assert sys.getsizeof(plain) == before
    plain.put("long", 1, tags=("x" * 1_000_000,))
    assert sys.getsizeof(plain) > before + 1_000_000
    del plain["long"]
    assert sys.getsizeof(plain) < before + 500_000
    tagged.clear()
    assert sys.getsizeof(tagged) < 10_000


def test_names_that_come_and_go(make_cache: MakeCache) -> None:
    """Tags without entries take no memory, however many there were."""
    cache = make_cache(max_items=10)
    for key in range(20):
        cache.put(key, key, tags=(f"tag {key}",))
    before = sys.getsizeof(cache)
    for key in range(100_000):
        cache.put(key, key, tags=(f"tag {key:10}",))
    assert sys.getsizeof(cache) < before + 1000


def test_the_time_is_that_of_the_members(make_cache: MakeCache) -> None:
    """The call accesses only entries with the tag. Keys of other entries would detect a comparison."""

    class Key:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            if self is other:
                return True
            if armed:
                raise AssertionError("nothing is looked up")
            return False

    armed = False
    cache = make_cache()
    for number in range(50):
        cache.put(Key(), number, tags=("even",) if number % 2 == 0 else ("odd",))
    armed = True
    assert cache.evict_tag("odd") == 25


def test_tags_that_use_the_cache_as_they_are_read(make_cache: MakeCache, any_policy: Any) -> None:
    """Tags are read before the entry is looked up."""
    cache = make_cache(any_policy)

    def tags(what: Callable[[], object]) -> Iterator[str]:
        yield "x"
        what()
        yield "y"

    cache.put("a", 1, tags=("z",))
    cache.put("a", 2, tags=tags(cache.clear))
    cache.put("b", 2, tags=tags(lambda: cache.put("b", 1, tags=("z",))))
    assert not cache.add("c", 2, tags=tags(lambda: cache.put("c", 1)))
    cache.set_many({"d": 2}, tags=tags(lambda: cache.evict_tag("x")))
    assert {key: cache.tags(key) for key in cache} == {"c": (), "d": ("x", "y")}


def test_no_reference_is_kept(make_cache: MakeCache, any_policy: Any) -> None:
    """The cache keeps a reference neither to the tags nor to their iterable."""
    cache, names = make_cache(any_policy), ["".join(("tag ", str(number))) for number in range(3)]
    before = [sys.getrefcount(name) for name in names], sys.getrefcount(names)
    for key in range(100):
        cache.put(key, key, tags=names)
        cache.add(key, key, tags=names)
        with pytest.raises(TypeError):
            cache.put(key, key, "soon", names)
        with pytest.raises(TypeError):
            cache.put(key, key, tags=[*names, 5])
        cache.tags(key)
    cache.evict_tag(names[1])
    assert ([sys.getrefcount(name) for name in names], sys.getrefcount(names)) == before


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 9), st.lists(st.sampled_from("abc"), max_size=3)),
        st.tuples(st.just("plain"), st.integers(0, 9)),
        st.tuples(st.just("delete"), st.integers(0, 9)),
        st.tuples(st.just("get"), st.integers(0, 9)),
        st.tuples(st.just("evict"), st.sampled_from("abc")),
        st.tuples(st.just("resize"), st.integers(1, 10)),
        st.tuples(st.just("pickle")),
        st.tuples(st.just("clear")),
    ),
    max_size=60,
)


@pytest.mark.parametrize("name", EVERY_POLICY, ids=str)
@given(steps=STEPS)
@settings(max_examples=scaled(1000))
def test_it_agrees_with_a_model(name: Any, steps: list[Any]) -> None:
    """The model is a dict of the tags of present entries."""
    cache: FlexCache[Any, Any] = FlexCache(name if isinstance(name, str) else name())
    model: dict[int, tuple[str, ...]] = {}
    for what, *args in steps:
        if what == "put":
            key, tags = args
            cache.put(key, key, tags=tags)
            model[key] = tuple(dict.fromkeys(tags))
        elif what == "plain":
            cache[args[0]] = 0
            model[args[0]] = ()
        elif what == "delete":
            assert cache.delete(args[0]) == (model.pop(args[0], None) is not None)
        elif what == "get":
            cache.get(args[0])
        elif what == "evict":
            leaving = [key for key, tags in model.items() if args[0] in tags]
            assert cache.evict_tag(args[0]) == len(leaving)
            model = {key: tags for key, tags in model.items() if key not in leaving}
        elif what == "pickle":
            cache = pickle.loads(pickle.dumps(cache))
        elif what == "clear":
            cache.clear()
            model.clear()
        else:
            cache.resize(max_items=args[0])
            cache.resize(max_items=0)
            model = {key: model[key] for key in cache}
        assert {key: cache.tags(key) for key in cache} == model
        check(cache)


@pytest.mark.parametrize("shards", [1, 4])
def test_threads_that_store_and_evict(make_cache: MakeCache, any_policy: Any, shards: int) -> None:
    """Each value is closed exactly once, and the remaining entries have their tags."""
    cache = make_cache(any_policy, shards=shards if isinstance(any_policy, str) else 1, max_items=400)
    made: list[list[Closing]] = [[] for _ in range(6)]
    counts = [0] * 6
    errors: list[BaseException] = []

    def work(number: int) -> None:
        draw = random.Random(number)
        try:
            for _ in range(1500):
                key = draw.randrange(500)
                what = draw.randrange(10)
                if what == 0:
                    counts[number] += cache.evict_tag(f"tag {draw.randrange(20)}")
                elif what == 1:
                    cache.delete(key)
                else:
                    made[number].append(Closing())
                    cache.put(key, made[number][-1], tags=(f"tag {key % 20}", "all") if what > 3 else None)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert errors == []
    check(cache)
    assert sum(counts) > 0
    for key in cache:
        assert cache.tags(key) in ((f"tag {key % 20}", "all"), ())
    there = len(cache)
    tagged = sum(bool(cache.tags(key)) for key in cache)
    assert cache.evict_tag("all") == tagged
    assert len(cache) == there - tagged
    cache.clear()
    assert {value.closed for values in made for value in values} == {1}
