"""The model card: one page of Markdown, from the same fields as the manifest."""

from collections.abc import Mapping
from typing import Any

from gauntlet.report.statistics import wilson
from training.data import SOURCES
from training.findings import FINDINGS

CARD_FILE = "card.md"
RESULTS, TRIED = "\n## Results\n", "\n## What was tried\n"  # headings
OFFICIAL = {True: "the official files", False: "**not the official files, but a copy that differs from them**"}

TEMPLATE = """\
# {name}

{notes}

## Results

| figure | value | 95 % interval | n | measured on |
| --- | --- | --- | --- | --- |
{results}

Checkpoint and hyper-parameters were chosen on 5,000 images held out of the training set; the model was evaluated on the
test set once, after export. Intervals are Wilson's, for shares only.

## How it was made

- data: {dataset} ({licence}), {official};
  sha256 of the training files `{data_sha256}`, of the test files `{test_sha256}`
- command: `{command}`
- configuration: {config} (what is not named is off)
- epoch {selected_epoch} of {epochs}, seed {seed}, {minutes:.0f} minutes on {hardware}
- code: commit {commit}; {versions}

![learning curves](curves.png)
![samples](samples.png)
"""


def card(fields: Mapping[str, Any], notes: str) -> str:
    """Return the card (Markdown) from a manifest's fields (name, dataset, metrics, training) and the job's notes."""
    record = fields["training"]
    text = TEMPLATE.format(
        name=fields["name"],
        notes=notes.strip(),
        results="\n".join(_row(name, metric) for name, metric in sorted(fields["metrics"].items())),
        dataset=fields["dataset"],
        licence=SOURCES[fields["dataset"]].licence,
        official=OFFICIAL[record.data_official],
        data_sha256=record.data_sha256,
        test_sha256=record.test_sha256,
        command=record.command,
        config=", ".join(f"{key} {value}" for key, value in record.config.items() if value),
        selected_epoch=record.selected_epoch,
        epochs=record.epochs,
        seed=record.seed,
        minutes=record.seconds / 60,
        hardware=record.hardware,
        commit=record.commit,
        versions=", ".join(f"{name} {version}" for name, version in record.versions.items()),
    )
    return with_findings(text, fields["name"])


def with_findings(text: str, name: str) -> str:
    """Return the card with its section "What was tried" replaced by the current text in ``FINDINGS``, if any."""
    head, results = text.split(RESULTS, 1)
    notes = head.split(TRIED, 1)[0].rstrip()
    tried = f"{TRIED}\n{FINDINGS[name].strip()}\n" if name in FINDINGS else ""
    return f"{notes}\n{tried}{RESULTS}{results}"


def _row(name: str, metric: Any) -> str:
    is_share = name.endswith(("accuracy", "share", "precision", "recall")) or "accuracy_" in name
    low, high = wilson(round(metric.value * metric.n), metric.n) if is_share else (0.0, 0.0)
    interval = f"{low:.4f} to {high:.4f}" if is_share else ""
    return f"| {name} | {metric.value:.4f} | {interval} | {metric.n} | {metric.split} |"
