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
    "sql_select_limit = 18446744073709551615, sql_big_selects = 1, sql_safe_updates = 0, completion_type = 0, "
    "innodb_lock_wait_timeout = %s, lock_wait_timeout = %s"
)
"""Settings on which the statements depend: what the server stores, how many rows it returns and changes, what follows a
commit, and how long it waits for rows and for tables."""
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
            self._connection = self._connect(driver, arguments)
            self.is_whole = True
            wait = whole_seconds(timeout)
            # Override the server's settings, so that it stores exactly the sent values or refuses them.
            packet = self.send(
                [
                    ("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", ()),
                    (_SETTINGS, (wait, wait)),
                    ("SELECT @@max_allowed_packet", ()),
                ]
            )
            self.most = int(packet[-1].rows[0][0])
        except self._errors.MySQLError as error:
            # The error keeps this object alive.
            self.close()
            kind = TimedOut if is_late(error) else Unavailable
            raise kind(f"no connection to the server: {text_of(error)}") from error

    def _connect(self, driver: Any, arguments: dict[str, Any]) -> Any:
        """Connect.

        Raises:
            Unavailable: The driver raised something other than its own errors, for example because a file for TLS or a
                package for the user's kind of password is missing, or because no such server answers at this address.
        """
        try:
            return driver.connect(**arguments)
        except (self._errors.MySQLError, MemoryError):
            raise
        except Exception as error:
            if not _is_of_driver(error):
                raise
            files = ", ".join(f"{name}={arguments[name]!r}" for name in _FILES if name in arguments)
            where = f" ({files})" if files and isinstance(error, OSError) else ""
            raise Unavailable(f"no connection to the server: {type(error).__name__}: {error}{where}") from error

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
        code = error.args[0] if error.args else 0
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
    """Whether the driver, or a module that it uses, raised an error. Otherwise a signal handler did."""
    trace, name = error.__traceback__, ""
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next
    return name.partition(".")[0] in _DRIVER


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
