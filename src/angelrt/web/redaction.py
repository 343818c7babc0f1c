"""What is never shown: values by the names of their fields, values that an annotation marks as `Secret`, and either within errors.

A value that is not shown stands as `[redacted]`. What cannot be decided is not shown.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote

from ..errors import AngelError
from ..job import ErrorInfo, JobInfo, Progress
from ..limits import rule_of
from ..redaction_marks import SECRET_KEYWORD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..actor import Actor

REDACTED: Final = "[redacted]"
HIDDEN_TEXT: Final = "[redacted: the arguments hold too many secrets to look for]"
PARTS: Final = (
    *("password", "passwd", "passphrase", "passcode", "secret", "token", "authorization", "apikey", "accesskey", "privatekey"),
    *("credential", "cookie", "creditcard", "cardnumber", "sessionid", "securitycode"),
)
"""What makes a name secret wherever it stands in it, in any case and however its words are joined."""
WORDS: Final = frozenset({"pwd", "pass", "auth", "card", "cvv", "cvc", "iban", "ssn", "pin", "otp", "jwt", "bearer"})
"""What makes a name secret as one of its words: `card_holder`, not `discard`."""
WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
SHORT_CHARS: Final = 4
"""Shorter secrets are looked for as whole words alone: a 1 is everywhere."""
GRAM_CHARS: Final = 8
"""So much of a secret in a row is masked, too: errors cut long values, at the end or in the middle."""
SECRETS_MAX: Final = 200
SECRET_MAX_CHARS: Final = 4096
"""Of a longer secret, parts of its beginning and its end are looked for."""
DEPTH_MAX: Final = 100

_NAMED: Final = ("pwd", "api_key", "api-key", *PARTS)
_NAME: Final = rf"(?:{'|'.join(_NAMED)})[\w.-]{{0,40}}"
WITHIN_TEXT: Final = (
    (_NAMED, re.compile(rf"(?:{_NAME}[\"']?\s{{0,4}}[=:]\s{{0,4}})(?P<secret>\"[^\"\n]*\"|'[^'\n]*')", re.IGNORECASE)),
    (_NAMED, re.compile(rf"(?:{_NAME}=)(?P<secret>[^\s\"'&,;)}}\]]+)", re.IGNORECASE)),
    (("bearer", "basic"), re.compile(r"\b(?:Bearer|Basic)\s{1,4}(?P<secret>[\w.~+/=-]{6,})", re.IGNORECASE)),
    (("://",), re.compile(r"://[^/\s:@]{0,100}:(?P<secret>[^/\s@]{1,200})(?=@)")),
)
"""Secrets that errors name themselves, whatever the arguments are: an address with a password, a header. A pattern is tried on a text in
which one of its words stands."""


def is_secret_name(name: str) -> bool:
    """Tell whether what a field of this name holds is not shown."""
    words = [word.lower() for word in WORD.findall(name)]
    joined = "".join(words)
    return any(part in joined for part in PARTS) or not WORDS.isdisjoint(words)


@dataclass(slots=True)
class _Walk:
    """One walk through a value beside the schemas that may describe it; `secrets` are the texts that it has met."""

    roots: Sequence[Mapping[str, Any]]
    secrets: list[str] = field(default_factory=list[str])

    def shown(self, value: Any, nodes: Sequence[_Node], depth: int = 0) -> Any:
        """Return a value as it may be shown."""
        known = [one for node in nodes for one in _expanded(node, self.roots)]
        if depth > DEPTH_MAX or any(SECRET_KEYWORD in node for _, node in known):
            return self._hidden(value)
        if isinstance(value, dict):
            items = cast("dict[str, Any]", value).items()
            return {
                name: self._hidden(item) if is_secret_name(name) else self.shown(item, _of_key(known, name), depth + 1)
                for name, item in items
            }
        if isinstance(value, list):
            return [self.shown(item, _of_index(known, n), depth + 1) for n, item in enumerate(cast("Sequence[Any]", value))]
        return value

    def _hidden(self, value: Any) -> Any:
        self.secrets += _texts(value)
        return None if value is None else REDACTED


_Node = tuple[int, "Mapping[str, Any]"]
"""A schema with the number of the document that its references go by."""


def _expanded(node: _Node, roots: Sequence[Mapping[str, Any]]) -> Iterator[_Node]:
    """Yield a schema with all that it refers to or is made of."""
    number, first = node
    defined = roots[number].get("$defs", {})
    left, seen = [first], set[int]()
    while left:
        schema = left.pop()
        if id(schema) in seen:
            continue
        seen.add(id(schema))
        yield number, schema
        target = defined.get(str(schema.get("$ref", "")).removeprefix("#/$defs/"))
        left += [] if target is None else [target]
        left += [part for word in ("anyOf", "oneOf", "allOf") for part in schema.get(word, ())]


def _of_key(nodes: Sequence[_Node], name: str) -> list[_Node]:
    found: list[_Node] = []
    for number, schema in nodes:
        others = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
        own = schema.get("properties", {}).get(name)
        found += [(number, one) for one in ([own] if own is not None else others) if isinstance(one, dict)]
    return found


def _of_index(nodes: Sequence[_Node], index: int) -> list[_Node]:
    found: list[_Node] = []
    for number, schema in nodes:
        first = schema.get("prefixItems", ())
        item = first[index] if index < len(first) else schema.get("items")
        found += [(number, item)] if isinstance(item, dict) else []
    return found


def _texts(value: Any) -> Iterator[str]:
    """Yield what a secret value could stand as in a text."""
    if isinstance(value, dict):
        for item in cast("dict[str, Any]", value).values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in cast("Sequence[Any]", value):
            yield from _texts(item)
    elif isinstance(value, str | int | float) and not isinstance(value, bool) and value != "":
        yield str(value)


UNKNOWN: Final[list[Mapping[str, Any]]] = [{SECRET_KEYWORD: True}]
"""The schema of what nobody can describe: nothing of it is shown."""


class Redactor:
    """Shows jobs without their secrets, by the signatures of the actors that are declared here; of others, by names alone."""

    def __init__(self, actors: Mapping[str, Actor[..., Any]]) -> None:
        """Keep the actors; their schemas are read at first use."""
        self._actors = actors
        self._schemas: dict[tuple[str, str], list[Mapping[str, Any]]] = {}

    def arguments(self, actor: str, payload: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return arguments as they may be shown, and the secrets that were in them."""
        walk = _Walk(self._schemas_of(actor, "arguments"))
        shown = walk.shown(dict(payload), list(enumerate(walk.roots)))
        if shown == REDACTED:
            shown = dict.fromkeys(payload, REDACTED)
        return shown, walk.secrets

    def may_show_key(self, rule: str) -> bool:
        """Tell whether the values of a limit are shown: some actor that is declared here has it, and none whose argument is secret."""
        known = [
            (actor.name, limit.per)
            for actor in self._actors.values()
            for limit in actor.definition.limits
            if limit.per is not None and rule_of(limit, actor.name, actor.definition.queue) == rule
        ]
        return bool(known) and not any(self.arguments(name, {per: per})[1] for name, per in known)

    def result(self, actor: str, value: Any, secrets: Sequence[str]) -> Any:
        """Return a result as it may be shown: its texts are without the secrets of the arguments, too."""
        walk = _Walk(self._schemas_of(actor, "result"))
        return _Mask(secrets).value(walk.shown(value, list(enumerate(walk.roots))))

    def _schemas_of(self, actor: str, what: str) -> list[Mapping[str, Any]]:
        known = self._actors.get(actor)
        if known is None:
            return []
        found = self._schemas.get((actor, what))
        if found is None:
            found = self._schemas[actor, what] = _schemas(known, what)
        return found


