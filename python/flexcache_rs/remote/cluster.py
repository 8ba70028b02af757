"""Commands to a cluster: each goes to the server that has its key."""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any

from flexcache_rs._threads import ForkSafeRLock
from flexcache_rs.remote.client import Client
from flexcache_rs.remote.errors import RemoteConnectionError, RemoteError, RemoteTimeoutError
from flexcache_rs.remote.failures import without_other_types
from flexcache_rs.remote.replies import array, unexpected

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Sequence

    from flexcache_rs.remote.given import Given

Address = tuple[str, int]
"""A host and a port."""

_SLOTS = 16384
_MOST_PORT = 65535

_MOST_REDIRECTIONS = 16
"""The largest number of redirections of one command. A cluster that moves a slot redirects a command once or twice."""

_PAUSE = 0.02
"""Seconds between two attempts while the cluster says to try again."""


def _primary(part: Any, asked: str) -> tuple[tuple[int, int], Address] | None:
    """Return a range of slots and its primary. None if it is not a part of a reply to `CLUSTER SLOTS`."""
    match part:
        case [int() as first, int() as last, [None | bytes() as name, int() as port, *_], *_]:
            try:
                host = (name or b"").decode()
            except UnicodeDecodeError:
                return None
            if 0 <= first <= last < _SLOTS and 0 <= port <= _MOST_PORT:
                # Without a host it is the host of the server that replied.
                return (first, last), (asked if host in ("", "?") else host, port)
        case _:
            pass
    return None


def addresses_in(slots: Any, asked: str) -> dict[tuple[int, int], Address]:
    """Parse the reply to `CLUSTER SLOTS`. Returns the primary of each range of slots, both ends included.

    Raises:
        RemoteError: It is another reply.
    """
    primaries: dict[tuple[int, int], Address] = {}
    for part in array("CLUSTER SLOTS", slots):
        found = _primary(part, asked)
        if found is None:
            raise unexpected("CLUSTER SLOTS", part)
        primaries[found[0]] = found[1]
    return primaries


class ClusterClient(Client):
    """Sends commands to the primaries of a cluster.

    A key and its companions have the same slot, see keys.py. No command has keys of several slots.
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
        self._learning = ForkSafeRLock()
        self.on_redirection: Callable[[Address], object] = lambda address: None  # noqa: ARG005
        """Called with the target address of a redirection, before the command is sent there."""
        self.on_primaries: Callable[[set[Address]], object] = lambda addresses: None  # noqa: ARG005
        """Called with all primaries, before commands are sent to new ones."""

    # The servers

    def node(self, address: Address) -> Client:
        """Return the client of one server."""
        found = self._nodes.get(address)
        if found is None:
            found = Client(self._given, self._timeout, self.name, address)
            found.when_out_of_step(self.out_of_step)
            found = self._nodes.setdefault(address, found)
            if self._is_closed:
                # For a call that outlasts it.
                found.close()
        return found

    def remapped(self, address: Address) -> Address:
        """Return the address under which this machine reaches a server."""
        return self._remap(address) if self._remap is not None else address

    def primaries(self) -> list[Address]:
        """Return the addresses of all servers that have slots."""
        self._ensure()
        return list(dict.fromkeys(self._owners))

    def _ensure(self) -> None:
        """Request the slots of all servers, if they are not known.

        Raises:
            RemoteConnectionError: No server replies.
        """
        if self._is_known:
            return
        with self._learning:
            if self._is_known:
                return
            errors: list[str] = []
            # Ask the server that failed last.
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

    def learn(self, slots: Any, asked: str) -> set[Address]:
        """Record a reply to `CLUSTER SLOTS`. Returns its primaries."""
        owners: list[Address | None] = [None] * _SLOTS
        for (first, last), address in addresses_in(slots, asked).items():
            owners[first : last + 1] = [self.remapped(address)] * (last + 1 - first)
        primaries = {owner for owner in owners if owner is not None}
        if not primaries:
            message = "the cluster has given its slots to no server"
            raise RemoteConnectionError(message)
        self.on_primaries(primaries)
        # Send commands about a slot without an owner to any server, whose error is then returned.
        self._owners = [owner or next(iter(primaries)) for owner in owners]
        self._is_known = True
        return primaries

    def _owner(self, command: Sequence[Any]) -> Address | None:
        """Return the server for a command, or None for a command without a key."""
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
        """Return a function that sends a command about a key from the event loop. A thread follows redirections."""
        return self.node(self._owners[self._slot_of(place)]).asker(place) if self._is_known else None

    def doubt(self, place: bytes) -> None:
        """Note that the server of a key timed out, because another server may have the key by now."""
        self._doubt(self._owners[self._slot_of(place)])

    def execute(self, *command: Any) -> Any:
        """Send one command to the server that has its key, and return its reply. See `Client.execute`."""
        (reply,) = self._follow([command], lambda node: [node.execute(*command)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _follow(self, commands: Sequence[Sequence[Any]], send: Callable[[Client], list[Any]]) -> list[Any]:
        """Send commands for one slot, and follow redirections."""
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
                if not isinstance(cause, kinds.AskError):  # MovedError is a subclass of it.
                    raise
                target = self.remapped((cause.host or address[0], int(cause.port)))
                self.on_redirection(target)
                if isinstance(cause, kinds.MovedError):
                    self._is_known = False
                    address = target
                    continue
                # Ask the server to which the slot is moving.
                replies = self.node(target).execute_many([("ASKING",), *commands])[1:]
                if not any(map(self._is_elsewhere, replies)) or time.monotonic() >= end:
                    return replies
                time.sleep(_PAUSE)
        message = f"the cluster sent a command on more than {_MOST_REDIRECTIONS} times"
        raise RemoteError(message)

    def _doubt(self, address: Address) -> None:
        """Note that a server timed out, because other servers may have its slots by now."""
        self._failed, self._is_known = address, False

    def execute_many(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send several commands at once, to each server those of its keys. See `Client.execute_many`.

        Commands between `MULTI` and `EXEC` go to one server. The order of commands to different servers is not kept.
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
        """Follow the redirection of a command, or of a transaction that was not executed."""

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
        """Send commands one after the other, each after the reply to the one before."""
        for command in commands:
            self.execute(*command)

    def values(self, places: Sequence[bytes]) -> list[bytes | None]:
        """What is in several places. Nothing where something of another type is, as with `MGET` on one server."""
        return without_other_types(self.execute_many([("GET", place) for place in places]))

    def servers(self) -> list[Client]:
        """Return the clients of all servers that have keys."""
        return [self.node(address) for address in self.primaries()]

    def drop(self) -> None:
        """Close all connections. See `Client`."""
        super().drop()
        for node in list(self._nodes.values()):
            node.drop()


def _blocks(commands: Sequence[Sequence[Any]]) -> list[range]:
    """Yield the ranges of commands that belong together: whole transactions, and other commands one by one."""
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
