"""Several processes with several threads use one directory for a while. All completed writes must be present."""

import pickle
import random
import subprocess
import sys
import threading
import time

from flexcache_rs.disk import Cache, FanoutCache

KEYS = 12


def value_of(chance, number):
    kind = chance.randrange(5)
    return [number, f"{number} " + "t" * chance.randrange(400), (number, b"b"), b"f" * 1500, [number] * 300][kind]


def thread(cache, name, seconds, done):
    """Write separate keys, and use shared ones. Reports the completed writes."""
    chance = random.Random(repr(name))
    own, counted, pushed, pulled, added = {}, 0, [], [], []
    until = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until:
        number += 1
        key = (*name, chance.randrange(KEYS))
        action = chance.randrange(12)
        if action < 4:
            value = value_of(chance, number)
            assert cache.set(key, value, retry=True, tag=name[0])
            own[key] = value
        elif action == 4:
            assert cache.delete(key, retry=True) == (key in own)
            own.pop(key, None)
        elif action == 5:
            assert cache.pop(key, default=None, retry=True) == own.pop(key, None)
        elif action == 6:
            assert cache.get(key, retry=True) == own.get(key), key
        elif action == 7:
            cache.incr("counter", retry=True)
            counted += 1
        elif action == 8:
            key = ("added", chance.randrange(2000))
            if cache.add(key, name, retry=True):
                added.append(key)
        elif not isinstance(cache, Cache):
            assert cache.get(key, retry=True) == own.get(key), key
        elif action == 9:
            value = (*name, number)
            cache.push(value, prefix="queue", retry=True)
            pushed.append(value)
        elif action == 10:
            _, value = cache.pull(prefix="queue", retry=True)
            pulled += [] if value is None else [value]
        else:
            with cache.transact(retry=True):
                for place in range(3):
                    own[(*name, place)] = (number, place)
                    cache.set((*name, place), (number, place))
    done.append((own, counted, pushed, pulled, added, number))


def opened(directory, kind):
    if kind == "fanout":
        return FanoutCache(directory, shards=4, timeout=10, disk_min_file_size=1000)
    return Cache(directory, disk_min_file_size=1000)


def process(directory, kind, number, threads, seconds):
    cache = opened(directory, kind)
    done = []
    running = [threading.Thread(target=thread, args=(cache, (number, own), seconds, done)) for own in range(threads)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    pickle.dump(done, sys.stdout.buffer)


def main(directory, kind, processes, threads, seconds):
    opened(directory, kind).close()
    command = [sys.executable, "-X", "faulthandler", __file__, directory, kind]
    children = [
        subprocess.Popen([*command, str(number), str(threads), str(seconds)], stdout=subprocess.PIPE)
        for number in range(processes)
    ]
    done = []
    for child in children:
        output, _ = child.communicate()
        assert child.returncode == 0
        done += pickle.loads(output)
    assert len(done) == processes * threads, "every thread came to its end"
    cache = opened(directory, kind)
    for own, *_ in done:
        for key, value in own.items():
            assert cache.get(key) == value, key
    assert cache.get("counter", 0) == sum(counted for _, counted, *_ in done)
    pushed, pulled, added = (sorted(item for parts in done for item in parts[place]) for place in (2, 3, 4))
    left = []
    while pushed:
        _, value = cache.pull(prefix="queue")
        if value is None:
            break
        left.append(value)
    assert sorted(pulled + left) == pushed, "each is pulled once"
    assert len(set(added)) == len(added), "each is added once"
    assert all(key in cache for key in added)
    expected = sum(len(own) for own, *_ in done) + len(added) + (cache.get("counter") is not None)
    assert len(cache) == len(list(cache)) == expected
    assert cache.check() == []
    print(f"done {sum(number for *_, number in done)}")


directory, kind, *numbers = sys.argv[1:]
if numbers[0] == "all":
    main(directory, kind, int(numbers[1]), int(numbers[2]), float(numbers[3]))
else:
    process(directory, kind, int(numbers[0]), int(numbers[1]), float(numbers[2]))
