"""A report in shards is the report in one piece, byte by byte."""

import pytest

from gauntlet.evaluation.referee import CHUNK as REFEREE_CHUNK
from gauntlet.report.build import cells, join, measure, shards
from gauntlet.report.measure import CHUNK
from gauntlet.report.schema import CellResult, ReportRequest
from gauntlet.report.shards import PARTS, UNIT
from tests.gauntlet.report.conftest import N

PIECE = 16


def timeless(result: CellResult) -> str:
    return result.model_copy(update={"seconds": 0.0}).model_dump_json()


def test_shards_are_the_cells_without_gap_or_overlap(asked):
    for unit in (1, 7, PIECE, N, UNIT):
        parts = shards(asked, unit)
        assert list(dict.fromkeys(part.cell for part in parts)) == cells(asked)
        assert len({part.key for part in parts}) == len(parts)
        for cell in cells(asked):
            own = [part for part in parts if part.cell == cell]
            assert [own[0].first, *(part.last for part in own)] == [*(part.first for part in own), N]
            assert sum(part.cost for part in own) == pytest.approx(cell.cost)
            assert cell.kind == "attack" or len(own) == 1


def test_a_large_report_is_cut_into_about_as_many_shards_as_it_should_be_and_a_small_one_into_cells(asked):
    large = asked.model_copy(update={"n": 10_000})
    parts = shards(large)
    whole = sum(cell.cost for cell in cells(large))
    assert PARTS <= len(parts) <= PARTS + 2 * len(cells(large))
    attacks = [part for part in parts if part.cell.kind == "attack"]
    assert max(part.cost for part in attacks) <= whole / PARTS
    assert all(part.first % UNIT == 0 for part in attacks)
    assert len(shards(asked)) == len(cells(asked))


def test_the_unit_is_whole_chunks():
    assert UNIT % REFEREE_CHUNK == UNIT % CHUNK["cpu"] == 0


def test_shards_measured_apart_and_in_any_order_are_the_cell_measured_whole(asked: ReportRequest, models, evalsets):
    parts = shards(asked, PIECE)
    assert len(parts) > len(cells(asked))
    apart = {
        part.key: measure(
            part.cell, asked, models, evalsets["tiny"], images=(part.first, part.last), chunk=PIECE
        ).model_dump_json()
        for part in reversed(parts)
    }
    joined = join([CellResult.model_validate_json(apart[part.key]) for part in parts])
    whole = [measure(cell, asked, models, evalsets["tiny"], chunk=PIECE) for cell in cells(asked)]
    assert any(len(result.attack.examples) == 3 for result in whole if result.attack is not None)
    assert [timeless(result) for result in joined] == [timeless(result) for result in whole]
