"""What the README, docs/paper.md and the cards say agrees with the models' own files."""

from pathlib import Path

import pytest

from bench import paper_generators, results
from bench.paper_captions import CAPTIONS
from training.card import CARD_FILE, with_findings
from training.findings import FINDINGS
from training.recipes import RECIPES

ROOT = results.ROOT


@pytest.mark.parametrize("head", [results.CLASSIFIERS, results.GENERATORS], ids=["classifiers", "generators"])
def test_the_tables_of_the_readme_are_those_of_the_manifests(head: tuple[str, ...]) -> None:
    line = f"| {' | '.join(head)} |"
    assert results.tables(ROOT)[line] in (ROOT / "docs" / "results.md").read_text()


def test_a_table_is_replaced_where_it_stands_also_when_its_columns_change() -> None:
    page = "text\n\n| model | old |\n| --- | --- |\n| `a` | 1 |\n\nmore\n"
    made = {"| model | new | other |": "| model | new | other |\n| --- | --- | --- |\n| `a` | 2 | 3 |"}
    assert results.replaced(page, made) == f"text\n\n{next(iter(made.values()))}\n\nmore\n"


def test_every_picture_of_the_paper_has_a_sentence_and_every_sentence_a_picture() -> None:
    page = (ROOT / "docs" / "paper.md").read_text()
    for sentence in CAPTIONS.values():
        assert page.count(sentence) == 1, sentence
    blocks = page.rstrip("\n").split("\n\n")
    pictures = [number for number, block in enumerate(blocks) if block.startswith("![")]
    assert {blocks[number + 1] for number in pictures} == set(CAPTIONS.values())
    names = {*paper_generators.AUTOENCODERS, *paper_generators.ADVERSARIES}
    assert {model for model, picture in CAPTIONS if picture == "samples"} == names


@pytest.mark.parametrize("name", FINDINGS)
def test_a_card_says_what_was_tried(name: str) -> None:
    assert name in RECIPES
    text = (ROOT / "models" / "artifacts" / name / CARD_FILE).read_text()
    assert with_findings(text, name) == text
    assert FINDINGS[name].strip() in text


def test_what_was_tried_is_put_in_taken_out_and_changes_nothing_else() -> None:
    (name, *_) = FINDINGS
    card = "# a\n\nnotes\n\n## Results\n\nfigures\n"
    told = with_findings(card, name)
    assert told.index("## What was tried") < told.index("## Results")
    assert with_findings(told, name) == told
    assert with_findings(told, "another") == card


def test_no_other_card_has_such_a_section() -> None:
    cards = [path for folder in results.FOLDERS for path in Path(ROOT / folder).glob(f"*/{CARD_FILE}")]
    assert len(cards) > len(FINDINGS)
    assert {path.parent.name for path in cards if "## What was tried" in path.read_text()} == set(FINDINGS)
