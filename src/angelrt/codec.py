"""Arguments and results to JSON and back, by their annotations; what would not come back as it was sent is refused when it is sent."""

from __future__ import annotations

import inspect
import typing
from functools import cached_property, lru_cache, partial
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, Literal, NotRequired, Required, cast, get_args, get_origin

import orjson
from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError, with_config
from pydantic_core import PydanticSerializationError, from_json
from typing_extensions import TypedDict

from .config import PAYLOAD_MAX_BYTES
from .errors import AngelError, ConfigError, InvalidArguments, PayloadTooLarge, ResultDecodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

SchemaMode = Literal["validation", "serialization"]
SURE: Final = (str, bool, NoneType)
"""Types whose values always come back equal from JSON, so that the check at `send` can be left out."""
PLAIN: Final = (*SURE, int)
"""Types that orjson writes as they are. An int is checked all the same: pydantic takes an enumeration of text for one, as its text.

A value of just the type that its annotation names, and of no subclass, is what validation would return, and comes back equal.
"""
REFUSED_KINDS: Final = {
    inspect.Parameter.POSITIONAL_ONLY: "a positional-only parameter",
    inspect.Parameter.VAR_POSITIONAL: "*args",
    inspect.Parameter.VAR_KEYWORD: "**kwargs",
}


def _is_one_of(kinds: Sequence[Any], annotations: Iterable[Any]) -> bool:
    """Tell whether all annotations are of these kinds, or unions of them."""
    return all(
        _is_one_of(kinds, get_args(annotation)) if get_origin(annotation) in (typing.Union, UnionType) else annotation in kinds
        for annotation in annotations
    )


def _words(error: ValidationError) -> str:
    """Return a validation error in one line per field, without the values: they may be private."""
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'value'}: {item['msg']}" for item in error.errors(include_url=False))


