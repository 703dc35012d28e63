"""Reproduce the student paper's claims on 16 images: the noise that Carlini-Wagner needs, and old adversarial examples.

python examples/paper_claims.py
"""

import statistics
import sys
from pathlib import Path

from gauntlet_client import Client
from gauntlet_client.images import decoded

PLAIN, CONSTRAINED, CONTROL = "fashion-mnist-standard", "fashion-mnist-lipschitz", "fashion-mnist-standard-control"

with Client(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:3000") as gauntlet:
    (data,) = [found for found in gauntlet.evalsets(samples=16) if found.name == "fashion-mnist"]
    images, labels = [sample.image for sample in data.samples], [sample.label for sample in data.samples]

    for model in (PLAIN, CONSTRAINED):
        answer = gauntlet.attack(model, "cw", images, "l2", labels=labels, transfer_to=[CONSTRAINED, CONTROL])
        needed = [result.l2 for result in answer.results if result.success and result.l2 is not None]
        print(f"{model}: Carlini-Wagner needs L2 {statistics.median(needed):.2f} (median of {len(needed)})")
        if model == PLAIN:
            adversarial = [result.image for result in answer.results if result.success]
            true_labels = [result.label for result in answer.results if result.success]

    # The control, an undefended network trained from another seed, shows how much the constraint adds.
    for model in (CONSTRAINED, CONTROL):
        predicted = [prediction.label for prediction in gauntlet.classify(model, adversarial).predictions]
        right = sum(label == true_label for label, true_label in zip(predicted, true_labels, strict=True))
        print(f"{model}: classifies {right} of {len(adversarial)} old adversarial examples right")

    Path("dist").mkdir(exist_ok=True)
    clothes = gauntlet.generate("fashion-mnist-vae", 16, seed=7)
    Path("dist/clothes.png").write_bytes(decoded(clothes.grid))
    print("16 images of the VAE: dist/clothes.png")
