"""Jobs over HTTP: sent, looked at, waited for, cancelled, found, and let run again; and what is hidden stays so."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest

from angelrt import Runtime, Status
from angelrt.web import api_jobs
from angelrt.web.redaction import REDACTED
from tests.web.conftest import HIDDEN, OPERATOR, READER
from tests.worker.waiting import until, until_ended, until_info

if TYPE_CHECKING:
    from tests.web.conftest import Live

RESULT_S = 20


async def ended(rt: Runtime[Any], actor: str, **arguments: Any) -> str:
    """Send a job, wait for its end, and return its id."""
    return (await until_ended(await rt.send(actor, arguments))).id


async def get(client: httpx.AsyncClient, path: str, status: int = 200, **query: Any) -> Any:
    """Return the JSON of a path, which must answer with a status."""
    answer = await client.get(f"/api/v1/{path}", params=query)
    assert answer.status_code == status, answer.text
    return answer.json()


async def post(client: httpx.AsyncClient, path: str, body: Any = None, status: int = 200) -> Any:
    """Post JSON to a path, which must answer with a status; return what it says."""
    answer = await client.post(f"/api/v1/{path}", json=body or {})
    assert answer.status_code == status, answer.text
    return answer.json()


# -- sending -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("working")
async def test_a_job_is_sent_runs_and_is_waited_for(operator: httpx.AsyncClient) -> None:
    sent = await post(operator, "jobs", {"actor": "echo", "arguments": {"value": {"a": [1, None, "ü"]}}}, 201)
    assert sent.keys() == {"id", "isNew"}
    assert sent["isNew"] is True
    told = await get(operator, f"jobs/{sent['id']}/result", wait=RESULT_S, reveal="true")
    assert told == {"status": "completed", "result": {"a": [1, None, "ü"]}, "resultHidden": False, "error": None}
    job = await get(operator, f"jobs/{sent['id']}")
    assert (job["type"], job["status"], job["state"], job["attempts"]) == ("echo", "completed", "completed", 1)
    assert datetime.fromisoformat(job["createdAt"]).utcoffset() == timedelta(0)
    assert datetime.fromisoformat(job["completedAt"]) >= datetime.fromisoformat(job["createdAt"])


async def test_a_send_is_repeated_safely_with_its_id(rt: Runtime[Any], operator: httpx.AsyncClient) -> None:
    body = {"actor": "counts", "arguments": {"customer_id": 1}, "options": {"id": "order/1", "delay": 60.5, "priority": 2}}
    assert await post(operator, "jobs", body, 201) == {"id": "order/1", "isNew": True}
    assert await post(operator, "jobs", body, 200) == {"id": "order/1", "isNew": False}
    info = await rt.job("order/1").info()
    assert (info.state, info.priority, info.queue) == ("delayed", 2, "limited")


async def test_options_reach_the_job(rt: Runtime[Any], operator: httpx.AsyncClient) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    options = {"at": at.isoformat(), "queue": "other", "timeout": 5, "attempts": 2, "expires": 7200, "tenant": "t"}
    sent = await post(operator, "jobs", {"actor": "echo", "options": options}, 201)
    info = await rt.job(sent["id"]).info()
    assert info.due_at is not None
    assert abs(info.due_at - at) < timedelta(milliseconds=1)
    assert info.queue == "other"


WRONG: dict[str, tuple[Any, set[str]]] = {
    "a missing argument": ({"actor": "counts", "arguments": {}}, {"arguments.customer_id"}),
    "two wrong arguments": (
        {"actor": "counts", "arguments": {"customer_id": "x", "size": []}},
        {"arguments.customer_id", "arguments.size"},
    ),
    "an argument too many": ({"actor": "counts", "arguments": {"customer_id": 1, "more": 1}}, {"arguments.more"}),
    "a nested one": ({"actor": "refuses", "arguments": {"account": {"name": 5}}}, {"arguments.account.name"}),
    "an actor that is not here": ({"actor": "nobody"}, {"actor"}),
    "no actor": ({}, {"actor"}),
    "a field too many": ({"actor": "echo", "priority": 1}, {"priority"}),
    "an option that is none": ({"actor": "echo", "options": {"when": 1}}, {"options.when"}),
    "options out of range": (
        {"actor": "echo", "options": {"priority": 77, "delay": -1, "attempts": 0}},
        {"options.priority", "options.delay", "options.attempts"},
    ),
    "options that exclude each other": ({"actor": "echo", "options": {"delay": 1, "at": "2030-01-01T00:00:00Z"}}, {"options"}),
    "an option of another type": ({"actor": "echo", "options": {"priority": "1"}}, {"options.priority"}),
    "a time without a zone": ({"actor": "echo", "options": {"at": "2030-01-01T00:00:00"}}, {"options.at"}),
    "a cost without a limit": ({"actor": "echo", "options": {"cost": 2}}, {"options"}),
    "arguments that are no object": ({"actor": "echo", "arguments": [1]}, {"arguments"}),
    "no object": ([1], {"body"}),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_send_names_the_fields(rt: Runtime[Any], operator: httpx.AsyncClient, name: str) -> None:
    body, fields = WRONG[name]
    answer = await operator.post("/api/v1/jobs", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, {one["field"] for one in error["fields"]}) == (422, fields), error
    assert all(one["message"] for one in error["fields"])
    assert await rt.jobs.counts() == dict.fromkeys(await rt.jobs.counts(), 0)


async def test_a_refusal_does_not_say_what_the_value_was(operator: httpx.AsyncClient) -> None:
    answer = await operator.post("/api/v1/jobs", json={"actor": "fails", "arguments": {"password": [HIDDEN]}})
    assert answer.status_code == 422
    assert HIDDEN not in answer.text


async def test_a_drained_queue_takes_nothing(rt: Runtime[Any], operator: httpx.AsyncClient) -> None:
    await rt.control.drain(queue="default", by="test")
    assert (await post(operator, "jobs", {"actor": "echo"}, 409))["error"]["type"] == "Draining"


# -- what is hidden ----------------------------------------------------------------------------------------------------------------


async def test_arguments_and_results_are_hidden_until_they_are_asked_for(working: Runtime[Any], live: Live) -> None:
    reader, operator = await live.client(READER), await live.client(OPERATOR)
    job_id = await ended(working, "echo", value={"shown": "a-value", "api_key": HIDDEN})
    for client in (reader, operator):
        told = json.dumps(
            [await get(client, path) for path in (f"jobs/{job_id}", "jobs", f"jobs/{job_id}/result", f"jobs/{job_id}/explain")]
        )
        assert "a-value" not in told
        job = await get(client, f"jobs/{job_id}")
        assert (job["payload"], job["payloadHidden"]) == (None, True)
        assert await get(client, f"jobs/{job_id}/result") == {"status": "completed", "result": None, "resultHidden": True, "error": None}
    job = await get(operator, f"jobs/{job_id}", reveal="true")
    assert (job["payload"], job["payloadHidden"]) == ({"value": {"shown": "a-value", "api_key": REDACTED}}, False)
    assert (await get(operator, f"jobs/{job_id}/result", reveal="true"))["result"] == {"shown": "a-value", "api_key": REDACTED}
    for path in (f"jobs/{job_id}", f"jobs/{job_id}/result"):
        assert (await get(reader, path, 403, reveal="true"))["error"]["type"] == "NotAllowed"
    seen = (await get(operator, "audit"))["entries"]
    assert [(one["action"], one["what"], one["role"]) for one in seen] == [
        ("reveal", f"result of job {job_id}", "operator"),
        ("reveal", f"arguments of job {job_id}", "operator"),
    ]
    assert all(one["who"].startswith("token ") for one in seen)


HIDING = (
    ("fails", {"password": HIDDEN, "note": "a note"}),
    ("fails", {"password": HIDDEN, "note": "n" * 5000}),
    ("refuses", {"account": {"name": "ann", "door": HIDDEN}}),
)


@pytest.mark.parametrize(("actor", "arguments"), HIDING, ids=("by name", "kept apart", "by annotation"))
async def test_an_error_shows_no_secret_of_the_arguments(working: Runtime[Any], live: Live, actor: str, arguments: dict[str, Any]) -> None:
    job_id = await ended(working, actor, **arguments)
    info = await working.job(job_id).info()
    assert info.error is not None
    assert HIDDEN in info.error.message
    for token in (READER, OPERATOR):
        client = await live.client(token)
        paths = (f"jobs/{job_id}", "jobs", "failed", f"jobs/{job_id}/result", f"jobs/{job_id}/explain")
        told = [await get(client, path) for path in paths]
        assert HIDDEN not in json.dumps(told)
        assert REDACTED in told[0]["error"]["message"]
        assert REDACTED in told[1]["jobs"][0]["error"]["traceback"]
        assert REDACTED in told[2]["letters"][0]["error"]["message"]
        assert REDACTED in told[3]["error"]["message"]
    assert HIDDEN not in json.dumps(await get(await live.client(OPERATOR), f"jobs/{job_id}", reveal="true"))


async def test_what_a_run_says_of_itself_shows_no_secret(working: Runtime[Any], operator: httpx.AsyncClient) -> None:
    job = await working.send("tells", {"password": HIDDEN})
    info = await until_info(job, lambda info: info.progress is not None and bool(info.progress.log), "it has told")
    assert HIDDEN in str(info.progress)
    told = await get(operator, f"jobs/{job.id}")
    assert (told["progress"]["message"], told["progress"]["log"]) == (f"using {REDACTED}", [f"used {REDACTED}"])
    assert HIDDEN not in json.dumps([told, await get(operator, "jobs"), await get(operator, f"jobs/{job.id}", reveal="true")])


async def test_a_result_that_is_marked_stays_redacted(working: Runtime[Any], operator: httpx.AsyncClient) -> None:
    job_id = await ended(working, "opens", account={"name": "ann", "door": HIDDEN}, code="1234")
    assert (await get(operator, f"jobs/{job_id}/result", reveal="true"))["result"] == REDACTED
    payload = (await get(operator, f"jobs/{job_id}", reveal="true"))["payload"]
    assert payload == {"account": {"name": "ann", "door": REDACTED}, "code": REDACTED}


async def test_a_search_finds_nothing_by_what_is_hidden(working: Runtime[Any], live: Live) -> None:
    reader, operator = await live.client(READER), await live.client(OPERATOR)
    plain = await ended(working, "echo", value="findable-value")
    failed = await ended(working, "fails", password=HIDDEN, note="findable-note")

    async def found(client: httpx.AsyncClient, path: str, text: str) -> tuple[list[str], Any]:
        told = await get(client, path, text=text, limit=1)
        return [one["id"] for one in told.get("jobs", told.get("letters"))], told["cursor"]

    for path in ("jobs", "failed"):
        assert await found(reader, path, HIDDEN) == ([], None), "neither by a hit, nor by where the list stops"
        assert await found(operator, path, HIDDEN) == ([], None)
        assert await found(reader, path, HIDDEN[:6]) == ([], None)
        assert (await found(reader, path, "FINDABLE-note"))[0] == [failed], "it is in the error, which is shown"
        assert (await found(reader, path, failed))[0] == [failed]
    assert await found(reader, "jobs", "findable-value") == ([], None)
    assert (await found(operator, "jobs", "findable-value"))[0] == [plain]


async def test_a_list_does_not_tell_of_what_is_hidden_by_where_it_stops(
    working: Runtime[Any], reader: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        await ended(working, "echo", value=f"hidden-{n}")
    monkeypatch.setattr(api_jobs, "LOOKS_MAX", 1)
    for text in ("hidden-0", "hidden-1", "hidden-2"):
        assert await get(reader, "jobs", text=text, limit=1) == await get(reader, "jobs", text="nowhere", limit=1)


async def test_an_explanation_does_not_show_a_secret_key(working: Runtime[Any], operator: httpx.AsyncClient) -> None:
    await ended(working, "guards", code=HIDDEN)
    held = await working.send("guards", {"code": HIDDEN})
    assert HIDDEN in (await working.explain(held.id)).text
    told = await get(operator, f"jobs/{held.id}/explain")
    assert (told["id"], told["actor"], told["reasons"][0]["kind"]) == (held.id, "guards", "gate")
    assert HIDDEN not in json.dumps(told)
    assert REDACTED in told["reasons"][0]["text"]


async def test_a_result_does_not_show_the_secrets_of_its_arguments(working: Runtime[Any], operator: httpx.AsyncClient) -> None:
    job = await ended(working, "pays", card=HIDDEN)
    told = await get(operator, f"jobs/{job}/result", reveal="true")
    shown = {"told": f"paid with {REDACTED}", "cards": [REDACTED], "pin_was": REDACTED, "sum": 7, "again": 1234}
    assert told["result"] == shown, "a default is not in the arguments that were sent"
    job = await ended(working, "pays", card=HIDDEN, pin=98765)
    assert (await get(operator, f"jobs/{job}/result", reveal="true"))["result"]["again"] == REDACTED


async def test_a_reader_is_refused_what_is_hidden_at_once(working: Runtime[Any], reader: httpx.AsyncClient) -> None:
    later = await working.send("echo", delay=60)
    failed, done = await ended(working, "fails", password=HIDDEN), await ended(working, "echo")
    for job in (later.id, failed, done, "none"):
        assert (await get(reader, f"jobs/{job}/result", 403, reveal="true", wait=30))["error"]["type"] == "NotAllowed", job


# -- waiting, cancelling -----------------------------------------------------------------------------------------------------------


async def test_a_result_that_is_not_there_yet_is_202(working: Runtime[Any], operator: httpx.AsyncClient) -> None:
    later = await working.registered["echo"].options(delay=60).send()  # type: ignore[call-arg]
    assert await get(operator, f"jobs/{later.id}/result", 202) == {"status": "pending"}
    assert await get(operator, f"jobs/{later.id}/result", 202, wait=0.01) == {"status": "pending"}
    assert (await get(operator, f"jobs/{later.id}/result", 422, wait=31))["error"]["fields"][0]["field"] == "wait"
    assert (await get(operator, "jobs/none/result", 404))["error"]["type"] == "JobNotFound"


async def test_a_waiting_call_is_woken_by_the_end(working: Runtime[Any], live: Live) -> None:
    operator = await live.client(OPERATOR)
    job = await working.send("waits")
    waiting = asyncio.create_task(get(operator, f"jobs/{job.id}/result", wait=30))
    await until_info(job, lambda info: info.status == Status.PROCESSING, "it runs")
    assert await post(operator, f"jobs/{job.id}/cancel") == {"cancelled": True}
    told = await waiting
    assert (told["status"], told["result"]) == ("cancelled", None)
    assert await post(operator, f"jobs/{job.id}/cancel") == {"cancelled": False}
    await post(operator, "jobs/none/cancel", status=404)


async def test_a_client_that_goes_is_not_waited_for(rt: Runtime[Any], live: Live) -> None:
    await rt.send("echo", id="later", delay=60)
    client = await live.client(READER)
    waits = live.app.state.site.waits
    with pytest.raises(httpx.ReadTimeout):
        await client.get("/api/v1/jobs/later/result", params={"wait": 30}, timeout=0.2)
    await until(lambda: not waits, "nothing waits")
    waiting = asyncio.create_task(get(client, "jobs/later/result", 202, wait=30))
    await until(lambda: len(waits) == 1, "it waits")
    live.app.state.site.stop()
    assert await waiting == {"status": "pending"}


@pytest.mark.parametrize("job_id", ["a/result", "a/b/cancel", "a%2Fb", "a%25", "ü ?#&=+", "a", "<script>", "a//b"])
async def test_an_id_may_hold_any_sign(rt: Runtime[Any], operator: httpx.AsyncClient, job_id: str) -> None:
    await rt.send("echo", {"value": job_id}, id="a", delay=60)
    await rt.send("echo", {"value": job_id}, id=job_id, delay=60)
    quoted = quote(job_id, safe="")
    assert (await get(operator, f"jobs/{quoted}", reveal="true"))["id"] == job_id
    assert (await get(operator, f"jobs/{quoted}/explain"))["id"] == job_id
    assert await post(operator, f"jobs/{quoted}/cancel") == {"cancelled": True}
    assert (await rt.job("a").status()) == (Status.CANCELLED if job_id == "a" else Status.PENDING)


# -- lists -------------------------------------------------------------------------------------------------------------------------


async def test_jobs_are_listed_in_pages_by_state_actor_queue_and_time(rt: Runtime[Any], operator: httpx.AsyncClient) -> None:
    jobs = [await rt.send("echo", {"value": n}) for n in range(5)] + [await rt.send("counts", {"customer_id": 1})]
    seen: list[str] = []
    cursor = ""
    while True:
        page = await get(operator, "jobs", state="ready", cursor=cursor, limit=2)
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert sorted(seen) == sorted(job.id for job in jobs)
    assert len((await get(operator, "jobs", actor="echo", state="", queue=""))["jobs"]) == 5
    assert [job["type"] for job in (await get(operator, "jobs", queue="limited"))["jobs"]] == ["counts"]
    assert (await get(operator, "jobs", until="2020-01-01T00:00:00Z"))["jobs"] == []
    assert len((await get(operator, "jobs", since="2020-01-01T00:00:00Z"))["jobs"]) == 6


@pytest.mark.parametrize(
    "query",
    [
        *({"state": "nonsense"}, {"limit": 0}, {"limit": 201}, {"limit": "x"}, {"since": "yesterday"}, {"since": "2020-01-01T00:00:00"}),
        *({"cursor": "nonsense"}, {"queue": "a b"}, {"actor": "a b"}, {"stat": "ready"}),
    ],
    ids=str,
)
async def test_a_wrong_query_is_refused(operator: httpx.AsyncClient, query: dict[str, Any]) -> None:
    error = (await get(operator, "jobs", 422, **query))["error"]
    assert error["message"]


# -- dead letters ------------------------------------------------------------------------------------------------------------------


async def test_a_failed_job_runs_again_with_other_arguments_and_keeps_its_secret(
    working: Runtime[Any], operator: httpx.AsyncClient
) -> None:
    job_id = await ended(working, "fails", password=HIDDEN, note="old")
    payload = (await get(operator, f"jobs/{job_id}", reveal="true"))["payload"]
    assert payload == {"password": REDACTED, "note": "old"}
    await post(operator, f"jobs/{job_id}/retry", {"arguments": {**payload, "note": "new"}})
    info = await until_info(working.job(job_id), lambda info: "new" in str(info.error), "it has failed anew")
    assert info.payload == {"password": HIDDEN, "note": "new"}
    assert (await get(operator, "audit"))["entries"][0]["what"] == f"job {job_id} with other arguments: password, note"


async def test_a_retry_as_it_is_and_without_an_argument(rt: Runtime[Any], operator: httpx.AsyncClient) -> None:
    async with rt.worker(concurrency=2, grace=0):
        first, second = [await ended(rt, "fails", password=HIDDEN, note=str(n)) for n in range(2)]
    told = await post(operator, f"jobs/{first}/retry")
    assert (told["state"], told["payload"], told["payloadHidden"]) == ("ready", None, True)
    await post(operator, f"jobs/{second}/retry", {"without": ["note"]})
    assert (await rt.job(second).info()).payload == {"password": HIDDEN}
    assert (await post(operator, f"jobs/{first}/retry", status=404))["error"]["type"] == "JobNotFound"


async def test_a_retry_with_wrong_arguments_changes_nothing(rt: Runtime[Any], operator: httpx.AsyncClient) -> None:
    async with rt.worker(concurrency=2, grace=0):
        job_id = await ended(rt, "fails", password=HIDDEN)
    error = (await post(operator, f"jobs/{job_id}/retry", {"arguments": {"note": 5}}, 422))["error"]
    assert [one["field"] for one in error["fields"]] == ["arguments.note"]
    error = (await post(operator, f"jobs/{job_id}/retry", {"arguments": {"note": REDACTED}}, 422))["error"]
    assert [one["field"] for one in error["fields"]] == ["arguments.note"]
    assert (await rt.job(job_id).info()).state == "failed"


async def test_dead_letters_are_listed_filtered_replayed_and_purged(rt: Runtime[Any], operator: httpx.AsyncClient) -> None:
    async with rt.worker(concurrency=2, grace=0):
        failed = [await ended(rt, "fails", password=HIDDEN, note=f"n{n}") for n in range(5)]
        other = await ended(rt, "refuses", account={"name": "ann"})
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = await get(operator, "failed", limit=2, cursor=cursor, actor="fails")
        seen += [letter["id"] for letter in page["letters"]]
        cursor = page["cursor"]
        assert page["total"] == 6
    assert seen == failed[::-1]
    assert [one["id"] for one in (await get(operator, "failed", error="ValueError", queue="default", actor="refuses"))["letters"]] == [
        other
    ]
    assert (await get(operator, "failed", error="KeyError"))["letters"] == []
    assert (await post(operator, "failed/replay", {"actor": "fails", "text": "n0", "perSecond": 5}))["replayed"] == 1
    assert await post(operator, "failed/purge", {"id": failed[1]}) == {"purged": 1}
    assert await post(operator, "failed/purge", {"actor": "refuses"}) == {"purged": 1}
    await post(operator, "failed/purge", {}, 422)
    await post(operator, "failed/purge", {"actor": "a", "everything": True}, 422)
    assert await post(operator, "failed/purge", {"everything": True}) == {"purged": 3}
    assert [(one["action"], one["what"]) for one in (await get(operator, "audit"))["entries"]][-3:] == [
        ("purge", "dead letters: actor=refuses"),
        ("purge", f"job {failed[1]}"),
        ("replay", "dead letters: actor=fails, a text"),
    ]
