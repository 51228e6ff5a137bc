"""What arzoo stands on in other libraries, see docs/libraries.md."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import arzoo
from arzoo.base.files import save_tensors
from arzoo.base.runtime import full_precision
from arzoo.core.clips import as_clips
from arzoo.core.contracts import Read
from arzoo.core.draws import Draws
from arzoo.data.folder import image_folder
from arzoo.data.reading import read_sized
from arzoo.data.transforms import to_model, to_uint8
from arzoo.metrics.scores.neighbors import nearest_distance
from arzoo.metrics.scores.reconstruction import ReconstructionBank, ssim
from arzoo.models.heads.diffusion import DiffusionMLPConfig
from arzoo.models.heads.flow import FlowMLPConfig
from arzoo.models.vision.features import FeatureNet, Features
from arzoo.tokenizers.quantizers.vq import VectorQuantizer

ROOT = Path(arzoo.__file__).parent


def sources():
    """All files of the package; `rglob` does not follow the links of a checkout."""
    roots = [ROOT, *(path.resolve() for path in ROOT.iterdir() if path.is_symlink())]
    return sorted(path for root in roots for path in root.rglob("*.py"))


def calls(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def unstable(tree):
    """Calls of torch's sorts that leave the order of equal keys open, unless only the sorted values are used."""
    nodes = list(ast.walk(tree))
    harmless = {id(node.value) for node in nodes if isinstance(node, ast.Attribute) and node.attr == "values"}
    harmless |= {id(node.value) for node in nodes if isinstance(node, ast.Expr)}  # a list sorts itself
    sorts = [
        c for c in calls(tree) if isinstance(c.func, ast.Attribute) and c.func.attr in {"sort", "argsort"}
    ]
    return [c for c in sorts if id(c) not in harmless and "stable" not in {k.arg for k in c.keywords}]


