"""Multi-scale VQ tokenizers: levels of any sides, pictures of any of the tokens, losses, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch

from arzoo.base import registry
from arzoo.base.errors import ArzooError, UsageError
from arzoo.checkpoints.folder import open_checkpoint, save_parts
from arzoo.core.clips import as_clips
from arzoo.core.pyramid import shares, square_levels
from arzoo.core.tokens import Mixed, Tokens
from arzoo.models.common.convert import convert_state
from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig
from arzoo.tokenizers.msvq.convert import USES, to_msvq
from arzoo.tokenizers.msvq.network import MultiScaleTokenizerConfig
from arzoo.tokenizers.msvq.presets import PUBLISHED
from arzoo.tokenizers.quantizers.multi_scale import MultiScaleQuantizer, shared_by
from arzoo.train.recipe import load_recipe

SIZES = {
    "image_size": 24, "widths": (8, 16), "encoder_blocks": 1, "decoder_blocks": 1, "unshuffle": 2, "vocab": 32,
    "code_channels": 4,
}  # fmt: skip
LEVELS = [(6,), (1, 6), (1, 2, 3, 6), (2, 3, 5, 6), (1, 2, 3, 4, 5, 6)]


def built(levels=(1, 2, 3, 6), **changes):
    torch.manual_seed(0)
    tokenizer = MultiScaleTokenizerConfig(**{**SIZES, "levels": levels, **changes}).build().eval()
    torch.nn.init.normal_(tokenizer.quantizer.embedding.weight)
    return tokenizer


def pictures(count=3):
    return torch.rand(count, 3, 1, 24, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("levels", LEVELS)
@torch.no_grad()
def test_any_levels_go_back_and_forth(levels):
    tokenizer, x = built(levels, attention=len(levels) > 2), pictures()
    tokens = tokenizer.encode(x)
    assert tokens.layout == tokenizer.spec.layout == square_levels(levels)
    assert tokens.values.shape == (3, sum(side**2 for side in levels))
    assert tokenizer.decode(tokens).shape == x.shape
    z = tokenizer.latents(x)
    *_, (_, total, _) = tokenizer.quantizer.by_level(z)
    torch.testing.assert_close(tokenizer.spec.canvas(tokens.values, len(levels)), total)
    with torch.no_grad():
        rebuilt, quantized = tokenizer(x)
    torch.testing.assert_close(rebuilt, tokenizer.decode(tokens), atol=1e-5, rtol=1e-5)
    assert torch.equal(quantized.codes, tokens.values)


@torch.no_grad()
def test_every_level_quantizes_what_the_coarser_ones_leave():
    """With codes that can say anything, each level brings the sum nearer."""
    tokenizer, x = built((1, 2, 3, 6), vocab=4096), pictures()
    z = tokenizer.latents(x)
    spread = z.std((0, 2, 3))
    tokenizer.quantizer.embedding.weight.mul_(spread)
    errors = [float((z - total).square().mean()) for _, total, _ in tokenizer.quantizer.by_level(z)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]


@torch.no_grad()
def test_parts_of_the_canvas_add_up_and_take_vectors():
    tokenizer = built()
    canvas, tokens = tokenizer.spec.canvas, tokenizer.encode(pictures())
    whole = canvas(tokens.values, 4)
    parts = canvas(tokens.values, 2) + canvas(tokens.values, 4, 2)
    torch.testing.assert_close(parts, whole)
    assert torch.equal(canvas(tokens.vectors(canvas.table), 4), whole)
    assert not canvas(tokens.values, 0).any()
    assert torch.equal(canvas(tokens.values[1:2], 4), whole[1:2]), "the batch does not matter"
    with torch.enable_grad():
        torch.testing.assert_close(canvas(tokens.values, 4), whole)


@torch.no_grad()
def test_a_picture_of_the_first_levels_and_of_any_tokens():
    tokenizer, x = built(), pictures()
    tokens, canvas = tokenizer.encode(x), tokenizer.spec.canvas
    for level in range(4):
        prefix = tokens.first(tokenizer.spec.layout.span(level).stop)
        expected = as_clips(tokenizer.decode_latents(canvas(tokens.values, level + 1)))
        torch.testing.assert_close(tokenizer.decode(prefix), expected)
    hidden = copy.deepcopy(tokens)
    hidden.known[:, 14:] = False
    assert torch.equal(tokenizer.decode(hidden), tokenizer.decode(tokens.first(14))), (
        "the same tokens are missing"
    )
    hidden.known[:, 20:] = True
    assert not torch.equal(tokenizer.decode(hidden), tokenizer.decode(tokens.first(14)))
    changed = copy.deepcopy(hidden)
    changed.values[:, 14:20] = 0
    assert torch.equal(tokenizer.decode(hidden), tokenizer.decode(changed)), (
        "nothing is read where none is known"
    )


@torch.no_grad()
def test_mixtures_take_the_place_of_codes():
    tokenizer = built()
    tokens, table = tokenizer.encode(pictures()), tokenizer.quantizer.table
    tokens.given[:] = False
    tokens.given[:, 0] = True
    group = torch.arange(50)[None]
    one_hot = Mixed(tokens.values.clone(), tokens.vectors(table))
    before = tokenizer.decode(tokens)
    tokens.commit(group, one_hot, group)
    assert torch.equal(tokenizer.decode(tokens), before)
    tokens.commit(group, one_hot._replace(vectors=one_hot.vectors + 1), group)
    after = tokens.vectors(table)
    assert torch.equal(after[:, 0], one_hot.vectors[:, 0]), "a given token stays"
    assert torch.equal(after[:, 1:], one_hot.vectors[:, 1:] + 1)
    for other in (tokens.copy(), tokens.select(torch.tensor([0, 1, 2])), tokens.first(50)):
        assert torch.equal(other.vectors(table), after)


def test_gradients_reach_everything_and_losses_fall():
    torch.manual_seed(0)
    tokenizer, x = built().train(), pictures(4)
    criterion = TokenizerLossConfig(perceptual=0.0, adversarial=0.0).build()
    optimizer = torch.optim.AdamW(tokenizer.parameters(), 3e-3)
    losses = []
    for step in range(60):
        rebuilt, quantized = tokenizer(x)
        loss, terms = criterion.generator(x[:, :, 0], rebuilt[:, :, 0], quantized, None, step)
        assert terms.keys() >= {"codebook", "commitment"}
        optimizer.zero_grad()
        loss.backward()
        if not step:
            missing = [name for name, p in tokenizer.named_parameters() if p.grad is None or not p.grad.any()]
            assert not [name for name in missing if not name.endswith(".k.bias")]
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]
    assert tokenizer.quantizer.health()["codes_used"] > 1


def test_unused_codes_move_onto_what_levels_quantize():
    tokenizer = built().train()
    x = pictures(8)
    vectors = tokenizer.residuals(x)
    assert vectors.shape == (8, 50, 4)
    moved = tokenizer.quantizer.restart(vectors, torch.Generator().manual_seed(0), everything=True)
    assert len(moved) == 32
    nearest = torch.cdist(tokenizer.quantizer.table, vectors.flatten(0, 1)).amin(1)
    assert float(nearest.max()) < 0.1


def test_it_is_saved_and_loaded(tmp_path):
    tokenizer = built()
    save_parts(
        tmp_path / "tok", "tokenizer", {"tokenizer": tokenizer}, spec=tokenizer.spec.to_dict(), bits=32
    )
    again = open_checkpoint(tmp_path / "tok", "tokenizer").load("tokenizer")
    tokens = tokenizer.encode(pictures())
    assert again.config == tokenizer.config
    assert again.spec == tokenizer.spec
    assert torch.equal(again.encode(pictures()).values, tokens.values)
    assert torch.equal(again.decode(tokens), tokenizer.decode(tokens))


def test_a_copy_sums_with_its_own_weights():
    tokenizer = built()
    twin = copy.deepcopy(tokenizer)
    with torch.no_grad():
        twin.quantizer.embedding.weight.zero_()
    assert not twin.spec.canvas.table.any()
    assert tokenizer.spec.canvas.table.any()


def test_regions_of_all_levels():
    layout = square_levels((1, 2, 3, 6))
    region = (torch.arange(36) < 18)[None]  # the upper half
    kept = shares(region, layout)[0] == 1
    assert kept[:1].tolist() == [False]
    assert kept[1:5].tolist() == [True, True, False, False]
    assert kept[5:14].tolist() == [True] * 3 + [False] * 6
    assert torch.equal(kept[14:], region[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"levels": (1, 2, 3)},
            r"levels \[1, 2, 3\] must rise from at least 1 to 6, the side of the grid of pictures of 24",
        ),
        ({"levels": (1, 2, 8)}, r"rise from at least 1 to 6"),
        ({"levels": (2, 1, 6)}, r"levels \[2, 1, 6\] must rise"),
        ({"levels": (0, 6)}, r"levels \[0, 6\] must rise"),
        ({"levels": ()}, r"levels \[\] must rise"),
        ({"levels": (6, 6)}, r"must rise"),
        ({"image_size": 26}, "do not divide by the downsampling factor 4"),
        ({"frames": 4}, "for still pictures, got frames=4"),
        ({"convolutions": 0}, "share at least one convolution, got 0"),
    ],
)
def test_sizes_that_do_not_fit(changes, message):
    with pytest.raises(ArzooError, match=message):
        MultiScaleTokenizerConfig(**{**SIZES, "levels": (1, 2, 3, 6), **changes})


def test_pictures_and_tokens_that_do_not_fit():
    tokenizer = built()
    with pytest.raises(ArzooError, match=r"takes pictures \(B, 3, 1, 24, 24\), got \(1, 3, 1, 32, 32\)"):
        tokenizer.encode(torch.zeros(1, 3, 1, 32, 32))
    with pytest.raises(ArzooError, match=r"codes \(B, 50\), got \(2, 36\)"):
        tokenizer.decode(Tokens.of(torch.zeros(2, 36, dtype=torch.long)))
    with pytest.raises(ArzooError, match="codes must be 0 to 31, got 0 to 40"):
        tokenizer.decode(Tokens.of(torch.full((1, 50), 40).index_fill(1, torch.tensor([0]), 0)))


def test_unknown_settings_are_refused():
    with pytest.raises(ArzooError, match="levels"):
        MultiScaleTokenizerConfig.from_dict({"level": [1, 2]})
    with pytest.raises(UsageError, match=r"'msvq_8_small' has no setting 'levles'.*levels"):
        load_recipe("msvq_emoji64", typed=["model.levles=[1,8]"])
    with pytest.raises(ArzooError, match=r"levels \[1, 4\] must rise from at least 1 to 8"):
        load_recipe("msvq_emoji64", typed=["model.levels=[1,4]"]).build()


def published(tokenizer):
    state = {name: value.detach().clone() for name, value in to_msvq(tokenizer).items()}
    return state | {USES: torch.zeros(len(tokenizer.config.levels), tokenizer.config.vocab)}


def test_a_file_of_other_levels_is_converted_without_loss():
    tokenizer = built(attention=True)
    state = published(tokenizer)
    found = convert_state(state, image_size=24, levels=(1, 2, 3, 6))
    assert found.source == "msvq"
    again = found.parts["tokenizer"]
    assert again.config == tokenizer.config
    assert torch.equal(again.encode(pictures()).values, tokenizer.encode(pictures()).values)
    assert convert_state(state, image_size=24, levels=[1, 6]).parts["tokenizer"].config.levels == (1, 6)
    with pytest.raises(ArzooError, match="24 pixels have a grid of 6 x 6 tokens here, for which no levels"):
        convert_state(state, image_size=24)
    with pytest.raises(ArzooError, match="must rise from at least 1 to 6"):
        convert_state(state, image_size=24, levels=(1, 2, 4))
    assert convert_state(state, image_size=64).parts["tokenizer"].config.levels == PUBLISHED[16]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("post_quant_conv.bias"), "missing: post_quant_conv.bias"),
        (lambda state: state.update({"extra": torch.zeros(1)}), "unknown: extra"),
        (lambda state: state.update({"quant_conv.weight": torch.zeros(4, 4, 1, 1)}), "do not fit the sizes"),
    ],
)
def test_conversion_loses_nothing(change, message):
    state = published(built(attention=True))
    change(state)
    with pytest.raises(ArzooError, match=message):
        convert_state(state, "msvq", image_size=24, levels=(1, 2, 3, 6))


@pytest.mark.parametrize("levels", [1, 2, 3, 7, 14])
@pytest.mark.parametrize("convolutions", [1, 2, 4])
def test_neighbouring_levels_share_convolutions(levels, convolutions):
    shared = shared_by(levels, convolutions)
    assert shared == sorted(shared)
    assert set(shared) <= set(range(convolutions))
    assert levels < convolutions or set(shared) == set(range(convolutions))


def test_code_of_the_nearest_direction():
    layout = square_levels((1,))
    quantizer = MultiScaleQuantizer(2, 2, layout, cosine=True)
    with torch.no_grad():
        quantizer.embedding.weight.copy_(torch.tensor([[0.1, 0.0], [0.0, 9.0]]))
    z = torch.tensor([1.0, 0.2]).view(1, 2, 1, 1)
    assert quantizer(z).codes.tolist() == [[0]]
    assert MultiScaleQuantizer(2, 2, layout).assign(z.view(1, 2), quantizer.table).tolist() == [0]
    far = torch.tensor([[5.0, 4.9]])
    assert quantizer.assign(far, quantizer.table).tolist() == [0]
    assert MultiScaleQuantizer(2, 2, layout).assign(far, quantizer.table).tolist() == [1]


@pytest.mark.parametrize("name", ["msvq_8_small", "msvq_4_micro"])
def test_small_presets_are_built(name):
    config = registry.lookup("tokenizer", name)()
    tokenizer = config.build()
    side = config.image_size
    assert tokenizer.decode(tokenizer.encode(torch.zeros(1, 3, 1, side, side))).shape == (1, 3, 1, side, side)
