"""The public functions, and the shipped models."""

import subprocess
import sys

import pytest
import torch

import arzoo
from arzoo.checkpoint import open_checkpoint
from arzoo.errors import ArzooError, UnknownName
from arzoo.generator import Generator
from arzoo.locate import bundled
from arzoo.prompts import takes_text
from arzoo.tokenizers.base import Tokenizer


def test_importing_does_not_import_torch():
    code = "import sys, arzoo; arzoo.__version__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_models_are_listed_made_and_corrected():
    assert {"nar_b", "vq_16"} <= set(arzoo.list_models())
    assert arzoo.list_models("par*") == [name for name in arzoo.list_models() if name.startswith("par")]
    network = arzoo.create("nar_tiny", vocab=32, classes=3)
    assert network.axes == 2
    with pytest.raises(UnknownName, match="nar_tiny"):
        arzoo.create("nar_tinny")
    with pytest.raises(ArzooError, match="depth"):
        arzoo.create("nar_tiny", dept=3)


@pytest.mark.parametrize("name", bundled())
def test_shipped_models_load_and_say_how_they_were_made(name):
    checkpoint = open_checkpoint(name)
    assert {"command", "data_sha256", "seed", "steps", "hours"} <= checkpoint.index["training"].keys()
    assert checkpoint.metrics
    assert sum(path.stat().st_size for path in checkpoint.folder.rglob("*")) < 12 * 2**20
    loaded = arzoo.load(name)
    if isinstance(loaded, Tokenizer):
        codes = loaded.encode(torch.zeros(1, 3, *loaded.image_size))
        assert loaded.decode(codes).shape == (1, 3, *loaded.image_size)
        return
    assert isinstance(loaded, Generator)
    if takes_text(loaded.backbone):
        pytest.importorskip("transformers")
        request: dict = {"prompts": ["red heart", "dog"]}
    else:
        request = {"labels": [0, 1]}
    one, two = (loaded.generate(**request, seed=5, batch=batch) for batch in (1, 2))
    assert torch.equal(one, two)
    calls = {"next_neighbor": 15, "raster": 64}[loaded.plan_name]
    assert len(loaded.plan()) == calls


def test_there_are_shipped_models():
    assert {"vq_emoji64", "nar_emoji64"} <= set(bundled())
