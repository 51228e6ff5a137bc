"""Long clips in windows, and how their seams are measured."""

from __future__ import annotations

import math

import pytest
import torch

from arzoo.base.errors import ArzooError
from arzoo.core.layout import Grid
from arzoo.metrics.scores.reconstruction import EQUAL
from arzoo.metrics.seams import seam_psnr
from arzoo.tokenizers.common.causal import CausalStyle
from arzoo.tokenizers.common.windows import decode_windows, encode_windows
from arzoo.tokenizers.nbp.network import NBPTokenizerConfig

TINY = NBPTokenizerConfig(
    image_size=8, frames=5, widths=(8, 8), blocks=1, middle=0, strides=((4, 2, 2),), levels=(8, 5),
    style=CausalStyle(norm_per="clip"),
)  # fmt: skip


@pytest.mark.parametrize("frames", [3, 5, 12])
@torch.no_grad()
def test_windows_are_encoded_alone_and_cut_to_length(frames):
    torch.manual_seed(0)
    model, x = TINY.build().eval(), torch.rand(2, 3, frames, 8, 8) * 2 - 1
    windows = encode_windows(model, x)
    assert [tokens.layout for tokens in windows] == [Grid(2, 4, 4)] * math.ceil(frames / 5)
    rebuilt = decode_windows(model, windows, frames)
    assert rebuilt.shape == x.shape
    last = x[:, :, 5 * (len(windows) - 1) :]
    filled = torch.cat([last, *[x[:, :, -1:]] * (5 - last.shape[2])], 2)
    assert torch.equal(model.encode(filled).values, windows[-1].values)
    assert torch.equal(rebuilt[:, :, : min(frames, 5)], model.decode(windows[0])[:, :, :frames])
    for other in (frames + 5, 0):
        with pytest.raises(ArzooError, match=f"got {other}"):
            decode_windows(model, windows, other)


def test_a_jump_at_the_seam_is_seen():
    clips = torch.full((2, 9, 4, 4, 3), 100, dtype=torch.uint8)
    rebuilt = clips.clone()
    rebuilt[:, 3:6] += 5  # the second of three windows is too bright
    seams = seam_psnr(clips, rebuilt, 3)
    of_five = 20 * math.log10(255 / 5)
    assert seams.changes_at == pytest.approx(of_five)
    assert seams.changes_inside == EQUAL
    assert seams.frames_at == pytest.approx((of_five + EQUAL) / 2)
    assert seams.frames_inside == pytest.approx((4 * EQUAL + of_five) / 5)


@pytest.mark.parametrize(("frames", "window"), [(9, 9), (9, 2), (5, 7)])
def test_clips_without_seams_are_refused(frames, window):
    clips = torch.zeros(1, frames, 4, 4, 3, dtype=torch.uint8)
    with pytest.raises(ArzooError, match=f"windows of {window}"):
        seam_psnr(clips, clips, window)
