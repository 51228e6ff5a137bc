"""What every network of the zoo promises beside the features of its tokens."""

import copy

import pytest
import torch
from contracts.cases import SAMPLES, SEEDS, cases

from arzoo.core.blocks import repeated_blocks
from arzoo.core.condition import Cond
from arzoo.core.draws import Draws
from arzoo.core.tokens import Tokens
from arzoo.samplers.loop import generate, start
from arzoo.train import devices

NAMES = [
    "raster",
    "transformer raster",
    "transformer next-neighbor clip",
    "transformer absolute clip",
    "nbp hybrid",
    "mar",
    "himar",
    "xar cells",
    "flowar",
    "var",
    "var shared",
    "mamba by group",
    "mamba1 raster",
]
CASES = {name: case for name, case in cases().items() if name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_negative_label_no_label_and_a_dropped_one_are_the_null(name):
    case = CASES[name]

    def drawn(cond):
        run = start(case.model, case.plan(SAMPLES), cond, case.control, case.tokens(), Draws(SEEDS))
        return [step for step in generate(case.model, run)][-1].run.tokens.values

    labels, drop = torch.arange(SAMPLES), torch.ones(SAMPLES, dtype=torch.bool)
    dropped = drawn(Cond(SAMPLES, label=labels, drop=drop))
    assert torch.equal(drawn(Cond(SAMPLES, label=torch.full((SAMPLES,), -1))), dropped)
    assert torch.equal(drawn(Cond(SAMPLES)), dropped)
    some = drawn(Cond(SAMPLES, label=torch.tensor([0, -1, 2])))
    assert torch.equal(some[1], dropped[1])
    assert not torch.equal(some[0], dropped[0])


def gradients(backbone, head, case):
    """Gradients of a training pass, and bytes of what the forward pass keeps for the backward pass."""
    kept = []

    def keep(*tensors):
        kept.extend(x.detach() for x in tensors)
        return tensors[0] if tensors else None

    def inputs(module, args, kwargs):
        keep(*(x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor)))

    hooks = [block.register_forward_pre_hook(inputs, with_kwargs=True) for block in repeated_blocks(backbone)]
    weights = {x.untyped_storage().data_ptr() for x in (*backbone.parameters(), *head.parameters())}
    cond, values = Cond(SAMPLES, label=torch.arange(SAMPLES)), case.example()
    known = torch.zeros(values.shape[:2], dtype=torch.bool) if "draft" not in backbone.readouts else None
    torch.manual_seed(0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        read = backbone.features(Tokens.of(values, known), cond, case.plan(SAMPLES))
        loss = head.loss(read, values, Draws(SEEDS)).mean() if read.query else None
    if read.stages:
        tokens = values[:, read.stages[0].positions[0]]
        loss = head.loss(read.stages[0], tokens, Draws(SEEDS)).mean() + read.features.square().mean()
    elif loss is None:
        loss = head.loss(read, values, Draws(SEEDS)).mean()
    loss.backward()
    for hook in hooks:
        hook.remove()
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in kept}
    size = sum(count for storage, count in storages.items() if storage not in weights)
    return {name: p.grad for name, p in backbone.named_parameters() if p.grad is not None}, size


@pytest.mark.parametrize("name", NAMES[1:])
def test_checkpointing_changes_no_gradient_and_lowers_memory(name):
    case = CASES[name]
    backbone, head = (copy.deepcopy(m).train() for m in (case.model.backbone, case.model.heads[0]))
    for parameter in (*backbone.parameters(), *head.parameters()):
        torch.nn.init.normal_(parameter, std=0.1)
    again, same = copy.deepcopy(backbone), copy.deepcopy(head)
    blocks = repeated_blocks(again)
    inside = sum(p.numel() for block in blocks for p in block.parameters())
    assert inside > 0.5 * sum(p.numel() for p in again.parameters())
    units = devices._sharding(again).transformer_cls_names_to_wrap
    assert set(units) == {type(block).__name__ for block in blocks}, "shards are cut by the same blocks"
    devices.checkpoint_blocks(again)
    plain, bytes_plain = gradients(backbone, head, case)
    found, bytes_found = gradients(again, same, case)
    assert plain.keys() == found.keys()
    assert any(name.startswith(("blocks", "encoder", "decoder")) for name in plain)
    for key, gradient in plain.items():
        assert torch.equal(gradient, found[key]), key
    assert bytes_found < 0.6 * bytes_plain
