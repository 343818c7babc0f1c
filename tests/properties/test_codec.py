"""Whatever the annotation: a value is refused when it is sent, or it comes back as it was."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import math
import uuid
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple

import hypothesis.strategies as st
import pydantic
import pytest
from hypothesis import given

from angelrt import InvalidArguments
from angelrt.codec import Signature, ValueCodec


class Size(enum.Enum):
    SMALL = "small"
    LARGE = 2


class Point(NamedTuple):
    x: int
    y: float


class Base(pydantic.BaseModel):
    name: str


class Derived(Base):
    secret: int


class Shape(NamedTuple):
    """An annotation, and the values that fit it."""

    annotation: Any
    values: st.SearchStrategy[Any]


def _optional(inner: Shape) -> Shape:
    return Shape(inner.annotation | None, st.none() | inner.values)


def _list(inner: Shape) -> Shape:
    return Shape(list[inner.annotation], st.lists(inner.values, max_size=4))  # type: ignore[name-defined]


def _dict(inner: Shape) -> Shape:
    return Shape(dict[str, inner.annotation], st.dictionaries(st.text(max_size=5), inner.values, max_size=4))  # type: ignore[name-defined]


def _by_number(inner: Shape) -> Shape:
    return Shape(dict[int, inner.annotation], st.dictionaries(st.integers(), inner.values, max_size=4))  # type: ignore[name-defined]


def _pair(inner: Shape) -> Shape:
    return Shape(tuple[inner.annotation, int], st.tuples(inner.values, st.integers()))  # type: ignore[name-defined]


def _dataclass(inner: Shape) -> Shape:
    made = dataclasses.make_dataclass("Made", [("first", inner.annotation), ("second", int, 3)])
    return Shape(made, st.builds(made, inner.values, st.integers()))


def _model(inner: Shape) -> Shape:
    made = pydantic.create_model("Made", first=(inner.annotation, ...), second=(str, "x"))
    return Shape(made, st.builds(made, first=inner.values, second=st.text(max_size=5)))


zones = st.sampled_from((dt.UTC, dt.timezone(dt.timedelta(hours=-3, minutes=-30)), None))
leaves = st.sampled_from(
    (
        Shape(int, st.integers(-(2**63), 2**64 - 1)),
        Shape(str, st.text()),
        Shape(bool, st.booleans()),
        Shape(float, st.floats(allow_nan=False, allow_infinity=False)),
        Shape(dt.datetime, st.datetimes(timezones=zones, allow_imaginary=False)),
        Shape(dt.date, st.dates()),
        Shape(dt.timedelta, st.timedeltas(dt.timedelta(-300), dt.timedelta(300))),
        Shape(uuid.UUID, st.uuids()),
        Shape(decimal.Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
        Shape(bytes, st.text().map(str.encode)),
        Shape(Size, st.sampled_from(Size)),
        Shape(Literal["a", 1], st.sampled_from(("a", 1))),
        Shape(Point, st.builds(Point, st.integers(), st.floats(allow_nan=False, allow_infinity=False))),
        Shape(PurePosixPath, st.from_regex(r"[a-z]{1,5}(/[a-z]{1,5}){0,3}", fullmatch=True).map(PurePosixPath)),
        Shape(set[int], st.sets(st.integers(), max_size=4)),
        Shape(Base, st.builds(Base, name=st.text(max_size=5))),
    )
)
wraps = st.sampled_from((_optional, _list, _dict, _by_number, _pair, _dataclass, _model))
shapes = st.recursive(leaves, lambda inner: st.builds(lambda wrap, one: wrap(one), wraps, inner), max_leaves=3)

# What no annotation of Any can bring back, each for a reason of its own.
hopeless = st.sampled_from(
    (
        math.nan,
        -math.inf,
        (1, 2),
        {1, 2},
        {1: "a number as a key"},
        b"bytes",
        "\ud800",
        object(),
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        Point(1, 2.0),
        Base(name="a model"),
    )
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def _same(one: Any, other: Any) -> bool:
    """Equal and of equal types all the way down: 1, 1.0 and True are three values."""
    if type(one) is not type(other) or one != other:
        return False
    if isinstance(one, dict):
        return list(map(type, one)) == list(map(type, other)) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return all(map(_same, one, other))
    return True


@given(data=st.data(), shape=shapes)
def test_what_fits_its_annotation_comes_back(data: st.DataObject, shape: Shape) -> None:
    value = data.draw(shape.values)
    codec = ValueCodec(shape.annotation, "value")
    assert _same(codec.decode(codec.encode(value)), value)


@given(value=plain)
def test_plain_data_comes_back_without_an_annotation(value: Any) -> None:
    codec = ValueCodec(Any, "value")
    assert _same(codec.decode(codec.encode(value)), value)


@given(bad=hopeless, around=st.lists(st.sampled_from(("list", "dict", "field")), max_size=4), beside=plain)
def test_one_part_that_would_not_come_back_refuses_the_whole(bad: Any, around: list[str], beside: Any) -> None:
    value = bad
    for wrap in around:
        value = [beside, value] if wrap == "list" else {"beside": beside, "value": value}
    with pytest.raises(InvalidArguments, match=r"^value: "):
        ValueCodec(Any, "value").encode(value)


@given(
    value=st.builds(Derived, name=st.text(), secret=st.integers()), shape=st.sampled_from((Base, list[Base], Base | None, dict[str, Base]))
)
def test_fields_that_the_annotation_does_not_name_are_not_lost(value: Derived, shape: Any) -> None:
    wrapped = {list[Base]: [value], dict[str, Base]: {"a": value}}.get(shape, value)
    with pytest.raises(InvalidArguments):
        ValueCodec(shape, "value").encode(wrapped)


@given(data=st.data(), first=shapes, second=shapes)
def test_what_does_not_fit_its_annotation_is_refused_or_becomes_what_fits(data: st.DataObject, first: Shape, second: Shape) -> None:
    codec = ValueCodec(first.annotation, "value")
    try:
        encoded = codec.encode(data.draw(second.values))
    except InvalidArguments:
        return
    taken = codec.decode(encoded)
    assert codec.decode(codec.encode(taken)) == taken


@given(path=st.text(), size=st.integers(-(2**63), 2**64 - 1), positional=st.integers(0, 2), leave_out=st.booleans())
def test_a_call_comes_back_by_name(path: str, size: int, positional: int, *, leave_out: bool) -> None:
    def thumbnail(path: str, size: int = 256) -> None: ...

    given_arguments = {"path": path} if leave_out else {"path": path, "size": size}
    args = tuple(given_arguments.values())[:positional]
    kwargs = dict(list(given_arguments.items())[positional:])
    signature = Signature(thumbnail, "thumbnail")
    assert signature.decode(signature.encode(args, kwargs)) == given_arguments
