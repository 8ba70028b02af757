"""The user's client as the source of connections, and commands over them.

A client of redis-py or valkey-py says how to connect: address, password, database, TLS. Connections are made of its
connection class, or the synchronous class of the same name, with its arguments. So its own settings for decoding,
timeouts and retries do not change what a cache does, and a client for asyncio serves threads and any number of event
loops.

What is used of the two packages beside their public names: `connection_pool.connection_class`,
`connection_pool.connection_kwargs`, and of a connection `_sock`.
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from flexcache_rs.remote.errors import RemoteConnectionError, RemoteError, RemoteTimeoutError
from flexcache_rs.remote.resp import command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

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
"""Arguments of connections that a cache sets itself, or leaves out."""

_SCHEMES = {"redis": "redis", "rediss": "redis", "valkey": "valkey", "valkeys": "valkey", "unix": ""}


def _of_url(url: str) -> Any:
    """A client for a URL.

    Raises:
        ValueError: The scheme is unknown.
        ImportError: Neither package is installed.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        message = f"a URL must begin with one of {', '.join(f'{name}://' for name in _SCHEMES)}, unlike {scheme!r}"
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
        return client.from_url(f"{own}://{rest}")
    message = "a URL needs the package redis or valkey: pip install 'flexcache-rs[remote]'"
    raise ImportError(message)


def _package_of(classes: tuple[type[Any], ...]) -> str | None:
    for class_ in classes:
        root = class_.__module__.partition(".")[0]
        if root in _PACKAGES:
            return root
    return None


def _refuse(client: Any, package: str | None) -> None:
    """Refuses clients whose reads would not be coherent, and those that are not supported.

    Raises:
        TypeError: It is no client.
        ValueError: It is one that cannot be used.
    """
    if package is not None and hasattr(client, "nodes_manager"):
        message = "client must be of one server: a cluster's client is not supported yet. Give a RemoteCache one server"
        raise ValueError(message)
    pool: Any = getattr(client, "connection_pool", None)
    if package is None or not hasattr(pool, "connection_class") or not hasattr(pool, "connection_kwargs"):
        message = f"client must be a URL or a client of redis-py or valkey-py, not {type(client).__name__}"
        raise TypeError(message)
    if hasattr(pool, "sentinel_manager"):
        if not pool.is_master:
            message = "client must not read from replicas: use Sentinel.master_for() instead of slave_for()"
            raise ValueError(message)
        message = "client must be of one server: a client of Sentinel is not supported yet"
        raise ValueError(message)
    arguments = pool.connection_kwargs
    for name in ("cache", "cache_config", "client_cache", "cache_enable"):
        if getattr(pool, name, None) or arguments.get(name):
            named = "cache_config" if name == "cache" else name
            message = f"client must not have a cache of its own: leave out its argument {named!r}"
            raise ValueError(message)


def _accepted(class_: type[Any]) -> set[str]:
    """The arguments of a connection class and of those that it inherits from."""
    names: set[str] = set()
    for base in class_.__mro__:
        if "__init__" in vars(base) and base is not object:
            names.update(inspect.signature(vars(base)["__init__"]).parameters)
    return names


