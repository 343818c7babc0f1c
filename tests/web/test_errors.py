"""What the API says is wrong: which field is at fault, and in words that are not Python's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from angelrt import RedisUnavailable
from angelrt.web import errors
from tests.web.test_api_jobs import get, post

if TYPE_CHECKING:
    import httpx

    from angelrt import Runtime

RULE = "counts.customer_id/86400s@limited"
WRONG: dict[str, tuple[str, str, Any, str]] = {
    "a cursor of jobs": ("GET", "jobs?cursor=zz", None, "cursor"),
    "a cursor of failed jobs": ("GET", "failed?cursor=zz", None, "cursor"),
    "a queue that cannot be": ("GET", "jobs?queue=a%20b", None, "queue"),
    "an actor that cannot be": ("GET", "jobs?actor=a%20b", None, "actor"),
    "a queue of failed jobs": ("GET", "failed?queue=a%20b", None, "queue"),
    "a queue of a series": ("GET", "series?queue=a%20b", None, "queue"),
    "a rule that nobody declares": ("PUT", "limits", {"rule": "zz", "limit": 1}, "rule"),
    "a limit of another kind": ("PUT", "limits", {"rule": RULE, "limit": "many"}, "limit"),
    "a rate of nothing": ("POST", "failed/replay", {"perSecond": 0}, "perSecond"),
    "a rate beyond all bounds": ("POST", "failed/replay", {"perSecond": 1e30}, "perSecond"),
    "a replay of a queue that cannot be": ("POST", "failed/replay", {"queue": "a b"}, "queue"),
    "a purge of an empty text": ("POST", "failed/purge", {"text": ""}, "text"),
    "no key": ("POST", "keys/pause", {"key": ""}, "key"),
    "a name that cannot be": ("POST", "queues/a%20b/pause", {}, "name"),
    "a name of an actor that cannot be": ("POST", "actors/a%20b/drain", {}, "name"),
}


@pytest.mark.usefixtures("working")
@pytest.mark.parametrize("name", WRONG)
async def test_the_field_at_fault_is_named(operator: httpx.AsyncClient, name: str) -> None:
    method, path, body, field = WRONG[name]
    answer = await operator.request(method, f"/api/v1/{path}", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, [one["field"] for one in error["fields"]]) == (422, [field]), error
    assert error["fields"][0]["message"]
    assert "(before=" not in error["message"]


async def test_a_purge_that_names_nothing_is_told_how_to(operator: httpx.AsyncClient) -> None:
    for body in ({}, {"id": "a", "everything": True}, {"queue": "default", "everything": True}):
        error = (await post(operator, "failed/purge", body, 422))["error"]
        assert (error["message"], error["fields"]) == ('name one job by its `id`, or give a filter, or `"everything": true`', [])


async def test_a_send_whose_answer_is_lost_may_be_repeated_and_a_look_speaks_of_none(
    rt: Runtime[Any], operator: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> Any:
        message = "Redis did not answer within 8 s"
        raise RedisUnavailable(message)

    for name in ("send", "stats"):
        monkeypatch.setattr(rt, name, away)
    lost, look = await post(operator, "jobs", {"actor": "echo"}, 503), await get(operator, "overview", 503)
    assert look["error"]["message"] == "Redis did not answer within 8 s. Try again in some seconds."
    assert "a send is safe to repeat with an id. Try again in some seconds." in lost["error"]["message"]


@pytest.mark.parametrize("kind", errors.REMEDIES)
def test_what_is_wrong_and_what_to_do_are_sentences(kind: Any) -> None:
    for text in ("it is away", "it is away."):
        assert b"it is away. " in errors.of_error(kind(text)).body
