"""Scripts that are broken on purpose are caught: some of them here, all of them by `python -m proofs.broken`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from angelrt import scripts
from proofs import broken
from proofs.mutants.scripts import MUTANTS, Broken, applied
from tests.proofs.test_small_worlds import loop

if TYPE_CHECKING:
    import asyncio

__all__ = ["loop"]

ENOUGH: Final = 25
QUICK: Final = {
    "claim that is sent again loses what it leased",
    "claim hands no marker on",
    "settle leaves holders behind",
    "a settle that is sent again counts twice",
    "a record is written before its place",
    "resume of a gate marks nothing",
}


@pytest.mark.parametrize("mutant", [one for one in MUTANTS if one.what in QUICK], ids=lambda mutant: mutant.what)
def test_broken_script_is_caught(mutant: Broken, server_url: str, loop: asyncio.AbstractEventLoop) -> None:
    assert broken.catch(mutant, server_url, loop) != []


def test_every_quick_mutant_is_there() -> None:
    assert {mutant.what for mutant in MUTANTS} >= QUICK
    assert len({mutant.what for mutant in MUTANTS}) == len(MUTANTS) >= ENOUGH


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_mutant_changes_the_scripts_while_it_is_applied(mutant: Broken) -> None:
    right = [script.sha for script in scripts.SCRIPTS.values()]
    with applied(mutant):
        assert [script.sha for script in scripts.SCRIPTS.values()] != right
    assert [script.sha for script in scripts.SCRIPTS.values()] == right


@pytest.mark.parametrize("old", ["no such text", "local"])
def test_mutant_whose_text_is_not_there_once_is_an_error(old: str) -> None:
    with pytest.raises(ValueError, match=r"has the text \d+ times"), applied(MUTANTS[0]._replace(old=old)):
        pass


def test_mutant_that_changes_nothing_is_not_caught(server_url: str, loop: asyncio.AbstractEventLoop) -> None:
    harmless = next(one for one in MUTANTS if one.what == "a record is written before its place")
    assert broken.catch(harmless._replace(new=harmless.old), server_url, loop) == []
