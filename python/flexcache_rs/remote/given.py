"""The user's client as the source of connections.

A client of redis-py or valkey-py says how to connect: address, password, database, TLS. Connections are made of its
connection class, or the synchronous class of the same name, with its arguments. So its own settings for decoding,
timeouts and retries do not change what a cache does, and a client for asyncio serves threads and any number of event
loops.

What is used of the two packages beside their public names: `connection_pool.connection_class` and `connection_kwargs`,
and of a connection `_sock` and `pid`; of pools of Sentinel `sentinel_manager`, `service_name` and `is_master`, and of
Sentinel `_force_master_ip`; of clients of a cluster `nodes_manager.startup_nodes`, `connection_kwargs` and
`address_remap`.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import socket
from typing import TYPE_CHECKING, Any

from flexcache_rs._urls import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGES = ("redis", "valkey")

_OWN = frozenset(
    (
        *("retry", "retry_on_timeout", "retry_on_error", "socket_timeout", "socket_connect_timeout", "protocol"),
        *("decode_responses", "encoding_errors", "parser_class", "health_check_interval", "client_name", "cache"),
        *("connection_pool", "event_dispatcher", "maint_notifications_config", "maint_notifications_pool_handler"),
        *("oss_cluster_maint_notifications_handler", "legacy_responses", "command_packer", "himport_registry"),
        *("client_cache", "cache_enable", "cache_config"),
    )
)
"""Arguments of connections that a cache sets itself or leaves out."""

_SCHEMES = {"redis": "redis", "rediss": "redis", "valkey": "valkey", "valkeys": "valkey", "unix": ""}


def _of_url(url: str) -> Any:
    """Make a client for a URL.

    Raises:
        ValueError: The scheme is unknown.
        ImportError: Neither package is installed.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        # Do not show anything after the scheme, because it may contain a password.
        shown = repr(scheme) if separator and scheme.isidentifier() else "what was given"
        message = f"a URL must begin with one of {', '.join(f'{name}://' for name in _SCHEMES)}, unlike {shown}"
        raise ValueError(message)
    preferred = _SCHEMES[scheme]
    for name in sorted(_PACKAGES, key=lambda name: name != preferred):
        try:
            package = importlib.import_module(name)
        except ImportError:
            continue
        own = scheme
        if preferred and preferred != name:
            own = name + scheme[len(preferred) :]
        client = package.Redis if name == "redis" else package.Valkey
        try:
            return client.from_url(f"{own}://{rest}")
        except ValueError as error:
            if str(error).startswith("Invalid value for"):
                raise
            # Do not show the original message, which repeats a part of the URL, possibly of the password.
            raise ValueError(UNREADABLE) from None
    message = "a URL needs the package redis or valkey: pip install 'flexcache-rs[remote]'"
    raise ImportError(message)


def _package_of(classes: tuple[type[Any], ...]) -> str | None:
    for class_ in classes:
        root = class_.__module__.partition(".")[0]
        if root in _PACKAGES:
            return root
    return None


def _refuse(client: Any, pool: Any) -> None:
    """Refuse clients whose reads would not be coherent.

    Raises:
        ValueError: The client reads from replicas, or has its own cache.
    """
    if not getattr(pool, "is_master", True):
        message = "client must not read from replicas: use Sentinel.master_for() instead of slave_for()"
        raise ValueError(message)
    for name in ("read_from_replicas", "load_balancing_strategy"):
        if getattr(client, name, None):
            message = f"client must not read from replicas: leave out its argument {name!r}"
            raise ValueError(message)
    arguments: Mapping[str, Any] = getattr(pool, "connection_kwargs", {})
    for name in ("cache", "cache_config", "client_cache", "cache_enable", "_cache"):
        if getattr(pool, name, None) or arguments.get(name):
            named = "cache_config" if name in ("cache", "_cache") else name
            message = f"client must not have a cache of its own: leave out its argument {named!r}"
            raise ValueError(message)


