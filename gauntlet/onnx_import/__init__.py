"""Import of a user's ONNX classifier: the file becomes an artefact from images (B, C, H, W) in [0, 1] to logits.

Layout, pixel range and normalisation become the first nodes of the graph, so that eps, radii and constants mean the
same for every model; a final softmax is removed. Settings that the user did not declare are guessed, and every guess is
recorded. The result is accepted only if ONNX Runtime gives the same answers for it as for the original file. Nothing
here imports torch.
"""
