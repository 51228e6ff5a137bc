"""Do parts fit, why not, and what would?"""

import pytest
import torch
from contracts.cases import cases
from contracts.networks import head, plain_head, rar
from reference import Draft, FeatureFlow, Masked, NextX, Pivots, QueryFlow, Shifted

from arzoo.base.errors import ArzooError
from arzoo.core.layout import Grid, Ordered, Pyramid
from arzoo.core.tokens import TokenSpec
from arzoo.generation import fit
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.llamagen.network import TransformerConfig
from arzoo.samplers.plans.inplace import cells, masked
from arzoo.samplers.plans.ordered import ordered
from arzoo.samplers.plans.pivots import pivots
from arzoo.samplers.plans.shifted import next_block, next_neighbor, parallel, raster, zipar

GRID = Grid(1, 4, 4)
CODES, VECTORS, SEVERAL = (
    TokenSpec(GRID, **kind) for kind in ({"vocab": 11}, {"channels": 4}, {"vocab": 11, "codebooks": 3})
)
LEVELS = Pyramid((Grid(1, 2, 2), Grid(1, 4, 4)))


@pytest.mark.parametrize("name", cases())
def test_what_the_contract_tests_run_fits(name):
    case = cases()[name]
    plan = case.plan(1)
    assert fit.check(case.spec, case.model.backbone, plan, case.model.heads) == []
    fit.require_fit(case.spec, case.model.backbone, plan, case.model.heads)


def transformer(**sizes):
    small = {"width": 16, "depth": 1, "heads": 2, "vocab": 11, "classes": 5, "grid": (1, 4, 4)}
    return TransformerConfig(**(small | sizes)).build()


def orders():
    return torch.arange(16)[None]


@pytest.mark.parametrize(
    ("spec", "backbone", "plan", "heads", "words"),
    [
        (CODES, Shifted(CODES), next_neighbor(GRID), [head(CODES)], ["2 axes", "backbone reference has 1", "axes=2"]),
        (CODES, Shifted(CODES, axes=2), raster(GRID), [head(CODES, 2)], ["1 axis", "next_neighbor"]),
        (CODES, Shifted(CODES), parallel(GRID), [head(CODES)], ["3 learned transition", "extras=3"]),
        (CODES, rar(CODES), zipar(GRID, 2), plain_head(CODES),
         ["copies of tokens", "backbone rar cannot", "raster_tiny"]),
        (CODES, Shifted(CODES), masked(GRID, orders(), 4), [head(CODES)], ["'inplace'", "raster"]),
        (CODES, Masked(CODES), raster(GRID), [head(CODES)], ["'shifted'", "inplace: cells, confident, masked"]),
        (CODES, Draft(CODES), raster(GRID), [head(CODES)], ["reads draft", "scales"]),
        (CODES, Shifted(CODES), raster(Grid(1, 2, 2)), [head(CODES)], ["h=2", "h=4", "tokenizer's layout"]),
        (VECTORS, Shifted(VECTORS), raster(GRID), [head(CODES)], ["draws codes", "are vectors"]),
        (CODES, Shifted(CODES), raster(GRID), [FeatureFlow(4)], ["draws vectors", "categorical"]),
        (VECTORS, Shifted(VECTORS), raster(GRID), [QueryFlow(4)], ["works on query", "gives features"]),
        (VECTORS, NextX(VECTORS), cells(GRID, 2), [FeatureFlow(4)], ["works on features", "gives query"]),
        (SEVERAL, Shifted(SEVERAL), raster(GRID), [head(CODES)], ["1 codes per position", "has 3", "depth"]),
        (CODES, Shifted(CODES), raster(GRID), [head(SEVERAL)], ["3 codes per position", "has 1"]),
        (CODES, transformer(vocab=12), raster(GRID), [head(CODES)], ["11 codes", "for 12", "vocab=11"]),
        (CODES, transformer(grid=(1, 2, 8)), raster(GRID), [head(CODES)], ["tokens are Grid", "was made for"]),
        (
            TokenSpec(LEVELS, channels=4), Pivots(TokenSpec(LEVELS, channels=4)),
            pivots(LEVELS, [torch.arange(4)[None], orders()], [2, 2]), [FeatureFlow(4)],
            ["2 stages, 1 heads", "one head per stage"],
        ),
    ],
)  # fmt: skip
def test_misfits_name_both_sides_and_what_would_fit(spec, backbone, plan, heads, words):
    found = " ".join(str(misfit) for misfit in fit.check(spec, backbone, plan, heads))
    assert all(word in found for word in words), found
    with pytest.raises(ArzooError, match="arzoo models --matrix"):
        fit.require_fit(spec, backbone, plan, heads)


def test_heads_are_made_for_the_vocabulary_and_axes_they_are_used_with():
    narrow = CategoricalConfig(width=16, vocab=10).build()
    (misfit,) = fit.check(CODES, Shifted(CODES), raster(GRID), [narrow])
    assert "11 codes, head categorical was made for 10" in misfit.reason
    assert "vocab=11" in misfit.remedy
    one = CategoricalConfig(width=16, vocab=11, axes=1).build()
    (misfit,) = fit.check(CODES, Shifted(CODES, axes=2), next_neighbor(GRID), [one])
    assert "averages 1" in misfit.reason
    assert "axes=2" in misfit.remedy


def test_a_sequence_is_as_long_as_the_tables_of_the_network():
    line = TokenSpec(Ordered(20), vocab=11)
    for length, fits in ((20, True), (16, False), (24, False)):
        misfits = fit.check(line, transformer(grid=(1, 1, length)), ordered(line.layout), [head(line)])
        assert [misfit.reason.count(f"made for Ordered(n={length})") for misfit in misfits] == [1] * (
            not fits
        )


def test_inpainting_with_a_causal_order_is_remarked_on():
    assert "not seen while drawing" in fit.notes(Shifted(CODES), raster(GRID))[0]
    assert fit.notes(Masked(CODES), masked(GRID, orders(), 4)) == []


def test_it_is_remarked_on_only_if_a_given_token_comes_after_one_that_is_drawn():
    def remarked(plan, *given):
        positions = torch.zeros(1, GRID.size, dtype=torch.bool)
        positions[:, list(given)] = True
        return ["not seen while drawing" in note for note in fit.notes(Shifted(CODES), plan, positions)]

    last = GRID.size - 1
    for plan in (raster(GRID), next_neighbor(GRID), next_block(GRID, 4, hybrid=True)):
        assert remarked(plan) == remarked(plan, 0) == []
        assert remarked(plan, last) == remarked(plan, 0, last) == [True]
    assert remarked(raster(GRID), *range(GRID.w)) == []
    assert remarked(next_neighbor(GRID), *range(GRID.w)) == [True], (
        "a row, of which only the first has no neighbour"
    )
    assert remarked(next_block(GRID, 4), 0, 1, 2, 3) == [], "nor that the first block has to be given"


def test_how_to_give_what_a_plan_cannot_draw_is_remarked_on():
    first, _ = fit.notes(Shifted(CODES), next_block(GRID, 4))
    assert "from nothing" in first
    assert "--init PICTURE --keep REGION" in first
    assert len(fit.notes(Shifted(CODES), next_block(GRID, 4, hybrid=True))) == 1
