"""Networks of clips: I3D and VideoMAE-v2 read published layouts, and programs of strangers are not run."""

from __future__ import annotations

import hashlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from arzoo.base.errors import ArzooError
from arzoo.models.vision import i3d as module
from arzoo.models.vision.i3d import I3D, CroppedI3D, I3DNetwork, max_pool, pad_same, read_i3d
from arzoo.models.vision.resize import resize_cropped
from arzoo.models.vision.videomae import VideoMAE


def test_i3d_has_the_published_tensors():
    with torch.device("meta"):
        net = I3DNetwork()
    state = net.state_dict()
    assert len(state) == 344
    assert sum(value.numel() for value in net.parameters()) == 12_697_264
    assert state["Conv3d_1a_7x7.conv3d.weight"].shape == (64, 3, 7, 7, 7)
    assert state["Mixed_5c.b2b.conv3d.weight"].shape == (128, 48, 3, 3, 3)
    assert state["logits.conv3d.bias"].shape == (400,)
    assert {module.eps for module in net.modules() if isinstance(module, nn.BatchNorm3d)} == {1e-5}


@pytest.mark.parametrize(
    ("kernel", "stride"), [((7, 7, 7), (2, 2, 2)), ((1, 3, 3), (1, 2, 2)), ((2, 2, 2), (2, 2, 2))]
)
def test_padding_as_in_tensorflow(kernel, stride):
    """The output has ceil(length / stride) entries, and the odd zero comes last."""
    x = torch.ones(1, 1, 9, 10, 13)
    padded = pad_same(x, kernel, stride)
    for axis, (k, s) in enumerate(zip(kernel, stride, strict=True), 2):
        length = x.shape[axis]
        assert (padded.shape[axis] - k) // s + 1 == -(-length // s)
        line = padded.sum([i for i in range(5) if i != axis]) > 0
        before = int(line.nonzero()[0, 0])
        assert before == (padded.shape[axis] - length) // 2
    assert float(max_pool(x, kernel, stride).min()) == 1


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A state dictionary with the published names, of random numbers."""
    torch.manual_seed(0)
    net = I3DNetwork().eval()
    for part in net.modules():
        if isinstance(part, nn.Conv3d):
            nn.init.kaiming_normal_(part.weight)
    path = tmp_path_factory.mktemp("i3d") / "i3d_pretrained_400.pt"
    torch.save(net.state_dict(), path)
    return path, net


def test_i3d_reads_a_state_dictionary(weights):
    path, own = weights
    net = I3D(str(path))
    assert not net.standard  # its hash is not that of the published program
    rng = torch.Generator().manual_seed(1)
    clips = torch.randint(0, 256, (1, 9, 20, 30, 3), dtype=torch.uint8, generator=rng)
    x = F.interpolate(
        clips[0].permute(0, 3, 1, 2).float(),
        (224, 224),
        mode="bilinear",
        align_corners=False,
        antialias=False,
    )
    with torch.inference_mode():
        expected = own((2 * x / 255 - 1).transpose(0, 1)[None])
    assert expected.shape == (1, 400)
    net.groups = (1, 1)
    torch.testing.assert_close(net(clips).pooled, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ArzooError, match=r"at least 9 frames.*have 8"):
        net(clips[:, :8])
    with pytest.raises(ArzooError, match=r"uint8 clips"):
        net(clips.float())
    torch.save({"Conv3d_1a_7x7.conv3d.weight": torch.ones(1)}, path.with_name("other.pt"))
    with pytest.raises(ArzooError, match="does not hold the I3D"):
        read_i3d(path.with_name("other.pt"))


class Program(nn.Module):
    """The interface of the published program."""

    def forward(self, x, rescale: bool, resize: bool, return_features: bool):
        assert not rescale
        assert not resize
        assert return_features
        return x.mean((3, 4)).flatten(1)[:, :1].repeat(1, 400)


def test_only_the_published_program_is_run(tmp_path, monkeypatch):
    path = tmp_path / "i3d_torchscript.pt"
    torch.jit.script(Program()).save(path)
    monkeypatch.setattr(
        torch.jit, "load", lambda *arguments: pytest.fail("a program of a stranger was opened")
    )
    with pytest.raises(ArzooError, match=r"program, and not the published one.*i3d_pretrained_400\.pt"):
        I3D(str(path))
    monkeypatch.undo()
    monkeypatch.setattr(module, "PUBLISHED_SCRIPT", hashlib.sha256(path.read_bytes()).hexdigest())
    net = I3D(str(path))
    assert net.standard
    clips = torch.full((1, 9, 224, 224, 3), 255, dtype=torch.uint8)
    assert net(clips).pooled.eq(1).all()


def test_the_short_side_is_resized_and_the_middle_cropped():
    x = torch.arange(40.0).view(1, 1, 1, 40).expand(1, 3, 20, 40)
    whole = F.interpolate(x, (10, 20), mode="bilinear", align_corners=False)
    assert torch.equal(resize_cropped(x, 10), whole[..., 5:15])
    square = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    squashed = F.interpolate(square, (24, 24), mode="bilinear", align_corners=False)
    assert torch.equal(resize_cropped(square, 24), squashed)
    assert CroppedI3D.resize != I3D.resize


def test_videomae_reads_the_published_layout(tmp_path):
    """A small network with published names, computed by hand."""
    pytest.importorskip("transformers")
    rng, width, hidden, patch, heads = torch.Generator().manual_seed(0), 16, 24, 112, 2

    def numbers(*shape):
        return torch.randn(*shape, generator=rng) / 4

    state = {
        "patch_embed.proj.weight": numbers(width, 3, 2, patch, patch) / 100,
        "patch_embed.proj.bias": numbers(width),
        "blocks.0.attn.q_bias": numbers(width), "blocks.0.attn.v_bias": numbers(width),
        "blocks.0.attn.qkv.weight": numbers(3 * width, width),
        "blocks.0.attn.proj.weight": numbers(width, width), "blocks.0.attn.proj.bias": numbers(width),
        "blocks.0.mlp.fc1.weight": numbers(hidden, width), "blocks.0.mlp.fc1.bias": numbers(hidden),
        "blocks.0.mlp.fc2.weight": numbers(width, hidden), "blocks.0.mlp.fc2.bias": numbers(width),
        "head.weight": numbers(5, width), "head.bias": numbers(5),
    }  # fmt: skip
    for name in ("blocks.0.norm1", "blocks.0.norm2", "fc_norm"):
        state |= {f"{name}.weight": 1 + numbers(width), f"{name}.bias": numbers(width)}
    torch.save({"module": state}, tmp_path / "small.pth")
    net = VideoMAE(str(tmp_path / "small.pth"), heads=heads)
    clips = torch.randint(0, 256, (2, 16, 40, 30, 3), dtype=torch.uint8, generator=rng)

    def norm(x, name):
        return F.layer_norm(x, (width,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def linear(x, name):
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    frames = F.interpolate(
        clips.flatten(0, 1).movedim(3, 1) / 255, (224, 224), mode="bilinear", align_corners=False
    )
    x = F.conv3d(
        frames.unflatten(0, (2, 16)).transpose(1, 2), state["patch_embed.proj.weight"],
        state["patch_embed.proj.bias"], stride=(2, patch, patch),
    ).flatten(2).transpose(1, 2)  # fmt: skip
    places, lanes = torch.arange(x.shape[1])[:, None].double(), torch.arange(width)
    angles = places / 10000 ** (2 * (lanes // 2) / width)
    x = x + torch.where(lanes % 2 == 0, angles.sin(), angles.cos()).float()
    bias = torch.cat([state["blocks.0.attn.q_bias"], torch.zeros(width), state["blocks.0.attn.v_bias"]])
    qkv = F.linear(norm(x, "blocks.0.norm1"), state["blocks.0.attn.qkv.weight"], bias)
    q, k, v = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    read = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    x = x + linear(read, "blocks.0.attn.proj")
    x = x + linear(F.gelu(linear(norm(x, "blocks.0.norm2"), "blocks.0.mlp.fc1")), "blocks.0.mlp.fc2")
    expected = norm(x.mean(1), "fc_norm")
    torch.testing.assert_close(net(clips).pooled, expected, rtol=1e-4, atol=1e-5)
    assert net.width == width
    with pytest.raises(ArzooError, match="--frames 16"):
        net(torch.cat([clips, clips[:, :1]], 1))
