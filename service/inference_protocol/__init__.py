"""The Open Inference Protocol, version 2 (KServe, Triton): the same models, for the clients that people already use."""
