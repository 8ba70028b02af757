"""A connection to a MySQL or MariaDB server: its settings, statements in one round trip, and what its errors mean."""

# pyright: basic

from __future__ import annotations

import contextlib
import importlib
import math
import select
from typing import TYPE_CHECKING, Any

from flexcache_rs.sessions._errors import TimedOut, Unavailable
from flexcache_rs.sessions._sql_statements import Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexcache_rs.sessions._sql_statements import Statement

_SETTINGS = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', "
    "innodb_lock_wait_timeout = %s"
)
"""Settings on which the statements depend: what the server stores, and how long it waits for rows."""
_OTHER_SETTINGS = (
    "sql_select_limit = 9223372036854775807",
    "sql_big_selects = 1",
    "sql_safe_updates = 0",
    "completion_type = 0",
    "lock_wait_timeout = %s",
)
"""The same, but not every server and proxy has them: how many rows it returns and changes, what follows a commit, and
how long it waits for tables."""
_NO_SUCH_SETTING = frozenset((1193, 1227, 1229, 1231, 1238))
"""Errors for a setting that is unknown, forbidden, without this value, or not to be set for a connection."""
_LONGEST_WAIT = 31_536_000 - 1
"""A year in seconds. Servers and driver wait no longer."""
_FILES = ("ssl_ca", "ssl_cert", "ssl_key")
_DRIVER = ("pymysql", "ssl", "socket", "encodings", "cryptography", "nacl")
"""The packages whose errors in `connect` mean that there is no connection."""
_IN_TRANSACTION = 1
MOST_PACKET = 2**30
_ROLL_BACK: Statement = ("ROLLBACK", ())
_LOST = frozenset((1053, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 4031))
"""Server errors that end the connection: a shutdown, a killed connection, a network failure."""


def driver_module() -> Any:
    """Return the driver's module."""
    try:
        return importlib.import_module("pymysql")
    except ImportError:
        raise ImportError('mysql:// needs the package PyMySQL: pip install "flexcache-rs[mysql]"') from None


