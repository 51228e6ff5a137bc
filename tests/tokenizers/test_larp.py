"""LARP: codes of learned queries that are read as a grid; codes drawn by similarity; strict conversion."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import load_parts, save_parts
from arzoo.core.blocks import repeated_blocks
from arzoo.core.draws import Draws
from arzoo.core.layout import Grid
from arzoo.generation.generator import Generator
from arzoo.models.common.convert import convert_file, convert_state
from arzoo.samplers.plans.shifted import next_neighbor
from arzoo.tokenizers.common.transformer import StackConfig
from arzoo.tokenizers.larp.convert import to_larp
from arzoo.tokenizers.larp.network import LARPConfig, place_table
from arzoo.tokenizers.larp.tokenizer import LARP
from arzoo.tokenizers.quantizers.stochastic import StochasticQuantizer
from arzoo.train.devices import checkpoint_blocks
from arzoo.train.noise import SampleNoise

TINY = LARPConfig(
    frames=4, image_size=8, patch_frames=2, patch=4, encoder=StackConfig(width=32, depth=1, heads=2),
    decoder=StackConfig(width=16, depth=2, heads=1), grid=(2, 2, 3), channels=4, vocab=32,
)  # fmt: skip
ARGUMENTS = {"heads": 2, "decoder_heads": 1, "grid": (2, 2, 3)}


def clips(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


def model(config: LARPConfig = TINY) -> LARP:
    torch.manual_seed(0)
    return config.build().eval()


@torch.no_grad()
def test_clips_go_back_and_forth():
    tokenizer = model()
    tokens = tokenizer.encode(clips())
    assert tokens.layout == tokenizer.spec.layout == Grid(2, 2, 3)
    assert (tokens.values.shape, tokens.values.dtype) == ((3, 12), torch.int64)
    decoded = tokenizer.decode(tokens)
    assert decoded.shape == clips().shape
    alone = tokenizer.decode(tokens.select(torch.tensor([1])))
    torch.testing.assert_close(alone, decoded[[1]], atol=1e-5, rtol=0)
    torch.testing.assert_close(tokenizer(clips())[0], decoded, atol=1e-5, rtol=0)
    assert (tokenizer.frames, tokenizer.image_size, tokenizer.strictly_causal) == (4, (8, 8), False)


@torch.no_grad()
def test_low_precision_takes_float32():
    tokenizer = model()
    codes, decoded = tokenizer.encode(clips()), tokenizer.decode(tokenizer.encode(clips()))
    with torch.autocast("cpu", torch.bfloat16):
        assert (tokenizer.encode(clips()).values == codes.values).float().mean() > 0.8
    tokenizer.to(torch.bfloat16)
    assert (tokenizer.encode(clips()).values == codes.values).float().mean() > 0.8
    torch.testing.assert_close(tokenizer.decode(codes).float(), decoded, atol=0.1, rtol=0)


@torch.no_grad()
def test_other_sizes_and_incomplete_tokens_are_refused():
    tokenizer = model()
    for shape in ((1, 3, 4, 8, 12), (1, 3, 1, 8, 8), (1, 1, 4, 8, 8), (3, 4, 8, 8)):
        with pytest.raises(ArzooError, match=r"takes clips \(B, 3, 4, 8, 8\), got .*resize or crop"):
            tokenizer.encode(torch.zeros(shape))
    tokens = tokenizer.encode(clips())
    tokens.length[1] = 5
    with pytest.raises(ArzooError, match="sample 1 has 5 of 12 tokens"):
        tokenizer.decode(tokens)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 5}, "do not divide into patches"),
        ({"image_size": 10}, "do not divide into patches"),
        ({"grid": (1, 3, 4)}, "grid of several frames"),
        ({"temperature": 0.0}, "temperature"),
        ({"encoder": {"width": 30, "heads": 1}}, "that 4 divides, got 30"),
    ],
)
def test_sizes_that_do_not_fit(changes, message):
    with pytest.raises(ArzooError, match=message):
        TINY.replace(**changes)


def test_a_wave_of_positions_moves_with_column_row_and_frame():
    """The columns stand first, and the frame is added to both halves."""
    table = place_table(Grid(2, 2, 3), 16)[0].view(2, 2, 3, 16)
    column, row = table[0, 0, 1] - table[0, 0, 0], table[0, 1, 0] - table[0, 0, 0]
    assert bool((column[:8] != 0).any())
    assert not bool(column[8:].any())
    assert not bool(row[:8].any())
    torch.testing.assert_close(row[8:], column[:8], atol=1e-6, rtol=0)
    assert bool((table[1, 0, 0] - table[0, 0, 0])[[0, 7, 8]].all())


@torch.no_grad()
def test_every_token_sees_the_whole_clip():
    """The grid of the tokens is a reading: a change of one corner of the clip moves vectors of all of them."""
    tokenizer, x = model(), clips(1)
    changed = x.clone()
    changed[:, :, -1, -1, -1] += 1
    moved = (tokenizer.latents(changed) - tokenizer.latents(x)).abs().amax(-1)[0]
    assert bool((moved > 0).all())


@torch.no_grad()
def test_codes_are_drawn_by_similarity_only_where_asked():
    tokenizer = model(TINY.replace(temperature=0.3))
    z = tokenizer.latents(clips())
    similarity = F.normalize(z, dim=-1) @ F.normalize(tokenizer.quantizer.embedding.weight, dim=-1).T
    assert torch.equal(tokenizer.encode(clips()).values, similarity.argmax(-1))
    draws = [tokenizer.encode(clips(), draws=Draws([seed, 7, 7])).values for seed in (1, 2)]
    assert not torch.equal(draws[0][0], draws[1][0])
    assert torch.equal(draws[0][1:], draws[1][1:]), "a clip has a seed of its own"
    torch.testing.assert_close(tokenizer.quantizer.probabilities(z), (similarity / 0.3).softmax(-1))


def test_training_draws_with_the_frequencies_of_the_softmax():
    torch.manual_seed(0)
    quantizer = StochasticQuantizer(5, 3, temperature=0.5)
    z = torch.randn(1, 3)
    drawn = quantizer.train()(z.expand(20000, -1)).codes
    share = drawn.bincount(minlength=5) / len(drawn)
    torch.testing.assert_close(share, quantizer.probabilities(z)[0], atol=0.015, rtol=0)
    assert int((quantizer.recent >= 0).sum()) == 20000, "drawn codes count as used"
    assert quantizer.eval()(z).codes == quantizer.probabilities(z).argmax(-1)


def test_training_draws_the_codes_of_a_sample_whatever_its_batch():
    tokenizer = model(TINY.replace(temperature=0.5)).train()

    def codes(rows: list[int]) -> torch.Tensor:
        torch.manual_seed(0)
        with SampleNoise(Draws(rows)):
            return tokenizer(clips()[rows])[1].codes

    together = codes([0, 1, 2])
    assert torch.equal(together[1:], codes([1, 2]))
    assert not torch.equal(together, model().eval()(clips())[1].codes)


def test_it_learns_one_batch():
    torch.manual_seed(0)
    tokenizer, x = TINY.build().train(), F.interpolate(torch.rand(4, 3, 2, 2, 2) * 2 - 1, size=(4, 8, 8))
    optimizer, errors = torch.optim.AdamW(tokenizer.parameters(), 1e-2), []
    for _ in range(40):
        rebuilt, quantized = tokenizer(x)
        error = F.mse_loss(rebuilt, x)
        optimizer.zero_grad()
        (error + 0.1 * sum(quantized.losses.values())).backward()
        optimizer.step()
        errors.append(error.item())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in tokenizer.parameters())
    assert errors[-1] < 0.5 * errors[0]


def test_its_blocks_can_be_recomputed():
    tokenizer = model()
    assert len(repeated_blocks(tokenizer)) == TINY.encoder.depth + TINY.decoder.depth
    plain = torch.autograd.grad(tokenizer(clips())[0].square().mean(), list(tokenizer.parameters())[:3])
    checkpoint_blocks(tokenizer)
    again = torch.autograd.grad(tokenizer(clips())[0].square().mean(), list(tokenizer.parameters())[:3])
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


@pytest.mark.parametrize(
    ("name", "count", "grid"), [("larp_l_long", 172_179_984, (4, 16, 16)), ("larp_tiny", None, (4, 8, 8))]
)
def test_presets_say_their_grid_and_clips(name, count, grid):
    config = registry.lookup("tokenizer", name)()
    with torch.device("meta"):
        tokenizer = config.build()
    assert count in (None, sum(p.numel() for p in tokenizer.parameters()))
    assert (tokenizer.spec.layout, tokenizer.frames) == (Grid(*grid), 16)
    assert len(next_neighbor(tokenizer.spec.layout)) == sum(grid) - 2
    assert config.patches.size == tokenizer.spec.layout.size


@torch.no_grad()
def test_it_goes_to_the_published_layout_and_back(tmp_path):
    tokenizer = model()
    state = to_larp(tokenizer) | {"prior_model.ln_f.weight": torch.ones(3)}
    again = convert_state(state, **ARGUMENTS).parts["tokenizer"]
    assert again.config == TINY
    assert torch.equal(again.encode(clips()).values, tokenizer.encode(clips()).values)
    save_parts(tmp_path / "ours", "tokenizer", {"tokenizer": again}, spec=again.spec.to_dict())
    loaded = load_parts(tmp_path / "ours", "tokenizer")[1]["tokenizer"]
    tokens = loaded.encode(clips())
    assert torch.equal(loaded.decode(tokens), tokenizer.decode(tokens))


def test_arguments_in_the_file_say_what_weights_do_not(tmp_path):
    state, path = to_larp(model()), tmp_path / "larp.pth"
    regular = {"name": "vq", "args": {"l2_normalized": True, "stochastic_temperature": 0.05}}
    args = {
        "input_size": 8,
        "encoder_num_heads": 2,
        "decoder_num_heads": 1,
        "bottleneck": {"name": "bottleneck", "args": {"norm": "none", "regularizer": regular}},
    }
    torch.save({"model": {"name": "larp_tokenizer", "args": args, "sd": state}, "epoch": 3}, path)
    assert convert_file(path, grid=(2, 2, 3)).parts["tokenizer"].config == TINY.replace(temperature=0.05)
    assert convert_file(path, temperature=0.1).parts["tokenizer"].config.temperature == 0.1
    regular["args"]["l2_normalized"] = False
    torch.save({"model": {"name": "larp_tokenizer", "args": args, "sd": state}}, path)
    with pytest.raises(ArzooError, match=r"l2_normalized=False .*only True is supported"):
        convert_file(path)


def test_conversion_is_strict():
    state = to_larp(model())
    for name in state:
        with pytest.raises(ArzooError):
            convert_state({key: w for key, w in state.items() if key != name}, "larp", **ARGUMENTS)
    with pytest.raises(ArzooError, match="unknown: stray"):
        convert_state({**state, "stray": torch.zeros(1)}, **ARGUMENTS)
    for name in ("encoder_patch_pe", "decoder_latent_pe", "decoder_patch_query_embed"):
        with pytest.raises(ArzooError, match=f"{name}.*table of sine positions"):
            convert_state({**state, name: state[name].flip(1)}, **ARGUMENTS)
    with pytest.raises(ArzooError, match="12 tokens cannot be read as a grid of 2 x 2 x 2"):
        convert_state(state, **ARGUMENTS | {"grid": (2, 2, 2)})
    assert convert_state(state, heads=2, decoder_heads=1).parts["tokenizer"].spec.layout == Grid(12, 1, 1)


@pytest.mark.parametrize("plan", ["next_neighbor", "raster", "parallel"])
def test_generators_draw_its_tokens(plan):
    tokenizer = model(TINY.replace(grid=(3, 2, 2)))
    sizes = {"width": 32, "depth": 1, "heads": 2}
    generator = Generator.create(
        "nar_clip_tiny",
        tokenizer,
        plan,
        classes=("a", "b"),
        tokenizer_name="larp",
        tokenizer_hash="",
        **sizes,
    )
    assert generator.backbone.config.axes == (3 if plan == "next_neighbor" else 1)
    assert generator.backbone.extras == (3 if plan == "parallel" else 0)
    assert len(generator.plan()) == {"next_neighbor": 5, "raster": 12, "parallel": 4 + 2}[plan]
    assert generator.generate([0, 1], seed=3).shape == (2, 4, 8, 8, 3)
