"""What is not drawn yet: gray where it has a place in the picture, otherwise the mean vector, never the first code."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from command import CLASSES, tiny_kl_tokenizer, tiny_tokenizer
from continuous import FAMILIES, made
from ordered import TOKENIZERS, build
from torch import Tensor

from arzoo.checkpoints.folder import open_checkpoint
from arzoo.core.contracts import Tokenizer
from arzoo.core.layout import Grid, Pyramid
from arzoo.core.pyramid import finest, preview
from arzoo.core.tokens import Tokens
from arzoo.generation.drawings import GREY, pixels_of, so_far
from arzoo.generation.generator import Generator
from arzoo.tokenizers.common.transformer import StackConfig
from arzoo.tokenizers.larp.network import LARPConfig
from arzoo.tokenizers.nbp.presets import clip_micro
from arzoo.tokenizers.omnitok.presets import omnitok_micro
from arzoo.tokenizers.quantizers.residual import ResidualVQ
from arzoo.tokenizers.vq.network import VQTokenizerConfig

SIZES = {"width": 32, "depth": 1, "heads": 2}
CODES = {
    "raster": ("raster_tiny", "raster", SIZES),
    "next neighbor": ("nar_tiny", "next_neighbor", SIZES),
    "parallel": ("raster_tiny", "parallel", {**SIZES, "plan_options": {"regions": 2}}),
    "confident": (
        "mar_tiny",
        "confident",
        {**SIZES, "decoder_depth": 1, "buffer": 2, "plan_options": {"steps": 5}},
    ),
}
"""Backbone, plan and options of generators of codes in several orders."""
VQ = VQTokenizerConfig(
    image_size=16, widths=(32, 32, 32), encoder_blocks=1, decoder_blocks=1, latent=32, attention=False, vocab=16,
    code_channels=4,
)  # fmt: skip
LARP = LARPConfig(
    frames=4, image_size=8, patch_frames=2, patch=4, encoder=StackConfig(width=32, depth=1, heads=2),
    decoder=StackConfig(width=16, depth=2, heads=1), grid=(2, 2, 3), channels=4, vocab=32,
)  # fmt: skip
OF_CODES = {
    "vq": VQ,
    "larp": LARP,
    "nbp": clip_micro(),
    "omnitok": omnitok_micro(),
    **{name: config for name, config in TOKENIZERS.items() if "vectors" not in name},
    "titok of all tokens": TOKENIZERS["titok"].replace(any_prefix=False),
}
"""Every tokenizer of codes."""


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("tokenizers")
    return {"codes": tiny_tokenizer(folder / "codes"), "vectors": tiny_kl_tokenizer(folder / "vectors")}


def model_of(name: str, tokenizers: dict) -> Generator:
    if name in FAMILIES:
        return made(name, tokenizers["vectors"])
    backbone, plan, options = CODES[name]
    checkpoint = open_checkpoint(tokenizers["codes"])
    torch.manual_seed(0)
    model = Generator.create(
        backbone, checkpoint.load("tokenizer"), plan, classes=CLASSES, tokenizer_name="codes",
        tokenizer_hash=checkpoint.parts["tokenizer"]["weights"], **options,
    )  # fmt: skip
    torch.nn.init.normal_(model.heads[0].output.weight, std=0.3)
    return model


def scrambled(tokens: Tokens, vocab: int) -> Tokens:
    """The same canvas with other values where nothing is known."""
    known = tokens.known.view(*tokens.known.shape, *[1] * (tokens.values.dim() - 2))
    other = (tokens.values + 1) % vocab if vocab else tokens.values + 1
    return replace(tokens, values=torch.where(known, tokens.values, other))


@pytest.mark.parametrize("name", [*CODES, *FAMILIES])
def test_what_is_not_drawn_is_grey(tokenizers, name):
    model = model_of(name, tokenizers)
    layout, greys = model.plan().layout, []
    for step in model.stream(classes=[0, 1], seed=3):
        tokens, shown = step.run.tokens, step.preview()
        covered = finest(preview(tokens, layout), layout).known
        drawn = pixels_of(covered, Grid(1, 4, 4), (1, 16, 16))
        assert bool((shown[~drawn] == GREY).all())
        assert float((shown[drawn] == GREY).float().mean()) < 0.1
        assert torch.equal(so_far(model, scrambled(tokens, model.spec.vocab)), shown), (
            "no other value is seen"
        )
        greys.append(int((~drawn).sum()))
    assert greys == sorted(greys, reverse=True)
    assert greys[-1] == 0
    assert greys[0] > 0 or len(greys) == 1 or isinstance(layout, Pyramid)


@pytest.mark.parametrize("name", OF_CODES)
def test_decoders_see_the_mean_vector_of_what_is_not_known(name):
    config = OF_CODES[name]
    tokenizer: Tokenizer = build(config)
    size, vocab = tokenizer.spec.layout.size, tokenizer.spec.vocab
    rng = torch.Generator().manual_seed(0)
    values = torch.randint(0, vocab, (2, size), generator=rng)
    known = torch.rand(2, size, generator=rng) < 0.5
    tokens = Tokens.of(values, known)
    with torch.no_grad():
        shown = tokenizer.decode(tokens)
        assert torch.equal(tokenizer.decode(scrambled(tokens, vocab)), shown)
        assert not torch.equal(tokenizer.decode(Tokens.of(torch.where(known, values, 0))), shown)


def test_the_mean_vector_is_that_of_all_codes():
    tokenizer = build(VQ)
    nothing = Tokens.of(torch.zeros(1, 16, dtype=torch.long), torch.zeros(1, 16, dtype=torch.bool))
    mean = tokenizer.quantizer.lookup(torch.arange(16)).mean(0)
    assert torch.allclose(tokenizer.quantizer.vectors_of(nothing)[0], mean)
    quantizer = ResidualVQ(vocab=8, channels=3, levels=2)
    codes = Tokens.of(torch.zeros(1, 4, 2, dtype=torch.long), torch.tensor([[True, False, True, False]]))
    means = sum(quantizer.table(level).mean(0) for level in range(2))
    vectors = quantizer.vectors_of(codes)[0]
    assert torch.allclose(vectors[1], means)
    assert torch.equal(vectors[0], quantizer.lookup(codes.values[0, 0]))


def test_the_mean_vector_is_computed_for_gaps_alone(monkeypatch):
    quantizer = build(VQ).quantizer
    calls, lookup = [], quantizer.lookup
    monkeypatch.setattr(quantizer, "lookup", lambda codes: calls.append(codes.shape) or lookup(codes))
    known = torch.tensor([[True, True, False, False]])
    codes = Tokens.of(torch.zeros(1, 4, dtype=torch.long), known)
    quantizer.vectors_of(codes.first(2))
    assert calls == [(1, 4)], "padding needs none"
    quantizer.vectors_of(codes)
    assert calls[1:] == [(1, 4), (quantizer.vocab,)]


def test_a_level_that_is_partly_drawn_keeps_its_own_tokens():
    layout = Pyramid((Grid(1, 1, 1), Grid(1, 2, 2)))
    values = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])[None, :, None]

    def shown(*known: int) -> tuple[list[float], list[bool]]:
        tokens = finest(preview(Tokens.of(values, torch.tensor([known]) > 0), layout), layout)
        return tokens.values[0, :, 0].tolist(), tokens.known[0].tolist()

    assert shown(1, 0, 0, 0, 0) == ([1, 1, 1, 1], [True] * 4)
    assert shown(1, 0, 1, 0, 1) == ([1, 3, 1, 5], [True] * 4)
    assert shown(0, 0, 1, 0, 0) == ([0, 3, 0, 0], [False, True, False, False])


def test_pixels_of_clips_whose_first_frame_has_tokens_of_its_own():
    known = torch.zeros(1, 3, 1, 2, dtype=torch.bool)
    known[0, 0, 0, 0] = known[0, 2, 0, 1] = True
    pixels: Tensor = pixels_of(known.flatten(1), Grid(3, 1, 2), (5, 2, 4), first_alone=True)
    assert pixels[0, :, 0].int().tolist() == [[1, 1, 0, 0], [0] * 4, [0] * 4, [0, 0, 1, 1], [0, 0, 1, 1]]
    assert pixels_of(known.flatten(1), Grid(3, 1, 2), (6, 2, 4))[0, :, 1, 3].int().tolist() == [
        0,
        0,
        0,
        0,
        1,
        1,
    ]