class Link:
    """A connection. After an error that leaves its state unknown it is closed, and not used again."""

    def __init__(self, driver: Any, arguments: dict[str, Any], timeout: float) -> None:
        self._errors = driver.err
        self._poll: Any = None
        self._connection: Any = None
        try:
            self._connection = driver.connect(**arguments)
            self.is_whole = True
            self.most = self._set_up(whole_seconds(timeout))
        except BaseException as error:
            # The error keeps this object alive.
            self.close()
            if isinstance(error, self._errors.MySQLError):
                kind = TimedOut if is_late(error) else Unavailable
                raise kind(f"no connection to the server: {text_of(error)}") from error
            if not isinstance(error, Exception) or isinstance(error, MemoryError) or not _is_of_driver(error):
                raise
            # For example, a file for TLS or a package for the user's kind of password is missing, or the server at this
            # address is of another kind.
            files = ", ".join(f"{name}={arguments[name]!r}" for name in _FILES if name in arguments)
            where = f" ({files})" if files and isinstance(error, OSError) else ""
            raise Unavailable(f"no connection to the server: {type(error).__name__}: {error}{where}") from error

    def _set_up(self, wait: int) -> int:
        """Override the server's settings, so that it does exactly what statements say, or refuses them.

        Returns:
            The server's limit for the bytes of a request.
        """
        first: list[Statement] = [
            ("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", ()),
            (_SETTINGS, (wait,)),
        ]
        last: Statement = ("SELECT @@max_allowed_packet", ())
        try:
            *_, found = self.send([*first, ("SET SESSION " + ", ".join(_OTHER_SETTINGS), (wait,)), last])
        except self._errors.MySQLError as error:
            if _code_of(error) not in _NO_SUCH_SETTING:
                raise
            self.send(first)
            for setting in _OTHER_SETTINGS:
                self._set_if_known(setting, wait)
            (found,) = self.send([last])
        try:
            return int(found.rows[0][0])
        except (IndexError, TypeError, ValueError):
            raise self._errors.InterfaceError("the server does not answer several statements at once") from None

    def _set_if_known(self, setting: str, wait: int) -> None:
        try:
            self.send([(f"SET SESSION {setting}", (wait,) if "%s" in setting else ())])
        except self._errors.MySQLError as error:
            if _code_of(error) not in _NO_SUCH_SETTING:
                raise

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open on the connection."""
        return bool(self._connection.server_status & _IN_TRANSACTION)

    def send(self, statements: Sequence[Statement]) -> list[Result]:
        """Send statements in one round trip, and return the result of each.

        Raises:
            MySQLError: A statement failed. Those after it were not run.
            ValueError: The statements are longer than the server's limit.
        """
        if not statements:
            return []
        data = ";".join([sql % tuple(map(_literal, values)) if values else sql for sql, values in statements]).encode()
        if len(data) >= getattr(self, "most", MOST_PACKET):
            raise ValueError(
                f"the values have {len(data)} bytes, more than the server's max_allowed_packet, {self.most}"
            )
        self.is_whole = False
        try:
            # Read results directly, because a cursor would copy each one again.
            connection, results = self._connection, []
            connection.query(data)
            while True:
                found = connection._result
                results.append(Result(found.rows or (), found.affected_rows, found.insert_id or 0))
                if not found.has_next:
                    break
                connection.next_result()
        except self._errors.MySQLError as error:
            # An error that the server itself reported leaves the connection usable.
            self.is_whole = not self.is_lost(error)
            raise
        self.is_whole = True
        return results

    def is_lost(self, error: Any) -> bool:
        """Whether an error means that the connection is lost."""
        code = _code_of(error)
        return (
            isinstance(error, self._errors.InterfaceError)
            or not isinstance(code, int)
            or code == 0
            or 2000 <= code < 3000
            or code in _LOST
        )

    def is_quiet(self) -> bool:
        """Whether the connection has received nothing unexpected, such as its end."""
        try:
            # Not every system has `poll`, and eventlet removes it from the module.
            if not hasattr(select, "poll"):
                return not select.select([self._connection._sock], (), (), 0)[0]
            if self._poll is None:
                self._poll = select.poll()
                self._poll.register(self._connection._sock, select.POLLIN)
            return not self._poll.poll(0)
        except (OSError, TypeError, ValueError):
            return False

    def roll_back(self) -> None:
        """Roll back an open transaction."""
        if self.is_whole and self.in_transaction:
            with contextlib.suppress(self._errors.MySQLError):
                self.send([_ROLL_BACK])

    def close(self) -> None:
        """Close the socket without a QUIT command. The server then rolls back."""
        with contextlib.suppress(Exception):
            self._connection._force_close()


def _is_of_driver(error: BaseException) -> bool:
    """Whether the driver, or a module that it uses, raised an error, and not a signal handler."""
    trace, name = error.__traceback__, ""
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next
    return name.partition(".")[0] in _DRIVER


def _code_of(error: BaseException) -> Any:
    """Return the number of an error of the driver, or what it has in the place of one."""
    return error.args[0] if error.args else 0


def _literal(value: bytes | int | None) -> str:
    """Format a value as SQL. Bytes become hexadecimal digits, so no content or server setting can end the literal."""
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else f"X'{value.hex()}'"


def whole_seconds(timeout: float) -> int:
    """Return a timeout as the server counts it."""
    return math.ceil(min(max(timeout, 1), _LONGEST_WAIT))


def text_of(error: BaseException) -> str:
    """Return the message of an error of the driver."""
    return ": ".join(map(str, error.args)) or type(error).__name__


def is_late(error: BaseException) -> bool:
    """Whether the driver's timeout was reached."""
    return "timed out" in text_of(error)
