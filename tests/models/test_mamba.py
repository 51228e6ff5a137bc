"""Mamba backbones: padding, memory, rewinding, and what they refuse."""

import re

import pytest
import torch
from contracts.cases import CLASSES, SAMPLES, SQUARE, case, cases, orders
from contracts.networks import bare_head, mamba

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.generation.fit import check
from arzoo.models.common.recurrent_decoder import reach
from arzoo.models.mamba.layers import Mamba1, Mamba2
from arzoo.models.mamba.network import MambaConfig
from arzoo.samplers.plans.inplace import confident, masked
from arzoo.samplers.plans.shifted import custom, next_neighbor, parallel, raster, zipar
from arzoo.train.optim import matrices, optimizer, undecayed
from arzoo.train.settings import OptimConfig

CODES = TokenSpec(SQUARE, vocab=11)
LAYERS = {
    "mamba1": lambda: Mamba1(width=16, state=4, expand=2, kernel=4, rank=3),
    "mamba2": lambda: Mamba2(width=16, state=4, expand=2, kernel=4, head_width=8, groups=2),
}


@pytest.fixture(params=LAYERS)
def layer(request):
    torch.manual_seed(0)
    return LAYERS[request.param]().double()


def kept_of(lengths, total, left):
    """(R, S) mask of tokens, with the padding on one side."""
    index = torch.arange(total)
    return torch.stack([index >= total - n if left else index < n for n in lengths])


@pytest.mark.parametrize("left", [True, False])
def test_rows_of_different_lengths_are_as_if_alone(layer, left):
    lengths, total = [1, 2, 3, 7, 9], 9
    x = torch.randn(len(lengths), total, 16, dtype=torch.float64)
    kept = kept_of(lengths, total, left)
    y, (past, state) = layer(x, None, kept)
    for row, length in enumerate(lengths):
        own, (own_past, own_state) = layer(x[row : row + 1, kept[row]])
        torch.testing.assert_close(y[row : row + 1, kept[row]], own)
        torch.testing.assert_close(past[row : row + 1], own_past)
        torch.testing.assert_close(state[row : row + 1], own_state)
        assert own.shape[1] == length


def test_padding_after_tokens_may_follow_a_memory(layer):
    x = torch.randn(2, 8, 16, dtype=torch.float64)
    _, memory = layer(x[:, :3])
    y, after = layer(x[:, 3:], memory, kept_of([5, 2], 5, left=False))
    whole, _ = layer(x)
    torch.testing.assert_close(y[0], whole[0, 3:])
    torch.testing.assert_close(y[1, :2], whole[1, 3:5])
    for got, want in zip(after, layer(x[1:, :5])[1], strict=True):
        torch.testing.assert_close(got[1:], want)


def test_a_long_prompt_in_parts_equals_the_whole(layer):
    x = torch.randn(2, 11, 16, dtype=torch.float64)
    whole, memory = layer(x)
    for sizes in ((1, 10), (2, 9), (4, 1, 6), (11,)):
        part, parts = None, []
        for piece in x.split(sizes, 1):
            y, part = layer(piece, part)
            parts.append(y)
        torch.testing.assert_close(torch.cat(parts, 1), whole)
        for got, want in zip(part, memory, strict=True):
            torch.testing.assert_close(got, want)


def captions(lengths, total=6, width=8):
    random = torch.Generator().manual_seed(5)
    text = torch.randn(len(lengths), total, width, generator=random)
    return Cond(len(lengths), text=text, text_mask=kept_of(lengths, total, left=True))


