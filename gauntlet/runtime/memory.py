"""Make glibc keep freed memory in the process instead of returning it to the kernel.

A step of an attack frees tensors of some megabytes and allocates as much again. By default glibc may return the memory
to the kernel in between, and the kernel must then zero every page again: up to half of the time of a step.
"""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
MMAP_THRESHOLDS = (64 << 20, 32 << 20)  # bytes; larger tensors are not kept. Older versions of glibc refuse the first
TRIM_THRESHOLD = 1 << 30  # bytes of freed memory that may be kept


def keep() -> None:
    """Keep freed memory from now on. Does nothing if the C library has no mallopt, that is, is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and any(mallopt(M_MMAP_THRESHOLD, size) for size in MMAP_THRESHOLDS):
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD)
