"""An answer that is no class. Without torch: schemas speak of it."""

UNANSWERED = -1
"""In the place of a label: the model answers this image with NaN or infinite numbers. It is no class, so such an image
is never classified correctly, never attacked, and as the result of an attack never a success."""
NO_ANSWER = "the model answers this image with NaN or infinite numbers"
