"""Executes requests on caches on disk, with one of two libraries: `ours` or `theirs` (python-diskcache).

It reads pickled requests and writes pickled replies: ("returned", repr) or ("raised", name of the class, text). Two
SQLite libraries must not open one directory in the same process, so a test uses a process for each.
"""

import contextlib
import io
import os
import pickle
import sys
import time

if sys.argv[1] == "ours":
    import flexcache_rs.disk as library
else:
    import diskcache as library

requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # Output must not look like a reply.

objects = {}
transactions = contextlib.ExitStack()
clock = 0.0
real_time = time.time


def plain(result):
    """Convert a result to a comparable form: the contents of open files, the items of iterators."""
    if isinstance(result, tuple):
        return tuple(plain(part) for part in result)
    if isinstance(result, io.IOBase):
        with result:
            return ("file", result.read())
    if hasattr(result, "__next__"):
        return list(result)
    if isinstance(result, list) and result and all(hasattr(found, "category") for found in result):
        return sorted(f"{found.category.__name__}: {found.message}" for found in result)
    return result


def find(path):
    """Return an object, or an attribute of one, such as "cache.disk"."""
    name, *attributes = path.split(".")
    found = objects[name]
    for attribute in attributes:
        found = getattr(found, attribute)
    return found


def make(name, kind, args, kwargs):
    """Make an object of a class of the library. Classes and objects among the arguments are passed by name."""
    given = {
        key: getattr(library, value[1:]) if isinstance(value, str) and value[:1] == "@" else value
        for key, value in kwargs.items()
    }
    args = [objects[value[1:]] if isinstance(value, str) and value[:1] == "@" else value for value in args]
    factory = library
    for part in kind.split("."):
        factory = getattr(factory, part)
    objects[name] = factory(*args, **given)


def call(path, method, args, kwargs):
    """Call a method by its name."""
    result = plain(getattr(find(path), method)(*args, **kwargs))
    return None if method in ("__setitem__", "__delitem__") else result


def attribute(path):
    return plain(find(path))


def memoized(name, /, *args, **options):
    """Memoize a function that all these processes have, and call it."""

    def area(width, height=1, **more):
        calls.append((width, height))
        return width * height

    area.__module__, area.__qualname__ = "shapes", "area"
    calls = []
    given, named = options.pop("given"), options.pop("named")
    decorated = objects[name].memoize(*args, **options)(area)
    return decorated(*given, **named), calls, decorated.__cache_key__(*given, **named)


def repeat(name, rounds, number):
    """Count, and write, read and delete keys of all kinds, while other processes do the same."""
    cache = objects[name]
    wrong = []
    for step in range(rounds):
        cache.incr("counter", retry=True)
        key = [f"key {step % 7}", step % 7, (step % 7, "tuple"), b"bytes %d" % (step % 7)][step % 4]
        value = [f"text {key}", b"binary" * 50, "long " * 40, [key, number], step][step % 5]
        cache.set(key, (key, value) if step % 2 else value, retry=True)
        found = cache.get(key)
        if isinstance(found, tuple) and found[0] != key:
            wrong.append((key, found))
        if step % 9 == 0:
            cache.delete(key, retry=True)
        if step % 11 == 0:
            cache.add((number, step), step, retry=True)
    return wrong


def enter(name):
    manager = objects[name].transact(**({"retry": True} if hasattr(objects[name], "incr") else {}))
    stack = contextlib.ExitStack()
    stack.enter_context(manager)
    transactions.push(stack)
    objects.setdefault("transactions of " + name, []).append(stack)


def leave(name, fails):
    stack = objects["transactions of " + name].pop()
    if not fails:
        stack.close()
        return
    with contextlib.suppress(LookupError), stack:
        raise LookupError


def set_clock(now):
    time.time = real_time if now is None else lambda: now


def forget():
    """Close everything."""
    for found in objects.values():
        if isinstance(found, (library.Cache, library.FanoutCache)):
            found.close()
        elif hasattr(found, "cache") and not callable(found.cache):
            found.cache.close()
    objects.clear()


COMMANDS = {
    command.__name__: command for command in (make, call, attribute, memoized, repeat, enter, leave, set_clock, forget)
}

while True:
    try:
        name, args, kwargs = pickle.load(requests)
    except EOFError:
        break
    try:
        answer = ("returned", repr(COMMANDS[name](*args, **kwargs)))
    except Exception as error:
        answer = ("raised", type(error).__name__, str(error))
    pickle.dump(answer, answers)
    answers.flush()
