"""The page of a run: curves by panel, previews over time, settings; without server, network and scripts."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from browser import chromium, complaints, requests, wait_for
from PIL import Image
from rich.console import Console

from arzoo.train.run.page import MOST, RunPage, curves_of, previews

RECIPE = {"task": "tokenizer", "model": {"name": "vq_4_micro"}, "run": {"steps": 40, "trackers": []}}
COMMAND = "arzoo train <script>document.title='changed'</script> --run.steps 40"


def lines_of(steps: int) -> list[dict[str, object]]:
    """A log as a tokenizer writes it: validated every tenth step."""
    lines = []
    for step in range(1, steps + 1):
        line = {
            "step": step,
            "loss": 8 / step,
            "lr": 1e-3 * step,
            "codes_used": 9.0,
            "loss_by_step": [1.0, 2.0],
        }
        if step % 10 == 0:
            line |= {
                "validation_psnr": 10.0 + step,
                "validation_error_at_0.03": 0.1,
                "validation_error_at_0.05": 0.2,
            }
        lines.append(line)
    return lines


def a_run(folder: Path, steps: int = 20) -> Path:
    """A folder as a run of so many steps leaves it."""
    (folder / "previews").mkdir(parents=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines_of(steps)))
    for step in range(10, steps + 1, 10):
        pixels = np.full((32, 64, 3), step, np.uint8)
        Image.fromarray(pixels).save(folder / "previews" / f"reconstructions_{step:07d}.png")
    return folder


def write(folder: Path, step: int, last: bool = True) -> str:
    """Write the page, and return what the console says."""
    said = io.StringIO()
    page = RunPage(folder, {"recipe": RECIPE, "command": COMMAND}, 40, Console(file=said))
    for _ in range(2):
        page.write(step, last)
    return said.getvalue()


def test_curves_by_panel():
    curves = curves_of(
        [
            *lines_of(20),
            {
                "step": 21,
                "loss": 0.1,
                "validation_loss": 0.2,
                "train_loss": 0.3,
                "validation_perplexity": 7.0,
            },
        ]
    )
    assert {panel: [*lines] for panel, lines in curves.items()} == {
        "loss": ["loss", "validation_loss", "train_loss"],
        "validation psnr": ["validation_psnr"],
        "validation error": ["validation_error_at_0.03", "validation_error_at_0.05"],
        "codebook": ["codes_used", "validation_perplexity"],
        "learning rate": ["lr"],
    }
    assert curves["validation psnr"]["validation_psnr"] == ((10, 20), (20.0, 30.0))
    assert len(curves["loss"]["loss"].x) == 21
    assert curves_of([]) == {}


def test_of_many_previews_some_are_shown_and_none_of_lost_steps(tmp_path):
    for step in range(1, 101):
        (tmp_path / f"samples_{step:07d}.png").touch()
    (tmp_path / "notes_by_hand.png").touch()
    assert [step for step, _ in previews(tmp_path, 3)] == [3, 2, 1]
    steps = [step for step, _ in previews(tmp_path, 90)]
    assert (len(steps), steps[0], steps[-1]) == (MOST, 90, 1)
    assert previews(tmp_path, 1) == [(1, ["samples_0000001.png"])]
    assert previews(tmp_path / "none", 1) == []


def test_the_page_opens_without_server_and_network(tmp_path):
    pytest.importorskip("matplotlib")
    folder = a_run(tmp_path / "a run")
    assert write(folder, 20) == ""
    with chromium() as browser:
        requests(browser), complaints(browser)
        browser.get((folder / "index.html").as_uri())
        assert browser.title == "a run: step 20 of 40"
        shown = browser.find_elements("tag name", "img")
        wait_for(lambda: all(image.get_property("naturalWidth") > 0 for image in shown))
        assert [image.get_attribute("alt") for image in shown] == ["Curves", "After step 20", "After step 10"]
        assert complaints(browser) == []
        asked = {address for address in requests(browser) if not address.startswith("data:")}
        names = ["index.html", "curves.png", *(f"previews/reconstructions_{n:07d}.png" for n in (10, 20))]
        assert asked == {(folder / name).as_uri() for name in names}
        text = browser.find_element("tag name", "body").text
        for words in (
            COMMAND,
            "validation_psnr 30",
            "run.steps 40",
            "model.name vq_4_micro",
            "run.trackers []",
        ):
            assert words in text


def test_without_matplotlib_it_is_said_once(tmp_path, monkeypatch):
    monkeypatch.setattr("arzoo.train.run.page.can_plot", lambda: False)
    folder = a_run(tmp_path / "run")
    assert write(folder, 20).count("curves.png is not drawn") == 1
    assert not (folder / "curves.png").exists()
    page = (folder / "index.html").read_text()
    assert "curves.png" not in page
    assert "previews/reconstructions_0000020.png" in page
    assert "<script" not in page


def test_a_matplotlib_that_cannot_be_imported_ends_no_run(tmp_path, monkeypatch):
    broken = tmp_path / "packages" / "matplotlib"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ValueError('numpy.dtype size changed')")
    for module in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.syspath_prepend(broken.parent)
    folder = a_run(tmp_path / "run")
    assert write(folder, 20).count("curves.png is not drawn") == 1
    assert (folder / "index.html").is_file()


def test_curves_are_not_drawn_after_every_preview(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("arzoo.train.run.page.can_plot", lambda: True)
    monkeypatch.setattr("arzoo.train.run.page.plot_curves", lambda *_, **__: drawn.append(1))
    folder = a_run(tmp_path / "run")
    write(folder, 20, last=False)
    assert len(drawn) == 1, "the first time"
    write(folder, 20, last=True)
    assert len(drawn) == 3, "and at the end"
