"""Values to JSON and back: each type that comes back as it was sent, and each value that would not and is refused."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr
from typing_extensions import TypedDict

from angelrt import ConfigError, InvalidArguments, PayloadTooLarge, ResultDecodeError
from angelrt.codec import Signature, ValueCodec, decode_any
from angelrt.config import PAYLOAD_MAX_BYTES

if TYPE_CHECKING:
    from fractions import Fraction


class Colour(Enum):
    """An enumeration of text."""

    RED = "red"


class Level(IntEnum):
    """An enumeration of numbers."""

    LOW = 1


class Word(StrEnum):
    """An enumeration that is text."""

    YES = "yes"


@dataclass
class Point:
    """A base class."""

    x: int
    y: float = 0.0


@dataclass
class Point3(Point):
    """Has a field that its base class lacks."""

    z: int = 0


class Size(BaseModel):
    """A base model."""

    width: int
    name: str | None = None


class Box(Size):
    """Has a field that its base model lacks."""

    depth: int = 3


class Pair(NamedTuple):
    """A tuple with names."""

    first: int
    second: str


class Row(TypedDict):
    """A dictionary with known keys."""

    number: int


class Record:
    """What an object-relational mapper hands out: no plain data, and an identity."""

    def __init__(self) -> None:
        """Have an id, as a row has."""
        self.id = 7


def nested(depth: int) -> list[Any]:
    """Make lists in lists."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def names(cases: list[tuple[Any, Any]]) -> list[str]:
    """Name cases by their number and the types."""
    return [f"{n}-{getattr(annotation, '__name__', annotation)}-{type(value).__name__}" for n, (annotation, value) in enumerate(cases)]


COMES_BACK: list[tuple[Any, Any]] = [
    *((int, value) for value in (0, -1, 2**63, 2**64 - 1, -(2**63))),
    *((str, value) for value in ("", "größe", "a\0b\n\u2028", "🙂", "\ufffe")),
    *((float, value) for value in (0.1, -0.0, 1e308, 5e-324)),
    (bool, True),
    (None, None),
    (bytes, b"text"),
    (list[int], [1, 2**64]),
    (list[Any], [1, "a", None, {"b": [True, 1.5]}]),
    (set[int], {1, 2}),
    (frozenset[str], frozenset("ab")),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2, 3)),
    (dict[str, float], {"a": 1.0}),
    (dict[int, str], {1: "a"}),
    (datetime, datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)),
    (datetime, datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))),
    (datetime, datetime(2026, 1, 2, 3, 4, 5)),  # noqa: DTZ001 - one without a zone stays without one
    (date, date(2026, 1, 2)),
    (time, time(3, 4, 5)),
    (timedelta, timedelta(days=1, microseconds=1)),
    (Decimal, Decimal("1.10")),
    (uuid.UUID, uuid.UUID(int=7)),
    (Path, Path("/a/b")),
    (PurePosixPath, PurePosixPath("a")),
    (Colour, Colour.RED),
    (Level, Level.LOW),
    (Literal["a", "b"], "a"),
    (int | None, None),
    (int | str, "1"),
    (float | int, 1),
    (Point, Point(1, 2.5)),
    (Size, Size(width=1)),
    (Box, Box(width=1)),
    (Box | Point, Point(1)),
    (Point | Box, Box(width=1)),
    (list[Size], [Size(width=1), Size(width=2, name="b")]),
    (Pair, Pair(1, "a")),
    (Row, {"number": 1}),
    (Any, {"a": [1, 2.5, None, True, "x", 2**64]}),
]

LOST: list[tuple[Any, Any]] = [
    *((annotation, value) for annotation in (float, Any) for value in (math.nan, math.inf, -math.inf)),
    (list[float], [1.0, math.nan]),
    (dict[str, Any], {"a": {"b": math.nan}}),
    (Point, Point(1, math.nan)),
    (Point, Point3(1, 2.0, 3)),
    (list[Point], [Point3(1)]),
    (Size, Box(width=1)),
    (dict[str, Size], {"a": Box(width=1)}),
    (Any, Point(1)),
    (Any, Size(width=1)),
    (Any, {1, 2}),
    (Any, (1, 2)),
    (Any, Pair(1, "a")),
    (Any, datetime(2026, 1, 2, tzinfo=UTC)),
    (Any, Decimal("1.5")),
    (Any, uuid.UUID(int=7)),
    (Any, Path("/a")),
    (Any, Colour.RED),
    (Any, b"text"),
    (Any, {1: "a"}),
    (object, {1, 2}),
    (dict, {1: "a"}),
    (list, [(1, 2)]),
    (SecretStr, SecretStr("hidden")),
    (Any, nested(230)),
]

