"""The exceptions of a `RemoteCache`."""

from __future__ import annotations


class RemoteError(OSError):
    """The server could not be reached, or it refused a command."""

    # Whether it is known that the connection was lost before the command was sent, so that it can be sent again.
    _is_unsent: bool = False
    # Whether the reply to the command is one that it never has. The server may have executed the command.
    _is_unexpected: bool = False


class RemoteTimeoutError(RemoteError, TimeoutError):
    """The server did not respond in time. It may have executed the command."""


class RemoteConnectionError(RemoteError, ConnectionError):
    """There is no connection to the server, or it was lost.

    If the command was sent, the server may have executed it.
    """


class RemoteValueError(ValueError):
    """The data under a key on the server is no value of this cache, or it was written by another serializer."""
