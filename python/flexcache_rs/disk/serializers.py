"""Serializers, which convert objects to bytes and back, with different levels of trust.

Anyone who can write to the directory of a cache can store a pickle that runs any code when it is read
(CVE-2025-69872). If others can write there, give the cache one of these:

* `PickleSerializer(allow=...)` loads only the named classes;
* `SignedPickleSerializer(key)` loads only pickles that were written with the same key;
* `JSONSerializer()` and `MsgspecSerializer()` load no classes.

str, bytes, int and float are stored directly, without a serializer.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import hmac
import io
import json
import pickle
import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from datetime import datetime
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from flexcache_rs._arguments import each, shown
from flexcache_rs._core import scan_pickle
from flexcache_rs._suggest import suggesting

if TYPE_CHECKING:
    from collections.abc import Iterable


@runtime_checkable
class Serializer(Protocol):
    """The protocol of a serializer. The directory records its name.

    If it also has `dumps_key` and `loads_key`, these are used for keys. A key is found by its bytes, so the same key
    must always give the same bytes.
    """

    name: str

    def dumps(self, value: Any, protocol: int, /) -> bytes:
        """Return the bytes for an object."""
        ...

    def loads(self, data: bytes, /) -> Any:
        """Return the object for bytes."""
        ...


class _NotPlainError(Exception):
    """The found object is not a plain class, and may return objects that others share."""


def _is_shared(found: Any) -> bool:
    """Whether an object belongs to the process rather than to the caller that unpickles it."""
    return isinstance(found, type | ModuleType | FunctionType | BuiltinFunctionType | MethodType | enum.Enum)


def _makes_its_own(found: Any) -> bool:
    """Whether something found by name is a class that makes a new object each time."""
    return isinstance(found, type) and not issubclass(found, type | enum.Enum)


class _Finder:
    """An unpickler that finds allowed names only."""

    def __init__(self, data: bytes, allowed: frozenset[str]) -> None:
        # Early protocols have names of Python 2. find_class() replaces them before the check.
        super().__init__(io.BytesIO(data), fix_imports=False)  # type: ignore[call-arg]
        self.allowed = allowed
        self.only_plain = False
        self.is_early = data[:1] != b"\x80" or data[1] < 3

    def find_class(self, module: str, name: str) -> Any:
        if self.is_early:
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        if f"{module}.{name}" not in self.allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not among what may be loaded")
        found: Any = super().find_class(module, name)  # type: ignore[misc]
        if self.only_plain and not _makes_its_own(found):
            raise _NotPlainError
        return found  # pyright: ignore[reportUnknownVariableType]


class _Allowing(_Finder, pickle.Unpickler):
    pass


# The unpickler in Python, which can check each object whose state is set. It is much slower.
_InPython: Any = pickle._Unpickler  # pyright: ignore[reportPrivateUsage]


class _Watching(_Finder, _InPython):  # type: ignore[misc]
    dispatch: dict[int, Any] = dict(_InPython.dispatch)  # noqa: RUF012

    def load_build(self: Any) -> None:
        if _is_shared(self.stack[-2]):
            raise pickle.UnpicklingError("the pickle changes what is not an object of its own")
        _InPython.load_build(self)

    dispatch[pickle.BUILD[0]] = load_build


def load_allowed(data: bytes, allowed: frozenset[str]) -> Any:
    """Load an untrusted pickle.

    Raises:
        pickle.UnpicklingError: It is damaged, needs a class that is not allowed, or would change more than its own
            objects.
    """
    builds_made, builds_returned = scan_pickle(data)
    if not builds_returned:
        unpickler = _Allowing(data, allowed)
        unpickler.only_plain = builds_made
        with contextlib.suppress(_NotPlainError):
            return unpickler.load()
    return _Watching(data, allowed).load()


class PickleSerializer:
    """A pickle serializer that is restricted to allowed classes.

    Args:
        allow: Full names of the classes and functions that pickles may use. Containers and values of Python's own
            (lists, dicts, None, bool, complex int) need none. An allowed function can be called with any arguments.

    Raises:
        TypeError: `allow` is no collection of names.
        ValueError: A name in it has no module.
        pickle.UnpicklingError: `loads` raises it for all other classes, for a pickle that would change a class, a
            function or a module instead of its own objects, and for a pickle that claims more memory than it has bytes.

    >>> import datetime
    >>> only_dates = PickleSerializer(allow=["datetime.date"])
    >>> only_dates.loads(only_dates.dumps([datetime.date(2030, 1, 1)], 5))
    [datetime.date(2030, 1, 1)]
    >>> only_dates.loads(only_dates.dumps(datetime.timedelta(1), 5))
    Traceback (most recent call last):
    _pickle.UnpicklingError: datetime.timedelta is not among what may be loaded
    """

    name = "pickle"

    @suggesting
    def __init__(self, allow: Iterable[str] = ()) -> None:
        if isinstance(allow, str | bytes):
            raise TypeError(f"allow must be a collection of names, not the single name {shown(allow)}")
        self.allowed = frozenset(each("allow", allow, "a collection of names of classes"))
        names: frozenset[Any] = self.allowed
        for name in names:
            if not isinstance(name, str):
                raise TypeError(f"allow must contain full names of classes, such as 'datetime.date', not {shown(name)}")
            if "." not in name:
                raise ValueError(f"allow must contain names with their module, such as 'datetime.date', not {name!r}")

    def dumps(self, value: Any, protocol: int, /) -> bytes:
        """Return the pickle of an object."""
        return pickle.dumps(value, protocol)

    def dumps_key(self, key: Any, protocol: int, /) -> bytes:
        """Return the pickle of a key, in the same form as without a serializer."""
        return pickletools.optimize(pickle.dumps(key, protocol))

    def loads_key(self, data: bytes, /) -> Any:
        """Return the key of a pickle."""
        return self.loads(data)

    def loads(self, data: bytes, /) -> Any:
        """Return the object of a pickle."""
        return load_allowed(data, self.allowed)


_DIGEST = "sha256"
_SIGNATURE = hashlib.new(_DIGEST).digest_size


class SignedPickleSerializer:
    """A pickle serializer with signatures (HMAC-SHA256). It loads only pickles that were signed with the secret key.

    Keep the secret outside the directory. Keys of the cache are not signed, because they are found by their bytes,
    which must not change with the secret. Iteration over keys loads them as `PickleSerializer(allow)` does.

    Args:
        key: The secret, at least 16 bytes.
        old_keys: Former secrets. Values that were signed with them can still be read. New values are not signed with
            them.
        allow: The full names of the classes that keys may contain, in addition to Python's own containers and values.

    Raises:
        TypeError: A key is not bytes.
        ValueError: A key is too short.
        pickle.UnpicklingError: `loads` raises it if the signature was made with none of these keys.

    >>> signed = SignedPickleSerializer(b"a secret of 16 bytes or more")
    >>> signed.loads(signed.dumps({"a": 1}, 5))
    {'a': 1}
    >>> signed.loads(pickle.dumps("forged"))
    Traceback (most recent call last):
    _pickle.UnpicklingError: the signature is wrong: not written with this key
    """

    name = "signed-pickle"

    @suggesting
    def __init__(self, key: bytes, old_keys: Iterable[bytes] = (), allow: Iterable[str] = ()) -> None:
        if isinstance(old_keys, str | bytes | bytearray):
            raise TypeError("old_keys must be a collection of keys, not a single key")
        self._keys = (key, *old_keys)
        self._of_keys = PickleSerializer(allow)
        secrets: tuple[Any, ...] = self._keys
        for secret in secrets:
            if not isinstance(secret, bytes):
                # Do not show the value, because it is a secret.
                raise TypeError(f"key must be bytes, not {type(secret).__name__}")
            if len(secret) < 16:
                raise ValueError(f"key must have at least 16 bytes, not {len(secret)}")

    def dumps(self, value: Any, protocol: int, /) -> bytes:
        """Return the signature and the pickle of an object."""
        data = pickle.dumps(value, protocol)
        return hmac.digest(self._keys[0], data, _DIGEST) + data

    def loads(self, data: bytes, /) -> Any:
        """Return the object if the signature is valid."""
        signature, pickled = data[:_SIGNATURE], data[_SIGNATURE:]
        if any(hmac.compare_digest(hmac.digest(key, pickled, _DIGEST), signature) for key in self._keys):
            return pickle.loads(pickled)
        raise pickle.UnpicklingError("the signature is wrong: not written with this key")

    def dumps_key(self, key: Any, protocol: int, /) -> bytes:
        """Return the pickle of a key, without a signature."""
        return pickletools.optimize(pickle.dumps(key, protocol))

    def loads_key(self, data: bytes, /) -> Any:
        """Return the key of a pickle, which may contain allowed classes only."""
        return self._of_keys.loads(data)


def _refuse_changes(value: Any, scalars: frozenset[type], keys: frozenset[type]) -> None:
    """Raise TypeError for a value that would be read as another type. Only tuples may be read as lists."""
    pending: list[Any] = [value]
    seen: set[int] = set()
    while pending:
        part = pending.pop()
        kind: Any = type(part)  # pyright: ignore[reportUnknownVariableType]
        if kind in scalars:
            if isinstance(part, datetime) and part.tzinfo is None:
                raise TypeError("a datetime without a time zone would be read as a str")
        elif kind in (list, tuple, dict):
            # The encoder refuses objects that contain themselves.
            if id(part) in seen:
                continue
            seen.add(id(part))
            pending.extend(part.values() if kind is dict else part)
            for key in list(part) if kind is dict else ():  # A copy, because others may change it.
                if type(key) not in keys:
                    raise TypeError(f"a dict with a key of type {type(key).__name__} would be read as a different dict")
        else:
            raise TypeError(f"{kind.__module__}.{kind.__qualname__} would be read as another type")


_JSON_SCALARS = frozenset((type(None), bool, int, float, str))
_MSGPACK_SCALARS = _JSON_SCALARS | {bytes, datetime}


class JSONSerializer:
    """A JSON serializer for None, bool, numbers, str, lists and dicts with str keys.

    Tuples are read as lists, except in keys of the cache. Other values that would be read as another type are refused.

    Raises:
        TypeError: `dumps` raises it for an object that JSON cannot represent, and for one that would be read as
            another type: a dict with keys that are not str, an enum, or a subclass of these types.

    >>> JSONSerializer().loads(JSONSerializer().dumps({"a": [1, None]}, 0))
    {'a': [1, None]}
    """

    name = "json"

    def dumps(self, value: Any, protocol: int, /) -> bytes:
        """Return the UTF-8 text of an object."""
        del protocol
        _refuse_changes(value, _JSON_SCALARS, frozenset((str,)))
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

    def loads(self, data: bytes, /) -> Any:
        """Return the object of a text."""
        return json.loads(data)

    def dumps_key(self, key: Any, protocol: int, /) -> bytes:
        """Return the text of a key."""
        return self.dumps(key, protocol)

    def loads_key(self, data: bytes, /) -> Any:
        """Return the key of a text."""
        return _hashable(json.loads(data))


class MsgspecSerializer:
    """A MessagePack serializer for None, bool, numbers, str, bytes, lists, dicts and aware datetimes.

    With `type`, it also stores the described type. It needs the package msgspec. Tuples are read as lists, except in
    keys of the cache. Datetimes are read in UTC.

    Args:
        type: The type of the values, as an annotation: a `msgspec.Struct`, a dataclass, `dict[str, int]`. Values are
            checked against it when they are read. None means any type.

    Raises:
        ImportError: msgspec is not installed.
        TypeError: `dumps` raises it for an object that MessagePack cannot represent. Without `type`, it also raises
        it for one that would be read as another type: a set, a date, an enum, a dataclass or a `Struct`.
        msgspec.ValidationError: `loads` raises it for a value of another type.

    >>> serializer = MsgspecSerializer()
    >>> serializer.loads(serializer.dumps({"a": [1, None, b"bytes"]}, 0))
    {'a': [1, None, b'bytes']}
    """

    name = "msgspec"

    @suggesting
    def __init__(self, type: Any = None) -> None:  # noqa: A002
        try:
            from msgspec import msgpack
        except ImportError as error:
            raise ImportError("MsgspecSerializer needs the package msgspec: pip install msgspec") from error
        self._type = type
        self._encoder = msgpack.Encoder()
        self._decoder = msgpack.Decoder() if type is None else msgpack.Decoder(type)
        self._key_encoder = msgpack.Encoder(order="deterministic")
        self._key_decoder = msgpack.Decoder()

    def __reduce__(self) -> tuple[Any, ...]:
        return (MsgspecSerializer, (self._type,))

    def dumps(self, value: Any, protocol: int, /) -> bytes:
        """Return the MessagePack of an object."""
        del protocol
        if self._type is None:
            _refuse_changes(value, _MSGPACK_SCALARS, _MSGPACK_SCALARS)
        return self._encoder.encode(value)

    def loads(self, data: bytes, /) -> Any:
        """Return the object of a MessagePack."""
        return self._decoder.decode(data)

    def dumps_key(self, key: Any, protocol: int, /) -> bytes:
        """Return the MessagePack of a key."""
        del protocol
        return self._key_encoder.encode(key)

    def loads_key(self, data: bytes, /) -> Any:
        """Return the key of a MessagePack."""
        return _hashable(self._key_decoder.decode(data))


def _hashable(key: Any) -> Any:
    """Return a key with its lists replaced by tuples."""
    if not isinstance(key, list):
        return key
    parts: list[Any] = key  # pyright: ignore[reportUnknownVariableType]
    return tuple(map(_hashable, parts))