def _schemas(actor: Actor[..., Any], what: str) -> list[Mapping[str, Any]]:
    """Return the schemas in which something is marked: beside any other, there is nothing to look for."""
    try:
        found = actor.signature.schemas() if what == "arguments" else actor.signature.result.schemas()
    except AngelError:
        return UNKNOWN
    return [schema for schema in found if SECRET_KEYWORD in json.dumps(schema, default=str)]


class _Mask:
    """Some secrets, and what is looked for in each text on their account."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = frozenset(secrets)
        self._has_too_many = len(secrets) > SECRETS_MAX
        self._forms = frozenset[str]() if self._has_too_many else frozenset(form for one in self._secrets for form in _forms(one))
        self._parts = frozenset[str]() if self._has_too_many else frozenset(part for one in self._secrets for part in _parts(one))

    def text(self, text: str) -> str:
        """Return a text without the secrets."""
        if not text:
            return text
        if self._has_too_many:
            return HIDDEN_TEXT
        covered = bytearray(len(text))
        for form in self._forms:
            _cover(text, form, covered)
        _cover_parts(text, self._parts, covered)
        lowered = text.lower()
        for words, pattern in WITHIN_TEXT:
            for match in pattern.finditer(text) if any(word in lowered for word in words) else ():
                begin, end = match.span("secret")
                covered[begin:end] = b"\1" * (end - begin)
        return _without(text, covered)

    def value(self, value: Any) -> Any:
        """Return a value whose texts, numbers and names of fields are without the secrets, at any depth."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(name): self.value(item) for name, item in cast("dict[str, Any]", value).items()}
        if isinstance(value, list):
            return [self.value(item) for item in cast("Sequence[Any]", value)]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return REDACTED if is_number and str(value) in self._secrets else value


