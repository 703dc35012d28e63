"""Memory that this process has freed stays with it.

A step of an attack frees tensors of some megabytes and asks for as many again. By default glibc may return them to the
kernel in between, which then fills page after page with zeros: up to half of the time of a step.
"""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
LARGEST = (64 << 20, 32 << 20)  # bytes of a tensor that stays: older versions refuse more than the latter
KEPT = 1 << 30  # bytes that may stay


def keep() -> None:
    """From now on; nothing where the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and any(mallopt(M_MMAP_THRESHOLD, size) for size in LARGEST):
        mallopt(M_TRIM_THRESHOLD, KEPT)
