"""Memory of a device: whether more of it may be taken for rows, and giving it back."""

import torch

# Models are probed before a list grows, and their memory is counted as taken; what larger samples need comes on top.
_KEPT_FREE = 1 / 8


def require_room(wanted: int, device: torch.device, kept_free: float = _KEPT_FREE) -> None:
    """Raise MemoryError if so many bytes would leave less than this share of the device's memory free.

    Main memory is not counted: its end is for the system to tell.
    """
    if device.type != "cuda":
        return
    free, total = torch.cuda.mem_get_info(device)
    if free - wanted < total * kept_free:
        raise MemoryError(
            f"{wanted / 2**20:,.0f} MiB for more rows would leave less than {kept_free:.0%} of the memory of {device} free "
            f"({free / 2**20:,.0f} of {total / 2**20:,.0f} MiB are)"
        )


def release(device: torch.device) -> None:
    """Give memory that torch keeps for later back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
