"""Weights in 8 bits: rounding, exact storage of what was read, refusals, older files."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from arzoo.base.config import Config
from arzoo.base.errors import ArzooError
from arzoo.base.files import file_sha256, seal
from arzoo.base.weights import SCALE, from_storage, keeps, storage_bits, to_storage
from arzoo.checkpoints.folder import load_parts, open_checkpoint, save_parts, weights_sha256
from arzoo.checkpoints.names import BUNDLED, bundled
from arzoo.generation.generator import Generator


@dataclass(frozen=True, kw_only=True)
class WideConfig(Config):
    width: int = 128

    def build(self) -> Wide:
        return Wide(self)


class Wide(nn.Module):
    """A part with large and small weights, and whole numbers of its own."""

    def __init__(self, config: WideConfig) -> None:
        super().__init__()
        self.config = config
        self.layer = nn.Linear(config.width, 96)
        self.conv = nn.Conv2d(32, 48, 3)
        self.small = nn.Linear(8, 4)
        self.register_buffer("recent", torch.arange(9000, dtype=torch.int32))
        self.register_buffer("signs", torch.ones(128, 128, dtype=torch.int8))


def made(seed: int = 0) -> Wide:
    torch.manual_seed(seed)
    return WideConfig().build()


def rows(kind: str) -> torch.Tensor:
    """512 x 64 numbers of many sizes."""
    torch.manual_seed(1)
    value = torch.randn(512, 64) * torch.logspace(-25, 25, 512)[:, None]
    if kind == "zeros":
        value[::3] = 0
    elif kind == "one":
        value[:, 1:] = 0
    elif kind == "ties":
        value = torch.randint(-254, 255, (512, 64)) / 2 * torch.rand(512, 1)
    elif kind == "signs":
        value = value.clamp(-1e-3, 1e-3)
    return value


KINDS = ("random", "zeros", "one", "ties", "signs")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(512, 64), (512, 16, 2, 2)])
def test_what_is_read_is_near_and_stored_again_the_same(kind, shape):
    value = rows(kind).view(shape)
    stored = to_storage({"w": value}, 8)
    scale = stored["w" + SCALE]
    assert (stored["w"].dtype, scale.dtype, scale.shape) == (torch.int8, torch.float32, (512,))
    assert stored["w"].shape == shape
    read = from_storage(stored, "f")["w"]
    error = (read.double() - value.double()).flatten(1).abs().amax(1)
    assert bool((error <= scale.double() * (0.5 + 2**-10)).all()), (
        "half a step, and the rounding of the scale"
    )
    for bits in (8, 16):
        again = to_storage({"w": read}, bits)
        assert again.keys() >= {"w"}
        assert weights_sha256(from_storage(again, "f")) == weights_sha256({"w": read})
    again = to_storage({"w": read}, 8)
    assert torch.equal(again["w"], stored["w"])
    assert torch.equal(again["w" + SCALE], scale)
    assert keeps({"w": read}, 8)
    assert keeps({"w": read}, 16)


def test_rows_of_every_exponent_are_stored_exactly_again():
    torch.manual_seed(2)
    scales = torch.rand(4000) * 2.0 ** torch.randint(-90, 90, (4000,))
    value = torch.randint(-127, 128, (4000, 32)).clamp(-100) * scales[:, None]
    read = from_storage(to_storage({"w": value}, 8), "f")
    assert torch.equal(from_storage(to_storage(read, 8), "f")["w"], read["w"])
    assert torch.equal(from_storage(to_storage(read, 16), "f")["w"], read["w"])


@pytest.mark.parametrize(
    ("change", "dtype"),
    [
        (lambda w: w * 1e-44, torch.float16),  # float32 has no room for scales of so small rows
        (lambda w: w * 1e35, torch.float32),
        (lambda w: w[:8], torch.float16),
        (lambda w: w[None], torch.float16),
        (lambda w: w.flatten(), torch.float16),
        (lambda w: w.view(-1, 16), torch.float16),
        (lambda w: (w * 1e6).flatten(), torch.float32),
        (lambda w: w.long(), torch.int64),
    ],
)
def test_what_8_bits_are_not_for_has_more(change, dtype):
    value = change(torch.randn(512, 64, generator=torch.Generator().manual_seed(0)))
    stored = to_storage({"w": value}, 8)
    assert {name: tensor.dtype for name, tensor in stored.items()} == {"w": dtype}
    assert torch.equal(stored["w"], value.to(dtype))


def test_16_bits_keep_8_only_where_these_alone_are_exact():
    value = torch.randn(512, 64, generator=torch.Generator().manual_seed(0))
    read = from_storage(to_storage({"w": value}, 8), "f")
    assert to_storage(read, 16)["w"].dtype == torch.int8
    for other in (value, value.half().float(), torch.zeros(512, 64), -torch.zeros(512, 64)):
        stored = to_storage({"w": other}, 16)
        assert {name: tensor.dtype for name, tensor in stored.items()} == {"w": torch.float16}
    assert not keeps({"w": value}, 16)
    assert not keeps({"w": value}, 8)
    assert keeps({"w": value}, 32)
    assert to_storage(read, 32)["w"].dtype == torch.float32


def test_bits_are_those_of_most_numbers():
    value = torch.randn(512, 64)
    assert [storage_bits(to_storage({"w": value, "b": value[0]}, bits)) for bits in (8, 16, 32)] == [
        8,
        16,
        32,
    ]
    assert storage_bits({"n": torch.ones(3, dtype=torch.int8)}) is None


def test_precise_weights_have_16_bits(tmp_path):
    module = made()
    module.precise = ("conv.",)
    checkpoint = save_parts(tmp_path / "a", "tokenizer", {"tokenizer": module}, bits=8)
    stored = load_file(tmp_path / "a" / "tokenizer" / "model.safetensors")
    assert stored["conv.weight"].dtype == torch.float16
    assert stored["layer.weight"].dtype == torch.int8
    again = save_parts(tmp_path / "b", "tokenizer", load_parts(tmp_path / "a")[1], bits=16)
    assert again.parts["tokenizer"]["sha256"] == checkpoint.parts["tokenizer"]["sha256"]


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_names_of_scales_are_taken(bits):
    with pytest.raises(ArzooError, match=r"'w::scale' cannot be stored.*Rename"):
        to_storage({"w::scale": torch.zeros(2)}, bits)


def test_a_checkpoint_in_8_bits(tmp_path):
    written = save_parts(tmp_path / "a", "tokenizer", {"tokenizer": made()}, bits=8)
    assert written.parts["tokenizer"]["bits"] == 8
    found, parts = load_parts(tmp_path / "a")
    assert found == written
    part = parts["tokenizer"]
    assert weights_sha256(part) == found.parts["tokenizer"]["weights"]
    assert part.layer.weight.dtype == torch.float32
    assert torch.equal(part.recent, made().recent)
    assert torch.equal(part.signs, made().signs), "whole numbers without scales are what they are"
    torch.testing.assert_close(part.conv.weight, made().conv.weight, atol=1e-3, rtol=0)
    for bits in (8, 16, 32):
        again = save_parts(tmp_path / str(bits), "tokenizer", parts, bits=bits)
        assert again.parts["tokenizer"]["weights"] == found.parts["tokenizer"]["weights"]
        assert again.parts["tokenizer"]["bits"] == min(bits, 8 if bits == 16 else bits)


@pytest.mark.parametrize("bits", [16, 32])
def test_older_checkpoints_load(tmp_path, bits):
    """Files as they were before: one tensor a weight, no `bits` in the index."""
    module = made()
    save_parts(tmp_path / "a", "tokenizer", {"tokenizer": module}, bits=bits)
    path = tmp_path / "a" / "tokenizer" / "model.safetensors"
    state = module.state_dict()
    if bits == 16:
        state = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    save_file(state, path, metadata={"format": "pt"})
    vouch(tmp_path / "a", weights=weights_sha256(state))
    loaded = load_parts(tmp_path / "a")[1]["tokenizer"]
    assert weights_sha256(loaded) == weights_sha256(state)


def vouch(folder, **facts):
    """An index that vouches for the weights there are, without `bits`."""
    index = json.loads((folder / "model_index.json").read_text())
    index["parts"]["tokenizer"] |= {
        "sha256": file_sha256(folder / "tokenizer" / "model.safetensors"),
        **facts,
    }
    index["parts"]["tokenizer"].pop("bits", None)
    (folder / "model_index.json").write_text(json.dumps({**index, "seal": seal(index)}))


NAME = "layer.weight" + SCALE


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.pop(NAME), r"layer.weight.*int8.*not.*float.*no scales 'layer.weight::scale'"),
        (lambda s: s.update({NAME: s[NAME][:-1].clone()}), r"shape \(95,\), not float32 of shape \(96,\)"),
        (lambda s: s.update({NAME: s[NAME][:, None]}), r"shape \(96, 1\), not"),
        (lambda s: s.update({NAME: s[NAME].half()}), "torch.float16 of shape"),
        (lambda s: s[NAME].fill_(torch.nan), "one is nan"),
        (lambda s: s[NAME].fill_(torch.inf), "one is inf"),
        (lambda s: s[NAME][3:4].neg_(), "one is -"),
        (lambda s: s[NAME][3:4].zero_(), "one is 0, not from"),
        (
            lambda s: s.update({"layer.bias" + SCALE: torch.ones(96)}),
            r"'layer.bias' is torch.float16.*not int8",
        ),
        (lambda s: s.update({"other" + SCALE: torch.ones(96)}), "'other' is absent, not int8"),
        (lambda s: s.update({"recent" + SCALE: torch.ones(9000)}), "'recent' is torch.int32"),
        (
            lambda s: s.update({"signs" + SCALE: torch.ones(128)}),
            "does not fit the settings beside it.*'signs'",
        ),
        (lambda s: s.pop("layer.weight"), "'layer.weight' is absent, not int8"),
        (lambda s: s.update({"layer.weight": s["layer.weight"].short()}), "torch.int16"),
        (
            lambda s: s.update({"layer.weight": s["layer.weight"][:, :-1].clone()}),
            "does not fit the settings beside it",
        ),
    ],
)
def test_damaged_scales_are_explained(tmp_path, damage, message):
    save_parts(tmp_path / "a", "tokenizer", {"tokenizer": made()}, bits=8)
    path = tmp_path / "a" / "tokenizer" / "model.safetensors"
    stored = load_file(path)
    damage(stored)
    save_file(stored, path)
    vouch(tmp_path / "a")
    with pytest.raises(ArzooError, match=message) as error:
        load_parts(tmp_path / "a")
    assert "again" in str(error.value)


def test_saving_what_was_loaded_keeps_the_hashes(tmp_path):
    """Of a generator and of its tokenizer, which the generator knows by its hash."""
    model = Generator.load("raster_emoji64")
    model.save_pretrained(tmp_path / "again")
    for name, folder in (("raster_emoji64", "again"), ("vq_emoji64", "again/tokenizer")):
        before, after = open_checkpoint(name), open_checkpoint(tmp_path / folder)
        for part, facts in before.parts.items():
            assert after.parts[part]["weights"] == facts["weights"]
            assert after.parts[part]["bits"] == facts["bits"] == 8
    Generator.load(tmp_path / "again")


@pytest.mark.parametrize("name", bundled())
def test_shipped_checkpoints_are_small_and_store_again_the_same(name):
    checkpoint, parts = load_parts(name)
    for part, module in parts.items():
        assert (BUNDLED / name / part / "model.safetensors").stat().st_size <= 6_500_000
        # The network of volumes has half a megabyte in 16 bits.
        assert checkpoint.parts[part]["bits"] == (16 if checkpoint.kind == "segmenter" else 8)
        assert weights_sha256(module) == checkpoint.parts[part]["weights"]
        assert keeps(module.state_dict(), 16)
