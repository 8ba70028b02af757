"""Who holds a lock on a server: neither a forked child nor a caller that was cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.remote.locks import _Attempt

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.in_turn("engine", "lane")


def test_a_forked_child_does_not_hold_the_lock_of_its_parent(make: Callable[..., Any]) -> None:
    cache, other = make(), make()
    lock = cache.lock("name")
    assert lock.acquire()
    # As in a child, whose process is another one.
    lock._process -= 1
    assert (lock.renew(), lock.fence) == (False, None)
    lock._process -= 1
    assert not lock.acquire(timeout=0)
    assert not lock.release()
    assert not other.lock("name").acquire(timeout=0)


def test_the_caller_or_its_thread_gives_a_lock_back(make: Callable[..., Any]) -> None:
    """A caller that is cancelled gives it back if it sees the number of the holder. Otherwise the thread must do it."""
    lock = make().lock("name")
    seen: list[int] = []

    class Cancelled(_Attempt):
        @property
        def is_abandoned(self) -> bool:
            # As if the caller were cancelled just after the thread has looked.
            seen.append(self.fence)
            return False

        @is_abandoned.setter
        def is_abandoned(self, _: bool) -> None: ...

    assert lock._ask(Cancelled()) == 0
    assert seen == [1]
