"""What a `RemoteCache` raises."""

from __future__ import annotations


class RemoteError(OSError):
    """The server could not be asked, or refused what it was asked."""


class RemoteTimeoutError(RemoteError, TimeoutError):
    """The server did not answer in time. It may have done what it was asked."""


class RemoteConnectionError(RemoteError, ConnectionError):
    """There is no connection to the server, or it was lost. A server that was asked may have done what it was asked."""


class RemoteValueError(ValueError):
    """What the server has under a key is no value of this cache, or of another serializer."""
