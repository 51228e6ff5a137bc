"""Draw four faces with the shipped next-neighbor model, and watch the canvas fill while one more is drawn."""

import torch

from arzoo.cond import Cond
from arzoo.data.base import label_of
from arzoo.generator import Generator
from arzoo.viz.grid import contact_sheet

model = Generator.load("nar_emoji64")
label = label_of("face-smiling/openmoji", model.classes)
images = model.generate([label] * 4, seed=0)
contact_sheet(images, zoom=2).save("faces.png")

for step in model.stream(Cond(1, label=torch.tensor([label])), seeds=[1]):
    print(f"step {step.k:2d}: {step.group.shape[1]} tokens, {int(step.run.tokens.known.sum())} of 64 known")