@pytest.mark.parametrize("version", [1, 2])
def test_captions_with_padding(version):
    backbone = mamba(CODES, classes=0, text_width=8, text_length=6, version=version).eval()
    cond, plan = captions([1, 4, 6]), raster(SQUARE)
    tokens = Tokens.of(torch.randint(11, (3, 16), generator=torch.Generator().manual_seed(1)))
    whole = backbone.features(tokens, cond, plan).features
    changed = cond.map(lambda v: v.clone())
    changed.text[~changed.text_mask] = 100.0
    assert torch.equal(backbone.features(tokens, changed, plan).features, whole), "padding has no effect"
    changed.text[2, 3] += 1
    assert not torch.equal(backbone.features(tokens, changed, plan).features[2], whole[2])
    for branches in (1, 2):
        state = backbone.start(cond, plan, branches)
        for k in range(len(plan)):
            step = backbone.step(state, tokens, k).features[:3]
            torch.testing.assert_close(step[:, 0], whole[:, k], atol=2e-6, rtol=2e-5)


def state_after(backbone, plan, tokens, steps):
    state = backbone.start(Cond(len(tokens.values), label=torch.arange(len(tokens.values))), plan, 2)
    for k in range(steps):
        backbone.step(state, tokens, k)
    return state


def test_memory_does_not_grow_with_the_canvas():
    sizes = {}
    for side in (4, 16):
        spec = TokenSpec(Grid(1, side, side), vocab=11)
        backbone, plan = mamba(spec).eval(), raster(spec.layout)
        assert reach(plan) == 1
        tokens = Tokens.of(torch.zeros(2, side * side, dtype=torch.long))
        sizes[side] = {state_after(backbone, plan, tokens, k).nbytes for k in (2, 5, side * side)}
    assert len(sizes[4]) == 1
    assert sizes[4] == sizes[16]


@pytest.mark.parametrize(
    ("plan", "slots"),
    [
        (raster(SQUARE), 1),
        (next_neighbor(SQUARE), 4),
        (parallel(SQUARE, 2), 4),
        (custom(SQUARE, orders(16, 2)), 1),
    ],
)
def test_the_state_keeps_features_as_far_back_as_the_plan_reaches(plan, slots):
    assert reach(plan) == slots


@pytest.mark.parametrize(
    "name", ["mamba raster", "mamba next-neighbor", "mamba1 parallel by block", "mamba a sample"]
)
def test_a_rewound_state_reads_what_a_fresh_one_does(name):
    one = cases()[name]
    backbone, full = one.model.backbone, one.example()
    run = one.begin()
    tokens = Tokens.of(full)
    fresh = [backbone.step(one.begin().state, tokens, k).features for k in range(len(run.plan))]
    state = run.state
    for k, back in ((3, 1), (4, 0), (6, 5), (5, 2), (6, 6), (6, 4), (4, 0), (1, 1)):
        backbone.step(state, tokens, k)
        earlier = state.rewind(back)
        torch.testing.assert_close(backbone.step(earlier, tokens, back).features, fresh[back])
        forked = earlier.select(torch.tensor([1, 0])).rewind(max(back - 1, 0))
        pair = Tokens.of(full[[1, 0]])
        rows = torch.cat([torch.tensor([1, 0]), torch.tensor([1, 0]) + SAMPLES])
        torch.testing.assert_close(backbone.step(forked, pair, back).features, fresh[back][rows])
        state = earlier
    assert len(state.snapshots) <= 1 + state.depth


def test_a_state_that_was_never_rewound_keeps_one_snapshot():
    one = cases()["mamba raster"]
    run = one.finish(one.begin())
    assert len(run.state.snapshots) == 1


