"""Serializers for untrusted data: what a pickle may do, claim and change, and which values would change in storage."""

from __future__ import annotations

import collections
import contextlib
import copyreg
import dataclasses
import datetime as dt
import decimal
import enum
import importlib.util
import io
import pickle
import pickletools
import subprocess
import sys
import uuid
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flexcache_rs.disk import (
    Cache,
    JSONSerializer,
    MsgspecSerializer,
    PickleSerializer,
    SignedPickleSerializer,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

HAS_MSGSPEC = importlib.util.find_spec("msgspec") is not None


class User:
    def __init__(self) -> None:
        self.name = "Ann"

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


class Slotted:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Slotted) and self.value == other.value

    __hash__ = None  # type: ignore[assignment]


class Color(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: int
    y: list[int]


class Table(dict[str, int]):
    pass


class TroubleError(Exception):
    pass


REGISTRY: dict[Any, Any] = {}
LISTED: list[Any] = []


class Meta(type):
    def __new__(cls) -> Any:
        return User


def a_module() -> ModuleType:
    return sys.modules["app"]


def a_method() -> Any:
    return User().__eq__


def a_builtin() -> Any:
    return len


def the_class() -> type:
    return User


NAMES = [
    *("User", "Slotted", "Color", "Level", "Point", "Table", "TroubleError", "REGISTRY", "LISTED", "the_class"),
    *("a_module", "a_method", "a_builtin", "Meta"),
]
ALLOWED = [
    *(f"app.{name}" for name in NAMES),
    *(f"collections.{name}" for name in ("OrderedDict", "deque", "defaultdict")),
    *(f"datetime.{name}" for name in ("date", "datetime", "timedelta", "timezone")),
    *(
        f"builtins.{name}"
        for name in ("complex", "set", "frozenset", "bytes", "bytearray", "list", "object", "type", "dict")
    ),
    *("decimal.Decimal", "uuid.UUID", "copyreg._reconstructor", "_codecs.encode"),
]


@pytest.fixture(autouse=True)
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module that pickles refer to."""
    module = ModuleType("app")
    for name in NAMES:
        monkeypatch.setattr(module, name, globals()[name], raising=False)
        if isinstance(globals()[name], type):
            monkeypatch.setattr(globals()[name], "__module__", "app")
    monkeypatch.setitem(sys.modules, "app", module)
    yield module
    assert not hasattr(User, "is_admin")
    assert Color.RED.value == 1
    assert (REGISTRY, LISTED) == ({}, [])


def with_attributes(thing: Any) -> Any:
    thing.note = "attribute"
    return thing


OBJECTS: list[Any] = [
    *(User(), Slotted(), Color.RED, Level.LOW, Point(1, [2]), [Point(1, [2])] * 2, User, [User, Color]),
    *(Table(a=1), with_attributes(Table(a=1)), TroubleError("text"), with_attributes(TroubleError("text"))),
    *(collections.OrderedDict(a=1), collections.deque([1, 2], 5), collections.defaultdict(list, a=[1])),
    *(dt.date(2030, 1, 1), dt.datetime(2030, 1, 1, tzinfo=dt.timezone.utc), dt.timedelta(1)),
    *(decimal.Decimal("1.5"), uuid.UUID(int=5), {1, 2}, frozenset([3]), 2j, bytearray(b"x" * 300)),
    *([None, True, 1.5, "x" * 300, b"y" * 300, 2**100, -5, 70_000, (1, 2, 3, 4), ()], "\xe4" * 70_000, [[]] * 300),
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("place", range(len(OBJECTS)))
def test_what_is_allowed_comes_back(place: int, protocol: int) -> None:
    """Allowed objects return with every protocol, including their state."""
    thing = OBJECTS[place]
    if protocol < 2 and isinstance(thing, Slotted):
        pytest.skip("Python does not pickle it")
    serializer = PickleSerializer(ALLOWED)
    found = serializer.loads(serializer.dumps(thing, protocol))
    assert type(found) is type(thing)
    if isinstance(thing, Exception):
        assert (found.args, vars(found)) == (thing.args, vars(thing))
    else:
        assert found == thing
    assert getattr(found, "note", None) == getattr(thing, "note", None)


CLASS = b"capp\nUser\n"
STATE = b"N}\x8c\x08is_admin\x88s\x86"
CHANGES = {
    "a class": CLASS + STATE + b"b.",
    "a class, from the memo": CLASS + b"\x940h\x00" + STATE + b"b.",
    "a class, doubled": CLASS + b"2" + STATE + b"b.",
    "a class, found by the stack": b"\x8c\x03app\x8c\x04User\x93" + STATE + b"b.",
    "a class, with a state of its own": CLASS + b"}\x8c\x08is_admin\x88sb.",
    "what a function returns": b"capp\nthe_class\n)R" + STATE + b"b.",
    "what a class returns": b"cbuiltins\ntype\n" + CLASS + b")\x81\x85R" + STATE + b"b.",
    "what a metaclass makes": b"capp\nMeta\n)\x81" + STATE + b"b.",
    **{
        f"a {kind} that a function returns": f"capp\na_{kind}\n)R".encode() + STATE + b"b."
        for kind in ("module", "method", "builtin")
    },
    "what an old opcode makes": b"(capp\nthe_class\no" + STATE + b"b.",
    "what another makes": b"(iapp\nthe_class\n" + STATE + b"b.",
    "an enum's member": b"capp\nColor\nK\x01\x85RN}\x8c\x07_value_K\x63s\x86b.",
    "an enum's member, made": b"capp\nColor\nK\x01\x85\x81N}\x8c\x07_value_K\x63s\x86b.",
    "a dict": b"capp\nREGISTRY\nK\x01K\x02s.",
    "a dict, by many": b"capp\nREGISTRY\n(K\x01K\x02u.",
    "a list": b"capp\nLISTED\nK\x01a.",
    "a list, by many": b"capp\nLISTED\n(K\x01e.",
    "a set": b"capp\nLISTED\n(K\x01\x90.",
}
CLAIMS = {
    "a frame": b"\x95" + b"\xff" * 7 + b"\x7fN.",
    "bytes": b"B\xff\xff\xff\xff.",
    "more bytes": b"\x8e\x00\x00\x00\x00\x01\x00\x00\x00.",
    "a bytearray": b"\x96\x00\x00\x00\x00\x01\x00\x00\x00.",
    "text": b"X\xff\xff\xff\x7f.",
    "more text": b"\x8d\x00\x00\x00\x00\x01\x00\x00\x00.",
    "a number": b"\x8b\xff\xff\xff\x7f.",
    "old text": b"T\xff\xff\xff\x7f.",
    "short bytes": b"C\xff.",
    "a memo slot": b"Nr\xff\xff\xff\x7f.",
    "a memo slot in letters": b"Np2147483647\n.",
    "a memo slot with a sign": b"Np-1\n.",
    "a memo slot with a line": b"Np1_0\n.",
    "a slot that is empty": b"g5\n.",
}
AROUND = {
    "an extension": b"\x82\x01.",
    "a wider extension": b"\x84\x01\x00\x00\x00.",
    "a persistent id": b"Pid\n.",
    "a persistent object": b"NQ.",
    "a buffer": b"\x97.",
    "a read-only buffer": b"\x97\x98.",
    "an old opcode": b"(ios\nsystem\n.",
    "another": b"(cos\nsystem\nVx\no.",
    "a module": b"cos\nsystem\n(S'echo'\ntR.",
    "a path": b"\x8c\x03app\x8c\x0dUser.__init__\x93.",
    "nothing": b"",
    "no end": b"N",
    "too little on the stack": b"0.",
    "no mark": b"t.",
    "a mark as an argument": b"(R.",
    "no opcode": b"\xff.",
}


@pytest.mark.parametrize("name", [*CHANGES, *CLAIMS, *AROUND])
def test_what_a_pickle_may_not(name: str) -> None:
    """A pickle may not change foreign objects, claim more memory than it has, or find names that are not allowed."""
    body = {**CHANGES, **CLAIMS, **AROUND}[name]
    for start in (b"", b"\x80\x02", b"\x80\x04", b"\x80\x05"):
        with pytest.raises(pickle.UnpicklingError):
            PickleSerializer(ALLOWED).loads(start + body)


def test_names_of_python_2() -> None:
    """Names of Python 2 are replaced before they are checked, because `commands` is `subprocess` there."""
    allowed = PickleSerializer(["commands.getoutput"])
    with pytest.raises(pickle.UnpicklingError, match="subprocess"):
        allowed.loads(b"\x80\x02ccommands\ngetoutput\n.")


def test_an_extension_that_is_known() -> None:
    """Python's cache of extensions does not circumvent the check."""
    copyreg.add_extension("app", "User", 0x7F001)
    try:
        pickled = pickle.dumps(User, 4)
        assert pickle.loads(pickled) is User
        with pytest.raises(pickle.UnpicklingError):
            PickleSerializer(["datetime.date"]).loads(pickled)
    finally:
        copyreg.remove_extension("app", "User", 0x7F001)
        copyreg.clear_extension_cache()


def test_claims_take_no_memory() -> None:
    """Excessive claims allocate nothing, in a process with little memory."""
    program = """
import pickle, resource, sys
from flexcache_rs.disk import PickleSerializer
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
for claim in pickle.loads(sys.stdin.buffer.read()):
    try:
        PickleSerializer().loads(claim)
    except pickle.UnpicklingError:
        print("refused")
"""
    if importlib.util.find_spec("resource") is None:
        pytest.skip("there are no limits")
    claims = pickle.dumps(list(CLAIMS.values()))
    done = subprocess.run([sys.executable, "-c", program], input=claims, capture_output=True, timeout=60, check=False)
    assert done.stdout.decode().split() == ["refused"] * len(CLAIMS), done.stderr


def as_python_loads(data: bytes) -> list[str]:
    """Return the objects that Python loads from bytes and from a file. They differ if a frame ends too early."""
    found: list[str] = []
    for load in (pickle.loads, lambda data: pickle.load(io.BytesIO(data))):
        with contextlib.suppress(Exception):
            found.append(repr(load(data)))
    return found


@given(st.binary(max_size=60))
def test_whatever_there_is(data: bytes) -> None:
    """Each object is loaded as Python loads it, or the call raises."""
    try:
        found = PickleSerializer().loads(data)
    except Exception:
        return
    assert repr(found) in as_python_loads(data)


simple = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5)


