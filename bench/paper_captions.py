"""Captions of the figures in docs/paper.md: what the picture shows, in one sentence, by model and picture."""

CAPTIONS: dict[tuple[str, str], str] = {
    ("mnist-vae", "samples"): "Digits with crisp strokes; some lie between two digits.",
    ("mnist-vae", "curves"): "Validation stays with training: ten latents leave nothing to learn by heart.",
    (
        "mnist-vae",
        "latent",
    ): "Only ones lie apart; the others touch, which is where samples between two digits come from.",
    ("fashion-mnist-vae", "samples"): "Shapes are right, and texture is averaged away.",
    ("fashion-mnist-vae", "curves"): "Most is learnt in three epochs; the rest is slow, without overfitting.",
    ("fashion-mnist-vae", "latent"): "Footwear keeps to the bottom left, apart from everything that is worn above it.",
    ("cifar10-vae", "samples"): "Blots: ten numbers hold the colours of a picture, and not what is in it.",
    ("cifar10-vae", "curves"): "The KL divergence stays at 23 nats after the first epochs, and the rest hardly moves.",
    ("cifar10-vae", "latent"): "Classes lie on top of each other, but for a drift of ships and airplanes to the right.",
    ("cifar10-vae-128", "samples"): "Layout, hardly an object: the decoder can draw few (`python -m bench.reach`).",
    (
        "cifar10-vae-128",
        "curves",
    ): "With 128 latents the KL divergence is twice that with ten, and still rising slowly.",
    (
        "cifar10-vae-128",
        "latent",
    ): "The two largest components hold 9 % of the variance: no two axes say what is in an image.",
    ("mnist-dense-gan", "progress"): "From one blurred digit for all, in the first row, to ten different ones.",
    ("mnist-dense-gan", "samples"): "Most are clear; some have grains around them: no layer knows which pixels adjoin.",
    (
        "mnist-dense-gan",
        "curves",
    ): "The distance falls fast for twenty epochs and slowly for forty; no class dies out on the way.",
    ("fashion-mnist-dense-gan", "progress"): "Silhouettes come first, a bag's handle and a shoe's sole last.",
    ("fashion-mnist-dense-gan", "samples"): "Kinds are right; grain and doubled outlines come of full connection.",
    (
        "fashion-mnist-dense-gan",
        "curves",
    ): "The distance still falls when training ends; the rarest class reaches half of its share of a tenth.",
    ("cifar10-gan", "progress"): "Rows gain contrast, never an object.",
    ("cifar10-gan", "samples"): "Colours and backgrounds, with one dark blot in the middle: no object can be named.",
    (
        "cifar10-gan",
        "curves",
    ): "After fifty epochs the distance is still 135; the rarest class begins to appear only then.",
    ("mnist-dcgan-plain", "progress"): "Checkerboards in the first row, then fragments of digits with grain.",
    ("mnist-dcgan-plain", "samples"): "It fails as the paper's did: few kinds of strokes, and most of them no digit.",
    (
        "mnist-dcgan-plain",
        "curves",
    ): "The discriminator's loss is near zero from the start: it wins, and teaches the generator little.",
    ("mnist-dcgan", "progress"): "The same strokes from the second row on, slowly bent into digits, without grain.",
    ("mnist-dcgan", "samples"): "Steadied, all digits are there; every third is none, which the low precision shows.",
    ("mnist-dcgan", "curves"): "Neither player wins, and the distance still falls when training ends.",
    ("cifar10-dcgan", "progress"): "Blots become finer, and stay blots; the last row has the colours of photographs.",
    ("cifar10-dcgan", "samples"): "Smears, and blocks of one colour: four discriminator steps for each generator step.",
    ("cifar10-dcgan", "curves"): "The distance stops at 96, with the rarest class below 1 %.",
    ("mnist-gan", "progress"): "After the first epoch the digits are there; further ones straighten strokes.",
    ("mnist-gan", "samples"): "Class after class, without grain; a few digits are broken.",
    ("mnist-gan", "curves"): "Most of the way is done in the first epoch, and every class keeps its share of a tenth.",
    ("fashion-mnist-gan", "progress"): "The same garments in every row, with more and more of stitches and shading.",
    (
        "fashion-mnist-gan",
        "samples",
    ): "Class after class, from T-shirts to boots: textures, straps and heels, few failures.",
    ("fashion-mnist-gan", "curves"): "The distance falls from 59 to 11, fastest while the learning rate is still high.",
    ("cifar10-conditional-gan", "progress"): "Textures first; in the last row a car, a ship and a horse can be told.",
    (
        "cifar10-conditional-gan",
        "samples",
    ): "Class after class: cars, ships, trucks and some horses are plain, cats and dogs not.",
    ("cifar10-conditional-gan", "curves"): "The distance falls threefold, and no class is ever below 4 %.",
    (
        "fashion-mnist-standard",
        "curves",
    ): "Validation accuracy stops rising at epoch 14, when the training loss still falls.",
    (
        "cifar10-standard",
        "curves",
    ): "From epoch 20 on the two losses part: the last 40 epochs bring 4 points of accuracy.",
    ("fashion-mnist", "attacked"): "Carlini-Wagner leaves each image as it was to the eye; FGSM covers it with a grid.",
    ("cifar10", "attacked"): "Nobody would call any of these images by its new name, and only FGSM's grain is visible.",
    (
        "fashion-mnist",
        "noise",
    ): "Without the constraint noise is grain; with it, it redraws the garment: legs that close, sleeves.",
    ("cifar10", "noise"): "Without the constraint noise is grain all over; with it, patches where the object is.",
}
"""Keys: (model, picture), for generators "samples", "curves" and "latent" or "progress", for classifiers "curves";
(data set, picture) for pictures of attacks."""
