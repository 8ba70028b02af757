"""Serializers with SciQLop-cache's names and formats. Each library can read the bytes of the other."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import sys
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from flexcache_rs._suggest import suggesting
from flexcache_rs.disk.serializers import load_allowed

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MsgspecSerializer", "PickleOOBSerializer", "PickleSerializer", "Serializer", "get_serializer_by_name"]


@runtime_checkable
class Serializer(Protocol):
    """What a store needs of a serializer. The name is recorded in the directory."""

    name: str

    def dumps(self, value: Any) -> bytes:
        """The bytes for an object."""
        ...

    def loads(self, data: bytes | memoryview) -> Any:
        """The object for bytes."""
        ...


class PickleSerializer:
    """A pickle serializer. Loading a pickle can run code, so open only directories to which only you can write.

    Args:
        protocol: Pickle's.

    >>> PickleSerializer().loads(PickleSerializer().dumps({1, 2}))
    {1, 2}
    """

    name = "pickle"

    @suggesting
    def __init__(self, protocol: int = pickle.HIGHEST_PROTOCOL) -> None:
        self.protocol = protocol

    def dumps(self, value: Any) -> bytes:
        """The pickle of an object."""
        return pickle.dumps(value, self.protocol)

    def loads(self, data: bytes | memoryview) -> Any:
        """The object of a pickle."""
        return pickle.loads(data)


_ARRAY = 1
_INSTANCE = 2
"""Codes of MessagePack's extension types. Directories contain them, so a code must keep its meaning."""


class MsgspecSerializer:
    """MessagePack by msgspec, with numpy's arrays and instances that are made of their attributes.

    Sets and tuples come back as lists. An instance comes back by its class's name: the class is imported, and
    made without a call of its `__init__`. Needs the package msgspec.

    Raises:
        ImportError: msgspec is not installed.
        TypeError: By `dumps`, for an object without a form in MessagePack.
        ValueError: By `loads`, for an extension type that is unknown.

    >>> MsgspecSerializer().loads(MsgspecSerializer().dumps({"a": [1, None, b"bytes"]}))
    {'a': [1, None, b'bytes']}
    """

    name = "msgspec"

    def __init__(self) -> None:
        try:
            from msgspec import msgpack
        except ImportError as error:
            raise ImportError("MsgspecSerializer needs the package msgspec: pip install msgspec") from error
        self._msgpack: Any = msgpack

    def dumps(self, value: Any) -> bytes:
        """The MessagePack of an object."""
        data: bytes = self._msgpack.encode(value, enc_hook=self._extended)
        return data

    def loads(self, data: bytes | memoryview) -> Any:
        """The object of a MessagePack."""
        return self._msgpack.decode(data, ext_hook=self._of_extension)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    def _extended(self, value: Any) -> Any:
        # A program that stores an array has imported numpy.
        numpy: Any = sys.modules.get("numpy")
        if numpy is not None:
            if isinstance(value, numpy.ndarray):
                return self._msgpack.Ext(_ARRAY, self._array(value))
            if isinstance(value, numpy.generic):
                return value.item()
        if not hasattr(value, "__dict__"):
            raise TypeError(f"MsgspecSerializer has no form for {type(value).__module__}.{type(value).__qualname__}")
        kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        parts = {"__type__": f"{kind.__module__}.{kind.__qualname__}", "__data__": value.__dict__}
        return self._msgpack.Ext(_INSTANCE, self.dumps(parts))

    def _array(self, array: Any) -> bytes:
        order = "F" if array.flags["F_CONTIGUOUS"] else "C"
        head = self._msgpack.encode({"dtype": str(array.dtype), "shape": list(array.shape), "order": order})
        return b"".join((len(head).to_bytes(4, "little"), head, array.tobytes(order=order)))

    def _of_extension(self, code: int, data: memoryview) -> Any:
        if code == _ARRAY:
            import numpy as np

            numpy: Any = np
            end = 4 + int.from_bytes(data[:4], "little")
            head = self._msgpack.decode(data[4:end])
            flat = numpy.frombuffer(bytes(data[end:]), dtype=numpy.dtype(head["dtype"]))
            return flat.reshape(head["shape"], order=head.get("order", "C"))
        if code == _INSTANCE:
            parts = self.loads(data)
            kind = _class_named(parts["__type__"])
            instance = kind.__new__(kind)
            for name, value in parts["__data__"].items():
                setattr(instance, name, value)
            return instance
        raise ValueError(f"Unknown ext type code: {code}")


def _class_named(name: str) -> Any:
    import importlib

    module, _, qualified = name.rpartition(".")
    while module and module not in sys.modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError:  # noqa: PERF203
            # A nested class.
            module, _, outer = module.rpartition(".")
            qualified = f"{outer}.{qualified}"
    found: Any = sys.modules[module]
    for part in qualified.split("."):
        found = getattr(found, part)
    if not isinstance(found, type):
        raise ValueError(f"{name} is no class")
    return found


def _of_integers(integers: Any, dtype: Any) -> Any:
    """Make an array of times from the integers as which it was pickled."""
    return integers.view(dtype)


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        # numpy exports the memory of numbers but not of times, so pickle times as integers.
        numpy: Any = sys.modules.get("numpy")
        if numpy is not None and type(obj) is numpy.ndarray and obj.dtype.kind in "mM":
            return _of_integers, (obj.view("i8"), obj.dtype)
        return NotImplemented


_RAW = 0
_BLOSC2 = 1
_HEAD = struct.Struct("<IQ")
"""The number of buffers, and the length of the pickle in bytes."""

