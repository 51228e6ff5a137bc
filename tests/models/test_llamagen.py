"""The transformer of LlamaGen, NAR and PAR: positions that are learned in place of rotary ones."""

from __future__ import annotations

import pytest
import torch

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.tokens import Tokens
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.llamagen.network import TransformerConfig
from arzoo.models.nar.presets import CLIP_SIZES
from arzoo.samplers.plans.shifted import next_neighbor, parallel

CLIP = TransformerConfig(
    width=12,
    depth=1,
    heads=6,
    vocab=7,
    classes=3,
    axes=3,
    grid=(2, 2, 3),
    hidden_multiple=8,
    absolute_positions=True,
)


def features(backbone, codes):
    return backbone.features(
        Tokens.of(codes), Cond(1, label=torch.tensor([1])), next_neighbor(backbone.layout)
    ).features


def test_heads_of_absolute_positions_may_be_narrow():
    """Two channels a head have no room for rotations on three axes."""
    torch.manual_seed(0)
    backbone = CLIP.build().eval()
    codes = torch.randint(7, (1, 12))
    assert features(backbone, codes).shape == (1, 12, 3, 12)
    assert "rope" not in dict(backbone.named_buffers())
    with pytest.raises(ArzooError, match="multiple of 4"):
        CLIP.replace(absolute_positions=False)


def test_every_input_has_a_position_of_its_own():
    """The class, each token and each transition input: 1 + N + E rows, all of which are learned."""
    torch.manual_seed(0)
    config = CLIP.replace(axes=1, extras=3, grid=(2, 4, 4), heads=3)
    backbone, plan = config.build().eval(), parallel(config.layout, 2)
    assert backbone.places.shape == (1, 1 + 32 + 3, 12)
    read = backbone.features(Tokens.of(torch.randint(7, (1, 32))), Cond(1, label=torch.tensor([1])), plan)
    read.features.square().sum().backward()
    unused = (backbone.places.grad[0].abs().sum(1) == 0).nonzero()[:, 0]
    assert unused.tolist() == (1 + plan.groups[-1][0]).tolist(), "the last group is never an input"


def test_absolute_positions_are_added_after_the_dropout_of_inputs():
    """With all inputs dropped, features depend on positions alone."""
    torch.manual_seed(0)
    backbone = CLIP.replace(token_dropout=1.0, dropout=0.0).build().train()
    first, second = (features(backbone, torch.full((1, 12), code)) for code in (1, 2))
    assert torch.equal(first, second)
    assert len(first[0, 1:, 0].unique(dim=0)) > 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"learned_positions": True}, "set one to false"), ({"heads": 5}, "got 12 and 5")],
)
def test_settings_that_do_not_fit(changes, message):
    with pytest.raises(ArzooError, match=message):
        CLIP.replace(**changes)


COUNTS = {
    "s": 37_800_192,
    "b": 125_145_600,
    "l": 368_736_256,
    "lp": 693_588_480,
    "xl": 815_500_800,
    "xxl": 1_467_798_528,
}
"""Parameters of NAR's models of clips with their heads; the paper and its code give the first four."""


@pytest.mark.parametrize("size", CLIP_SIZES)
def test_published_sizes_for_clips(size):
    with torch.device("meta"):
        config = registry.lookup("backbone", f"nar_clip_{size}")()
        backbone = config.build()
        head = CategoricalConfig(width=config.width, vocab=config.vocab, axes=config.axes).build()
    assert sum(p.numel() for part in (backbone, head) for p in part.parameters()) == COUNTS[size]
