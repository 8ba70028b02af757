"""Commands to a cluster: each goes to the server that has its key."""

from __future__ import annotations

import importlib
import threading
import time
from typing import TYPE_CHECKING, Any

from flexcache_rs.remote.client import Client
from flexcache_rs.remote.errors import RemoteConnectionError, RemoteError, RemoteTimeoutError
from flexcache_rs.remote.failures import without_other_types

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Iterable, Sequence

    from flexcache_rs.remote.given import Given

Address = tuple[str, int]
"""A host and a port."""

_SLOTS = 16384

_MOST_REDIRECTIONS = 16
"""Of one command: a cluster that moves a slot sends a command on once or twice."""

_PAUSE = 0.02
"""Seconds between two attempts while the cluster says to try again."""


def addresses_in(slots: Iterable[Any], asked: str) -> dict[tuple[int, int], Address]:
    """What `CLUSTER SLOTS` says: which primary has which slots, both ends included."""
    primaries: dict[tuple[int, int], Address] = {}
    for first, last, primary, *_ in slots:
        host = primary[0].decode() if isinstance(primary[0], bytes) else primary[0]
        # Without a name it is the server that was asked, or one of the same address.
        primaries[int(first), int(last)] = (host if host not in (None, "", "?") else asked), int(primary[1])
    return primaries