_BUFFER = struct.Struct("<BQQ")
"""For each buffer: its encoding, its stored length and its original length in bytes."""


class PickleOOBSerializer:
    """A pickle serializer that stores the memory of large arrays beside the pickle (PEP 574), without copying them.

    Values without large arrays are pickled as by `PickleSerializer`, whose values it reads: a directory of
    "pickle" may be opened with it, and is one of "pickle-oob" from then on.

    Args:
        compress: Accepted for SciQLop-cache's programs. Arrays are stored as they are; what SciQLop-cache compressed
            with blosc2 cannot be read here.
        min_ratio: Accepted likewise.

    Raises:
        pickle.UnpicklingError: By `loads`, for what is damaged or compressed.

    >>> PickleOOBSerializer().loads(PickleOOBSerializer().dumps([1, 2]))
    [1, 2]
    """

    name = "pickle-oob"
    MAGIC = b"\x00SQCOOB1"
    MIN_OOB_BUFFER = 64 * 1024
    """The size in bytes from which the memory of an array is stored beside the pickle."""

    @suggesting
    def __init__(self, compress: bool = True, min_ratio: float = 2.0) -> None:
        self.compress = compress
        self.min_ratio = min_ratio

    def dumps_chunks(self, value: Any) -> bytes | list[Any]:
        """What `dumps` returns, in pieces where there are large arrays: a list whose parts are not copied."""
        beside: list[memoryview] = []

        def stays_inside(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes < self.MIN_OOB_BUFFER:
                return True
            beside.append(raw)
            return False

        pickled = io.BytesIO()
        _Pickler(pickled, 5, buffer_callback=stays_inside).dump(value)
        data = pickled.getvalue()
        if not beside:
            return data
        sizes = (_BUFFER.pack(_RAW, raw.nbytes, raw.nbytes) for raw in beside)
        return [b"".join((self.MAGIC, _HEAD.pack(len(beside), len(data)), *sizes, data)), *beside]

    def dumps(self, value: Any) -> bytes:
        """The bytes for an object."""
        chunks = self.dumps_chunks(value)
        return chunks if isinstance(chunks, bytes) else b"".join(chunks)

    def loads(self, data: bytes | memoryview) -> Any:
        """The object for bytes. Its arrays can be written, and need nothing of the store's."""
        if bytes(data[:1]) != self.MAGIC[:1]:
            return pickle.loads(data)
        view = memoryview(data)
        if bytes(view[: len(self.MAGIC)]) != self.MAGIC:
            raise pickle.UnpicklingError("unknown pickle-oob header")
        try:
            count, size = _HEAD.unpack_from(view, len(self.MAGIC))
        except struct.error:
            raise pickle.UnpicklingError("the value ends too early") from None
        table = len(self.MAGIC) + _HEAD.size
        pickled = table + count * _BUFFER.size
        if pickled + size > len(view):
            raise pickle.UnpicklingError("the value ends before its pickle does")
        buffers = list(self._buffers(view, view[table:pickled], pickled + size))
        return pickle.loads(view[pickled : pickled + size], buffers=buffers)

    @staticmethod
    def _buffers(view: memoryview, table: memoryview, at: int) -> Iterator[bytearray]:
        for kind, stored, size in _BUFFER.iter_unpack(table):
            if kind == _BLOSC2:
                raise pickle.UnpicklingError(
                    "the value is compressed with blosc2, which only SciQLop-cache reads: write it again with "
                    "PickleOOBSerializer(compress=False)"
                )
            if kind != _RAW:
                raise pickle.UnpicklingError(f"a buffer of unknown codec {kind}")
            if stored != size:
                raise pickle.UnpicklingError(f"size mismatch: {stored} bytes stored of {size}")
            if at + stored > len(view):
                raise pickle.UnpicklingError("the value ends before its buffers do")
            yield bytearray(view[at : at + stored])
            at += stored


_BY_NAME: dict[str, type[PickleSerializer | MsgspecSerializer | PickleOOBSerializer]] = {
    kind.name: kind for kind in (PickleSerializer, MsgspecSerializer, PickleOOBSerializer)
}

READS_ALSO = {"pickle-oob": "pickle"}
"""Serializers that can also read the values of another one. A directory may change to such a serializer."""


def get_serializer_by_name(name: str) -> Serializer:
    """A serializer by the name that directories record.

    Raises:
        ValueError: There is none of that name.

    >>> get_serializer_by_name("pickle-oob").name
    'pickle-oob'
    """
    if name not in _BY_NAME:
        raise ValueError(f"Unknown serializer: {name!r}; there are {', '.join(_BY_NAME)}")
    return _BY_NAME[name]()


class DiskSerializer:
    """An adapter of a serializer for `flexcache_rs.disk`. Keys are always pickles."""

    def __init__(self, serializer: Serializer) -> None:
        self.serializer = serializer
        self.name = serializer.name

    def dumps(self, value: Any, protocol: int, /) -> bytes:
        """Return the bytes for a value."""
        del protocol
        return self.serializer.dumps(value)

    def loads(self, data: bytes, /) -> Any:
        """Return the value for bytes."""
        return self.serializer.loads(data)

    def dumps_key(self, key: Any, protocol: int, /) -> bytes:
        """Return the pickle of a key, in the same form as in a cache without a serializer."""
        return pickletools.optimize(pickle.dumps(key, protocol))

    def loads_key(self, data: bytes, /) -> Any:
        """Return the key of a pickle. Classes are loaded only if the values are pickles too."""
        return pickle.loads(data) if self.name.startswith("pickle") else load_allowed(data, frozenset())
