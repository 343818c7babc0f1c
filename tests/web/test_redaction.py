"""Secrets by name and by annotation, at any depth, and within texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from angelrt import Runtime, Secret
from angelrt.web.redaction import (
    GRAM_CHARS,
    HIDDEN_TEXT,
    REDACTED,
    SECRETS_MAX,
    Redactor,
    is_secret_name,
    masked,
    restored,
)

SECRET_NAMES = (
    *("password", "Password", "PASSWORD", "user_password", "newPassWord", "passwd", "pwd", "pass", "passphrase", "secret", "client_secret"),
    *("token", "accessToken", "refresh-token", "authorization", "Authorization", "auth", "api_key", "apiKey", "APIKEY", "x-api-key"),
    *("card", "card_number", "creditCard", "cvv", "CVC", "iban", "ssn", "pin", "otp", "jwt", "private_key", "credentials", "Set-Cookie"),
)
OPEN_NAMES = ("path", "discard", "postcard", "pinned", "author", "key", "size", "compass", "spinning", "cardinality", "customer_id", "")


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_name_says_that_its_value_is_secret(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", OPEN_NAMES)
def test_other_names_say_nothing(name: str) -> None:
    assert not is_secret_name(name)


class Key(TypedDict):
    lock: str
    teeth: Annotated[list[int], Secret]


@dataclass
class Door:
    number: int
    knock: Annotated[str, Secret]


class House(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    door: Door
    keys: list[Key]
    rooms: dict[str, Annotated[str, Secret]]
    pair: tuple[str, Annotated[str, Secret]]
    safe: Annotated[int | None, Secret] = Field(default=None, alias="theSafe")
    annex: House | None = None
    seen: Annotated[str, Secret] | None = None


HOUSE = {
    "door": {"number": 4, "knock": "tap-tap"},
    "keys": [{"lock": "front", "teeth": [12, 15]}],
    "rooms": {"cellar": "behind the wine"},
    "pair": ["left", "right-side"],
    "safe": 1234,
    "annex": None,
    "seen": "somebody",
}
SHOWN = {
    "door": {"number": 4, "knock": REDACTED},
    "keys": [{"lock": "front", "teeth": REDACTED}],
    "rooms": {"cellar": REDACTED},
    "pair": ["left", REDACTED],
    "safe": REDACTED,
    "annex": None,
    "seen": REDACTED,
}
HELD = {"tap-tap", "12", "15", "behind the wine", "right-side", "1234", "somebody"}


def redactor() -> Redactor:
    rt: Runtime[Any] = Runtime("redis://nobody.invalid")

    @rt.actor(name="visit")
    async def visit(house: House, bell: Annotated[str, Secret] = "ding", note: str = "") -> Annotated[str, Secret]:
        return f"{house}{bell}{note}"

    @rt.actor(name="plain")
    async def plain(data: Any = None) -> Any:
        return data

    class Opaque:
        pass

    @rt.actor(name="broken")
    async def broken(thing: str) -> str:
        return thing

    broken.function.__annotations__["thing"] = "ThereIsNoSuchName"
    return Redactor(rt.registered)


def test_what_an_annotation_marks_is_not_shown_at_any_depth() -> None:
    house = {**HOUSE, "annex": {**HOUSE, "annex": None}}
    shown, secrets = redactor().arguments("visit", {"house": house, "bell": "dong", "note": "hello"})
    assert shown == {"house": {**SHOWN, "annex": SHOWN}, "bell": REDACTED, "note": "hello"}
    assert set(secrets) == HELD | {"dong"}


def test_an_alias_does_not_hide_the_mark() -> None:
    house = {name: value for name, value in HOUSE.items() if name != "safe"} | {"theSafe": 99}
    shown, _ = redactor().arguments("visit", {"house": house})
    assert shown["house"]["theSafe"] == REDACTED


def test_a_result_that_is_marked_is_not_shown() -> None:
    assert redactor().result("visit", "open sesame", []) == REDACTED
    assert redactor().result("plain", {"ok": True, "access_token": "abc"}, []) == {"ok": True, "access_token": REDACTED}


def test_a_result_is_without_the_secrets_of_the_arguments() -> None:
    value = {
        "told": ["paid with 4000 0566", {"4000 0566": 7}],
        "code": 4711,
        "share": 0.5,
        "ok": True,
        "none": None,
        "log": "password=hunter2",
    }
    assert redactor().result("plain", value, ["4000 0566", "4711", "True"]) == {
        "told": [f"paid with {REDACTED}", {REDACTED: 7}],
        "code": REDACTED,
        "share": 0.5,
        "ok": True,
        "none": None,
        "log": f"password={REDACTED}",
    }


def test_names_count_at_any_depth_and_for_actors_that_are_not_declared() -> None:
    sent = {"a": [{"b": {"Password": {"old": "one", "new": ["two", 3, True, None]}}}], "c": 1}
    for actor in ("plain", "not declared"):
        shown, secrets = redactor().arguments(actor, sent)
        assert shown == {"a": [{"b": {"Password": REDACTED}}], "c": 1}
        assert secrets == ["one", "two", "3"]


def test_nothing_is_shown_of_an_actor_whose_annotations_cannot_be_read() -> None:
    assert redactor().arguments("broken", {"thing": "a", "other": 1}) == ({"thing": REDACTED, "other": REDACTED}, ["a", "1"])


def test_nothing_stays_of_a_value_that_is_nested_too_deep() -> None:
    deep: Any = "bottom"
    for _ in range(150):
        deep = [deep]
    shown, secrets = redactor().arguments("plain", {"data": deep})
    assert "bottom" not in str(shown)
    assert secrets == ["bottom"]


MASKED = {
    "as it is": ("hunter2 is wrong", ["hunter2"], "[redacted] is wrong"),
    "twice": ("hunter2, hunter2!", ["hunter2"], "[redacted], [redacted]!"),
    "as a repr": (f"ValueError: {'a' + chr(10) + 'bc'!r}", ["a\nbc"], "ValueError: '[redacted]'"),
    "as JSON": ('{"k": "a\\"b\\u00e9xy"}', ['a"béxy'], '{"k": "[redacted]"}'),
    "in an address": ("GET /?q=a%20b%2Fc", ["a b/c"], "GET /?q=[redacted]"),
    "short, as a word": ("pin 123 of 1234", ["123"], "pin [redacted] of 1234"),
    "one letter": ("a banana has a", ["a"], "[redacted] banana has [redacted]"),
    "cut at its end": ("input 'abcdefghijklmnop", ["abcdefghijklmnopqrstuvwxyz"], "input '[redacted]"),
    "cut in the middle": ("input 'abcdefghij...qrstuvwxyz'", ["abcdefghijklmnopqrstuvwxyz"], "input '[redacted]...[redacted]'"),
    "overlapping": ("abcdabcdabcd", ["abcdabcd"], "[redacted]"),
    "nothing": ("all is well", ["hunter2"], "all is well"),
    "an address with a password": ("redis://user:opensesame@host/0 is away", [], "redis://user:[redacted]@host/0 is away"),
    "a header": ("sent Authorization: Bearer abc.def-123", [], "sent Authorization: Bearer [redacted]"),
    "an assignment": ("connect(password='opensesame', host='a')", [], "connect(password=[redacted], host='a')"),
    "a query": ("GET /?api_key=123abc&a=b", [], "GET /?api_key=[redacted]&a=b"),
    "an object": ('{"client_secret": "abc", "a": "b"}', [], '{"client_secret": [redacted], "a": "b"}'),
}


@pytest.mark.parametrize("mark", [Secret, Secret()], ids=["the class", "an instance"])
def test_the_mark_is_the_class_or_an_instance(mark: Any) -> None:
    rt: Runtime[Any] = Runtime("redis://nobody.invalid")

    @rt.actor(name="opens")
    async def opens(door: str) -> None: ...

    opens.function.__annotations__["door"] = Annotated[str, mark]
    assert Redactor(rt.registered).arguments("opens", {"door": "a"})[0] == {"door": REDACTED}


@pytest.mark.parametrize("name", MASKED)
def test_a_secret_is_masked_in_a_text(name: str) -> None:
    text, secrets, expected = MASKED[name]
    assert masked(text, secrets) == expected


def test_a_text_is_hidden_where_there_are_too_many_secrets_to_look_for() -> None:
    assert masked("a text", [str(n) for n in range(SECRETS_MAX + 1)]) == HIDDEN_TEXT


@given(before=st.text(max_size=20), secret=st.text(min_size=1, max_size=40), after=st.text(max_size=20))
def test_no_text_keeps_a_secret_of_some_length(before: str, secret: str, after: str) -> None:
    shown = masked(f"{before}{secret}{after}", [secret])
    if len(secret) >= 4 and secret not in REDACTED:
        assert secret not in shown.replace(REDACTED, "")


@given(secret=st.text(alphabet="abcdefgh123", min_size=30, max_size=60), cut=st.integers(GRAM_CHARS, 25))
def test_no_text_keeps_a_long_part_of_a_secret(secret: str, cut: int) -> None:
    shown = masked(f"<{secret[:cut]}…{secret[-cut:]}>", [secret])
    assert secret[:cut] not in shown
    assert secret[-cut:] not in shown


def test_edited_arguments_get_their_secrets_back_where_these_were() -> None:
    stored = {"user": "a", "password": "x", "deep": [{"token": "t", "n": 1}]}
    edited = {"user": "b", "password": REDACTED, "deep": [{"token": REDACTED, "n": 2}]}
    assert restored(edited, stored) == {"user": "b", "password": "x", "deep": [{"token": "t", "n": 2}]}


@pytest.mark.parametrize(
    ("edited", "path"),
    [
        ({"user": "b", "note": REDACTED}, "arguments.note"),
        ({"deep": [{"token": REDACTED}, {"token": "new"}]}, "arguments.deep.0.token"),
        ({"user": {"name": REDACTED}}, "arguments.user.name"),
    ],
)
def test_a_mark_that_stands_where_nothing_was_is_refused(edited: Any, path: str) -> None:
    with pytest.raises(KeyError, match=path):
        restored(edited, {"user": "a", "deep": [{"token": "t"}]})