class ValueCodec:
    """Encodes values of one annotation. `what` names them in errors."""

    def __init__(self, annotation: Any, what: str, *, parts: Collection[Any] | None = None) -> None:
        """Compile the annotation; `parts` are those of the fields that it was made of. Raises ConfigError for one that has no JSON form."""
        self.what = what
        kinds = [annotation] if parts is None else parts
        self._is_sure = _is_one_of(SURE, kinds)
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        except (PydanticSchemaGenerationError, PydanticUserError) as error:
            message = (
                f"{what}: the annotation has no JSON form: {str(error).splitlines()[0]}; use plain data, a pydantic model or a dataclass"
            )
            raise ConfigError(message) from error
        # The validator itself: the adapter's methods only look up options that are never given here, which takes longer than to validate.
        self._validate, self._validate_json = self._adapter.validator.validate_python, self._adapter.validator.validate_json
        self._dump = orjson.dumps if _is_one_of(PLAIN, kinds) else partial(self._adapter.dump_json, warnings="error")

    def encode(self, value: Any) -> bytes:
        """Return the JSON of a value.

        Raises InvalidArguments when it does not fit or would not come back equal, PayloadTooLarge beyond the limit.
        """
        try:
            checked = self._validate(value)
            encoded = self._dump(checked)
            if not self._is_sure:
                self._check_round_trip(checked, encoded)
        except ValidationError as error:
            message = f"{self.what}: {_words(error)}"
            raise InvalidArguments(message) from error
        except (PydanticSerializationError, TypeError) as error:
            raise self._no_form(error) from error
        if len(encoded) > PAYLOAD_MAX_BYTES:
            raise self._too_large(encoded)
        return encoded

    def encode_exact(self, value: Any) -> bytes:
        """Return the JSON of a value that validation would return as it is. Raises InvalidArguments and PayloadTooLarge."""
        try:
            encoded = self._dump(value)
        except TypeError as error:
            raise self._no_form(error) from error
        if len(encoded) > PAYLOAD_MAX_BYTES:
            raise self._too_large(encoded)
        return encoded

    def decode(self, encoded: bytes) -> Any:
        """Return the value of its JSON.

        Raises InvalidArguments when it does not fit the annotation, or is nested deeper than 200; PayloadTooLarge beyond the limit.
        """
        if len(encoded) > PAYLOAD_MAX_BYTES:
            raise self._too_large(encoded)
        try:
            return self._validate_json(encoded)
        except ValidationError as error:
            message = f"{self.what}: {_words(error)}"
            raise InvalidArguments(message) from error

    def _no_form(self, error: Exception) -> InvalidArguments:
        return InvalidArguments(f"{self.what}: no JSON form: {error}; pass plain data or an id")

    def _too_large(self, encoded: bytes) -> PayloadTooLarge:
        size = f"{len(encoded):,} bytes of JSON, the limit is {PAYLOAD_MAX_BYTES:,}"
        return PayloadTooLarge(f"{self.what}: {size}: store the data elsewhere and pass its key")

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the annotation. Raises ConfigError for one that has none."""
        return self._schema("validation", by_alias=True)

    def schemas(self) -> list[dict[str, Any]]:
        """Return the schema of what is sent, and those of what is stored: under aliases or not, as validated or as serialized.

        Raises ConfigError for an annotation that has none.
        """
        modes: tuple[SchemaMode, ...] = ("validation", "serialization")
        return [self._schema(mode, by_alias=by_alias) for by_alias in (True, False) for mode in modes]

    def _schema(self, mode: SchemaMode, *, by_alias: bool) -> dict[str, Any]:
        try:
            return self._adapter.json_schema(by_alias=by_alias, mode=mode)
        except PydanticUserError as error:
            message = f"{self.what}: the annotation has no JSON schema: {str(error).splitlines()[0]}"
            raise ConfigError(message) from error

    def _check_round_trip(self, checked: Any, encoded: bytes) -> None:
        try:
            same = bool(self._validate_json(encoded) == checked)
        except ValidationError as error:
            message = f"{self.what}: would not come back as it was sent ({_words(error)})"
            raise InvalidArguments(message) from error
        if not same:
            message = (
                f"{self.what}: would not come back as it was sent: JSON keeps only what the annotation names "
                "(a subclass loses its fields, NaN and objects without equality cannot be compared); widen the annotation, or pass an id"
            )
            raise InvalidArguments(message)


class Signature:
    """The arguments and the result of one function, compiled at first use, when forward references can be resolved."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        """Check the parameters. Raises ConfigError for those that have no name in JSON."""
        self._function = function
        self._name = name
        parameters = inspect.signature(function).parameters
        for parameter in parameters.values():
            if parameter.kind in REFUSED_KINDS:
                message = f"actor {name}: {REFUSED_KINDS[parameter.kind]} ({parameter.name}) cannot be sent by name; declare each parameter"
                raise ConfigError(message)
        self._names = tuple(parameters)
        self._positional = sum(p.kind is not inspect.Parameter.KEYWORD_ONLY for p in parameters.values())
        self._defaults = {p.name: p.default for p in parameters.values() if p.default is not inspect.Parameter.empty}
        self._required = {p.name for p in parameters.values() if p.default is inspect.Parameter.empty}

    @cached_property
    def _hints(self) -> dict[str, Any]:
        try:
            return typing.get_type_hints(self._function, include_extras=True)
        except (NameError, AttributeError, SyntaxError, TypeError) as error:
            message = f"actor {self._name}: an annotation cannot be resolved: {error}; import it at run time, not under TYPE_CHECKING"
            raise ConfigError(message) from error

    @cached_property
    def _arguments(self) -> ValueCodec:
        required, optional, typed_dict = cast("tuple[Any, Any, Any]", (Required, NotRequired, TypedDict))  # made here, not declared
        hints = {name: self._hints.get(name, Any) for name in self._names}
        fields = {name: (required if name in self._required else optional)[hint] for name, hint in hints.items()}
        shape = with_config(ConfigDict(extra="forbid"))(typed_dict("Arguments", fields))
        return ValueCodec(shape, f"arguments of actor {self._name}", parts=hints.values())

    @cached_property
    def _parameters(self) -> tuple[tuple[str, Any], ...]:
        """Name and type of each argument; None for one whose values validation may change or refuse whatever their type."""
        hints = ((name, self._hints.get(name, Any)) for name in self._names)
        return tuple((name, hint if hint in PLAIN else None) for name, hint in hints)

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """The defaults as plain data, encoded as arguments are; one that has no JSON form stands as its text."""
        found: dict[str, Any] = {}
        for name, value in self._defaults.items():
            codec = ValueCodec(self._hints.get(name, Any), f"default of {name} of actor {self._name}")
            try:
                found[name] = from_json(codec.encode(value))
            except AngelError:
                found[name] = str(value)
        return found

    @cached_property
    def result(self) -> ValueCodec:
        """The codec of the return annotation (Any where there is none)."""
        return ValueCodec(self._hints.get("return", Any), f"result of actor {self._name}")

    @cached_property
    def may_return_none(self) -> bool:
        """Whether None is a result that needs no check."""
        return self._hints.get("return", Any) in (Any, None, NoneType)

    def compile(self) -> None:
        """Compile now, so that a wrong annotation shows at start. Raises ConfigError."""
        _ = self._arguments, self.result

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """Return the JSON object of a call's arguments, by name. Raises InvalidArguments and PayloadTooLarge."""
        if len(args) > self._positional:
            message = f"arguments of actor {self._name}: takes {self._positional} positional arguments, got {len(args)}"
            raise InvalidArguments(message)
        named: dict[str, Any] = {}
        parameters, is_exact = self._parameters, not kwargs
        for value in args:
            name, kind = parameters[len(named)]
            named[name] = value
            if type(value) is not kind:
                is_exact = False
        if is_exact and len(named) == len(parameters):
            return self._arguments.encode_exact(named)
        if not kwargs:
            return self._arguments.encode(named)
        twice = named.keys() & kwargs.keys()
        if twice:
            message = f"arguments of actor {self._name}: {', '.join(sorted(twice))} given twice"
            raise InvalidArguments(message)
        return self._arguments.encode({**named, **kwargs})

    @cached_property
    def decode(self) -> Callable[[bytes], dict[str, Any]]:
        """What returns a call's arguments by name. It raises InvalidArguments."""
        return self._arguments.decode

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the arguments. Raises ConfigError for annotations that have none."""
        return self._arguments.schema()

    def schemas(self) -> list[dict[str, Any]]:
        """Return every schema of the arguments; see `ValueCodec.schemas`. Raises ConfigError."""
        return self._arguments.schemas()

    def decode_result(self, encoded: bytes) -> Any:
        """Return a result. Raises ResultDecodeError when it does not fit the return annotation."""
        try:
            return self.result.decode(encoded or b"null")
        except InvalidArguments as error:
            message = f"{error}: the annotation changed since the job ran"
            raise ResultDecodeError(message) from error


@lru_cache
def plain_codec(actor: str) -> ValueCodec:
    """Return the codec of arguments, as plain JSON data, of an actor that is not declared here."""
    return ValueCodec(dict[str, Any], f"arguments of actor {actor}")


def decode_any(encoded: bytes) -> Any:
    """Return plain JSON data, for results of actors whose code is not here. Raises ResultDecodeError for what is none."""
    try:
        return from_json(encoded or b"null")
    except ValueError as error:
        message = f"the stored result cannot be read: {error}"
        raise ResultDecodeError(message) from error
