"""The label of an image whose logits are not finite. It imports no torch, so that schemas can use it."""

UNANSWERED = -1
"""Label of an image for which the model returns NaN or infinite logits. It is no class: such an image is never
classified correctly, never attacked, and, as the result of an attack, never a success."""
NO_ANSWER = "the model answers this image with NaN or infinite numbers"
