"""Settings: their defaults as the design gives them, where the server is found, and that no password is ever shown."""

from __future__ import annotations

from datetime import timedelta

import pytest

from angelrt import ConfigError, InvalidOptions, Keep, Retention
from angelrt.config import (
    BATCH_MAX_BYTES,
    BATCH_MAX_JOBS,
    BLOB_MIN_BYTES,
    PAYLOAD_MAX_BYTES,
    URL_VARIABLE,
    SentinelAddress,
    embedded_path,
    redact,
    resolve_url,
    sentinel_address,
)

SECRET = "s3cret"  # noqa: S105 - of no server


def test_the_retention_is_an_hour_a_week_and_a_day() -> None:
    kept = Retention()
    assert (kept.completed, kept.failed, kept.cancelled) == (Keep(3_600), Keep(timedelta(days=7)), Keep(timedelta(days=1)))
    assert {keep.number for keep in (kept.completed, kept.failed, kept.cancelled)} == {100_000}


def test_the_limits_are_those_of_the_design() -> None:
    assert PAYLOAD_MAX_BYTES == 1_048_576
    assert BLOB_MIN_BYTES == 4_096
    assert BATCH_MAX_JOBS == 200
    assert BATCH_MAX_BYTES == 4 * 1_048_576


def test_a_keep_takes_seconds_and_timedeltas_and_nothing_at_all() -> None:
    assert Keep(1.5).age_ms == 1_500
    assert Keep(timedelta(milliseconds=1)).age_ms == 1
    assert (Keep(0, 0).age_ms, Keep(0, 0).number) == (0, 0)


@pytest.mark.parametrize("number", [-1, 1.5, "7", True, None])
def test_a_number_of_jobs_is_a_whole_number_from_zero(number: object) -> None:
    with pytest.raises(InvalidOptions, match=r"^Keep\(number=\) is ") as caught:
        Keep(60, number)  # type: ignore[arg-type]
    assert repr(number) in str(caught.value)


def test_a_negative_age_is_refused() -> None:
    with pytest.raises(InvalidOptions, match=r"^Keep\(age=\) must be seconds or a timedelta from 0"):
        Keep(-1)


def test_the_argument_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL_VARIABLE, "redis://from-environment")
    assert resolve_url("redis://from-argument:6380/1") == "redis://from-argument:6380/1"
    assert resolve_url(None) == "redis://from-environment"


@pytest.mark.parametrize("variable", [None, ""])
def test_without_an_address_the_error_names_both_choices(monkeypatch: pytest.MonkeyPatch, variable: str | None) -> None:
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    if variable is not None:
        monkeypatch.setenv(URL_VARIABLE, variable)
    with pytest.raises(ConfigError) as caught:
        resolve_url(None)
    for words in (
        "no Redis address",
        "Runtime(url=...)",
        "ANGELRT_URL",
        "redis://HOST:6379/0",
        "embedded://DIRECTORY",
        "angelrt[embedded]",
    ):
        assert words in str(caught.value)


@pytest.mark.parametrize("url", ["redis://h", "redis://h:6380/3", "rediss://u:p@h", "unix:///run/redis.sock?db=2", "embedded://./data"])
def test_the_four_schemes_are_taken_as_they_are(url: str) -> None:
    assert resolve_url(url) == url


@pytest.mark.parametrize("url", ["http://h", "h:6379", "localhost:6379", "h", "//h", "redis", f"amqp://u:{SECRET}@h"])
def test_any_other_scheme_is_refused_with_those_that_exist(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_url(url)
    schemes = "redis://, rediss://, unix://, redis+sentinel://, embedded://"
    assert str(caught.value) == f"address {redact(url)!r}: the scheme is one of {schemes}"
    assert SECRET not in str(caught.value)


def test_an_address_of_sentinels_is_taken_apart() -> None:
    assert sentinel_address("redis+sentinel://a,b:1/house") == SentinelAddress(
        (("a", 26379), ("b", 1)), "house", db=0, username=None, password=None, sentinel_username=None, sentinel_password=None
    )
    assert sentinel_address(
        "redis+sentinel://me:p%40ss@[::1]:5/my%20house/3?sentinel_username=s&sentinel_password=t%26"
    ) == SentinelAddress(
        (("::1", 5),),
        "my house",
        db=3,
        username="me",
        password="p@ss",  # noqa: S106
        sentinel_username="s",
        sentinel_password="t&",  # noqa: S106
    )
    assert sentinel_address("redis://h") is None


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "h",
        "h/",
        "/house",
        "h,/house",
        "h:x/house",
        "h:70000/house",
        "h/house/x",
        "h/house/1/2",
        "h/house?db=1",
        "h/house?sentinel_password",
    ],
)
def test_an_address_of_sentinels_that_could_not_work_is_refused(rest: str) -> None:
    with pytest.raises(ConfigError, match="address 'redis"):
        resolve_url(f"redis+sentinel://u:{SECRET}@{rest}")


def test_passwords_of_servers_and_sentinels_are_not_shown() -> None:
    url = f"redis+sentinel://u:{SECRET}@h:1,i:2/house?sentinel_password={SECRET}"
    assert redact(url) == "redis+sentinel://u:***@h:1,i:2/house?sentinel_password=***"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("embedded://./data", "./data"),
        ("embedded://data/queue", "data/queue"),
        ("embedded:///var/lib/app", "/var/lib/app"),
        ("embedded:///a b/ü", "/a b/ü"),
        ("redis://h", None),
        ("unix:///run/redis.sock", None),
    ],
)
def test_the_directory_of_an_embedded_server(url: str, path: str | None) -> None:
    assert embedded_path(url) == path


def test_an_embedded_server_needs_a_directory() -> None:
    with pytest.raises(ConfigError) as caught:
        embedded_path("embedded://")
    assert "embedded:// needs a directory" in str(caught.value)
    assert "embedded:///var/lib/app" in str(caught.value)


@pytest.mark.parametrize("url", ["embedded:///a?b", "embedded:///a#b"])
def test_a_directory_is_never_cut_short(url: str) -> None:
    assert embedded_path(url) == url.removeprefix("embedded://")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://u:{SECRET}@h:6379/0", "redis://u:***@h:6379/0"),
        (f"redis://:{SECRET}@h", "redis://:***@h"),
        (f"rediss://u:{SECRET}%40@h/1?ssl_cert_reqs=none", "rediss://u:***@h/1?ssl_cert_reqs=none"),
        (f"redis://u:{SECRET}@[::1]:6380/0", "redis://u:***@[::1]:6380/0"),
        (f"unix://u:{SECRET}@/run/redis.sock", "unix://u:***@/run/redis.sock"),
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://u@h", "redis://u@h"),
        ("embedded:///var/lib/app", "embedded:///var/lib/app"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert redact(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        f"redis://u:a@{SECRET}@h",
        f"redis://u:a/{SECRET}@h",
        f"redis://u:a?{SECRET}@h",
        f"redis://u:a#{SECRET}@h",
        f"redis://u:{SECRET}@[::1",
        f"redis://h/0?password={SECRET}",
        f"unix:///run/redis.sock?db=1&password={SECRET}",
        f"u:{SECRET}@h",
    ],
)
def test_no_spelling_of_a_password_is_shown(url: str) -> None:
    assert SECRET not in redact(url)
