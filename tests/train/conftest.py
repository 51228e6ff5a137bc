"""What tests of training share."""

import pytest
import torch

import arzoo.data
from arzoo.data.base import ImageSet
from arzoo.train.generator import GeneratorObjective


@pytest.fixture
def two_colours(monkeypatch):
    """Forty pictures of two classes: reddish and bluish."""
    labels = torch.arange(40) % 2
    images = torch.randint(0, 60, (40, 16, 16, 3), generator=torch.Generator().manual_seed(0))
    images[labels == 0, :, :, 0] += 180
    images[labels == 1, :, :, 2] += 180
    data = ImageSet("two", images.to(torch.uint8), labels, ("red", "blue"), torch.arange(40) >= 32)
    monkeypatch.setattr(arzoo.data, "load", lambda *_: data)
    monkeypatch.setattr(
        GeneratorObjective, "preview", lambda *_: None
    )  # solvers take their time; drawing is tested below