class Client:
    """Commands to one server, over connections made as those of the user's client.

    Args:
        given: A URL, or a client of redis-py or valkey-py.
        timeout: How many seconds a command or a connection attempt may take.
        name: What the connections are called in `CLIENT LIST`.
    """

    def __init__(self, given: Any, timeout: float, name: str) -> None:
        if isinstance(given, str):
            given = _of_url(given)
        pool: Any = getattr(given, "connection_pool", None)
        of: Any = type(given)  # pyright: ignore[reportUnknownVariableType]
        class_: Any = getattr(pool, "connection_class", of)
        package = _package_of((*of.__mro__, *class_.__mro__))
        _refuse(given, package)
        assert package is not None
        self.given, self.name = given, name
        module: ModuleType = importlib.import_module(package)
        arguments = {name: value for name, value in pool.connection_kwargs.items() if name not in _OWN}
        if ".asyncio." in class_.__module__:
            twin = getattr(module.connection, class_.__name__, None)
            if twin is None:
                message = f"client has connections of the class {class_.__name__}, which only asyncio has"
                raise ValueError(message)
            class_ = twin
            # It is called with a connection of asyncio.
            arguments.pop("redis_connect_func", None)
            arguments.pop("valkey_connect_func", None)
        accepted = _accepted(class_)
        # Said to the server by each new connection, for which the package looks into its own metadata.
        unsaid = ("driver_info",) if "driver_info" in accepted else ("lib_name", "lib_version")
        arguments = {**dict.fromkeys(unsaid), **arguments}
        arguments = {name: value for name, value in arguments.items() if name in accepted}
        retry = importlib.import_module(f"{package}.retry").Retry(
            importlib.import_module(f"{package}.backoff").NoBackoff(), 0
        )
        arguments |= {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "client_name": name,
            "retry": retry,
            "protocol": 2,
        }
        self.exceptions: Any = importlib.import_module(f"{package}.exceptions")
        self._class, self._arguments = class_, arguments
        self._pool = self._make_pool(module, pool)
        # What get_connection() takes differs between the packages.
        parameters = list(inspect.signature(self._pool.get_connection).parameters.values())
        needs_name = parameters and parameters[0].default is inspect.Parameter.empty
        self._get = (lambda: self._pool.get_connection("_")) if needs_name else self._pool.get_connection

    def _make_pool(self, module: Any, given: Any) -> Any:
        most = getattr(given, "max_connections", None)
        return module.ConnectionPool(connection_class=self._class, max_connections=most, **self._arguments)

    def connect(self, timeout: float) -> Any:
        """A connection of its own, which nobody else uses."""
        connection = self._class(**{**self._arguments, "socket_timeout": timeout})
        try:
            connection.connect()
        except Exception as error:
            connection.disconnect()
            raise self.translated(error) from error
        return connection

    def translated(self, error: Exception) -> Exception:
        """The error of the package as one of ours; others as they are."""
        kinds = self.exceptions
        text = str(error) or type(error).__name__
        if isinstance(error, (kinds.TimeoutError, TimeoutError)):
            return RemoteTimeoutError(f"the server did not answer in time: {text}")
        if isinstance(error, kinds.AuthenticationError):
            return RemoteError(f"the server refused the password: {text}")
        if isinstance(error, kinds.ConnectionError):
            return RemoteConnectionError(f"no connection to the server: {text}")
        if isinstance(error, kinds.ResponseError):
            return RemoteError(f"the server refused a command: {text}")
        if isinstance(error, kinds.RedisError if hasattr(kinds, "RedisError") else kinds.ValkeyError):
            return RemoteError(text)
        if isinstance(error, OSError):
            return RemoteConnectionError(f"no connection to the server: {text}")
        return error

    def execute(self, *command: Any) -> Any:
        """Send one command and return its reply.

        Raises:
            RemoteError: It was refused, not answered in time, or the connection was lost.
        """
        try:
            connection = self._get()
            try:
                connection.send_command(*command)
                return connection.read_response()
            except self.exceptions.ResponseError:
                raise
            except BaseException:
                # Also where a handler of a signal raised: a reply that was not read must not be taken for another's.
                connection.disconnect()
                raise
            finally:
                self._pool.release(connection)
        except Exception as error:
            raise self.translated(error) from error

    def execute_many(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send several commands at a time and return their replies, an exception for each that was refused.

        Raises:
            RemoteError: They were not answered in time, or the connection was lost.
        """
        if not commands:
            return []
        try:
            connection = self._get()
        except Exception as error:
            raise self.translated(error) from error
        try:
            return self.exchange(connection, commands)
        finally:
            self._pool.release(connection)

    def exchange(self, connection: Any, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The same as `execute_many`, over a connection of the caller's. After an error it is disconnected."""
        replies: list[Any] = []
        try:
            try:
                # Not packed by hiredis, which crashes where a handler of a signal raises meanwhile.
                connection.send_packed_command([b"".join(command(*parts) for parts in commands)])
                for _ in commands:
                    try:
                        replies.append(connection.read_response())
                    except self.exceptions.ResponseError as error:  # noqa: PERF203  # The others are answered too.
                        refused = self.translated(error)
                        refused.__cause__ = error
                        replies.append(refused)
            except BaseException:
                # Replies that were not read must not be taken for those to other commands.
                connection.disconnect()
                raise
        except Exception as error:
            raise self.translated(error) from error
        return replies

    def transaction(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands that the server executes without others in between."""
        *_, replies = self.execute_many([("MULTI",), *commands, ("EXEC",)])
        if isinstance(replies, Exception):
            raise replies
        for reply in replies:
            if isinstance(reply, Exception):
                raise self.translated(reply) from reply
        result: list[Any] = replies
        return result

    def close(self) -> None:
        """Close all connections."""
        self._pool.disconnect()
