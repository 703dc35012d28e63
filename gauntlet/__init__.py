"""Attacks, certificates and reports on classifiers in ONNX files. Knows of no service, and of no training."""

import os

# Read when torch is loaded. Threads that spin while they wait halve the speed of both wherever two processes compute.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