def test_a_wrong_guess_leaves_no_trace():
    one = cases()["mamba raster"]
    backbone, tokens, wrong = one.model.backbone, Tokens.of(one.example()), Tokens.of(one.example().flip(1))
    run = one.begin()
    backbone.window(run.state, wrong, 0, 9)
    state = run.state.rewind(0)
    reads = backbone.window(state, tokens, 0, 9)
    alone = [backbone.step(one.begin().state, tokens, k).features for k in range(9)]
    for read, want in zip(reads, alone, strict=True):
        torch.testing.assert_close(read.features, want)


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (
            masked(SQUARE, orders(16, 1), 5),
            "re-reads the canvas .* it is recurrent, and reads every token once",
        ),
        (confident(SQUARE, 5), "re-reads the canvas .* it is recurrent"),
        (zipar(SQUARE, 2), "feeds copies of tokens .* cannot, as it keeps a summary of what it has read"),
        (next_neighbor(SQUARE), "reads 2 axes, backbone mamba has 1"),
        (parallel(SQUARE), "feeds 3 learned transition inputs, backbone mamba has 0"),
        (raster(Grid(1, 5, 5)), "orders Grid"),
    ],
)
def test_plans_that_do_not_fit_say_why(plan, reason):
    backbone = mamba(CODES)
    misfits = " ".join(str(m) for m in check(CODES, backbone, plan, bare_head(CODES)))
    assert re.search(reason, misfits), misfits


def test_a_longer_plan_than_the_network_knows_is_refused():
    backbone, plan = mamba(CODES), raster(Grid(1, 5, 5))
    tokens, cond = Tokens.of(torch.zeros(1, 25, dtype=torch.long)), Cond(1, label=torch.tensor([0]))
    for call in (lambda: backbone.features(tokens, cond, plan), lambda: backbone.start(cond, plan, 1)):
        with pytest.raises(ArzooError, match="orders 25 positions, backbone mamba was made for 16"):
            call()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 3, "text_width": 8}, "condition on classes or on text"),
        ({"classes": 0, "modulation": "block"}, "follows the class, but classes=0"),
        ({"decoding_offset": 2}, "decoding_offset must be 0, or 1"),
        ({"decoding_offset": 1, "positions": False}, "decoding_offset must be 0, or 1 with positions=true"),
        ({"width": 16, "head_width": 5}, "must be whole heads of head_width=5"),
        ({"width": 64, "head_width": 64, "groups": 3}, "the heads groups=3 equal groups"),
        ({"kernel": 0}, "must be at least 1, got kernel=0"),
        ({"vocab": 0}, "tokens are vectors or codes"),
        ({"version": 3}, "version"),
        ({"modulation": "all"}, "modulation"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ArzooError, match=message):
        MambaConfig.from_dict({"vocab": 11, **settings})


@pytest.mark.parametrize("name", ["aim_b", "aim_l", "aim_xl"])
def test_new_models_draw_with_the_positions_that_they_are_trained_on(name):
    """Only converted weights need the published offset."""
    assert registry.lookup("backbone", name)().decoding_offset == 0


def test_rates_are_neither_decayed_nor_matrices():
    backbone = mamba(CODES, version=1)
    names = {f"blocks.{i}.mixer.branch.{name}" for i in range(2) for name in ("A_log", "D")}
    assert undecayed(backbone) == names
    groups = optimizer(backbone, OptimConfig()).param_groups
    parameters = dict(backbone.named_parameters())
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    assert not any(id(parameters[name]) in decayed for name in names)
    assert id(parameters["blocks.0.mixer.in_proj.weight"]) in decayed
    taken = matrices(backbone, OptimConfig(name="muon"))
    assert not taken & names
    assert "blocks.0.mixer.branch.x_proj.weight" in taken


def test_tiny_models_train_a_step():
    for name in ("mamba_tiny", "mamba1_tiny"):
        config = registry.lookup("backbone", name)().replace(
            width=32, depth=2, head_width=16, vocab=11, grid=(1, 4, 4), classes=CLASSES, state_size=4
        )
        one = case(CODES, raster(SQUARE), config.build())
        head = registry.lookup("head", one.model.backbone.code_head)().replace(width=32, vocab=11).build()
        loss = head.loss(
            one.model.backbone.features(Tokens.of(one.example()), Cond(3), one.plan(3)), one.example()
        )
        loss.mean().backward()
        assert loss.mean().item() == pytest.approx(float(torch.tensor(11.0).log()), rel=1e-5)