WITHOUT_JSON: list[tuple[Any, Any]] = [
    (int, 2**64),
    (int, -(2**63) - 1),
    (str, "\ud800"),
    (Any, "\udfff"),
    (bytes, b"\xff\xfe"),
    (Any, Record()),
    (Any, [Record()]),
    (Any, object()),
    (Any, print),
    (Any, nested(3_000)),
]

DOES_NOT_FIT: list[tuple[Any, Any]] = [
    (int, "many"),
    (int, 1.5),
    (int, None),
    (str, 1),
    (bool, "perhaps"),
    (list[int], ["a"]),
    (Literal["a", "b"], "c"),
    (Colour, "green"),
    (Size, {"width": "wide"}),
    (Row, {}),
    (None, 1),
    (Decimal, Decimal("NaN")),
    (Annotated[int, Field(gt=3)], 3),
]

WITHOUT_SCHEMA: list[Any] = [Record, list[Record], range, Iterator[int], Exception, Record | None]


def encoded(annotation: Any, value: Any) -> bytes:
    """Encode one value as an argument."""
    return ValueCodec(annotation, "arguments of actor f").encode(value)


@pytest.mark.parametrize(("annotation", "value"), COMES_BACK, ids=names(COMES_BACK))
def test_what_has_a_json_form_comes_back_equal_and_of_its_type(annotation: Any, value: Any) -> None:
    again = ValueCodec(annotation, "v").decode(encoded(annotation, value))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize(("annotation", "value"), LOST, ids=names(LOST))
def test_what_would_lose_something_is_refused_with_the_cause_and_a_remedy(annotation: Any, value: Any) -> None:
    with pytest.raises(InvalidArguments) as caught:
        encoded(annotation, value)
    assert str(caught.value).startswith("arguments of actor f: would not come back as it was sent")


def test_the_words_for_a_loss_name_what_helps() -> None:
    with pytest.raises(InvalidArguments) as caught:
        encoded(Point, Point3(1))
    for words in ("a subclass loses its fields", "NaN", "widen the annotation", "pass an id"):
        assert words in str(caught.value)


@pytest.mark.parametrize(("annotation", "value"), WITHOUT_JSON, ids=names(WITHOUT_JSON))
def test_what_has_no_json_form_is_refused_and_an_id_is_the_way_out(annotation: Any, value: Any) -> None:
    with pytest.raises(InvalidArguments) as caught:
        encoded(annotation, value)
    assert str(caught.value).startswith("arguments of actor f: no JSON form: ")
    assert str(caught.value).endswith("; pass plain data or an id")


@pytest.mark.parametrize("annotation", [int, int | None, list[int]], ids=str)
def test_an_enumeration_of_text_is_no_number(annotation: Any) -> None:
    with pytest.raises(InvalidArguments):
        encoded(annotation, [Colour.RED] if annotation == list[int] else Colour.RED)


def test_a_circle_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(InvalidArguments, match="Circular reference"):
        encoded(Any, circle)


@pytest.mark.parametrize(("annotation", "value"), DOES_NOT_FIT, ids=names(DOES_NOT_FIT))
def test_what_does_not_fit_its_annotation_is_refused(annotation: Any, value: Any) -> None:
    with pytest.raises(InvalidArguments, match=r"^arguments of actor f: \S+: "):
        encoded(annotation, value)


def test_the_words_for_a_misfit_name_the_field_and_never_the_value() -> None:
    with pytest.raises(InvalidArguments) as caught:
        encoded(list[Size], [{"width": 1}, {"width": "s3cret", "name": 5}])
    assert "1.width: Input should be a valid integer" in str(caught.value)
    assert "1.name: Input should be a valid string" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("annotation", WITHOUT_SCHEMA, ids=repr)
