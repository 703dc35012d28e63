"""An evaluation set as the API shows it."""

from service.schemas.image_codec import png
from service.schemas.uploads import EvalSetInfo, Sample
from service.uploads.evalset_previews import EvalSetPreview


def evalset_info(found: EvalSetPreview, samples: int, *, uploaded: bool) -> EvalSetInfo:
    """With so many of its first images."""
    shown = zip(found.images[:samples], found.labels[:samples], strict=True)
    return EvalSetInfo(
        name=found.name,
        n=found.n,
        image_shape=found.image_shape,
        classes=list(found.classes),
        licence=found.licence,
        sha256=found.sha256,
        uploaded=uploaded,
        samples=[Sample(label=int(label), image=png(image)) for image, label in shown],
    )
