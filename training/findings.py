"""What was tried for a model and what it reached, where it was to reach more: a section of its card, by name."""

from collections.abc import Mapping

FINDINGS: Mapping[str, str] = {
    "cifar10-vae-128": """\
It shows no cars and hardly a truck, and no other latents would: of 500 validation images, the nearest ones that the
decoder can draw (150 steps of Adam on the latents, `python -m bench.reach`) are classified right in 30.4 %, and as cars
in 0.4 %; the images themselves in 83.4 % and 12.8 %. The likelihood of 3,072 pixels pays for their colours and the
layout, and little for what makes a car out of a blot: with 128 latents an image is told in 49 nats.
""",
    "mnist-lipschitz": """\
It was to be right on 97.6 % and certified at L2 1.58 on 65 %, and is short of both (97.4 and 63.8 %). Tried on the
validation images and not shipped: 11 epochs of batches of 128 at a rate of 0.0025, half as many steps again (96.8 %
right, 62.6 % certified, where what ships has 97.0 and 62.4 %: the same, within what 5,000 images can tell); the mean of
the logits over moves by one pixel (97.0 and 57.2 %). Training and validation loss are the same when training ends: a
larger network, rather than more steps of this one, is what is left to try.
""",
    "mnist-interval": """\
It was to be right on 97 % and certified at Linf 0.3 on 90 %, and is at 96.3 and 89.9 %. After 13 epochs, trained for
the distance that is proved and not for 1.1 times that, it was at 94.2 and 85.9 %. Training loss and both shares still
improve in the last epochs, slowly: wider convolutions, rather than more epochs, are what is left to try.
""",
    "mnist-gan": """\
It was to come within a distance of 15 and is at 20.6 after two epochs at the full learning rate. Its distance on the
validation images fell from 22.5 to 20.4 in the second; more epochs have not been tried to their end.
""",
    "fashion-mnist-lipschitz": """\
It was to be right on 90.5 %, certified on 86.3, 80.8 and 74 % at L2 36, 72 and 108 of 255, and is 0.8 to 1 points short
of each. Tried on the validation images and not shipped: the mean of the logits of an image and its mirror image, as
certified as the network itself (90.5; 86.0, 80.0 and 72.5 %, where the network alone has 90.4; 86.3, 80.0 and 72.1 %),
and the mean over moves by one pixel (90.1; 84.7, 77.2 and 67.8 %). Longer training has not been tried.
""",
    "cifar10-lipschitz": """\
It was to be right on 70 %, certified on 60, 49 and 38.5 % at L2 36, 72 and 108 of 255, and is 3 points short of each.
Training and validation loss are the same when training ends: the network is too small, or trained too short, for more.
Tried on the validation images and not shipped: the mean of the logits of an image and its mirror image (67.1; 56.5,
45.3 and 35.3 %, where the network alone has 66.8; 56.5, 45.2 and 35.4 %), and the mean over moves by one pixel (66.7;
56.4, 45.2 and 35.2 %). `python -m bench.gpu` trains a deeper and wider one where there is a GPU: unproven.
""",
    "cifar10-adversarial": """\
It was to stand on 29 % under the worst attack, and stands on 27.3 %. TRADES with weight 3 was at 22 % halfway, with 6
at what is shipped. An average of the weights and a wider network have not been tried.
""",
}