def test_an_annotation_without_a_json_form_is_a_config_error(annotation: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        ValueCodec(annotation, "result of actor f")
    assert str(caught.value).startswith("result of actor f: the annotation has no JSON form: ")
    assert str(caught.value).endswith("; use plain data, a pydantic model or a dataclass")


def test_a_payload_may_be_one_mebibyte_and_not_a_byte_more() -> None:
    fits = "x" * (PAYLOAD_MAX_BYTES - 2)  # with its two quotes
    assert len(encoded(str, fits)) == PAYLOAD_MAX_BYTES
    with pytest.raises(PayloadTooLarge) as caught:
        encoded(str, fits + "x")
    assert str(caught.value) == (
        "arguments of actor f: 1,048,577 bytes of JSON, the limit is 1,048,576: store the data elsewhere and pass its key"
    )


def test_the_limit_counts_bytes_and_not_characters() -> None:
    with pytest.raises(PayloadTooLarge):
        encoded(str, "é" * (PAYLOAD_MAX_BYTES // 2))
    with pytest.raises(PayloadTooLarge):
        encoded(Any, ["é" * (PAYLOAD_MAX_BYTES // 2)])


PLAIN_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN_JSON)
def test_plain_data_always_comes_back_equal(value: Any) -> None:
    codec = ValueCodec(Any, "v")
    assert codec.decode(codec.encode(value)) == value
    assert decode_any(codec.encode(value)) == value


@given(
    st.tuples(
        st.text(st.characters()) | st.sampled_from([Word.YES, 1, b"x", None]),
        st.integers() | st.booleans() | st.sampled_from([Level.LOW, "1", 1.0, 2**64, None]),
        st.booleans() | st.sampled_from([0, 1, 2, "yes"]),
        st.none() | st.just(0),
    )
)
def test_values_of_just_their_types_are_encoded_by_position_as_those_that_are_validated_by_name(values: tuple[Any, ...]) -> None:
    def work(text: str, number: int, flag: bool, nothing: None) -> None: ...  # noqa: FBT001

    signature = Signature(work, "work")

    def outcome(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes | str:
        try:
            return signature.encode(args, kwargs)
        except InvalidArguments:
            return "refused"

    assert outcome(values, {}) == outcome((), dict(zip(("text", "number", "flag", "nothing"), values, strict=True)))
    assert outcome(values, {"flag": True}) == "refused"


@pytest.mark.parametrize(("annotation", "value"), [(float, math.nan), (Point, Point3(1, 2.0, 3)), (object, object())])
def test_other_values_are_checked_by_position_too(annotation: Any, value: Any) -> None:
    def work(value: Any) -> None: ...

    work.__annotations__["value"] = annotation
    with pytest.raises(InvalidArguments):
        Signature(work, "work").encode((value,), {})


@given(st.integers() | st.floats() | st.text(st.characters()) | st.binary(max_size=8) | st.dates() | st.none())
def test_no_value_comes_back_changed(value: Any) -> None:
    codec = ValueCodec(Any, "v")
    try:
        stored = codec.encode(value)
    except InvalidArguments:
        return
    assert codec.decode(stored) == value


def test_a_number_over_64_bits_is_read_whole_without_its_annotation_too() -> None:
    number = 2**64 + 1
    assert decode_any(ValueCodec(list[int], "v").encode([number])) == [number]


def test_no_result_is_null() -> None:
    assert decode_any(b"") is None
    assert Signature(lambda: None, "f").decode_result(b"") is None


# -- signatures ---------------------------------------------------------------------------------------------------------------------


def picture(path: str, size: int = 256, *, sharp: bool = False) -> Size:
    return Size(width=size, name=f"{path}{sharp}")


@pytest.mark.parametrize(
    ("args", "kwargs", "stored"),
    [
        (("a",), {}, b'{"path":"a"}'),
        (("a", 1), {}, b'{"path":"a","size":1}'),
        ((), {"path": "a", "sharp": True}, b'{"path":"a","sharp":true}'),
        (("a",), {"size": 1}, b'{"path":"a","size":1}'),
    ],
)
def test_arguments_are_stored_by_name_and_defaults_are_left_out(args: tuple[Any, ...], kwargs: dict[str, Any], stored: bytes) -> None:
    signature = Signature(picture, "picture")
    assert signature.encode(args, kwargs) == stored
    assert picture(**signature.decode(stored)) == picture(*args, **kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, "path: Field required"),
        (("a", 1, True), {}, "takes 2 positional arguments, got 3"),
        (("a",), {"path": "b"}, "path given twice"),
        (("a", 1), {"size": 2, "path": "b"}, "path, size given twice"),
        (("a",), {"sise": 1}, "sise: Extra inputs are not permitted"),
        (("a", "big"), {}, "size: Input should be a valid integer, unable to parse string as an integer"),
        ((None,), {}, "path: Input should be a valid string"),
    ],
)
def test_wrong_arguments_are_named(args: tuple[Any, ...], kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        Signature(picture, "picture").encode(args, kwargs)
    assert str(caught.value) == f"arguments of actor picture: {words}"


@pytest.mark.parametrize("stored", [b"", b"null", b"[]", b"{", b'{"path":1}', b'{"path":"a","size":1,"more":2}', b"\xff"])
def test_stored_arguments_that_do_not_fit_are_named_too(stored: bytes) -> None:
    with pytest.raises(InvalidArguments, match=r"^arguments of actor picture: "):
        Signature(picture, "picture").decode(stored)


def test_parameters_that_have_no_name_in_json_are_refused() -> None:
    def only_positional(path: str, /) -> None: ...
    def stars(*paths: str) -> None: ...
    def double_stars(**options: str) -> None: ...

    for function, kind in (
        (only_positional, "a positional-only parameter (path)"),
        (stars, r"*args (paths)"),
        (double_stars, "**kwargs (options)"),
    ):
        with pytest.raises(ConfigError) as caught:
            Signature(function, "f")
        assert str(caught.value) == f"actor f: {kind} cannot be sent by name; declare each parameter"


def test_a_result_that_does_not_fit_says_that_the_annotation_changed() -> None:
    with pytest.raises(ResultDecodeError) as caught:
        Signature(picture, "picture").decode_result(b'{"width":"wide"}')
    assert str(caught.value).startswith("result of actor picture: width: Input should be a valid integer")
    assert str(caught.value).endswith(": the annotation changed since the job ran")


def test_a_function_without_annotations_takes_plain_data() -> None:
    def untyped(first, second=2):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return first, second

    signature = Signature(untyped, "untyped")
    assert signature.decode(signature.encode(({"a": [1]},), {})) == {"first": {"a": [1]}}
    with pytest.raises(InvalidArguments, match="would not come back"):
        signature.encode(({1, 2},), {})


def test_an_annotation_may_name_what_comes_later() -> None:
    def early(value: Later) -> Later:
        return value

    signature = Signature(early, "early")
    signature.compile()
    assert signature.decode(signature.encode((Later(n=1),), {})) == {"value": Later(n=1)}
    assert signature.decode_result(b'{"n":2}') == Later(n=2)


class Later(BaseModel):
    """Declared after the function above."""

    n: int


def test_a_name_that_only_the_type_checker_sees_is_a_config_error() -> None:
    def share(part: Fraction) -> None: ...

    with pytest.raises(ConfigError) as caught:
        Signature(share, "share").compile()
    assert str(caught.value) == (
        "actor share: an annotation cannot be resolved: name 'Fraction' is not defined; import it at run time, not under TYPE_CHECKING"
    )


@pytest.mark.parametrize("annotation", ["NotThere", "datetime.datatime", "int |", "3 + 'a'", "Path.nothing"])
def test_an_annotation_that_cannot_be_resolved_is_a_config_error_with_the_remedy(annotation: str) -> None:
    def function(value: Any) -> None: ...

    function.__annotations__["value"] = annotation
    signature = Signature(function, "function")  # a declaration alone resolves nothing
    for use in (signature.compile, lambda: signature.encode((1,), {}), lambda: signature.decode_result(b"1")):
        with pytest.raises(ConfigError) as caught:
            use()
        assert str(caught.value).startswith("actor function: an annotation cannot be resolved: ")
        assert "import it at run time, not under TYPE_CHECKING" in str(caught.value)


def test_constraints_of_an_annotation_hold() -> None:
    def limited(count: Annotated[int, Field(gt=0)]) -> None: ...

    with pytest.raises(InvalidArguments, match="count: Input should be greater than 0"):
        Signature(limited, "limited").encode((0,), {})


def test_parameters_may_have_any_name() -> None:
    def odd(cls: int, _hidden: str, model_config: str, items: int = 3) -> None: ...

    signature = Signature(odd, "odd")
    assert signature.decode(signature.encode((1, "a", "b"), {"items": 2})) == {"cls": 1, "_hidden": "a", "model_config": "b", "items": 2}


def test_the_schema_of_the_arguments_is_json_schema() -> None:
    schema = Signature(picture, "picture").schema()
    assert schema["required"] == ["path"]
    assert set(schema["properties"]) == {"path", "size", "sharp"}
    assert schema["additionalProperties"] is False