@example(((0, -1), (0, b"\0")), 4, 3, 4)
@given(
    st.recursive(simple, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner)),
    st.integers(0, pickle.HIGHEST_PROTOCOL),
    st.integers(0, 200),
    st.integers(0, 255),
)
def test_pickles_with_a_byte_changed(thing: Any, protocol: int, place: int, byte: int) -> None:
    """A changed pickle raises, or is loaded as Python loads it."""
    data = bytearray(PickleSerializer().dumps(thing, protocol))
    assert PickleSerializer(ALLOWED).loads(bytes(data)) == thing
    data[place % len(data)] = byte
    try:
        found = PickleSerializer(["_codecs.encode", "builtins.bytes"]).loads(bytes(data))
    except Exception:
        return
    assert repr(found) in as_python_loads(bytes(data))


def test_keys_and_values_of_a_cache() -> None:
    """The same check applies to keys and to values."""
    cache = Cache(serializer=PickleSerializer(["app.User"]))
    cache["user"] = User()
    assert cache["user"] == User()
    cache[("key", User)] = 1
    assert list(cache) == ["user", ("key", User)]


@pytest.mark.parametrize("allow", ["app.User", b"app.User", [User], ["User"], [b"app.User"], [None], 5])
def test_names_that_allow_nothing(allow: Any) -> None:
    """Invalid names are refused by the constructor."""
    for make in (PickleSerializer, lambda allow: SignedPickleSerializer(b"x" * 16, allow=allow)):
        with pytest.raises((TypeError, ValueError)):
            make(allow)


