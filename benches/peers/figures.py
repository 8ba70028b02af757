"""The measurements. To add a figure, write one function under `@figure(NAME)`. The report then includes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from random import Random
from typing import Any

from . import caches
from .caches import Contestant
from .measure import (
    Case,
    ChildFailedError,
    Keys,
    Loop,
    NeedsGilError,
    Order,
    Spread,
    check_free_threading,
    fresh_process,
    interleave,
    one_core,
    over_assignments,
    over_calls,
    over_items,
    over_loads,
    over_membership,
    over_nothing,
    over_puts,
)

DICT = "dict"
FLEXCACHE = "FlexCache"
CACHEBOX = "cachebox.LRUCache"
LOOP_ALONE = "(the loop alone)"
CLOCK_ALONE = "(the clock alone)"
MUCH_LOST = 0.02


@dataclass(frozen=True)
class Settings:
    """The size of the measurements."""

    rounds: int = 31
    operations: int = 100_000
    big_rounds: int = 13
    big_operations: int = 250_000
    big: int = 1_000_000
    grow: int = 2_000_000
    children: int = 7
    processes: int = 15
    seed: int | None = None
    free_threaded: str | None = None
    optimized: str | None = None

    @classmethod
    def quick(cls, seed: int | None = None) -> Settings:
        """Return settings for a first look, which takes about a minute."""
        return cls(
            rounds=5,
            operations=50_000,
            big_rounds=3,
            big_operations=100_000,
            big=200_000,
            grow=500_000,
            children=3,
            processes=5,
            seed=seed,
        )


@dataclass(frozen=True)
class Target:
    """The target of a contestant: at most `limit`, or at most `limit` times the time of another one.

    With `at_least`, it is a lower limit.
    """

    text: str
    condition: str
    limit: float
    times: str | None = DICT
    contestant: str = FLEXCACHE
    times_condition: str | None = None
    at_least: bool = False


@dataclass
class Figure:
    """The results of one figure, for each condition and contestant.

    `names` is the order of the rows; contestants that appear nowhere else get none, unless they were left out.
    The ratio shown beside a result is to the contestant `reference` under the same condition, to the same contestant
    under `reference_condition`, or to neither if both are None.
    """

    title: str
    text: str
    unit: str = "ns"
    reference: str | None = DICT
    reference_condition: str | None = None
    conditions: dict[str, dict[str, Spread]] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def enter(self, name: str) -> None:
        """Add a row for a contestant at the end."""
        if name not in self.names:
            self.names.append(name)

    def median(self, condition: str, contestant: str) -> float | None:
        """Return the median, if it was measured."""
        spread = self.conditions.get(condition, {}).get(contestant)
        return None if spread is None else spread.median

    def ratio(self, condition: str, contestant: str) -> float | None:
        """Return the ratio to the reference."""
        if self.reference is None and self.reference_condition is None:
            return None
        return self._times(condition, contestant, self.reference_condition or condition, self.reference or contestant)

    def reached(self, target: Target) -> float | None:
        """Return the result of this run in the unit of the target."""
        if target.times is None:
            return self.median(target.condition, target.contestant)
        return self._times(
            target.condition, target.contestant, target.times_condition or target.condition, target.times
        )

    def _times(self, condition: str, contestant: str, other_condition: str, other: str) -> float | None:
        ours = self.conditions.get(condition, {}).get(contestant)
        theirs = self.conditions.get(other_condition, {}).get(other)
        return None if ours is None or theirs is None else ours.over(theirs)


@dataclass
class Run:
    """The state that every figure needs: the settings, a random generator, and a function that reports progress."""

    settings: Settings
    random: Random
    say: Callable[[str], None]
    warned: set[str] = field(default_factory=set)

    def leave_out(self, result: Figure, name: str, error: Exception) -> None:
        """Record why a contestant is missing from a figure."""
        result.left_out[name] = reason(error)
        text = f"left out {name}: {error}"
        if text not in self.warned:
            self.say(text)
            self.warned.add(text)


Measured = Callable[[Run], Figure]
FIGURES: dict[str, Measured] = {}


def figure(name: str, cores: int | None = 1) -> Callable[[Measured], Measured]:
    """Return a decorator that registers a figure under its name for `--only`. `cores=None` means all cores."""

    def register(function: Measured) -> Measured:
        def measured(run: Run) -> Figure:
            with one_core() if cores == 1 else nullcontext():
                return function(run)

        FIGURES[name] = measured
        return measured

    return register


@dataclass(frozen=True)
class Operation:
    """A loop, and a function that returns its target for a contestant. None if the contestant lacks the operation."""

    loop: Loop
    bind: Callable[[Contestant, Any], Any]


def _subscripts(contestant: Contestant, cache: Any) -> Any:
    return cache if contestant.subscripts else None


GET = Operation(over_calls, Contestant.getter)
ITEM = Operation(over_items, _subscripts)
MEMBERSHIP = Operation(over_membership, _subscripts)
PUT = Operation(over_puts, Contestant.putter)
ASSIGN = Operation(over_assignments, _subscripts)
LOAD = Operation(over_loads, lambda contestant, cache: (contestant.getter(cache), contestant.putter(cache)))


def str_keys(count: int, prefix: str = "key") -> list[str]:
    """Return `count` strings of realistic length."""
    return [f"{prefix}:{number}" for number in range(count)]


def int_keys(count: int) -> list[int]:
    """Return `count` consecutive ints beyond the interpreter's cached ones. Their order is the best case for dict."""
    return list(range(1_000_000, 1_000_000 + count))


