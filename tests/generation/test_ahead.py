"""Models that can draw several steps in one call, as `arzoo models --matrix` says, draw the tokens of the loop."""

from types import SimpleNamespace

import torch

from arzoo.base import registry
from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.generation.build import canvas_sizes, usual_head
from arzoo.generation.matrix import matrix
from arzoo.samplers.loop import generate, start
from arzoo.samplers.plans.samples import for_backbone
from arzoo.samplers.speculative.jacobi import Jacobi

SMALL = {
    "width": 16, "depth": 1, "heads": 2, "hidden_multiple": 8, "hidden_width": 24, "vocab": 11, "channels": 0,
    "codebooks": 1, "unused_positions": 0, "unused_places": 0,
}  # fmt: skip


def model_of(name, plan_name):
    """A small model of a family with random weights, its kind of tokens, a condition of two samples, and the plan."""
    config, text = registry.lookup("backbone", name)(), {}
    side = 8 if config.extras > 3 else 4  # four regions need more than four positions a side
    ordered = config.has("grid") and config.grid[1] == 1
    spec = TokenSpec(Grid(1, 1, 16) if ordered else Grid(1, side, side), vocab=11)
    condition = {"classes": 3}
    if config.has("text_vocab", "text_width"):  # texts are ids
        condition = {"text_length": 5}
        text = {"text": torch.randint(256, (2, 5)), "text_mask": torch.tensor([[0, 0, 1, 1, 1], [1] * 5])}
    elif config.has("text_vocab"):
        condition |= {"text_vocab": 0, "text_length": 0}
    elif config.has("text_width") and config.text_width:
        condition = {"text_length": 5, "text_width": 6}
        text = {"text": torch.randn(2, 5, 6), "text_mask": torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])}
    if config.has("groups"):  # Mamba's heads must fit in the small width
        condition |= {"head_width": 8}
    torch.manual_seed(0)
    backbone = config.fitted(SMALL | condition | {"grid": spec.layout.shape}).build().eval()
    plan = for_backbone(plan_name, spec.layout, backbone.extras, backbone.readouts)
    head = registry.lookup("head", usual_head(name, backbone, spec))()
    head = head.fitted(canvas_sizes(spec, plan) | {"width": backbone.width}).build().eval()
    for part in (backbone, head):
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    model = SimpleNamespace(backbone=backbone, heads=[head])
    return model, spec, Cond(2, label=torch.tensor([0, 2]), **text), plan


def draw(model, spec, cond, plan, steps):
    """The codes after all steps; what the plan cannot draw is given."""
    tokens = Tokens.of(spec.empty(2).values, plan.unsourced.expand(2, -1))
    run = start(model, plan, cond, Control(guidance=2.0), tokens, Draws([3, 4], gumbel=True))
    assert len(list(steps(model, run))) == len(plan)
    return run.tokens.values


def test_every_yes_draws_and_every_no_has_a_reason():
    fits, families = matrix("*"), {}
    for name in registry.names("backbone"):
        families.setdefault(name.rpartition("_")[0] or name, name)
    drawn = 0
    for family, row in fits.ahead.items():
        assert set(row) == {plan for plan, misfit in fits.plans[family].items() if not misfit}
        for plan_name in (plan for plan, reason in row.items() if not reason):
            parts = model_of(families[family], plan_name)
            assert torch.equal(draw(*parts, Jacobi(5).draw), draw(*parts, generate)), (family, plan_name)
            drawn += 1
    assert drawn >= 20
    assert "backbone mar reads all tokens anew in every step" in fits.ahead["mar"]["masked"]
    assert "chooses the positions of a step" in fits.ahead["maskgit"]["confident"]
    assert "readout 'inplace'" in fits.ahead["xar"]["cells"]
