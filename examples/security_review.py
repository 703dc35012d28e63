"""Review a model's security: attacks from the most to the least knowledge of the model, and their transfer to others.

python examples/security_review.py --model fashion-mnist-standard --transfer-to fashion-mnist-lipschitz
"""

import argparse
import statistics
from pathlib import Path

from gauntlet_client import Client, ServiceError
from gauntlet_client.images import decoded

ATTACKS = (  # what the attacker knows, attack, norm, eps, params
    ("everything", "strongest", "linf", 0.05, None),
    ("everything", "fab", "l2", None, None),
    ("scores only", "square", "linf", 0.05, {"queries": 2000}),
    ("answers only", "hopskipjump", "l2", 1.5, {"queries": 3000}),
    ("nothing", "noise", "linf", 0.05, None),
)

parser = argparse.ArgumentParser()
parser.add_argument("--url", default="http://127.0.0.1:3000")
parser.add_argument("--key")
parser.add_argument("--model", required=True)
parser.add_argument("--transfer-to", nargs="*", default=[])
parser.add_argument("--dataset", default="fashion-mnist")
parser.add_argument("--out", type=Path, default=Path("dist"))
options = parser.parse_args()
options.out.mkdir(exist_ok=True)

with Client(options.url, key=options.key) as gauntlet:
    (data,) = [found for found in gauntlet.evalsets(samples=8) if found.name == options.dataset]
    images, labels = [sample.image for sample in data.samples], [sample.label for sample in data.samples]
    print(f"{options.model}, {len(images)} images of {data.name}")
    for knows, attack, norm, eps, params in ATTACKS:
        try:
            answer = gauntlet.attack(
                options.model,
                attack,
                images,
                norm,
                eps=eps,
                labels=labels,
                params=params,
                transfer_to=options.transfer_to,
            )
        except ServiceError as error:  # a model without gradients, or a price above the service's budget
            print(f"{attack:12} {error.message}")
            continue
        broken = [result for result in answer.results if result.success]
        budget = f"{norm} {'any size' if eps is None else eps}"
        sizes = [result.l2 for result in broken if result.l2 is not None]
        median = f", median L2 {statistics.median(sizes):.2f}" if sizes else ""
        print(f"{attack:12} knows {knows:12} {budget:14} breaks {len(broken)} of {len(images)}{median}")
        for other in options.transfer_to:
            print(f"{'':12} of these fool {other}: {sum(result.transfer[other].fooled for result in broken)}")
        for number, result in enumerate(broken):
            (options.out / f"{options.model}-{attack}-{number}.png").write_bytes(decoded(result.image))
print(f"adversarial examples: {options.out}/{options.model}-*.png")
