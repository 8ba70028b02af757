"""A process that uses the same store as the test, and executes requests.

`OtherProcess` is the test's end. Requests and replies are pickled through pipes, so that the test knows when each
request is done.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import store_remote
from waiting import stop

if TYPE_CHECKING:
    from store_kinds import Kind


class OtherProcess:
    """A process that is kept alive and uses one store at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._opened: tuple[str, str] | None = None

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            command = [sys.executable, "-X", "faulthandler", __file__]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            if self._opened is not None:
                self.ask("open", *self._opened)
        return self._process

    def begin(self, name: str, /, *args: Any) -> None:
        """Send a request, whose reply `end` reads."""
        process = self._start()
        assert process.stdin is not None
        pickle.dump((name, args), process.stdin)
        process.stdin.flush()

    def end(self) -> Any:
        """Return the result of a request, or raise its exception."""
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            answer, result = pickle.load(self._process.stdout)
        except BaseException:
            # The next request must not get the unread reply of this one.
            self.kill()
            raise
        # Wait until this process has received the announcements of the other one's writes.
        store_remote.hear()
        if answer == "raised":
            raise result
        return result

    def ask(self, name: str, /, *args: Any) -> Any:
        """Send a request and wait for its end."""
        self.begin(name, *args)
        return self.end()

    def open(self, kind: Kind, directory: Path) -> None:
        """Open the store in a directory instead of the previous one. After a kill, a new process opens it again."""
        self._opened = kind.name, str(directory)
        if self._process is not None:
            self.ask("open", *self._opened)

    def release(self) -> None:
        """Let the process close its store, if it runs."""
        if self._process is not None:
            self.ask("close")

    def pause(self) -> None:
        """Suspend the process until `go_on`."""
        assert self._process is not None
        stop(self._process.pid)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process. The next request starts another one."""
        if self._process is not None:
            self._process.kill()
            self.stop()

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            with self._process as process:
                assert process.stdin is not None
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
                process.wait(30)
            self._process = None


class Served:
    """The state of the process. Its public methods are the requests."""

    def __init__(self) -> None:
        self.kind: Any = None
        self.store: Any = None
        self.front: Any = None
        self.transactions: list[Any] = []

    def open(self, name: str, directory: str) -> None:
        from store_kinds import by_name

        self.close()
        self.kind = by_name(name)
        self.store = self.kind.make(Path(directory))
        self.front = self.kind.front(self.store)

    def close(self) -> None:
        while self.transactions:
            self.roll_back()
        if self.kind is not None:
            self.kind.close(self.store)

    def load(self, key: Any, ends: str, directory: str, lease: float) -> Any:
        """Compute the value of a key. Creates a file `begun` in a directory, and waits for a file `go` there."""
        from store_loads import Slow

        slow = Slow(Path(directory), ends)
        front = self.kind.front(self.store, lease=lease)
        if ends == "cancelled":
            return slow.be_cancelled(front, key)
        if isinstance(key, list):
            # Only the innermost computation is slow.
            *others, last = key
            compute: Any = functools.partial(front.get_or_set, last, slow)
            for one in others:
                compute = functools.partial(front.get_or_set, one, compute)
            return compute()
        value = front.get_or_set(key, slow)
        if value == "the child's":
            (Path(directory) / "child").touch()
            os._exit(0)
        return value

    def load_both(self, key: Any, needed: Any, directory: str, lease: float) -> str:
        """Compute the value of a key, which needs the value of another key."""
        from store_loads import Slow

        front, slow = self.kind.front(self.store, lease=lease, lease_wait=lease), Slow(Path(directory))
        return str(front.get_or_set(key, lambda: slow() + ", " + front.get_or_set(needed, lambda: "for themselves")))

    def do(self, module: str, table: str, name: str) -> None:
        """Call a function of a table of functions, with the kind and the store."""
        getattr(importlib.import_module(module), table)[name](self.kind, self.store)

    def read(self, key: Any) -> tuple[Any, Any]:
        """Return the values of a key in the cache and in the store."""
        return self.front.get(key), self.store.get(key)

    def read_many(self, keys: list[Any]) -> list[Any]:
        """Return the values of keys in the cache."""
        return [self.front.get(key) for key in keys]

    def write(self, key: Any, value: Any) -> None:
        self.kind.write(self.store, key, value)

    def put(self, key: Any, value: Any) -> None:
        """Store a value through this process's cache in memory."""
        self.front.put(key, value)

    def erase(self, key: Any) -> bool:
        return bool(self.kind.erase(self.store, key))

    def wipe(self) -> None:
        self.kind.wipe(self.store)

    def enter(self) -> None:
        transaction = self.kind.transaction(self.store)
        transaction.__enter__()
        self.transactions.append(transaction)

    def commit(self) -> None:
        self.transactions.pop().__exit__(None, None, None)

    def roll_back(self) -> None:
        error = ZeroDivisionError()
        with contextlib.suppress(ZeroDivisionError):
            self.transactions.pop().__exit__(ZeroDivisionError, error, None)

    def copy(self, directory: str, to: str) -> None:
        """Copy the files of a directory. It must not be open in this process: closing a file drops its locks."""
        shutil.copytree(directory, to)

    def restore(self, backup: str, directory: str) -> None:
        """Replace the database of a directory by that of a copy, as backup programs do."""
        for database in Path(backup).rglob("cache.db"):
            place = Path(directory) / database.relative_to(backup)
            for name in ("cache.db-wal", "cache.db-shm", "cache.db-journal"):
                place.with_name(name).unlink(missing_ok=True)
            incoming = place.with_name("cache.db.incoming")
            shutil.copy(database, incoming)
            incoming.replace(place)

    def fork_and_write(self, key: Any, value: Any) -> int:
        """Fork a child, which writes. Returns the exit status of the child."""
        child = os.fork()
        if child == 0:
            try:
                self.kind.write(self.store, key, value)
                os._exit(0)
            finally:
                os._exit(1)
        return os.waitpid(child, 0)[1]

    def put_without_room(self, key: Any, value: Any) -> tuple[str, Any, Any]:
        """Store while no file may grow. Returns the exception, and the values in the cache and the store afterwards."""
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        raised = "nothing"
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
        try:
            self.front.put(key, value)
        except Exception as error:
            raised = type(error).__name__
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        return raised, self.front.get(key), self.store.get(key)


def main() -> None:
    """Execute requests until there are no more."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # Output must not look like a reply.
    served = Served()
    while True:
        try:
            name, args = pickle.load(requests)
        except EOFError:
            served.close()
            return
        try:
            store_remote.hear()
            answer = "returned", getattr(served, name)(*args)
        except Exception as error:
            answer = "raised", error
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
