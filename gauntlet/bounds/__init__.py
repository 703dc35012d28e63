"""Sound bounds of a network's outputs over a set of inputs.

``reader`` turns an ONNX graph into a ``Network`` of linear steps, ReLUs and sigmoids; ``interval``, ``crown``,
``optimised`` and ``branching`` bound it, each tighter and dearer than the one before; ``bounder`` is what a classifier
offers of them.
"""
