"""Count CUDA devices with the driver alone, without loading torch or ONNX Runtime, which is expensive."""

import ctypes


def cuda_devices() -> int:
    """Return how many CUDA devices this process can use; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    started = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if started else 0
