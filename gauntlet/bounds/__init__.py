"""Sound bounds of a network's outputs over a set of inputs.

``onnx_reader`` turns an ONNX graph into a ``Network`` of linear steps, ReLUs and sigmoids. ``interval``, ``crown``,
``optimised`` and ``branching`` bound it, each more tightly and at a higher cost than the one before. ``prover`` runs
them in this order. ``bounder`` is the interface through which a classifier offers its bounds.
"""