def masked(text: str, secrets: Sequence[str]) -> str:
    """Return a text without the secrets, in whichever way they are written there, and without those that it names itself."""
    return _Mask(secrets).text(text) if text else text


def _forms(secret: str) -> set[str]:
    written = {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    return {form for form in (*written, quote(secret), quote(secret, safe="")) if form}


def _parts(secret: str) -> Iterator[str]:
    half = SECRET_MAX_CHARS // 2
    for piece in [secret] if len(secret) <= SECRET_MAX_CHARS else [secret[:half], secret[-half:]]:
        yield from (piece[n : n + GRAM_CHARS] for n in range(len(piece) - GRAM_CHARS + 1))


def _cover(text: str, form: str, covered: bytearray) -> None:
    if len(form) >= SHORT_CHARS:
        begin = text.find(form)
        while begin >= 0:
            covered[begin : begin + len(form)] = b"\1" * len(form)
            begin = text.find(form, begin + 1)
        return
    for match in re.finditer(rf"(?<!\w){re.escape(form)}(?!\w)", text):
        covered[match.start() : match.end()] = b"\1" * len(form)


def _cover_parts(text: str, parts: frozenset[str], covered: bytearray) -> None:
    for begin in range(len(text) - GRAM_CHARS + 1) if parts else ():
        if text[begin : begin + GRAM_CHARS] in parts:
            covered[begin : begin + GRAM_CHARS] = b"\1" * GRAM_CHARS


def _without(text: str, covered: bytearray) -> str:
    parts: list[str] = []
    end = 0
    for match in re.finditer(rb"\x01+", covered):
        parts += (text[end : match.start()], REDACTED)
        end = match.end()
    return "".join((*parts, text[end:]))


def masked_error(error: ErrorInfo | None, secrets: Sequence[str]) -> ErrorInfo | None:
    """Return an error without the secrets of its job's arguments."""
    if error is None:
        return None
    return ErrorInfo(type=error.type, message=masked(error.message, secrets), traceback=masked(error.traceback, secrets))


def masked_progress(progress: Progress | None, secrets: Sequence[str]) -> Progress | None:
    """Return what a run says of itself without the secrets of its arguments."""
    if progress is None:
        return None
    log = [masked(line, secrets) for line in progress.log]
    return Progress(done=progress.done, message=masked(progress.message, secrets), log=log)


def searchable(job: JobInfo, shown: Mapping[str, Any] | None) -> str:
    """Return all that somebody sees of a job, so that a search finds by nothing else."""
    error = f"{job.error.type} {job.error.message} {job.error.traceback}" if job.error else ""
    log = " ".join((job.progress.message, *job.progress.log)) if job.progress else ""
    told = "" if shown is None else json.dumps(shown, ensure_ascii=False)
    return f"{job.id} {job.type} {error} {log} {told}".casefold()


def restored(edited: Any, stored: Any, path: str = "arguments") -> Any:
    """Return edited arguments with what stands as `[redacted]` put back from what is stored.

    Raises KeyError with the path of one that has nothing to come back to.

    Only where it was: a secret that is moved to another field would be shown there, and in a list that has grown or shrunk nobody knows
    where that is.
    """
    if edited == REDACTED:
        if stored is None:
            raise KeyError(path)
        return stored
    if isinstance(edited, dict):
        old = cast("dict[str, Any]", stored) if isinstance(stored, dict) else {}
        return {name: restored(item, old.get(name), f"{path}.{name}") for name, item in cast("dict[str, Any]", edited).items()}
    if isinstance(edited, list):
        after = cast("Sequence[Any]", edited)
        before = cast("Sequence[Any]", stored) if isinstance(stored, list) else ()
        known = before if len(before) == len(after) else [None] * len(after)
        return [restored(item, old, f"{path}.{n}") for n, (item, old) in enumerate(zip(after, known, strict=True))]
    return edited
