"""Likelihoods of pictures: of the law that a generator draws by, and no number where there is none."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import replace

import pytest
import torch
from command import CLASSES
from ordered import KARL, TITOK, build

from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.core.condition import Cond
from arzoo.core.ends import counted, end_of
from arzoo.core.tokens import Tokens
from arzoo.generation.generator import Generator
from arzoo.generation.score import Score, scored_tokens
from arzoo.tokenizers.vq.network import VQTokenizerConfig

SIZES = {"width": 32, "depth": 1, "heads": 2}


def generator(tokenizer, plan: str, name: str = "raster_tiny", **options) -> Generator:
    torch.manual_seed(1)
    model = Generator.create(
        name, tokenizer, plan, classes=CLASSES, tokenizer_name="tok", tokenizer_hash="", **SIZES, **options
    )
    for weight in model.heads[0].parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.3)
    return model


def images(count: int = 3) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, 16, 16, 3), generator=torch.Generator().manual_seed(2), dtype=torch.uint8
    )


@torch.no_grad()
def in_parallel(model: Generator, codes: torch.Tensor, labels: list[int]) -> torch.Tensor:
    """Negative cross-entropy (n,) of codes in one pass, as in training."""
    cond = Cond(len(codes), label=torch.tensor(labels))
    read = model.backbone.features(Tokens.of(codes), cond, model.plan())
    return -model.heads[0].loss(read, codes.gather(1, read.positions.expand(len(codes), -1))).double().sum(1)


def test_it_is_the_training_loss_of_the_codes(model):
    score = model.score(images(), ["food/plain", 0, 1])
    codes = model.encode(images()).values
    torch.testing.assert_close(score.nats, in_parallel(model, codes, [2, 0, 1]), rtol=1e-5, atol=1e-5)
    assert score.dimensions.tolist() == [16] * 3
    torch.testing.assert_close(score.bits_per_dimension, -score.nats / 16 / math.log(2))
    assert torch.equal(model.score(images(), "food/plain").nats, model.score(images(), [2, 2, 2]).nats)
    assert torch.equal(model.score(images(), classes=[2, 0, 1], batch=2).nats, score.nats)
    one = model.score(images().numpy()[1:2], cond=Cond(1, label=torch.tensor([0])))
    assert torch.equal(one.nats, score.nats[1:2])


def test_guidance_temperature_and_filters_have_no_part_in_it(model):
    other = copy.copy(model)
    other.control = replace(model.control, guidance=3.0, temperature=0.1, top_k=1)
    assert not torch.equal(other.generate([0, 1]), model.generate([0, 1]))
    assert torch.equal(other.score(images(), 0).nats, model.score(images(), 0).nats)


def test_the_probabilities_of_all_pictures_add_up_to_one():
    tokenizer = VQTokenizerConfig(
        image_size=16, widths=(32, 32, 32, 32), encoder_blocks=1, decoder_blocks=1, latent=32, attention=False,
        vocab=3, code_channels=4,
    ).build()  # fmt: skip
    every = Tokens.of(torch.tensor(list(itertools.product(range(3), repeat=4))))
    labels = torch.zeros(len(every.values), dtype=torch.long)
    for plan, name in (("raster", "raster_tiny"), ("next_neighbor", "nar_tiny"), ("masked", "mar_tiny")):
        sizes = {"decoder_depth": 1, "buffer": 2, "plan_options": {"steps": 3}} if plan == "masked" else {}
        model = generator(tokenizer, plan, name, **sizes)
        score = scored_tokens(model, every, Cond(len(labels), label=labels), [7] * len(labels))
        assert abs(float(score.nats.exp().sum()) - 1) < 1e-4, plan
        assert float(score.nats.exp().std()) > 1e-4, "not all the same"


def test_codes_after_the_end_of_a_picture_do_not_count():
    model = generator(build(TITOK), "ordered", ends=True)
    codes = torch.randint(0, 32, (2, 6), generator=torch.Generator().manual_seed(1))
    codes[0, 2] = end_of(model.spec)
    other = codes.clone()
    other[0, 3:] = 0
    cond = Cond(2, label=torch.tensor([0, 1]))
    first, second = (scored_tokens(model, Tokens.of(each), cond, [1, 2]) for each in (codes, other))
    assert first.dimensions.tolist() == counted(codes, model.spec).sum(1).tolist() == [3, 6]
    assert torch.equal(first.nats, second.nats)


def test_padding_has_no_probability_where_a_model_draws_all_tokens():
    model = generator(build(KARL), "ordered", ends=False)
    count = model.spec.layout.size
    whole = torch.randint(0, 32, (3, count), generator=torch.Generator().manual_seed(1))
    cond, seeds = Cond(3, label=torch.tensor([0, 1, 2])), [1, 2, 3]
    assert scored_tokens(model, Tokens.of(whole), cond, seeds).dimensions.tolist() == [count] * 3
    cut, unknown = Tokens.of(whole), Tokens.of(whole)
    cut.length[1] = 5
    unknown.known[1, 5:] = False
    for canvas in (cut, unknown):
        with pytest.raises(ArzooError, match=rf"picture 1 has 5 of {count} tokens.*ends=True"):
            scored_tokens(model, canvas, cond, seeds)
    ending = generator(build(KARL), "ordered")
    assert ending.score(images(), 0).dimensions.min() >= 1, "its end is a code of its own"


def test_models_of_vectors_and_of_found_orders_say_why_there_is_none(folder, masked):
    with pytest.raises(ArzooError, match="models of codes only: this one draws vectors"):
        masked.score(images(), 0)
    tokenizer = open_checkpoint(folder / "tok").load("tokenizer")
    confident = generator(tokenizer, "confident", "mar_tiny", decoder_depth=1, buffer=2)
    with pytest.raises(ArzooError, match=r"decides the order.*with_plan\('masked'\)"):
        confident.score(images(), 0)
    assert confident.with_plan("masked").score(images(), 0).nats.max() < 0


def test_pictures_and_subjects_have_to_fit(model):
    for wrong, words in (
        ((images(), [0, 1]), "3 pictures and 2 classes or prompts"),
        ((images(),), r"give classes=\[...\]"),
        ((images(), "animal"), "animal/plain"),
    ):
        with pytest.raises(ArzooError, match=words):
            model.score(*wrong)
    with pytest.raises(ArzooError, match=r"\(B, 16, 16, 3\) uint8"):
        model.score(torch.zeros(1, 8, 8, 3, dtype=torch.uint8), 0)
    with pytest.raises(ArzooError, match="batch must be a whole number of at least 1, got 0"):
        model.score(images(), 0, batch=0)


def test_a_score_is_a_number_a_picture():
    score = Score(torch.tensor([-8 * math.log(2)]), torch.tensor([4]))
    assert score.bits_per_dimension.tolist() == pytest.approx([2])
