"""The format of keys on the server.

The value of a key is at `namespace:{key}`, everything else that belongs to it at `namespace#:{key}` and a letter. In a
cluster the braces keep all of them in one slot. Text is written as it is. Other keys begin with `~` and a letter for
their type, and so does text that begins with `~` or `}`, or is empty. Keys that are equal in Python have one form: 1,
1.0 and True are one key.

| key | form |
| --- | --- |
| str | the text in UTF-8, or `~s` and the text |
| bytes | `~b` and the bytes |
| int, bool, a float without a fraction | `~i` and decimal digits, or `~x` and hexadecimal digits beyond 64 bits |
| float | `~f` and its shortest text |
| None | `~n` |
| tuple | `~t`, and each part as its length, `:` and its form |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flexcache_rs._core import _remote_places  # pyright: ignore[reportPrivateUsage]

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEEPEST = 32
"""The largest depth of nested tuples in a key."""

_SPECIAL = (b"~", b"}")


def encode_key(key: Any, depth: int = 0) -> bytes:
    """Return the form of a key, without its namespace.

    Raises:
        TypeError: The key has a type without a form that is the same in every process.
        ValueError: It is nested too deep.
    """
    kind: Any = type(key)  # pyright: ignore[reportUnknownVariableType]
    if kind is str:
        text: bytes = key.encode("utf-8", "surrogatepass")
        return b"~s" + text if not text or text.startswith(_SPECIAL) else text
    if kind is int or kind is bool:
        number: int = key
        return b"~i%d" % number if -(1 << 63) <= number < 1 << 63 else b"~x%x" % number
    if kind is bytes:
        return b"~b" + bytes(key)
    if kind is float:
        if key.is_integer():
            return encode_key(int(key))
        return b"~f" + repr(key).encode()
    if key is None:
        return b"~n"
    if kind is tuple:
        if depth == _DEEPEST:
            message = f"a key must not be nested more than {_DEEPEST} tuples deep"
            raise ValueError(message)
        parts = [encode_key(part, depth + 1) for part in key]
        return b"~t" + b"".join(b"%d:%b" % (len(part), part) for part in parts)
    message = (
        f"a key must be a str, bytes, int, float, bool, None or a tuple of these, not {kind.__name__}; other processes "
        "could not tell which key it is"
    )
    raise TypeError(message)


def decode_key(form: bytes) -> Any:
    """Return the key for a form.

    Raises:
        ValueError: The form is not the one that `encode_key` returns for any key.
    """
    key = _decoded(form, 0)
    if encode_key(key) != form:
        raise _no_key(form)
    return key


def _decoded(form: bytes, depth: int) -> Any:
    if not form.startswith(b"~"):
        return form.decode("utf-8", "surrogatepass")
    rest = form[2:]
    match form[1:2]:
        case b"s":
            return rest.decode("utf-8", "surrogatepass")
        case b"b":
            return rest
        case b"i" | b"x" as kind:
            return int(rest, 16 if kind == b"x" else 10)
        case b"f":
            return float(rest)
        case b"n" if not rest:
            return None
        case b"t" if depth < _DEEPEST:
            return _parts(rest, depth + 1)
        case _:
            raise _no_key(form)


def _no_key(form: bytes) -> ValueError:
    return ValueError(f"{form!r} is no key of this cache")


def _parts(rest: bytes, depth: int) -> tuple[Any, ...]:
    """Decode the parts of a tuple."""
    parts: list[Any] = []
    while rest:
        length, colon, rest = rest.partition(b":")
        if not colon or not length.isdigit() or int(length) > len(rest):
            raise _no_key(rest)
        parts.append(_decoded(rest[: int(length)], depth))
        rest = rest[int(length) :]
    return tuple(parts)


class Keys:
    """The names of all server keys of a namespace. A name is called a place."""

    def __init__(self, namespace: str) -> None:
        if not isinstance(namespace, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            message = f"namespace must be a str, not {type(namespace).__name__}"
            raise TypeError(message)
        wrong = sorted(set(namespace) & set(":{}#"))
        if not namespace or wrong or not namespace.isprintable():
            message = (
                f"namespace must be printable text without ':', '{{', '}}' or '#', and not empty, not {namespace!r}"
            )
            raise ValueError(message)
        name = namespace.encode()
        self.prefixes = (name + b":", name + b"#:")
        self._value = name + b":{"
        self._companion = name + b"#:{"
        self.format = self._companion + b"}"
        """The place of the format of the values."""
        self.epoch = self._companion + b"}e"
        """The place of the nonce of all values, which `clear` replaces."""
        self.evictions = self._companion + b"}v"
        """The place of a random text that each eviction of a tag replaces."""

    def value(self, key: Any) -> bytes:
        """Return the place of the value of a key."""
        if type(key) is str and key and key.isascii() and key[0] not in "~}":
            # The same result as that of `encode_key`, but faster.
            return b"%b%b}" % (self._value, key.encode())
        return self._value + encode_key(key) + b"}"

    def values(self, keys: Sequence[Any]) -> list[bytes]:
        """Where the values of keys are."""
        return _remote_places(self._value, keys, self.value)

    def lease(self, key: Any) -> bytes:
        """Return the place of the lease of a key."""
        return self._companion + encode_key(key) + b"}l"

    def lock(self, name: Any) -> tuple[bytes, bytes]:
        """Return the place of a lock, and the place of the number of its last holder."""
        place = self._companion + encode_key(name) + b"}"
        return place + b"k", place + b"n"

    def limiter(self, name: Any) -> bytes:
        """Return the place of a limiter."""
        return self._companion + encode_key(name) + b"}r"

    def window(self, name: Any) -> bytes:
        """Return the place of the times of a limiter's uses."""
        return self._companion + encode_key(name) + b"}w"

    def tag(self, tag: str) -> bytes:
        """Return the place of the nonce of a tag."""
        return self._companion + encode_key(tag) + b"}t"

    def lease_of(self, value: bytes) -> bytes:
        """Return the place of a lease for the place of the value."""
        return self._companion + value[len(self._value) :] + b"l"

    def key(self, value: bytes) -> Any:
        """Return the key for the place of its value."""
        if not value.startswith(self._value) or not value.endswith(b"}"):
            raise _no_key(value)
        return decode_key(value[len(self._value) : -1])

    def pattern(self, prefix: str) -> bytes:
        """Return a pattern that matches the places of all str keys with a prefix, and perhaps other places."""
        special = b"\\*?[]^-"
        start = self._value + prefix.encode("utf-8", "surrogatepass")
        return b"".join(b"\\%c" % byte if byte in special else b"%c" % byte for byte in start) + b"*"
