"""Somebody's own ONNX classifier, rewritten into an artefact like ours: images (B, C, H, W) in [0, 1] to logits.

Layout, pixel range and normalisation become the graph's first nodes, so that eps, radii and constants mean the same
as everywhere; a softmax at its end is taken off. What nobody said is guessed and recorded. The result is taken only if
ONNX Runtime answers it as it answers the original file. Nothing here imports torch.
"""
