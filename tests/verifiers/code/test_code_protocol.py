"""What crosses between a program and its tests: the same data on the other side, and nothing but data."""

from __future__ import annotations

import contextlib
import json
import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.verifiers.code.inside import protocol
from potstill.verifiers.code.inside.protocol import Broken, Link, Reader, Writer


def refuse(value):
    raise Broken(f"no data: {value!r}"[:80])


def sent(value):
    """The value after a trip as JSON text."""
    return Reader(refuse).get(json.loads(json.dumps(Writer(refuse).put(value))))


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.fractions(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers()), inner)
        | st.frozensets(st.integers() | st.text())
    ),
    max_leaves=20,
)


@given(plain)
@settings(deadline=None)
@pytest.mark.slow
def test_data_arrives_as_it_was(value):
    arrived = sent(value)
    assert arrived == value and type(arrived) is type(value)
    assert "frozenset" in repr(value) or repr(arrived) == repr(
        value
    )  # the order in a set is anybody's


def test_subclasses_arrive_as_the_builtin():
    for base, value in (
        (int, 3),
        (str, "a"),
        (float, 1.5),
        (list, [1]),
        (dict, {1: 2}),
        (set, {1}),
        (bytes, b"x"),
    ):
        kind = type("Sly", (base,), {"__eq__": lambda *_: True, "__hash__": base.__hash__})
        arrived = sent(kind(value))
        assert type(arrived) is base and arrived == value and arrived != (None,)


def test_cycles_and_aliases():
    inner: list[object] = [1]
    value = {"a": inner, "b": inner}
    inner.append(value)
    arrived = sent(value)
    assert arrived["a"] is arrived["b"] and arrived["a"][1] is arrived


def test_what_is_no_data_is_refused():
    for value in (object(), lambda: 1, type("C", (), {}), iter([]), open(os.devnull).close):  # noqa: SIM115
        with pytest.raises(Broken):
            sent(value)


tags = st.sampled_from(
    [
        *protocol._VALUE_TAGS,
        *protocol._CONTAINERS,
        "h",
        "F",
        "g",
        "_class__",
        "_init__",
        "_setattr__",
        "_fill",
        "x",
    ]
)
hostile = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.builds(lambda tag, rest: [tag, *rest], tags, st.lists(inner, max_size=4))
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=12,
)


@given(hostile)
@settings(deadline=None)
@pytest.mark.slow
def test_a_hostile_message_is_data_or_broken(message):
    reader = Reader(refuse)
    try:
        value = reader.get(message)
    except (Broken, RecursionError):
        return
    assert reader.resolve is refuse
    assert harmless(value, set()), value


def harmless(value, seen) -> bool:
    """Whether a value is made of data alone."""
    if id(value) in seen:
        return True
    seen.add(id(value))
    if isinstance(value, dict):
        return all(harmless(part, seen) for item in value.items() for part in item)
    if (
        isinstance(value, list | tuple | set | frozenset | protocol.collections.deque)
        or type(value) in protocol._VIEWS
    ):
        return all(harmless(part, seen) for part in list(value)[:100])
    modules = ("builtins", "fractions", "decimal", "datetime")
    return type(value).__module__ in modules and not callable(value)


@pytest.mark.parametrize(
    "name", ["_class__", "_init__", "_getattribute__", "_setattr__", "_reduce__", "_dict__"]
)
def test_no_attribute_can_be_named_by_the_other_side(name):
    reader = Reader(refuse)
    with pytest.raises(Broken):
        reader.get([name, "resolve", None])
    assert reader.resolve is refuse


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02{]",
        b"\x00\x00\x00\x04nope",
        (200_000).to_bytes(4, "big") + b"[" * 200_000,
        b"\x00\x00\x00\x03\xff\xfe\xfd",
    ],
)
def test_frames_that_are_none(data):
    ours, theirs = os.pipe()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), open(theirs, "wb") as file:
            file.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    with pytest.raises(Broken):
        Link(ours).receive()
    os.close(ours)
    writer.join()


@pytest.mark.parametrize("data", [b"", b"\x00\x00", b"\x00\x00\x00\x09{}"])
def test_an_end_in_the_middle_is_an_end(data):
    ours, theirs = os.pipe()
    os.write(theirs, data)
    os.close(theirs)
    assert Link(ours).receive() is None
    os.close(ours)