@pytest.mark.parametrize("allow", ["app.User", b"app.User"])
def test_a_single_name_is_no_collection(allow: Any) -> None:
    with pytest.raises(TypeError, match="not the single name"):
        PickleSerializer(allow)


@pytest.mark.parametrize("secret", ["a str of 16 letters", bytearray(16), 16, [b"x" * 16], b"short"])
def test_secrets(secret: Any) -> None:
    """Secrets must be bytes, and messages do not show them."""
    for make in (SignedPickleSerializer, lambda secret: SignedPickleSerializer(b"x" * 16, [secret])):
        with pytest.raises((TypeError, ValueError)) as raised:
            make(secret)
        assert repr(secret) not in str(raised.value)
    for several in (b"x" * 16, "x" * 16):
        with pytest.raises(TypeError, match="old_keys"):
            SignedPickleSerializer(b"x" * 16, several)  # type: ignore[arg-type]


CHANGING: list[Any] = [
    *({1, 2}, frozenset([1]), bytearray(b"x"), dt.date(2030, 1, 1), dt.timedelta(1), dt.datetime(2030, 1, 1)),
    *(uuid.UUID(int=1), decimal.Decimal(1), Color.RED, Level.LOW, Point(1, []), [[{"a": {1}}]], {"a": (1, {2})}),
    *(Table(a=1), User(), {(1, 2): 3}, {Level.LOW: 1}),
]


