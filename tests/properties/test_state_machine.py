"""Random histories of a fleet against the real scripts: after every step, what the server holds is what the model says."""

from __future__ import annotations

import faulthandler
import secrets

import hypothesis.strategies as st
import pytest
from hypothesis import Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from angelrt import link
from tests.properties import steps
from tests.properties.fleet_lives import LivesFleet
from tests.properties.fleet_rough import RoughFleet

PHASES = tuple(phase for phase in Phase if phase is not Phase.explain)  # it would trace every line of each step: minutes for little
EXAMPLES_A_ROUND = 10  # with more, Hypothesis goes over to small changes of earlier examples, and few histories are new
FIRST_LENGTHS = (6, 12, 25)  # short histories first: what they find is soon shrunk to the shortest
LENGTH_MIN = 50
LIMIT_S = 900 if settings().derandomize else 7_200  # to find the shortest history that fails takes up to five minutes


class QueueMachine(RuleBasedStateMachine):
    """One rule for all steps: of many rules, Hypothesis leaves out half in each example, and most histories would never get anywhere."""

    def __init__(self, url: str) -> None:
        """Take a namespace of the server."""
        super().__init__()
        self.fleet = LivesFleet(url)

    def teardown(self) -> None:
        self.fleet.close()

    @initialize(theme=st.sampled_from([*steps.THEMES]), drafts=st.lists(steps.job_drafts, min_size=1, max_size=8))
    def begin(self, theme: str, drafts: list[steps.JobDraft]) -> None:
        self.fleet.theme = theme
        self.fleet.enqueue(drafts, "", "")

    @rule(step=steps.steps)
    def step(self, step: steps.Step) -> None:
        name, arguments = step
        getattr(self.fleet, name)(**arguments)

    @invariant()
    def server_holds_what_the_model_says(self) -> None:
        self.fleet.check()


class TurnsMachine(RuleBasedStateMachine):
    """Tenants who take turns, aging, many lanes, and calls that break off, beside the looser model."""

    def __init__(self, url: str) -> None:
        """Take a namespace of the server."""
        super().__init__()
        self.fleet = RoughFleet(url)

    def teardown(self) -> None:
        self.fleet.close()

    @initialize(theme=st.sampled_from([*steps.TURNS]), drafts=st.lists(steps.job_drafts, min_size=1, max_size=12))
    def begin(self, theme: str, drafts: list[steps.JobDraft]) -> None:
        self.fleet.begin(theme)
        self.fleet.enqueue(drafts, "", "")

    @rule(step=steps.steps_that_break)
    def step(self, step: steps.Step) -> None:
        name, arguments = step
        getattr(self.fleet, name)(**arguments)

    @invariant()
    def server_holds_what_the_model_says(self) -> None:
        self.fleet.check()


@pytest.fixture(autouse=True)
def enough_time() -> None:
    """Move the alarm that ends the whole run when a test hangs."""
    faulthandler.dump_traceback_later(LIMIT_S + 60, exit=True)


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize(("machine", "rounds"), [(QueueMachine, 3), (TurnsMachine, 4)])
def test_scripts_do_what_the_model_does(
    server_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    machine: type[QueueMachine | TurnsMachine],
    rounds: int,
) -> None:
    """To replay a failure, put the `reproduce_failure(...)` that it prints in the place of `seed(...)`."""
    monkeypatch.setattr(link, "RETRY_BASE_S", 0.0)  # the pauses are for a server that recovers; this one is well
    caplog.set_level("ERROR", "angelrt")  # thousands of requests and replies are lost here, on purpose
    profile = settings()
    options = settings(profile, print_blob=True, phases=PHASES, report_multiple_bugs=False, max_examples=EXAMPLES_A_ROUND)
    first = 0 if profile.derandomize else secrets.randbits(64)
    for number in range(profile.max_examples // rounds):
        length = FIRST_LENGTHS[number] if number < len(FIRST_LENGTHS) else max(LENGTH_MIN, profile.stateful_step_count)
        seeded = seed(first + number)(lambda: machine(server_url))
        run_state_machine_as_test(seeded, settings=settings(options, stateful_step_count=length))  # type: ignore[arg-type]
