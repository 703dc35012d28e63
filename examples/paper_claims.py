"""For the student: the claims of the paper, small. The noise that Carlini-Wagner needs, and old adversarial examples.

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
            old = [result.image for result in answer.results if result.success]
            meant = [result.label for result in answer.results if result.success]

    # A network without the defence, trained from another seed, tells what the constraint adds.
    for model in (CONSTRAINED, CONTROL):
        said = [prediction.label for prediction in gauntlet.classify(model, old).predictions]
        right = sum(one == other for one, other in zip(said, meant, strict=True))
        print(f"{model}: classifies {right} of {len(old)} old adversarial examples right")

    Path("dist").mkdir(exist_ok=True)
    clothes = gauntlet.generate("fashion-mnist-vae", 16, seed=7)
    Path("dist/clothes.png").write_bytes(decoded(clothes.grid))
    print("16 images of the VAE: dist/clothes.png")
