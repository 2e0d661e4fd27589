"""kill -9 of the daemon, at every step of the commit and at random: nothing lost, nothing twice, nothing different.

DUGS_FAULT_ROUNDS sets how often each is done; the seed of the random moments is printed with a failure.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Callable

import numpy as np
import pytest

from dugs_stream.daemon import Step
from dugs_stream.log.port import Message
from tests.support.deployment import Deployment, npy_message, npy_messages
from tests.support.models import WIDTH

pytestmark = [pytest.mark.faults, pytest.mark.timeout(0)]

ROUNDS = int(os.environ.get("DUGS_FAULT_ROUNDS", "1"))
DIES_WITHIN_SECONDS = 60.0

MakeDeployment = Callable[..., Deployment]


def records(seed: int) -> list[Message]:
    """Good records with poison among them."""
    messages = npy_messages(70, seed)
    for place in (9, 33, 34):
        messages[place] = Message(b"poison", b"not an array", (("label", b"1"),))
    messages[50] = npy_message(np.full(WIDTH, np.nan, np.float32))
    return messages


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], list[tuple[object, ...]]]:
    """The list of uniques that a run without any fault gives for the records of a seed."""
    known: dict[int, list[tuple[object, ...]]] = {}

    def run(seed: int) -> list[tuple[object, ...]]:
        if seed not in known:
            deployment = Deployment(tmp_path_factory.mktemp(f"undisturbed-{seed}"))
            deployment.send(records(seed))
            deployment.drain()
            known[seed] = uniques_of(deployment)
        return known[seed]

    return run


def uniques_of(deployment: Deployment) -> list[tuple[object, ...]]:
    """What must not depend on faults: number, key, similarity and nearest of each unique, in order."""
    return [
        (
            event["sequence"],
            event["source"]["offset"],
            event["source"]["key"],
            event["similarity"],
            event["nearest"] and event["nearest"]["sequence"],
        )
        for event in deployment.events("unique")
    ]


@pytest.mark.parametrize("round_number", range(ROUNDS))
@pytest.mark.parametrize("step", list(Step))
def test_killed_at_a_step_the_next_run_gives_the_same_uniques(
    make_deployment: MakeDeployment,
    undisturbed: Callable[[int], list[tuple[object, ...]]],
    step: Step,
    round_number: int,
) -> None:
    """Dead in the middle of the stream, dead again at the same step, then left alone."""
    deployment = make_deployment()
    deployment.send(records(round_number))
    for nth in (3, 1):
        process = deployment.start_dying(step.value, nth)
        _, errors = process.communicate(timeout=DIES_WITHIN_SECONDS)
        assert process.returncode == -signal.SIGKILL, errors

    deployment.run_drained()

    deployment.check()
    assert uniques_of(deployment) == undisturbed(round_number)


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_killed_at_random_moments_the_next_run_gives_the_same_uniques(
    make_deployment: MakeDeployment,
    undisturbed: Callable[[int], list[tuple[object, ...]]],
    round_number: int,
) -> None:
    """Start-up and recovery included: wherever the clock strikes."""
    seed = int(os.environ.get("DUGS_FAULT_SEED", random.SystemRandom().randrange(2**32)))
    print(f"repeat with DUGS_FAULT_SEED={seed}")
    moments = random.Random(seed + round_number)
    deployment = make_deployment()
    deployment.send(records(round_number))
    for _ in range(3):
        process = deployment.start("run")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(moments.uniform(0.5, 6.0))
        process.kill()
        process.communicate()

    deployment.run_drained()

    deployment.check()
    assert uniques_of(deployment) == undisturbed(round_number)
