"""Search on a device: when it answers, how it gives way when memory ends, and how a device that miscomputes is found out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from dugs_stream.core.index import device_memory, device_rows, device_scan, device_search, device_trial
from dugs_stream.core.index.device_rows import DeviceRows
from dugs_stream.core.index.low_precision import Arithmetic, Format, bfloat_products, round_queries
from dugs_stream.core.index.rows import Rows as RowList
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.errors import DamagedRowsError
from tests.support.oracles.unit_rows import Rows, at_cosine, naive_nearest, unit_rows

K = 32
ROWS, QUERIES = unit_rows(1, 300, K), unit_rows(2, 6, K)


@pytest.fixture(autouse=True)
def _fresh_trial() -> Iterator[None]:
    """No test profits from another's trial of the CPU, nor suffers from it."""
    device_trial.try_products.cache_clear()
    yield
    device_trial.try_products.cache_clear()


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk of 64 rows, so that 300 rows have five."""
    monkeypatch.setattr(device_rows, "_CHUNK_BYTES", 64 * K)


def index_of(rows: Rows = ROWS, **keywords: Any) -> UniqueIndex:
    index = UniqueIndex(rows.shape[1], device="cpu", device_from=64, **keywords)
    index.add(rows)
    return index


def require_right(index: UniqueIndex, rows: Rows = ROWS, queries: Rows = QUERIES) -> None:
    """The nearest of each query is that of a float64 loop over the rows."""
    answer = index.nearest(queries)

    assert list(zip(*answer, strict=True)) == [naive_nearest(rows, query) for query in queries]


def fails_after(calls: int, error: Exception, original: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which raises from its call number `calls` + 1 on."""
    count = iter(range(10**6))

    def limited(*arguments: Any) -> Any:
        if next(count) >= calls:
            raise error
        return original(*arguments)

    return limited


def test_report_shows_the_device_once_the_list_is_long_enough() -> None:
    """Until then the host answers; then the way of every question, the bytes there, and the few rows the bound left."""
    index = index_of(ROWS[:63])
    require_right(index, ROWS[:63])
    before = index.report()
    index.add(ROWS[63:])
    require_right(index)
    after = index.report()

    assert (before.device, before.device_format, before.bytes["device"]) == ("cpu", None, 0)
    assert set(before.strategies.values()) == {"ground"}
    assert (after.device, after.device_format, after.device_left) == ("cpu", "bf16 and float32", None)
    assert set(after.strategies.values()) == {"device"}
    assert after.bytes["device"] >= 300 * (2 * K + 4 * K + 4)
    assert after.survivors < 100


def test_index_without_a_device_has_none() -> None:
    """The host's ways are the default, wherever the index runs."""
    index = UniqueIndex(K)
    index.add(ROWS)
    index.nearest(QUERIES)

    assert (index.report().device, index.report().bytes["device"]) == (None, 0)


def test_growing_copies_nothing_that_is_there() -> None:
    """Chunks stay where they are; rows are appended to the last, and new chunks are as long as an eighth of the list."""
    listed = RowList(K)
    listed.add(ROWS[:70])
    held = DeviceRows(K, torch.device("cpu"), "int8")
    held.follow(listed, 70)
    first = [chunk.numbers.data_ptr() for chunk in held.chunks]
    listed.add(unit_rows(3, 2_000, K))

    held.follow(listed, 1_000)
    assert len(held) == 1_070
    held.follow(listed, 10_000)

    assert len(held) == 2_070
    assert [chunk.numbers.data_ptr() for chunk in held.chunks][: len(first)] == first
    assert len(held.chunks[-1].slack) > len(held.chunks[0].slack)


def test_index_gives_up_float32_then_bf16_then_the_device_as_memory_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each answer on the way is right, and the reason is in the report at last."""
    index = index_of()
    full = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB")
    formats = []
    monkeypatch.setattr(DeviceRows, "strip_peaks", fails_after(0, full, DeviceRows.strip_peaks))
    for _ in range(4):
        require_right(index)
        formats.append(index.report().device_format)

    assert formats == ["bf16", "int8", None, None]
    report = index.report()
    assert report.device_left == f"out of memory with 300 rows there: {full}"
    assert (set(report.strategies.values()), report.bytes["device"]) == ({"ground"}, 0)


def test_memory_that_ends_while_rows_are_added_loses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there stays, the host answers, and where int8 fits the rows go on as int8."""
    index = index_of(ROWS[:100])
    require_right(index, ROWS[:100])
    original = DeviceRows._allocated
    taken = iter([MemoryError("no room"), MemoryError("no room")])

    def allocated(held: DeviceRows, rows: int) -> device_rows.Chunk:
        if error := next(taken, None):
            raise error
        return original(held, rows)

    monkeypatch.setattr(DeviceRows, "_allocated", allocated)
    index.add(ROWS[100:])
    for expected in ("bf16", "int8", "int8"):
        require_right(index)
        assert index.report().device_format == expected
    assert set(index.report().strategies.values()) == {"device"}


