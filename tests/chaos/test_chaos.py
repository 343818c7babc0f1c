"""The short form of the chaos test: `tox -e chaos` is the full one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import servers
from tests.chaos import history, report
from tests.chaos.checker import check
from tests.chaos.run import Settings, run

if TYPE_CHECKING:
    from pathlib import Path

SHORT = Settings(jobs=3_000, seed=1, per_s=200, workers=3, lease_s=4, every_s=0.5)


@pytest.mark.timeout(240)
async def test_nothing_is_lost_and_nothing_applied_twice_whatever_breaks(tmp_path: Path) -> None:
    program = servers.valkey() or servers.redis()
    assert program is not None
    kept = tmp_path / "history.jsonl"
    found = await run(SHORT, program, tmp_path, kept)
    print(report.table(found))  # noqa: T201 - pytest shows it when the test fails
    assert found["problems"] == []
    assert (found["sent"], found["lost"], found["applied_twice"], found["unexplained"]) == (SHORT.jobs, 0, 0, 0)
    assert found["children"] > 0
    assert {"kill", "stop", "lost reply", "server kill", "server restart"} <= found["faults"].keys()
    assert found["extra_deliveries"].keys() - {"retry", "handed back"}, "some fault took jobs from a worker"
    facts = history.read(kept)
    assert report.summary(facts, check(facts)) == found, "the history that is kept tells the same"