def test_the_order_of_equal_keys_is_never_left_to_torch():
    places = [
        f"{path}:{call.lineno}"
        for path in sources()
        for call in unstable(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not places
    assert len(sources()) > 150
    assert unstable(ast.parse("y = x.argsort(1)"))
    assert not unstable(ast.parse("y = x.sort(1).values"))


def test_safetensors_are_never_written_from_numpy():
    """0.8.0 stores wrong values for transposed arrays; torch's writer refuses them instead."""
    for path in sources():
        assert "safetensors.numpy" not in path.read_text(encoding="utf-8"), path


def test_a_mapped_file_that_is_replaced_keeps_its_old_tensors(tmp_path):
    from safetensors import safe_open

    path = tmp_path / "a.safetensors"
    save_tensors({"x": torch.zeros(1 << 16)}, path)
    with safe_open(path, "pt") as file:
        mapped = file.get_tensor("x")
    save_tensors({"x": torch.ones(1 << 16)}, path)
    assert mapped.abs().sum() == 0
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("gumbel", [False, True])
def test_codes_are_drawn_evenly_from_probabilities_in_half_precision(dtype, gumbel):
    """Gumbel noise in bfloat16 picks the lower half of 4096 even codes 99.9 % of the time."""
    codes = Draws(range(64), gumbel=gumbel).categorical(torch.full((64, 16, 4096), 1 / 4096, dtype=dtype))
    assert abs(float((codes < 2048).double().mean()) - 0.5) < 0.06


def test_noise_does_not_follow_the_type_it_is_asked_in():
    shape = (2, 37)
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(Draws([1, 2]).normal(shape, dtype), Draws([1, 2]).normal(shape).to(dtype))
        assert torch.equal(Draws([1, 2]).normal(shape)[1], Draws([2]).normal((1, 37))[0])


def test_seeds_that_share_their_lower_half_draw_differently():
    """A torch generator on a CPU forgets the upper 32 bits of a seed."""
    assert not torch.equal(Draws([7]).uniform((1, 8)), Draws([7 + 2**32]).uniform((1, 8)))


@pytest.mark.parametrize("places", ["everywhere", "in bfloat16"])
def test_a_latent_gets_its_nearest_code(places):
    """Distances of vectors that lie close together cancel in bfloat16: 6 % of 16384 codes were wrong."""
    torch.manual_seed(0)
    quantizer = VectorQuantizer(4096, 8).eval()
    quantizer.embedding.weight.data.add_(0.5)  # codes and latents on one side: near each other
    h = torch.randn(2, 16, 16, 8) + 3
    z = F.normalize(h.double().reshape(-1, 8), dim=-1)
    nearest = (z @ F.normalize(quantizer.embedding.weight.double(), dim=-1).T).argmax(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=places == "in bfloat16"):
        codes = quantizer(h).codes.flatten()
    assert (codes != nearest).sum() <= 1  # a tie in float32


def test_the_distance_of_a_copy_is_nothing():
    x = torch.randn(50, 1280, generator=torch.Generator().manual_seed(0)).abs() + 1
    assert nearest_distance(x, x).abs().max() < 1e-12


class Spy(FeatureNet):
    """A network that says how it was made to compute."""

    name, width = "spy", 4

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def read(self, x):
        self.precision = precision()
        return Features(self.layer(x.mean((2, 3))))


def precision():
    """How float32 products are computed at the moment."""
    if not hasattr(torch.backends, "fp32_precision"):
        return torch.get_float32_matmul_precision()
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision


@pytest.fixture
def low_precision():
    torch.set_float32_matmul_precision("medium")
    yield precision()
    torch.set_float32_matmul_precision("highest")


def test_scores_and_codes_are_computed_in_full_precision_whatever_is_allowed(low_precision):
    net, seen = Spy(), []
    assert net(torch.zeros(1, 8, 8, 3, dtype=torch.uint8)).pooled.dtype == torch.float32
    quantizer = VectorQuantizer(16, 4).eval()
    with full_precision():
        full = precision()
    assert full != low_precision
    assert net.precision == full

    def distances(latents, table):
        seen.append(precision())
        return (latents[:, None] - table).square().sum(-1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("arzoo.tokenizers.quantizers.vq.squared_distances", distances)
        quantizer(torch.randn(1, 2, 2, 4))
    assert seen == [full]
    assert precision() == low_precision


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="torch has one switch only")
def test_full_precision_bears_the_newer_switches():
    """Torch's older switches raise where a program used the newer ones."""
    before = torch.backends.cudnn.conv.fp32_precision, torch.backends.cudnn.rnn.fp32_precision
    try:
        torch.backends.cudnn.conv.fp32_precision, torch.backends.cudnn.rnn.fp32_precision = "tf32", "ieee"
        Spy()(torch.zeros(1, 8, 8, 3, dtype=torch.uint8))
        assert torch.backends.cudnn.conv.fp32_precision == "tf32"
    finally:
        torch.backends.cudnn.conv.fp32_precision, torch.backends.cudnn.rnn.fp32_precision = before


@pytest.mark.parametrize("name", ["vq_emoji64", "kl_emoji64"])
def test_tokenizers_say_the_same_in_the_memory_format_of_training(name):
    """GroupNorm on channels_last cancels where a group's mean is far above its deviation."""
    tokenizer = arzoo.load(name).eval()
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x[:, :, 16:48, 16:48] = 1  # a flat region
    with torch.no_grad():
        plain = tokenizer(as_clips(x))[0]
        x = x.contiguous(memory_format=torch.channels_last)
        last = tokenizer.to(memory_format=torch.channels_last)(as_clips(x))[0]
    assert (plain - last).abs().max() < 1e-4


def test_names_in_brackets_are_printed_as_they_are():
    """Rich takes "[v2]" of a path for a style and prints nothing of it, and fails at "[/v2]"."""
    for path in sources():
        for call in calls(ast.parse(path.read_text(encoding="utf-8"))):
            if ast.unparse(call.func).endswith("console.print") and not isinstance(
                call.args[0], ast.Constant
            ):
                assert "markup" in {k.arg for k in call.keywords}, f"{path}:{call.lineno}"


@pytest.mark.parametrize(("config", "method"), [(DiffusionMLPConfig, "_denoise"), (FlowMLPConfig, "predict")])
def test_noise_is_added_in_float32(config, method, monkeypatch):
    """In bfloat16 the smallest noise of a diffusion rounds to none."""
    torch.manual_seed(0)
    head, seen = config(width=8, channels=4, hidden=16, depth=1).build(), []
    network = getattr(head, method)
    monkeypatch.setattr(head, method, lambda *args: seen.extend(args) or network(*args))
    with torch.autocast("cpu", torch.bfloat16):
        read = Read(torch.arange(50)[None], torch.randn(2, 50, 1, 8))
        head.loss(read, torch.full((2, 50, 4), 0.7), Draws([1, 2]))
    (noisy,) = [x for x in seen if isinstance(x, torch.Tensor) and x.shape[-1] == 4]
    assert noisy.dtype == torch.float32
    assert not (noisy == 0.7).any()


def test_classes_of_folders_are_in_alphabetical_order_and_may_be_called_train(tmp_path):
    """The order of timm's readers is the natural one; datasets takes "train" for a split and drops its siblings."""
    for i, name in enumerate(("2", "10", "train")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4), (i, i, i)).save(tmp_path / name / "a.png")
    data = image_folder(tmp_path, 4)
    assert data.classes == ("10", "2", "train")
    assert data.images[:, 0, 0, 0].tolist() == [1, 0, 2]
    assert data.labels.tolist() == [0, 1, 2]


def test_every_level_survives_the_way_to_a_network_and_back():
    """Torchvision's `to_pil_image` cuts instead of rounding: 63 levels would come back darker."""
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(-1, -1, -1, 3)
    assert torch.equal(to_uint8(to_model(levels)), levels)


@pytest.mark.parametrize("margin", range(1, 9))
def test_folders_are_cropped_at_half_the_margin_rounded_down(tmp_path, margin):
    """Torchvision's `center_crop` rounds 1.5 and 3.5 up."""
    row = np.arange(16 + margin, dtype=np.uint8)
    Image.fromarray(np.repeat(row[None], 16, 0)).save(tmp_path / "a.png")
    assert read_sized(tmp_path / "a.png", 16, 16)[0, 0, 0] == margin // 2


def test_transparent_black_leaves_no_rim(tmp_path):
    """Resized before it is laid on paper, the hidden color of transparent pixels would bleed into edges."""
    y, x = np.mgrid[:64, :64]
    disc = np.zeros((64, 64, 4), np.uint8)
    disc[(y - 32) ** 2 + (x - 32) ** 2 < 400] = 255
    Image.fromarray(disc).save(tmp_path / "a.png")
    assert read_sized(tmp_path / "a.png", 16, 16).min() == 255


def test_the_ssim_of_a_picture_does_not_depend_on_its_neighbours():
    dark = torch.randint(0, 50, (1, 32, 32, 3), dtype=torch.uint8)
    bright = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    rebuilt = dark + 5
    assert torch.equal(ssim(torch.cat([rebuilt, bright]), torch.cat([dark, bright]))[:1], ssim(rebuilt, dark))


def test_the_psnr_of_a_set_is_the_mean_of_its_pictures():
    """Torchmetrics pools the errors, so that one bad picture decides."""
    metric = ReconstructionBank(vocab=0)
    originals = torch.full((2, 16, 16, 3), 100, dtype=torch.uint8)
    rebuilt = originals + torch.tensor([1, 50], dtype=torch.uint8).view(2, 1, 1, 1)
    metric.update(originals, rebuilt, torch.zeros(2, 1), torch.ones(2, 1, dtype=torch.bool), torch.arange(2))
    single = 20 * math.log10(255), 20 * math.log10(255 / 50)
    assert metric.compute()["psnr"].mean().item() == pytest.approx(sum(single) / 2)
