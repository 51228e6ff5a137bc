"""Draw four faces with the shipped next-neighbor model, and print the progress of a fifth."""

import arzoo
from arzoo.viz.grid import contact_sheet

model = arzoo.load("nar_emoji64")
images = model.generate(classes=["face-smiling/openmoji"] * 4, seed=0)
contact_sheet(images.images, zoom=2).save("faces.png")

for step in model.stream(classes=["face-smiling/openmoji"], seed=1):
    known = int(step.run.tokens.known.sum())
    print(f"step {step.k:2d}: {step.group.shape[1]} tokens, {known} of 64 known")
contact_sheet(step.preview().images, zoom=2).save("face.png")
