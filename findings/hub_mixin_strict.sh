#!/usr/bin/env bash
# `PyTorchModelHubMixin.from_pretrained` loads with strict=False: a file of which no tensor fits gives a freshly initialised
# model, without an error or a warning. Constructor arguments that JSON cannot hold come back as their defaults, as silently.
# Guess: missing and left-over weights are errors, as in `load_state_dict`.
# Matters to: models whose layers were renamed since the upload, or were saved compiled or wrapped: they draw noise.
source "$(dirname "$0")/environment.sh" huggingface_hub==2.4.0 safetensors==0.8.0 torch==2.14.1 numpy==2.4.6
python - <<'PY'
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn


class Old(nn.Module, PyTorchModelHubMixin):
    def __init__(self, width: int = 4, activation: type = nn.ReLU):
        super().__init__()
        self.proj, self.activation = nn.Linear(width, width), activation


class New(nn.Module, PyTorchModelHubMixin):
    def __init__(self, width: int = 4):
        super().__init__()
        self.output = nn.Linear(width, width)


saved = Old(width=4, activation=nn.GELU)
saved.save_pretrained("checkpoint")
one, two = New.from_pretrained("checkpoint"), New.from_pretrained("checkpoint")
print("tensors in the file: proj.weight, proj.bias; the model asks for output.weight, output.bias")
print("loaded without an error; two loads give the same weights:", torch.equal(one.output.weight, two.output.weight))
again = Old.from_pretrained("checkpoint")
print("saved with activation", saved.activation.__name__, "- loaded with", again.activation.__name__)
assert torch.equal(again.proj.weight, saved.proj.weight)
assert not torch.equal(one.output.weight, two.output.weight)
assert again.activation is nn.ReLU, "the argument comes back now"
try:
    New.from_pretrained("checkpoint", strict=True)
except Exception as error:
    print("with strict=True:", type(error).__name__)
else:
    raise SystemExit("strict=True accepts it too")
PY
