"""The CUDA driver, asked without torch or ONNX Runtime: what it costs to load them is not spent on a question."""

import ctypes


def cuda_devices() -> int:
    """How many the driver has for this process; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    started = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if started else 0
