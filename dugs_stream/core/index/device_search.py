"""Search on a device: when it answers, what it gives up when memory runs short, and when it is left for good.

bf16 with the float32 rows beside it while memory is plentiful; then bf16 alone; then int8; then the host's ways. Answers are the
same in all of them. A device whose products are not what the bound assumes is left too.
"""

from copy import deepcopy

import torch

from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.core.index.device_memory import release
from dugs_stream.core.index.device_rows import DeviceRows
from dugs_stream.core.index.device_scan import scan_on_device
from dugs_stream.core.index.device_trial import UnfitDeviceError, try_products
from dugs_stream.core.index.low_precision import Format, arithmetic_of
from dugs_stream.core.index.question import Nearest, Question, Work
from dugs_stream.core.index.rows import Rows

# A list that was mapped at a restart goes to the device with the next question, but not more of it than a few seconds of reading,
# verifying and copying; the host answers until it is whole.
_BYTES_A_QUESTION = 2**32


class DeviceSearch:
    """Answers questions about one list of rows on a device for as long as it can.

    least_rows  shorter lists are left to the host
    """

    def __init__(
        self, rows: Rows, device: torch.device | str, least_rows: int, kind: Format = "bf16"
    ) -> None:
        self.device = torch.device(device)
        self.refusal: str | None = None
        self.held: DeviceRows | None = None
        self._rows, self._least_rows, self._kind = rows, least_rows, kind

    @property
    def is_answering(self) -> bool:
        """Whether the latest rows are there, so that questions are answered by it."""
        return self.held is not None and 0 < len(self._rows) == len(self.held)

    @property
    def bytes(self) -> int:
        """Memory of the rows on the device."""
        return 0 if self.held is None else self.held.bytes

    @property
    def format(self) -> str | None:
        """How rows lie on the device: bf16, int8, "bf16 and float32"; None if there are none."""
        if self.held is None:
            return None
        return f"{self.held.kind} and float32" if self.held.keeps_full else self.held.kind

    def answer(self, question: Question, known: Nearest) -> Work | None:
        """As `scan.scan`; None, and nothing changed, if the host has to answer.

        Raises DamagedRowsError.
        """
        if self.refusal is not None or len(self._rows) < self._least_rows:
            return None
        try:
            if self.held is None:
                self.held = self._tried(self._kind)
            self.held.follow(self._rows, max(1, _BYTES_A_QUESTION // (4 * self._rows.dimension)))
            if not self.is_answering:
                return None
            found = deepcopy(known)
            work = scan_on_device(question, self.held, self._rows, found)
        except UnfitDeviceError as error:
            self._leave(str(error))
        except (RuntimeError, MemoryError) as error:
            self._after(error.with_traceback(None))  # its frames hold the memory that ran out
        else:
            known.take(found)
            return work
        return None

    def _tried(self, kind: Format) -> DeviceRows:
        try:
            try_products(self.device, arithmetic_of(self.device, self._rows.dimension))
        except (TypeError, ValueError, NotImplementedError) as error:
            raise UnfitDeviceError(f"{self.device} cannot be searched on: {error}") from error
        return DeviceRows(self._rows.dimension, self.device, kind)

    def give_way(self, reason: str) -> bool:
        """Take less of the device's memory, or none; False if nothing is there to give back."""
        held = self.held
        if held is None:
            return False
        if held.drop_full():
            release(self.device)
        elif held.kind == "bf16":
            self.held = None
            release(self.device)
            self.held = DeviceRows(self._rows.dimension, self.device, "int8", keeps_full=False)
        else:
            self._leave(f"out of memory with {len(held):,} rows there: {reason}")
        return True

    def _after(self, error: RuntimeError | MemoryError) -> None:
        """Give way if memory ran out; leave the device for any other error."""
        if not is_out_of_memory(error):
            self._leave(f"{type(error).__name__}: {error}")
        elif not self.give_way(str(error)):
            self._leave(f"out of memory before a row was there: {error}")

    def _leave(self, reason: str) -> None:
        self.refusal, self.held = reason, None
        release(self.device)
