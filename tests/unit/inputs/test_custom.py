"""A codec of one's own: what its function raises or returns costs its record and never the stream."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from dugs_stream.inputs.settings import CustomCodecSettings
from dugs_stream.records import Reason, Rejection
from tests.support.records.decoding import decoder, reason_of, sample


def test_lack_of_memory_in_a_users_function_is_not_the_records_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is passed on, and the record is tried again in smaller company."""
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")):

        def no_room(_value: bytes, error: Exception = error) -> torch.Tensor:
            raise error

        monkeypatch.setattr("dugs_stream.inputs.custom.import_string", lambda *_names, f=no_room: f)
        with pytest.raises(type(error)):
            decoder(CustomCodecSettings(type="any.module:function")).decode(sample(b"x"))


class Speechless(Exception):  # noqa: N818 -- as users name them
    """An exception that cannot say what it is."""

    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (SystemExit(3), "SystemExit: 3"),
        (GeneratorExit(), "GeneratorExit"),
        (Speechless(), "Speechless, whose text cannot be had"),
    ],
)
def test_nothing_that_a_users_function_raises_stops_the_stream(
    raised: BaseException, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even what ends a process."""

    def raises(_value: bytes) -> torch.Tensor:
        raise raised

    monkeypatch.setattr("dugs_stream.inputs.custom.import_string", lambda *_names: raises)
    outcome = decoder(CustomCodecSettings(type="any.module:function")).decode(sample(b"x"))

    assert reason_of(outcome) is Reason.UNDECODABLE
    assert isinstance(outcome, Rejection)
    assert told in outcome.error


def test_interrupt_ends_a_function_only_where_it_is_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C reaches the main thread; a function that raises the same in another one rejects its record."""

    def interrupts(_value: bytes) -> torch.Tensor:
        raise KeyboardInterrupt

    monkeypatch.setattr("dugs_stream.inputs.custom.import_string", lambda *_names: interrupts)
    own_decoder = decoder(CustomCodecSettings(type="any.module:function"))
    with pytest.raises(KeyboardInterrupt):
        own_decoder.decode(sample(b"x"))
    with ThreadPoolExecutor(1) as other:
        assert reason_of(other.submit(own_decoder.decode, sample(b"x")).result()) is Reason.UNDECODABLE


ODD_TENSORS: dict[str, Callable[[], torch.Tensor]] = {
    "sparse": lambda: torch.eye(2).to_sparse(),
    "meta": lambda: torch.empty(2, device="meta"),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
}


@pytest.mark.filterwarnings("ignore")  # torch's own, about what is new or old in it
@pytest.mark.parametrize("kind", ODD_TENSORS)
def test_tensor_without_rows_of_numbers_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nothing further on can stack with others."""
    monkeypatch.setattr(
        "dugs_stream.inputs.custom.import_string", lambda *_names: lambda _value: ODD_TENSORS[kind]()
    )
    outcome = decoder(CustomCodecSettings(type="any.module:function")).decode(sample(b"x"))

    assert isinstance(outcome, Rejection)
    assert f"returned a {kind} tensor" in outcome.error
