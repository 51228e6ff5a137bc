"""One-dimensional tokenizers: prefixes, kept sets, what later or halted tokens may not change."""

from __future__ import annotations

import pytest
import torch
from ordered import FLEXTOK, KARL, TITOK, TOKENIZERS, build, pictures

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.core.draws import Draws
from arzoo.core.layout import Ordered
from arzoo.core.tokens import Tokens
from arzoo.models.common.convert import convert_state
from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig
from arzoo.tokenizers.flextok.network import kept_registers
from arzoo.tokenizers.karl.network import BINS, quality_bin
from arzoo.tokenizers.titok.convert import titok_table, to_titok
from arzoo.tokenizers.vq.maskgit import MaskGITConfig


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request):
    return build(TOKENIZERS[request.param])


@torch.no_grad()
def test_pictures_go_back_and_forth(tokenizer):
    tokens = tokenizer.encode(pictures())
    assert tokens.layout == tokenizer.spec.layout == Ordered(tokens.values.shape[1])
    assert tokens.values.dtype == tokenizer.spec.dtype
    assert tokens.values.shape == (3, tokenizer.spec.layout.size, *tokenizer.spec.token_shape)
    decoded = tokenizer.decode(tokens)
    assert decoded.shape == (3, 3, 1, 16, 16)
    assert torch.equal(decoded, tokenizer.decode(tokens))
    for row in range(3):
        alone = tokenizer.decode(tokens.select(torch.tensor([row])))
        torch.testing.assert_close(alone, decoded[[row]], atol=1e-4, rtol=0)


@torch.no_grad()
def test_padding_does_not_reach_a_picture(tokenizer):
    tokens = tokenizer.encode(pictures())
    tokens.known[:] = True
    tokens.length = torch.tensor([1, 3, tokens.values.shape[1]])
    decoded = tokenizer.decode(tokens)
    other = tokens.select(torch.arange(3))
    other.values[0, 1:], other.values[1, 3:] = tokens.values[2, 1:], tokens.values[2, 3:]
    torch.testing.assert_close(tokenizer.decode(other), decoded, atol=1e-6, rtol=0)
    other.values[0, :1] = (
        tokens.values[0, :1] + 1 if tokenizer.spec.channels else (tokens.values[0, :1] + 1) % 6
    )
    assert not torch.allclose(tokenizer.decode(other)[0], decoded[0], atol=1e-4)


@torch.no_grad()
def test_other_sizes_are_refused(tokenizer):
    with pytest.raises(ArzooError, match=r"\(B, 3, 1, 16, 16\)"):
        tokenizer.encode(torch.zeros(1, 3, 1, 16, 20))
    with pytest.raises(ArzooError, match="clips of 2"):
        tokenizer.encode(torch.zeros(1, 3, 2, 16, 16))
    with pytest.raises(ArzooError):
        tokenizer.decode(Tokens.of(tokenizer.spec.empty(1).values[:, :-1]))


@torch.no_grad()
def test_early_registers_do_not_see_later_ones():
    model, shorter = build(FLEXTOK), build(FLEXTOK)
    shorter.encoder.registers = torch.nn.Parameter(model.encoder.registers[:3].clone())
    codes = model.encode(pictures()).values
    latents = shorter.latents(pictures()[:, :, 0])
    assert torch.equal(shorter.quantizer(shorter.encoder(latents)).codes, codes[:, :3])


@torch.no_grad()
def test_a_flow_draws_other_pictures_from_other_noise_and_needs_a_token():
    model = build(FLEXTOK)
    tokens = model.encode(pictures(2))
    first, second = (model.decode(tokens, Draws([seed, 9])) for seed in (3, 4))
    assert not torch.allclose(first[0], second[0], atol=1e-3)
    torch.testing.assert_close(first[1], second[1], atol=1e-5, rtol=0)
    tokens.length = torch.tensor([8, 0])
    with pytest.raises(ArzooError, match=r"sample 1 has no token.*first 1 to 8"):
        model.decode(tokens)


@torch.no_grad()
def test_a_flow_embeds_registers_once_and_takes_both_branches_in_one_call(monkeypatch):
    model = build(FLEXTOK)
    embed, step, embedded, rows = model.decoder.embed, model.decoder.forward, [], []
    monkeypatch.setattr(model.decoder, "embed", lambda *given: embedded.append(1) or embed(*given))
    monkeypatch.setattr(model.decoder, "forward", lambda x, *given: rows.append(len(x)) or step(x, *given))
    model.decode(model.encode(pictures(2)))
    assert len(embedded) == 1
    assert rows == [4] * FLEXTOK.steps


@pytest.mark.parametrize("quality", [0.05, None])
@torch.no_grad()
def test_karl_encodes_in_one_call(monkeypatch, quality):
    model = build(KARL)
    encoder, calls = model.encoder.forward, []
    monkeypatch.setattr(model.encoder, "forward", lambda *given: calls.append(1) or encoder(*given))
    model.encode(pictures(), quality=quality)
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["karl", "karl vectors over kl"])
@torch.no_grad()
def test_halted_slots_do_not_reach_a_picture(name):
    model = build(TOKENIZERS[name])
    tokens = model.encode(pictures())
    tokens.known = torch.rand(tokens.known.shape, generator=torch.Generator().manual_seed(2)) > 0.5
    tokens.length[:] = tokens.values.shape[1]
    decoded, halted = model.decode(tokens), ~tokens.known
    tokens.values[halted] = tokens.values.roll(1, 0)[halted]
    torch.testing.assert_close(model.decode(tokens), decoded, atol=1e-6, rtol=0)
    kept = tokens.known
    vectors = tokens.values if model.quantizer is None else model.quantizer.lookup(tokens.values)
    torch.testing.assert_close(
        model.rebuild(vectors, kept, drop=False), model.rebuild(vectors, kept), atol=1e-5, rtol=0
    )
    tokens.known[:] = False
    nothing = model.decode(tokens)
    assert nothing.isfinite().all()
    torch.testing.assert_close(nothing[0], nothing[1])