def anywhere(keys: Keys, count: int) -> Order:
    """Return `count` random keys, different ones each time."""
    return lambda random, _number: random.choices(keys, k=count)


def never_repeated(keys: Keys) -> Order:
    """Yield the two halves of `keys` alternately in random order. A cache for fewer entries never has any of them."""
    halves = (keys[: len(keys) // 2], keys[len(keys) // 2 :])
    return lambda random, number: random.sample(halves[number % 2], k=len(halves[number % 2]))


def timed(
    run: Run,
    result: Figure,
    condition: str,
    contestants: Iterable[tuple[str, Contestant]],
    operation: Operation,
    stored: Keys,
    order: Order,
    rounds: int,
    hits: bool = True,
) -> None:
    """Measure one condition: make every contestant for `len(stored)` entries, fill it, and time the operation."""
    run.say(f"{result.title}: {condition}")
    values = [float(number) for number in range(len(stored))]
    probe = order(run.random, 0)[:1_000] if hits else []
    cases: list[Case] = []
    closing: list[Callable[[], object]] = []
    if operation.loop is over_calls:
        result.enter(LOOP_ALONE)
        cases.append(Case(LOOP_ALONE, over_nothing, None, order))
    for name, contestant in contestants:
        result.enter(name)
        try:
            check_free_threading(contestant.module)
            cache = contestant.build(len(stored))
            if contestant.close is not None:
                closing.append(lambda close=contestant.close, cache=cache: close(cache))  # type: ignore[misc]
            target = operation.bind(contestant, cache)
            if target is None:
                continue
            contestant.fill(cache, stored, values)
            get = contestant.getter(cache)
            missed = sum(not contestant.found(get(key)) for key in probe)
        except Exception as error:  # noqa: BLE001 - whatever a peer raises, the others are measured
            run.leave_out(result, name, error)
            continue
        if missed:
            result.remarks.append(f"{name} missed {missed / len(probe):.1%} of its gets ({condition}).")
        cases.append(Case(name, operation.loop, target, order))
        del cache, target, get
    result.conditions[condition], lost = interleave(cases, rounds, run.random)
    if lost > MUCH_LOST:
        result.remarks.append(f"Other programs had the core for {lost:.0%} of the time: expect noise ({condition}).")
    for close in closing:
        close()


def reason(error: BaseException) -> str:
    """Return why a contestant is missing, without paths of this machine."""
    kind = (
        str(error).partition(":")[0].rpartition(".")[2] if isinstance(error, ChildFailedError) else type(error).__name__
    )
    known = {"ModuleNotFoundError": "not installed", NeedsGilError.__name__: "needs the GIL"}
    return known.get(kind, kind)


def named(contestants: Iterable[Contestant]) -> list[tuple[str, Contestant]]:
    """Return contestants by their names."""
    return [(contestant.name, contestant) for contestant in contestants]


def _hits_by_size(run: Run, kind: str, make: Callable[[int], Keys]) -> Figure:
    settings = run.settings
    result = Figure(
        f"get, hit, {kind} keys",
        "`get(key)` on a bound method. The policy is LRU. The cache is bounded to n and holds n entries. The keys are "
        "the same "
        "objects that were stored.",
    )
    for size, limit in ((1_000, 1.0), (10_000, 1.15), (settings.big, 1.15)):
        big = size == settings.big
        keys = make(size)
        order = anywhere(keys, settings.big_operations if big else settings.operations)
        rounds = settings.big_rounds if big else settings.rounds
        timed(run, result, f"n = {size:,}", named(caches.EVERY), GET, keys, order, rounds)
        result.targets.append(Target(f"`get` hit, {kind} keys, n = {size:,}, × `dict.get`", f"n = {size:,}", limit))
    return result


@figure("get-str")
def get_str(run: Run) -> Figure:
    """`get` of present keys, by size."""
    return _hits_by_size(run, "str", str_keys)


@figure("get-int")
def get_int(run: Run) -> Figure:
    """The same with integers."""
    return _hits_by_size(run, "int", int_keys)


@figure("get-equal")
def get_equal(run: Run) -> Figure:
    """`get` with keys that are equal to the stored ones, but other objects."""
    result = Figure(
        "get, hit, equal but distinct str keys",
        "The same as above with n = 10,000 and copies of the stored keys.",
    )
    keys, copies = str_keys(10_000), str_keys(10_000)
    order = anywhere(copies, run.settings.operations)
    timed(run, result, "n = 10,000", named(caches.EVERY), GET, keys, order, run.settings.rounds)
    return result


@figure("policies")
def policies(run: Run) -> Figure:
    """`get` for each policy of FlexCache."""
    result = Figure("get, hit, by policy", "The policies of FlexCache with n = 10,000 and str keys.")
    keys = str_keys(10_000)
    order = anywhere(keys, run.settings.operations)
    contestants = named((caches.DICT, *caches.POLICIES))
    timed(run, result, "n = 10,000", contestants, GET, keys, order, run.settings.rounds)
    result.targets.append(_auto_beside_lru("`get` hit", "n = 10,000", 1.1))
    return result


@figure("policies-load")
def policies_load(run: Run) -> Figure:
    """A miss and the `put` that follows it, for each policy of FlexCache."""
    condition = "a miss and `put`"
    result = Figure(
        "get, miss, and put of the key, by policy",
        "str keys in a full cache of 10,000 entries. No key is asked for twice.",
        reference=caches.POLICIES[0].name,
    )
    order = never_repeated(str_keys(2 * run.settings.operations, "new"))
    contestants = named(caches.POLICIES)
    timed(run, result, condition, contestants, LOAD, str_keys(10_000), order, run.settings.rounds, hits=False)
    result.targets.append(_auto_beside_lru(condition, condition, 1.3))
    return result


def _auto_beside_lru(what: str, condition: str, limit: float) -> Target:
    lru, *_, auto = (policy.name for policy in caches.POLICIES)
    return Target(f"{what}, {auto}, × {lru}", condition, limit, times=lru, contestant=auto)


@figure("item")
def item(run: Run) -> Figure:
    """`cache[key]` and `key in cache`."""
    result = Figure("cache[key] and key in cache, hit", "str keys, compared with the same operations of `dict`.")
    for size in (1_000, 10_000):
        keys = str_keys(size)
        order = anywhere(keys, run.settings.operations)
        for text, operation in (("cache[key]", ITEM), ("key in cache", MEMBERSHIP)):
            condition = f"`{text}`, n = {size:,}"
            timed(run, result, condition, named(caches.EVERY), operation, keys, order, run.settings.rounds)
            result.targets.append(Target(f"{condition}, × `dict`", condition, 1.0))
    return result


@figure("miss")
def miss(run: Run) -> Figure:
    """`get` of absent keys."""
    result = Figure("get, miss", "str keys that are not stored, compared with a miss of `dict.get`.")
    for size in (1_000, 10_000):
        keys, others = str_keys(size), str_keys(size, "other")
        order = anywhere(others, run.settings.operations)
        condition = f"n = {size:,}"
        contestants = named((caches.DICT, *caches.BOUNDED))
        timed(run, result, condition, contestants, GET, keys, order, run.settings.rounds, hits=False)
        result.targets.append(Target(f"`get` miss, {condition}, × `dict.get`'s miss", condition, 0.8))
    return result


def _writes(
    run: Run, result: Figure, contestants: Sequence[Contestant], stored: Keys, order: Order, what: str
) -> Figure:
    for text, operation in (("put(key, value)", PUT), ("cache[key] = value", ASSIGN)):
        condition = f"`{text}`"
        timed(
            run,
            result,
            condition,
            named(contestants),
            operation,
            stored,
            order,
            run.settings.rounds,
            hits=False,
        )
        result.targets.append(Target(f"{what}, {condition}, × cachebox's", condition, 0.7, CACHEBOX))
    return result


@figure("put")
def put(run: Run) -> Figure:
    """Writes to present keys."""
    result = Figure(
        "put over an existing key",
        "str keys with n = 10,000. The table shows the method of the cache (`put`, `insert`, `set`) and the "
        "assignment.",
        reference=CACHEBOX,
    )
    keys = str_keys(10_000)
    order = anywhere(keys, run.settings.operations)
    return _writes(run, result, (caches.DICT, *caches.BOUNDED), keys, order, "put over a key")


@figure("evict")
def evict(run: Run) -> Figure:
    """Writes of new keys into a full cache."""
    result = Figure(
        "put of a new key, with an eviction",
        "str keys in a full cache of 10,000 entries. The new keys exist before, and none is in the cache.",
        reference=CACHEBOX,
    )
    order = never_repeated(str_keys(2 * run.settings.operations, "new"))
    return _writes(run, result, caches.BOUNDED, str_keys(10_000), order, "put with an eviction")


@figure("ttl")
def ttl(run: Run) -> Figure:
    """`get` of entries that have a time to live."""
    plain, expiring = "without TTL", "with TTL"
    result = Figure(
        "get, hit, with a time to live",
        "str keys with n = 10,000. Every entry has a time to live of one hour. The table also shows the same cache, "
        "or the LRU "
        "cache of the same library, without a time to live.",
        reference=None,
        reference_condition=plain,
    )
    keys = str_keys(10_000)
    order = anywhere(keys, run.settings.operations)
    # Measure both in one interleaved run, so that the two columns are comparable.
    both = f"{plain}, {expiring}"
    contestants = [(f"{DICT} {plain}", caches.DICT)]
    for name, pair in caches.EXPIRING.items():
        contestants += [(f"{name} {plain}", pair[0]), (f"{name} {expiring}", pair[1])]
    timed(run, result, both, contestants, GET, keys, order, run.settings.rounds)
    together = result.conditions.pop(both)
    for condition in (plain, expiring):
        result.conditions[condition] = {
            name.removesuffix(f" {condition}"): spread
            for name, spread in together.items()
            if name.endswith(f" {condition}")
        }
    result.names = [DICT, *caches.EXPIRING]
    result.left_out = {
        name.removesuffix(f" {plain}").removesuffix(f" {expiring}"): why for name, why in result.left_out.items()
    }
    text = "`get` hit with TTL, × without"
    result.targets.append(Target(text, expiring, 1.15, times=FLEXCACHE, times_condition=plain))
    return result


def children(
    run: Run,
    result: Figure,
    condition: str,
    contestants: Iterable[str],
    rounds: int,
    measure: Callable[[str], str],
) -> dict[str, list[str]]:
    """Run fresh processes, `rounds` of them for each contestant, interleaved, and record their output."""
    run.say(f"{result.title}: {condition}")
    answers: dict[str, list[str]] = {name: [] for name in contestants}
    for name in answers:
        result.enter(name)
    for _ in range(rounds):
        for name in run.random.sample(list(answers), k=len(answers)):
            try:
                answers[name].append(measure(name))
            except ChildFailedError as error:
                run.leave_out(result, name, error)
                del answers[name]
    return answers


def child(*arguments: object, interpreter: str | None = None) -> str:
    """Run `child.py` with this interpreter or another one, and return its output."""
    return fresh_process("-m", f"{__package__}.child", *map(str, arguments), interpreter=interpreter)


@figure("bytes")
def bytes_an_entry(run: Run) -> Figure:
    """Memory per entry without the keys and values."""
    size = run.settings.big
    result = Figure(
        "bytes an entry",
        f"Growth of the resident memory of a new process while {size:,} entries are stored in an LRU cache bounded to "
        "this number. Keys and values exist before, so only the memory of the cache itself counts.",
        unit="bytes",
    )
    for kind in ("str", "int"):
        condition = f"{kind} keys"
        names = [contestant.name for contestant in caches.EVERY]
        answers = children(
            run,
            result,
            condition,
            names,
            3,
            lambda name, kind=kind: child("bytes", name, size, kind),  # type: ignore[misc]
        )
        result.conditions[condition] = {name: Spread.of([float(x) for x in got]) for name, got in answers.items()}
        result.targets.append(Target(f"bytes an entry, {condition}", condition, 56, times=None))
    return result


@figure("growth")
def growth(run: Run) -> Figure:
    """The longest pause while a cache grows."""
    size = run.settings.grow
    result = Figure(
        "longest single insert while growing",
        f"A new process times each of {size:,} inserts of str keys into an unbounded cache. The longest insert counts. "
        f"{CLOCK_ALONE} shows the pauses of the machine itself. If the minimum over the processes is far below the "
        "median, the median contains such pauses.",
        unit="µs",
    )
    names = [CLOCK_ALONE, *(contestant.name for contestant in caches.UNBOUNDED)]
    answers = children(
        run,
        result,
        f"{size:,} inserts",
        names,
        run.settings.children,
        lambda name: child("growth", name, size),
    )
    median, least = "median of the longest", "least of the longest"
    spreads = {name: Spread.of([float(x) / 1_000 for x in got]) for name, got in answers.items()}
    result.conditions[median] = spreads
    result.conditions[least] = {name: Spread.of([min(spread.samples)]) for name, spread in spreads.items()}
    result.targets.append(Target("longest single insert, µs", median, 1_000, times=None))
    return result


@figure("import")
def import_time(run: Run) -> Figure:
    """The time of the first `import`."""
    result = Figure(
        "import",
        "The import statement in a new interpreter. All files are compiled and in the file cache.",
        unit="ms",
        reference="cachetools",
    )
    code = "from time import perf_counter_ns as c; s = c(); import {}; print(c() - s)"
    answers = children(
        run,
        result,
        "fresh interpreters",
        caches.MODULES,
        run.settings.processes + 1,
        lambda module: fresh_process("-c", code.format(module)),
    )
    result.conditions["first import"] = {
        module: Spread.of([int(x) / 1e6 for x in got[1:]]) for module, got in answers.items()
    }
    result.targets.append(Target("import, ms", "first import", 10, times=None, contestant="flexcache_rs"))
    return result
