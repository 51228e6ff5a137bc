"""What all tests share."""

import pytest
import torch
from command import ten_pictures

from arzoo.base import registry

# Torch counts its devices in the first backward pass of a process. Under the fake tensors of a compiler it counts some
# that are not there, and processes that are forked afterwards cannot compute gradients: the first pass is a real one.
torch.ones(1, requires_grad=True).sum().backward()


@pytest.fixture
def tiny_data(monkeypatch):
    """The data set `ten` of ten pictures."""
    monkeypatch.setitem(registry._entries["dataset"], "ten", ten_pictures)
