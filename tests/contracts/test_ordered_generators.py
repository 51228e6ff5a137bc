"""Every backbone, plan and head over ordered tokens: what fits draws and learns, and all else says why not."""

from __future__ import annotations

import pytest
import torch
from command import ten_pictures
from ordered import TOKENIZERS, build

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import weights_sha256
from arzoo.core.contracts import Tokenizer
from arzoo.core.control import Control
from arzoo.core.tokens import Tokens
from arzoo.data.codes import Codes
from arzoo.data.encoding import encode_split
from arzoo.data.views import Views
from arzoo.generation.generator import Generator
from arzoo.generation.matrix import matrix
from arzoo.samplers.loop import must_be_given
from arzoo.samplers.plans.about import about
from arzoo.train.generator import GeneratorObjective
from arzoo.train.settings import GeneratorLoss

SIZES = {"width": 32, "depth": 1, "heads": 2, "encoder_depth": 1, "decoder_depth": 1, "decoder_width": 32}
HEADS = {
    "flextok": ["categorical", "depth"],
    "titok vectors": ["diffusion_mlp_tiny", "flow_mlp_tiny", "flow_net_tiny", "backbone_flow"],
}
"""Heads by a tokenizer whose kind of token they draw."""


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """By name, a tokenizer, the hash of its weights, and its codes of ten pictures: training and validation."""
    cache: dict[str, tuple[Tokenizer, str, list[Codes]]] = {}

    def get(name: str) -> tuple[Tokenizer, str, list[Codes]]:
        if name not in cache:
            tokenizer, folder = build(TOKENIZERS[name]), tmp_path_factory.mktemp("codes")
            digest = weights_sha256(tokenizer)
            splits = [
                encode_split(folder / split, tokenizer, digest, ten_pictures().split(split), Views())
                for split in ("train", "validation")
            ]
            cache[name] = tokenizer, digest, splits
        return cache[name]

    return get


def created(name: str, plan: str, head: str, tokenizer: Tokenizer, digest: str) -> Generator:
    """A small generator.

    Raises:
        ArzooError: The parts do not fit.
    """
    preset = registry.lookup("backbone", name)()
    with torch.device("meta"):
        backbone = preset.build()
    options = about(plan).trial_options(tokenizer.spec.layout, backbone.extras, backbone.readouts)
    torch.manual_seed(0)
    return Generator.create(
        name, tokenizer, plan, classes=("even", "odd"), tokenizer_name="tok", tokenizer_hash=digest, head=head,
        plan_options=options, **{key: value for key, value in SIZES.items() if preset.has(key)},
    )  # fmt: skip


def check_works(model: Generator, splits: list[Codes]) -> None:
    """Draw two pictures, and take the gradient of one step of training."""
    objective = GeneratorObjective(model, *splits, GeneratorLoss(guidance=1.0), 0.0, 0)
    network = objective.parts["model"].train()
    loss, _ = objective.loss("model", objective.parts, objective.batch(0, range(4)), 0)
    loss.backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert gradients
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    network.eval()
    given = None
    if must_be_given(model.plan()):  # such as the first block of frame prediction
        values = model.tokenizer.spec.empty(2).values
        given = Tokens.of(values, model.plan().unsourced.expand(2, -1))
    control = Control() if model.tokenizer.spec.discrete else Control(head_steps=3)
    images = model.generate([0, 1], seed=3, control=control, given=given).stills
    assert images.shape == (2, 16, 16, 3)


@pytest.mark.parametrize("family", ["raster", "rar", "mar", "xar"])
def test_every_yes_over_ordered_tokens_draws_and_learns(family, encoded):
    (fits,) = matrix(f"{family}_tiny").ordered.values()
    assert all(len(reason) > 40 for reason in fits.values() if reason), "why not, and what would fit"
    for plan in (plan for plan, reason in fits.items() if not reason):
        works = []
        for tokenizer, heads in HEADS.items():
            for head in heads:
                try:
                    model = created(f"{family}_tiny", plan, head, *encoded(tokenizer)[:2])
                except ArzooError:
                    continue
                works.append(head)
                check_works(model, encoded(tokenizer)[2])
        assert works, plan
        assert "depth" not in works, "which is for several codes per position"


@pytest.mark.parametrize("tokenizer", ["karl", "titok"])
def test_tokenizers_of_codes_have_generators(tokenizer, encoded):
    check_works(created("raster_tiny", "ordered", "", *encoded(tokenizer)[:2]), encoded(tokenizer)[2])


@pytest.mark.parametrize(
    ("backbone", "plan", "tokenizer", "words"),
    [
        ("mar_tiny", "masked", "karl", "Use plan ordered"),
        ("mar_tiny", "masked", "karl vectors over kl", "needs a tokenizer with one code a position"),
        ("raster_tiny", "ordered", "karl vectors over kl", "needs a tokenizer with one code a position"),
    ],
)
def test_what_cannot_follow_the_number_of_tokens_says_why(backbone, plan, tokenizer, words):
    with pytest.raises(ArzooError, match=words):
        created(backbone, plan, "", build(TOKENIZERS[tokenizer]), "digest")
