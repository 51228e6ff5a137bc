"""Tokenizers over the latents of another one: its weights are named, not copied, and travel with exports."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors import safe_open

import arzoo
from arzoo.base.errors import ArzooError
from arzoo.checkpoints import store
from arzoo.checkpoints.folder import open_checkpoint, save_parts, weights_sha256
from arzoo.tokenizers.common.transformer import StackConfig as KarlStack
from arzoo.tokenizers.flextok.network import FlexTokConfig, StackConfig
from arzoo.tokenizers.karl.network import KarlConfig
from arzoo.tokenizers.kl.network import KLTokenizerConfig
from arzoo.train.initial import over_base

KL = KLTokenizerConfig(
    image_size=16, widths=(8, 8), channels=4, encoder_blocks=1, decoder_blocks=1,
    encoder_attention="none", decoder_attention="none", scale=0.7,
)  # fmt: skip
STACK = StackConfig(width=16, depth=1, heads=2)
CONFIGS = {
    "flextok": FlexTokConfig(
        image_size=16, patch=1, encoder=STACK, decoder=STACK, registers=4, levels=(3, 3), steps=2
    ),
    "karl": KarlConfig(
        image_size=16, base=KL, encoder=KarlStack(width=16, depth=1, heads=2),
        decoder=KarlStack(width=16, depth=1, heads=2),
        slots=4, table_slots=8, table_side=8, channels=3, vocab=16,
    ),
}  # fmt: skip


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ARZOO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=CONFIGS)
def saved(home, request):
    """Folders of a base and of a tokenizer over it, beside each other."""
    torch.manual_seed(0)
    base = KL.build().eval()
    save_parts(home / "kl", "tokenizer", {"tokenizer": base}, bits=8, spec=base.spec.to_dict())
    tokenizer, lineage = over_base(CONFIGS[request.param], "kl")
    assert lineage["base"]["weights"] == open_checkpoint("kl").parts["tokenizer"]["weights"]
    store.tag("kl", "kl")
    save_parts(home / "over", "tokenizer", {"tokenizer": tokenizer}, bits=8, spec=tokenizer.spec.to_dict())
    return home / "kl", home / "over"


def tensors(folder):
    with safe_open(folder / "tokenizer" / "model.safetensors", "pt") as file:
        return list(file.keys())


def equal(one, other):
    return weights_sha256(one) == weights_sha256(other)


def test_weights_of_the_base_are_named_not_copied(saved):
    base, over = saved
    assert not [name for name in tensors(over) if name.startswith("base.")]
    checkpoint = open_checkpoint(over)
    assert checkpoint.index["base"] == {
        "name": "kl",
        "sha256": open_checkpoint(base).parts["tokenizer"]["weights"],
    }
    loaded, original = arzoo.load(over), arzoo.load(base)
    assert equal(loaded.base, original)
    assert weights_sha256(loaded) == checkpoint.parts["tokenizer"]["weights"]
    assert not any(p.requires_grad for p in loaded.base.parameters())
    assert store.lineage(store.find(str(over))) == ["kl", str(over)]
    store.verify(str(over))


def test_copies_take_the_base_along(saved, home):
    base, over = saved
    loaded = arzoo.load(over)
    store.export(str(over), "out.tar")
    loaded.save_pretrained("whole")
    store.copy(str(over), "copied")
    shutil.rmtree(base)
    shutil.rmtree(home / "home")
    assert [name for name in tensors(home / "whole") if name.startswith("base.")]
    for name in ("out.tar", "whole", "copied"):
        assert equal(arzoo.load(name if name.endswith("tar") else f"./{name}"), loaded)
    with pytest.raises(ArzooError, match=r"over works on the latents of 'kl' .* which is not here.*Copy"):
        arzoo.load(over)


def test_a_base_of_other_weights_is_passed_over(saved, home):
    _, over = saved
    torch.manual_seed(1)
    save_parts(over / "base", "tokenizer", {"tokenizer": KL.build()}, spec=KL.build().spec.to_dict())
    arzoo.load(over)
    shutil.rmtree(home / "home")
    shutil.rmtree(home / "kl")
    with pytest.raises(ArzooError, match="which is not here"):
        arzoo.load(over)


def test_a_base_that_was_trained_on_is_stored(saved, home):
    base, over = saved
    loaded = arzoo.load(over)
    with torch.no_grad():
        next(loaded.base.parameters()).add_(1)
    save_parts("trained", "tokenizer", {"tokenizer": loaded}, bits=32)
    assert "base" not in open_checkpoint("./trained").index
    assert equal(arzoo.load("./trained"), loaded)
    assert not equal(arzoo.load("./trained").base, arzoo.load(base))


def test_the_only_copy_of_a_base_is_not_removed(saved, home):
    _, _over = saved
    shutil.rmtree(home / "kl")
    with pytest.raises(ArzooError, match=r"is the tokenizer of .*over, or its base, and the only copy"):
        store.removable("kl", ["."])


def test_bases_that_do_not_fit_are_refused(home):
    tokenizer = arzoo.load("vq_emoji64")
    with pytest.raises(ArzooError, match=r"is a vq, which flextok cannot work on\. Name a checkpoint of kl"):
        over_base(CONFIGS["flextok"], "vq_emoji64")
    with pytest.raises(ArzooError, match=r"is a kl, which vq cannot work on\. Leave base out"):
        over_base(tokenizer.config, "kl_emoji64")
    with pytest.raises(ArzooError, match=r"pictures of 64 pixels, the tokenizer for 16"):
        over_base(CONFIGS["flextok"], "kl_emoji64")
