"""URLs that may contain passwords, which no message repeats."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, urlsplit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from urllib.parse import SplitResult

UNREADABLE = "the URL cannot be read: is everything in its user and password percent-encoded, and its port a number?"
"""The message for a URL that cannot be read. The messages of urllib repeat parts of the URL."""


def split(url: str, *, with_port: bool = False) -> SplitResult:
    """Split a URL, whose port is checked only `with_port`: a path may look like a host and a port.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        parts = urlsplit(url)
        if with_port:
            _ = parts.port
    except ValueError:
        raise ValueError(UNREADABLE) from None
    return parts


def quoted_path(path: str) -> str:
    """Return the path of a file as a part of a URL, which `unquote` turns back into the path."""
    # Names of files may have bytes that are no text. They stand for themselves, as `unquote` could not restore them.
    return "".join(letter if "\ud800" <= letter <= "\udfff" else quote(letter, safe="/") for letter in path)


def options_of(query: str) -> list[tuple[str, str]]:
    """Return the names and values of a URL's query.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        return parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise ValueError(
            "the URL cannot be read: after ? it must have options, such as name=value&name=value"
        ) from None