@torch.no_grad()
def test_wanted_quality():
    model = build(KARL)
    assert quality_bin(torch.tensor([0.0, 0.005, 0.0051, 0.05, 0.08, 0.38, 2.0])).tolist() == [
        0,
        0,
        1,
        5,
        8,
        18,
        18,
    ]
    with pytest.raises(ArzooError, match=f"from 0 to {BINS[-1]}, got 0.5; the nearest is {BINS[-1]}"):
        model.encode(pictures(), quality=0.5)
    with pytest.raises(ArzooError, match="got nan"):
        model.encode(pictures(), quality=float("nan"))
    with torch.no_grad():
        model.encoder.qualities.add_(torch.randn_like(model.encoder.qualities))
    each = model.encode(pictures(), quality=torch.tensor([0.01, 0.1, 0.3]))
    alone = model.encode(pictures(), quality=0.1)
    assert torch.equal(each.values[1], alone.values[1])
    assert not torch.equal(each.values, alone.values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slots": 17}, "table_slots=16"),
        ({"table_side": 12}, "divides table_side=12"),
        ({"encoder": {"width": 8}}, "must be wider than"),
    ],
)
def test_sizes_of_karl_that_do_not_fit(changes, message):
    with pytest.raises(ArzooError, match=message):
        KARL.replace(**changes)


@pytest.mark.parametrize(
    ("name", "millions", "tensors"),
    [
        ("titok_s_128", 83.7, None),
        ("titok_b_64", 204.8, None),
        ("titok_l_32", 641.1, 692),
        ("titok_bl_64", 390.0, None),
        ("titok_bl_128_vectors", 389.6, None),
        ("titok_sl_256", 330.3, None),
    ],
)
def test_parameters_of_published_titoks(name, millions, tensors):
    config = registry.lookup("tokenizer", name)()
    with torch.device("meta"):
        model = config.build()
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions
    assert tensors in (None, len(titok_table(config)))


@pytest.mark.parametrize("name", ["titok", "titok pixels", "titok vectors"])
def test_titok_goes_to_the_published_layout_and_back(name):
    config = TOKENIZERS[name]
    model = build(config.replace(encoder={"heads": 1}, decoder={"heads": 1}))
    state = to_titok(model)
    assert ("decoder.ffn.2.weight" in state) == config.legacy
    again = convert_state(state, any_prefix=True).parts["tokenizer"]
    assert not convert_state(state, any_prefix=False).parts["tokenizer"].spec.prefix_ok
    unused = {} if config.legacy else {"pixels": MaskGITConfig().to_dict(), "unit": False}
    assert again.config == model.config.replace(**unused)
    x = pictures()
    assert torch.equal(again.encode(x).values, model.encode(x).values)


@pytest.mark.parametrize("name", ["titok vectors", "karl vectors over kl"])
def test_samples_of_vectors_are_drawn_on_the_device_of_the_pictures(name):
    with torch.device("meta"):
        model = TOKENIZERS[name].build().eval()
    tokens = model.encode(pictures().to("meta"), draws=Draws([0, 1, 2]))
    assert tokens.values.device.type == "meta"


def test_the_first_layout_of_titok_mixes_slots():
    model = build(TITOK)
    h = torch.randn(2, 6, 32)
    seen = {}
    model.encoder.norm_out.register_forward_hook(lambda *_: h)
    model.encoder.output.register_forward_pre_hook(lambda _, inputs: seen.update(x=inputs[0]))
    model.encoder(torch.zeros(2, 3, 16, 16))
    assert torch.equal(seen["x"][:, :, :, 0], h.reshape(2, 32, 6))


@pytest.mark.parametrize("lengths", ["uniform", "powers", "powers_above"])
def test_lengths_of_training(lengths):
    uniform = (torch.arange(1000) + 0.5) / 1000
    for count in (8, 12):
        values, counts = kept_registers(lengths, uniform.double(), count).unique(return_counts=True)
        expected = {
            "uniform": range(1, count + 1),
            "powers": [1, 2, 4, 8],
            "powers_above": [1, 2, 4, 8] + [12] * (count == 12),
        }
        assert values.tolist() == list(expected[lengths])
        if lengths != "powers_above":
            assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("name", ["flextok", "flextok over latents"])
def test_training_a_flow_lowers_its_loss(name):
    torch.manual_seed(0)
    model, x = TOKENIZERS[name].replace(null_probability=0.1).build(), pictures(8)
    criterion = TokenizerLossConfig(l2=0.0, perceptual=0.0, adversarial=0.0).build()
    before = float(model.eval()(x)[1].flow.detach())
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 3e-3)
    model.train()
    for step in range(60):
        clips, bottleneck = model(x)
        loss, terms = criterion.generator(x[:, :, 0], clips, bottleneck, None, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert set(terms) == {"flow"}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    assert model.base is None or all(p.grad is None for p in model.base.parameters())
    after = model.eval()(x)[1]
    assert float(after.flow) < 0.85 * before
    assert set(after.figures([after, after])) == {"flow", "perplexity"}


def test_a_flow_refuses_losses_of_pictures():
    model = build(FLEXTOK)
    clips, bottleneck = model(pictures(2))
    with pytest.raises(ArzooError, match=r"makes no picture.*loss\.l2=1.*set these weights to 0"):
        TokenizerLossConfig(perceptual=0.0, adversarial=0.0).build().generator(
            pictures(2)[:, :, 0], clips, bottleneck, None, 0
        )
