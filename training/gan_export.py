"""Export of a generative adversarial network: the generator, its card, pictures and figures."""

from pathlib import Path

import torch

from gauntlet.artifacts.manifest import MODEL_FILE, Metric
from training.conditional import ConditionalGenerator, one_hot_class
from training.data import Examples, TrainingData
from training.export import Graph, Measured, Product
from training.gan import GanConfig, Trained
from training.generation_metrics import Judge
from training.plots import beside_nearest, learning_curves, sheet
from training.run import Run

NOTES = {
    "dense": """\
A fully connected generative adversarial network (arXiv 1406.2661) with {discriminator_steps} discriminator steps for
each generator step, as in the student paper that this repository reproduces. Our choice: non-saturating loss, a
gradient penalty on real images (arXiv 1801.04406, weight {penalty}), batch normalisation in the generator, and a moving
average of its weights (decay {average}). `model.onnx` maps standard normal latents ({latent_dim} each) to images.

**Use it** to draw images. **Limit:** a fully connected network knows nothing of neighbouring pixels: expect grain.
""",
    "dcgan": """\
A convolutional generative adversarial network (DCGAN, arXiv 1511.06434) with {discriminator_steps} discriminator steps
for each generator step and the non-saturating loss. Spectral instead of batch normalisation in the discriminator (arXiv
1802.05957): {stabilised}; gradient penalty on real images (arXiv 1801.04406): {penalty}; decay of the moving average of
the generator's weights: {average}; share of the epochs in which learning rates fall to zero: {falling}; epoch:
{chosen}. `model.onnx` maps standard normal latents ({latent_dim} each) to images.

**Use it** to draw images.
""",
    "conditional": """\
A class-conditional generative adversarial network whose generator draws the class itself: the largest of the first ten
latents says which, and class and other latents steer every normalisation (arXiv 1802.05637, 1810.01365). So
`model.onnx` maps standard normal latents ({latent_dim} each) to images like any other generator, and every class has
the same share; set one of the first ten latents high to ask for a class. Upsampling is nearest-neighbour and a 3x3
convolution, which leaves no checkerboards. The discriminator, spectrally normalised (arXiv 1802.05957), sees the class
too and projects on it. Loss: {loss}; discriminator steps for each generator step: {discriminator_steps}; decay of the
moving average of the generator's weights: {average}; learning rates fall to zero in the last {falling} of the epochs.

**Use it** to draw images, of a class if you like.
""",
}
JUDGED = """
Classes are counted by `{judge}`, whose last features also give distance, precision and recall: numbers of that
classifier, not FID.
"""
PICTURES = """
Samples as training went on, a row each at the epochs {epochs}:

![progress](progress.png)

Samples, each above the training image nearest to it in L2: copies would be seen.

![nearest training images](nearest.png)
"""


def package(trained: Trained, config: GanConfig, data: TrainingData, run: Run, test: Examples) -> Product:
    """Return the artefact: the generator, and its distance from the test set, which was unused until then."""
    generator, snapshots = trained
    chosen = torch.randn(100, config.latent_dim, generator=torch.Generator().manual_seed(config.seed))
    if isinstance(generator, ConditionalGenerator):
        generator = generator.for_export()
        chosen = chosen[one_hot_class(chosen).argmax(1).argsort(stable=True)]  # samples sorted by class
    with torch.no_grad():
        samples = generator(chosen)

    def measure(folder: Path) -> dict[str, Metric]:
        judge = Judge(run.artifacts / config.judge)
        path = folder / MODEL_FILE
        return judge.quality(path, config.latent_dim, test) | judge.coverage(path, config.latent_dim)

    return Product(
        graph=Graph(generator, chosen[:8], "latents", "images"),
        pictures={
            "curves.png": learning_curves(
                run.history,
                {
                    "losses": ["discriminator_loss", "generator_loss"],
                    "Frechet distance": ["frechet_distance"],
                    "share of the rarest class": ["min_class_share"],
                },
            ),
            "samples.png": sheet(samples, 10),
            "progress.png": sheet(torch.cat([images for _, images in sorted(snapshots.images.items())]), 10),
            "nearest.png": beside_nearest(samples[::5], data),
        },
        manifest={
            "kind": "generator",
            "family": config.family,
            "dataset": config.dataset,
            "latent_dim": config.latent_dim,
            "output_shape": data.image_shape,
        },
        measure=lambda folder: Measured(measure(folder)),
        notes=(NOTES[config.network] + JUDGED).format(**config.model_dump())
        + PICTURES.format(epochs=", ".join(map(str, sorted(snapshots.images)))),
    )