class ClusterClient(Client):
    """Commands to the primaries of a cluster.

    Keys and their companions have one slot, as keys.py has it. Commands with keys of several slots are not sent.
    """

    is_divided = True

    def __init__(self, given: Given, timeout: float, name: str) -> None:
        super().__init__(given, timeout, name)
        self._slot_of: Callable[[bytes], int] = importlib.import_module(f"{given.package}.crc").key_slot
        self._remap: Callable[[Address], Address] | None = getattr(given.manager, "address_remap", None)
        self._startup = [(str(node.host), int(node.port)) for node in given.manager.startup_nodes.values()]
        self._nodes: dict[Address, Client] = {}
        self._owners: list[Address] = []
        self._is_known = False
        self._failed: Address | None = None
        self._learning = threading.RLock()
        self.on_redirection: Callable[[Address], object] = lambda address: None  # noqa: ARG005
        """Called with the address that a command was sent on to, before it is sent there."""
        self.on_primaries: Callable[[set[Address]], object] = lambda addresses: None  # noqa: ARG005
        """Called with all primaries, before commands are sent to those that are new."""

    def after_fork(self) -> None:
        """Start over in a child. A thread of the parent may have held the lock."""
        self._learning = threading.RLock()

    # Where things are

    def node(self, address: Address) -> Client:
        """The client of one server."""
        found = self._nodes.get(address)
        if found is None:
            found = self._nodes.setdefault(address, Client(self._given, self._timeout, self.name, address))
            if self._is_closed:
                # For a call that outlasts it.
                found.close()
        return found

    def remapped(self, address: Address) -> Address:
        """An address as this machine reaches it."""
        return self._remap(address) if self._remap is not None else address

    def primaries(self) -> list[Address]:
        """The addresses of all servers that have slots."""
        self._ensure()
        return list(dict.fromkeys(self._owners))

    def _ensure(self) -> None:
        """Learn which server has which slots, if that is not known.

        Raises:
            RemoteConnectionError: No server says so.
        """
        if self._is_known:
            return
        with self._learning:
            if self._is_known:
                return
            errors: list[str] = []
            # The one that did not answer comes last.
            known = dict.fromkeys((*self._owners, *self._startup))
            for address in sorted(known, key=lambda address: address == self._failed):
                try:
                    self.learn(self.node(address).execute("CLUSTER", "SLOTS"), address[0])
                except (RemoteError, ValueError, TypeError) as error:  # noqa: PERF203  # The next one is asked.
                    errors.append(f"{address[0]}:{address[1]}: {error}")
                else:
                    return
            message = f"no server of the cluster says which of them has which keys: {'; '.join(errors)}"
            raise RemoteConnectionError(message)

    def learn(self, slots: Iterable[Any], asked: str) -> set[Address]:
        """Note what a server answered to `CLUSTER SLOTS`. The primaries in it."""
        owners: list[Address | None] = [None] * _SLOTS
        for (first, last), address in addresses_in(slots, asked).items():
            owners[first : last + 1] = [self.remapped(address)] * (last + 1 - first)
        primaries = {owner for owner in owners if owner is not None}
        if not primaries:
            message = "the cluster has given its slots to no server"
            raise RemoteConnectionError(message)
        self.on_primaries(primaries)
        # One that is nobody's is asked of any server, which says what it thinks of it.
        self._owners = [owner or next(iter(primaries)) for owner in owners]
        self._is_known = True
        return primaries

    def _owner(self, command: Sequence[Any]) -> Address | None:
        """The server that a command goes to; None for one without a key."""
        name = command[0]
        if name in ("EVAL", "EVALSHA"):
            key = command[3]
        elif len(command) > 1 and name not in ("SCAN", "TIME", "MULTI", "EXEC"):
            key = command[1]
        else:
            return None
        return self._owners[self._slot_of(key if isinstance(key, bytes) else str(key).encode())]

    # Commands

    def asker(self, place: bytes) -> Callable[..., Future[Any]] | None:
        """What sends a command about a place from the running event loop. A thread follows redirections."""
        return self.node(self._owners[self._slot_of(place)]).asker(place) if self._is_known else None

    def doubt(self, place: bytes) -> None:
        """The server of a place did not answer in time: another may have it by now."""
        self._doubt(self._owners[self._slot_of(place)])

    def execute(self, *command: Any) -> Any:
        """Send one command to the server that has its key, and return its reply. See `Client.execute`."""
        (reply,) = self._follow([command], lambda node: [node.execute(*command)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _follow(self, commands: Sequence[Sequence[Any]], send: Callable[[Client], list[Any]]) -> list[Any]:
        """Send commands for one slot, and follow where the cluster sends them on to."""
        self._ensure()
        address = next(filter(None, map(self._owner, commands)), None) or self._owners[0]
        end = time.monotonic() + self._timeout
        for _ in range(_MOST_REDIRECTIONS):
            try:
                return send(self.node(address))
            except (RemoteConnectionError, RemoteTimeoutError):  # noqa: PERF203
                self._doubt(address)
                raise
            except RemoteError as error:
                cause: Any = error.__cause__
                kinds = self.exceptions
                if isinstance(cause, (kinds.TryAgainError, kinds.ClusterDownError)) and time.monotonic() < end:
                    time.sleep(_PAUSE)
                    self._is_known = False
                    self._ensure()
                    continue
                if not isinstance(cause, kinds.AskError):  # MovedError is one.
                    raise
                target = self.remapped((cause.host or address[0], int(cause.port)))
                self.on_redirection(target)
                if isinstance(cause, kinds.MovedError):
                    self._is_known = False
                    address = target
                    continue
                # The server that the slot is moving to.
                replies = self.node(target).execute_many([("ASKING",), *commands])[1:]
                if not any(map(self._is_elsewhere, replies)) or time.monotonic() >= end:
                    return replies
                time.sleep(_PAUSE)
        message = f"the cluster sent a command on more than {_MOST_REDIRECTIONS} times"
        raise RemoteError(message)

    def _doubt(self, address: Address) -> None:
        """A server does not answer: another may have its slots by now."""
        self._failed, self._is_known = address, False

    def execute_many(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send several commands at a time, to each server those of its keys. See `Client.execute_many`.

        What is between `MULTI` and `EXEC` goes to one server. The order of commands to several servers is not kept.
        """
        if not commands:
            return []
        self._ensure()
        replies: list[Any] = [None] * len(commands)
        groups: dict[Address, list[range]] = {}
        for block in _blocks(commands):
            owner = next(filter(None, (self._owner(commands[at]) for at in block)), None)
            groups.setdefault(owner or self._owners[0], []).append(block)
        again: list[range] = []
        for address, blocks in groups.items():
            order = [at for block in blocks for at in block]
            try:
                answered = self.node(address).execute_many([commands[at] for at in order])
            except (RemoteConnectionError, RemoteTimeoutError):
                self._doubt(address)
                raise
            for at, reply in zip(order, answered, strict=True):
                replies[at] = reply
            again += [block for block in blocks if any(map(self._is_elsewhere, replies[block.start : block.stop]))]
        for block in again:
            replies[block.start : block.stop] = self._once_more([commands[at] for at in block])
        return replies

    def _is_elsewhere(self, reply: Any) -> bool:
        kinds = self.exceptions
        cause = reply.__cause__ if isinstance(reply, RemoteError) else None
        return isinstance(cause, (kinds.AskError, kinds.TryAgainError, kinds.ClusterDownError))

    def _once_more(self, block: Sequence[Sequence[Any]]) -> list[Any]:
        """Send a command, or a transaction of which nothing was executed, to where the cluster says."""

        def send(node: Client) -> list[Any]:
            replies = node.execute_many(block)
            for reply in replies:
                if self._is_elsewhere(reply):
                    raise reply
            return replies

        try:
            return self._follow(block, send)
        except (RemoteConnectionError, RemoteTimeoutError):
            raise
        except RemoteError as error:
            return [error] * len(block)

    def in_order(self, commands: Sequence[Sequence[Any]]) -> None:
        """Send commands, each after the one before was executed."""
        for command in commands:
            self.execute(*command)

    def values(self, places: Sequence[bytes]) -> list[bytes | None]:
        """What is in several places. Nothing where something of another type is, as with `MGET` on one server."""
        return without_other_types(self.execute_many([("GET", place) for place in places]))

    def servers(self) -> list[Client]:
        """The clients of all servers that have keys."""
        return [self.node(address) for address in self.primaries()]

    def close(self) -> None:
        """Close all connections."""
        super().close()
        for node in list(self._nodes.values()):
            node.close()


def _blocks(commands: Sequence[Sequence[Any]]) -> list[range]:
    """The places of commands that belong together: transactions, and any other by itself."""
    blocks: list[range] = []
    start: int | None = None
    for at, command in enumerate(commands):
        if command[0] == "MULTI":
            start = at
        elif command[0] == "EXEC" and start is not None:
            blocks.append(range(start, at + 1))
            start = None
        elif start is None:
            blocks.append(range(at, at + 1))
    return blocks