def test_long_list_goes_to_the_device_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a list that a restart has mapped no question waits for all; the host answers until it is whole."""
    monkeypatch.setattr(device_search, "_BYTES_A_QUESTION", 4 * K * 200)
    index = index_of()
    ways = []
    for _ in range(2):
        require_right(index)
        ways.append(index.report().strategies["nearest"])

    assert ways == ["ground", "device"]


def test_device_that_adds_in_fewer_bits_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Partial sums kept in bf16, as a library may for speed, fail the trial before anything is asked."""

    def split(queries: Tensor, rows: Tensor) -> Tensor:
        halves = [slice(0, K // 2), slice(K // 2, K)]
        parts = [(queries[:, half].float() @ rows[:, half].float().T).bfloat16() for half in halves]
        return (parts[0] + parts[1]).float()

    monkeypatch.setattr(device_trial, "bfloat_products", split)
    monkeypatch.setattr(device_search, "arithmetic_of", lambda _, k: Arithmetic(k, writes_bfloat=False))
    index = index_of()

    require_right(index)
    require_right(index)

    assert "cpu lost" in (index.report().device_left or "")


def test_device_that_cannot_multiply_such_numbers_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older library or an old device: said in the report, and the host answers."""
    error = TypeError("mm() got an unexpected keyword argument 'out_dtype'")
    monkeypatch.setattr(device_trial, "bfloat_products", fails_after(0, error, bfloat_products))
    index = index_of()

    require_right(index)

    assert index.report().device_left == f"cpu cannot be searched on: {error}"
    with pytest.raises(ValueError, match="rows of 1048577 numbers, expected 1048576 at most"):
        Arithmetic(2**20 + 1, writes_bfloat=True)


@pytest.mark.parametrize("broken", ["strip_peaks", "strip_products"])
def test_device_that_miscomputes_later_is_found_out_and_left(
    monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Each sieve is held against the next: products that passed the trial and then come out too low change no answer."""
    original: Callable[..., Any] = getattr(DeviceRows, broken)

    def lower(*arguments: Any) -> Any:
        found = original(*arguments)
        return (found[0] - 0.2, found[1]) if broken == "strip_products" else found - 0.2

    index = index_of()
    require_right(index)
    monkeypatch.setattr(DeviceRows, broken, lower)

    require_right(index)

    assert "two sums of one product differ more on cpu" in (index.report().device_left or "")


def test_product_that_is_not_a_number_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It compares as lower than everything: without notice its whole strip would be left out."""
    original = DeviceRows.strip_peaks

    def broken(held: DeviceRows, queries: Tensor, chunk: device_rows.Chunk) -> Tensor:
        peaks = original(held, queries, chunk)
        if chunk.start == 128:  # not the strip that is compared first
            peaks[0, 0] = torch.nan
        return peaks

    index = index_of()
    monkeypatch.setattr(DeviceRows, "strip_peaks", broken)

    require_right(index)

    assert index.report().device_left == "a product on cpu is not a finite number"


def test_rows_that_are_left_out_wrongly_are_found_out_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips that came out too low are never looked at again, so each scan compares one strip, also one that was left out."""
    original = DeviceRows.strip_peaks

    def lower(held: DeviceRows, queries: Tensor, chunk: device_rows.Chunk) -> Tensor:
        peaks = original(held, queries, chunk)
        return peaks - 0.9 if chunk.start == 128 else peaks

    index = index_of()
    monkeypatch.setattr(DeviceRows, "strip_peaks", lower)
    for _ in range(5):  # five strips
        index.nearest(QUERIES, 0.99)

    assert "two sums of one product differ more on cpu" in (index.report().device_left or "")


def test_band_that_does_not_hold_the_similarity_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that changed on the device, as a fault of its memory would do, cannot name a wrong row without notice."""
    index = index_of()
    require_right(index)
    held = index._search().device.held  # type: ignore[union-attr]
    assert held is not None
    held.drop_full()
    nearest = naive_nearest(ROWS, QUERIES[0])[1]
    chunk = next(each for each in held.chunks if each.start <= nearest < each.start + each.used)
    chunk.numbers[nearest - chunk.start] = torch.from_numpy(QUERIES[0]).bfloat16()

    require_right(index, ROWS, QUERIES[:1])

    assert "further from the similarity" in (index.report().device_left or "")


def test_damaged_rows_are_raised_and_not_answered_from(tmp_path: Path) -> None:
    """A device changes nothing there: rows are verified when they are first read, before they go to the device."""
    UniqueIndex.load(saved(tmp_path), device="cpu", device_from=64).nearest(QUERIES)
    (segment,) = tmp_path.glob("*.f32")
    content = bytearray(segment.read_bytes())
    content[5_000] ^= 1
    segment.write_bytes(content)

    with pytest.raises(DamagedRowsError):
        UniqueIndex.load(tmp_path, device="cpu", device_from=64).nearest(QUERIES)


def saved(folder: Path) -> Path:
    index_of().save(folder)
    return folder


def test_saved_index_is_the_same_with_a_device_and_loads_with_or_without(tmp_path: Path) -> None:
    """What lies on the device is made of the rows: nothing of it is stored."""
    plain, searched = tmp_path / "plain", tmp_path / "searched"
    UniqueIndex.save(index_of(), plain)
    index = index_of()
    require_right(index)
    index.save(searched)

    names = [sorted(path.name for path in folder.iterdir()) for folder in (plain, searched)]
    assert names[0] == names[1]
    for keywords in ({}, {"device": "cpu", "device_from": 64}):
        require_right(UniqueIndex.load(searched, **keywords))


def test_all_rows_equal_are_answered_by_the_first_in_bounded_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row is in the band; the earliest is named, whatever the parts."""
    monkeypatch.setattr("dugs_stream.core.index.device_scan._NUMBERS_AT_ONCE", 64 * K)
    rows = np.repeat(ROWS[:1], 200, axis=0)
    index = index_of(rows)
    queries = np.stack([ROWS[0], at_cosine(ROWS[0], 0.3, 1)])

    require_right(index, rows, queries)
    for mode in ("nearest", "bound", "decision"):
        assert index.nearest(queries[:1], 0.9, mode=mode)[1].tolist() == [0]  # type: ignore[arg-type]


def test_room_on_a_gpu_is_asked_for_and_an_eighth_of_it_kept_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """The projection of larger samples needs it; the message says what there is."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (300 * 2**20, 1_600 * 2**20))
    gpu = torch.device("cuda:0")

    device_memory.require_room(100 * 2**20, gpu)
    with pytest.raises(
        MemoryError, match=r"101 MiB for more rows would leave less than 12% of the memory of"
    ):
        device_memory.require_room(101 * 2**20, gpu)
    device_memory.require_room(2**60, torch.device("cpu"))


@pytest.mark.parametrize("kind", get_args(Format))
def test_every_step_on_a_gpu_has_an_operation_of_the_right_types(
    monkeypatch: pytest.MonkeyPatch, kind: Format
) -> None:
    """By shapes and types alone, as no GPU is here: products of bf16 come out as float32, and everything stays there."""
    monkeypatch.setattr(device_rows, "require_room", lambda *_: None)
    gpu = torch.device("cuda:0")
    with FakeTensorMode():
        held = DeviceRows(K, gpu, kind)
        chunk = held._allocated(256)
        held._append(chunk, torch.empty(100, K, device=gpu))
        asked = round_queries(torch.empty(3, K, device=gpu), held.arithmetic)
        peaks = held.strip_peaks(asked.numbers, chunk)
        products, slack = held.strip_products(asked.numbers, chunk, torch.tensor([0, 1, 1], device=gpu))
        full = held.full_products(asked.full, chunk, torch.tensor([0, 99, 3], device=gpu))
        first = device_scan._first_certain(products - slack, 0.3)

    assert not held.arithmetic.writes_bfloat
    found = [peaks, products, slack, full, first]
    assert [tuple(each.shape) for each in found] == [(3, 2), (3, 64), (3, 64), (3,), (3, 64)]
    assert [each.dtype for each in found] == [*[torch.float32] * 3, torch.float64, torch.bool]
    assert {str(each.device) for each in found} == {"cuda:0"}
