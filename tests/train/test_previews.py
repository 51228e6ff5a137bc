"""Sheets of samples in training: of a pyramid, some of them after each level too."""

import numpy as np
import pytest
from continuous_recipes import MODELS, recipe
from next_scale import generator_recipe, multi_scale_tokenizer
from PIL import Image

from arzoo.train.generator import GeneratorObjective
from arzoo.viz.grid import contact_sheet

PREVIEW = GeneratorObjective.preview
"""The real one, which the fixture `two_colours` replaces."""
KINDS = {"var": 3, "himar": 2, "flowar": 3, "mar": 0}
"""Generators and the number of their levels, 0 for a plain grid."""


def objective_of(name: str, tmp_path) -> GeneratorObjective:
    if name == "var":
        return generator_recipe(multi_scale_tokenizer(tmp_path / "tokenizer")).build()
    return recipe(tmp_path, **MODELS[name]).build()


@pytest.mark.parametrize("name", KINDS)
def test_pyramids_are_shown_after_each_level(two_colours, tmp_path, name):
    objective, levels = objective_of(name, tmp_path), KINDS[name]
    model = objective.model
    PREVIEW(objective, objective.parts["model"].eval(), tmp_path, 7)
    assert (tmp_path / "samples_0000007.png").exists()
    file = tmp_path / "levels_0000007.png"
    assert file.exists() == bool(levels)
    if not levels:
        return
    level_of = model.plan().layout.level()
    ends = {int(model.plan().rank[..., level_of == level].max()) for level in range(levels)}
    rows = [*range(0, 32, 4)]  # conditions are spread over all 8 validation pictures, 4 samples each
    labels = [int(objective.validation.labels[row * 7 // 31]) for row in rows]
    steps = [step.preview().stills for step in model.stream(classes=labels, seeds=rows) if step.k in ends]
    shown = np.stack([step.numpy() for step in steps], 1).reshape(-1, 16, 16, 3)
    expected = np.asarray(contact_sheet(shown, columns=levels)).astype(int)
    assert np.abs(np.asarray(Image.open(file)) - expected).max() <= 1