@pytest.mark.parametrize("place", range(len(CHANGING)))
def test_what_would_come_back_as_another_type(place: int) -> None:
    """Such a value is refused when it is stored."""
    serializers: list[Any] = [JSONSerializer(), *([MsgspecSerializer()] if HAS_MSGSPEC else [])]
    for serializer in serializers:
        cache = Cache(serializer=serializer)
        with pytest.raises(TypeError):
            cache["a"] = CHANGING[place]
        assert "a" not in cache


@pytest.mark.parametrize("value", [{1: 2}, {None: 1}, {True: 1}, {1.5: 1}, b"bytes", [b"bytes"]], ids=repr)
def test_what_json_would_change(value: Any) -> None:
    """Values with keys that JSON would change to text are refused."""
    with pytest.raises(TypeError):
        JSONSerializer().dumps(value, 0)


def test_what_message_pack_keeps() -> None:
    """MessagePack keeps some of these values unchanged."""
    pytest.importorskip("msgspec")
    moment = dt.datetime(2030, 1, 1, tzinfo=dt.timezone.utc)
    value = {1: {"a": [1.5, None, b"x", moment]}, None: True, 2.5: ["x"]}
    serializer = MsgspecSerializer()
    assert serializer.loads(serializer.dumps(value, 0)) == value
    assert serializer.loads(serializer.dumps((1, [(2,)]), 0)) == [1, [[2]]]
    typed = MsgspecSerializer(Point)
    assert typed.loads(typed.dumps(Point(1, [2]), 0)) == Point(1, [2])


def test_what_refers_to_itself() -> None:
    """A value that contains itself raises."""
    value: list[Any] = []
    value.append(value)
    for serializer in [JSONSerializer(), *([MsgspecSerializer()] if HAS_MSGSPEC else [])]:
        with pytest.raises((ValueError, RecursionError)):
            serializer.dumps(value, 0)


def test_a_dict_that_another_thread_changes() -> None:
    """A dict may become larger while its keys are checked."""
    value = {"a": 1, "b": 2}

    def trace(frame: Any, event: str, _: object) -> Any:
        if frame.f_code.co_name != "_refuse_changes":
            return None
        if event == "line" and "key" in frame.f_locals:
            value["more"] = 3
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        JSONSerializer().dumps(value, 0)
    finally:
        sys.settrace(before)
    assert "more" in value


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_keys_with_a_signature_have_the_same_form_as_without(protocol: int) -> None:
    """A key is found by its bytes, whatever the serializer of the values is."""
    key = ("key", ("of", 1), b"parts")
    signed, plain = SignedPickleSerializer(b"x" * 16), PickleSerializer()
    assert signed.dumps_key(key, protocol) == plain.dumps_key(key, protocol) == optimized(key, protocol)


def optimized(key: Any, protocol: int) -> bytes:
    """The form of a key without a serializer."""
    return pickletools.optimize(pickle.dumps(key, protocol))


def test_keys_of_message_pack_have_one_form() -> None:
    """The order of a set differs from process to process."""
    pytest.importorskip("msgspec")
    serializer, names = MsgspecSerializer(), [f"name {number}" for number in range(10, 30)]
    assert serializer.dumps_key(frozenset(names), 0) == serializer.dumps_key(tuple(names), 0)