def _accepted(class_: type[Any]) -> set[str]:
    """Return the arguments of a connection class and of its base classes."""
    names: set[str] = set()
    for base in class_.__mro__:
        if "__init__" in vars(base) and base is not object:
            names.update(inspect.signature(vars(base)["__init__"]).parameters)
    return names


class Given:
    """The client that the user passed, and the arguments of its connections.

    Args:
        client: A URL, or a client of redis-py or valkey-py.

    Raises:
        TypeError: The argument is not a client.
        ValueError: The client cannot be used.
    """

    def __init__(self, client: Any) -> None:
        if isinstance(client, str):
            client = _of_url(client)
        self.client = client
        cluster: Any = getattr(client, "nodes_manager", None)
        pool: Any = getattr(client, "connection_pool", None)
        of: Any = type(client)  # pyright: ignore[reportUnknownVariableType]
        class_: Any = getattr(pool, "connection_class", of)
        package = _package_of((*of.__mro__, *class_.__mro__))
        if package is None or (cluster is None and not hasattr(pool, "connection_kwargs")):
            message = f"client must be a URL or a client of redis-py or valkey-py, not {of.__name__}"
            raise TypeError(message)
        self.package = package
        self.module: Any = importlib.import_module(package)
        """The package of the client."""
        _refuse(client, pool if cluster is None else cluster)
        self.manager: Any = cluster
        """The node manager of a cluster client, or None for any other client."""
        self.sentinel: Any = getattr(pool, "sentinel_manager", None)
        """The Sentinel client, or None for any other client."""
        self.service: Any = getattr(pool, "service_name", None)
        """The name by which Sentinel knows the server."""
        self.most: Any = getattr(pool, "max_connections", None)
        """The largest number of connections at a time."""
        if cluster is not None:
            self.connection_class, self.arguments = self._plain(
                getattr(client, "connection_kwargs", None) or cluster.connection_kwargs
            )
        elif self.sentinel is not None:
            self.connection_class, self.arguments = self._plain(
                {**pool.connection_kwargs, "ssl": "SSL" in class_.__name__}
            )
        else:
            self.connection_class, self.arguments = self.synchronous(class_, pool.connection_kwargs)

    def _plain(self, given: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return the class of connections to a server of a cluster, and their arguments without the address."""
        is_encrypted = given.get("ssl") or "SSL" in getattr(given.get("connection_class"), "__name__", "")
        class_: Any = self.module.connection.SSLConnection if is_encrypted else self.module.Connection
        # A cluster client's connect function belongs to that client.
        left_out = {"host", "port", "redis_connect_func", "valkey_connect_func"}
        return self.synchronous(class_, {name: value for name, value in given.items() if name not in left_out})

    def synchronous(self, class_: Any, given: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return the synchronous connection class, and its arguments except those that a cache sets itself."""
        arguments = {name: value for name, value in given.items() if name not in _OWN}
        if ".asyncio." in class_.__module__:
            twin = getattr(self.module.connection, class_.__name__, None)
            if twin is None:
                message = f"client has connections of the class {class_.__name__}, which only asyncio has"
                raise ValueError(message)
            class_ = twin
            # The user's connect function expects a connection of asyncio.
            arguments.pop("redis_connect_func", None)
            arguments.pop("valkey_connect_func", None)
        accepted = _accepted(class_)
        # Do not send the library's name and version: for each new connection the package would read its own metadata.
        unsaid = ("driver_info",) if "driver_info" in accepted else ("lib_name", "lib_version")
        arguments = {**dict.fromkeys(unsaid), **arguments}
        return class_, {name: value for name, value in arguments.items() if name in accepted}

    def timed(self, timeout: float) -> dict[str, Any]:
        """Return the arguments of connections that a cache sets itself."""
        no_retry = importlib.import_module(f"{self.package}.backoff").NoBackoff()
        return {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "retry": importlib.import_module(f"{self.package}.retry").Retry(no_retry, 0),
            "protocol": 2,
        }


def shut_down(sock: socket.socket) -> None:
    """Shut a socket down. Any thread may call this, and the thread that uses the socket gets an error."""
    # The socket may be closed by now. Do not use the method of TLS sockets, which would then return encrypted bytes.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
