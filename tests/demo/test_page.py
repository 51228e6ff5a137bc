"""The page of `arzoo demo`: what it answers, what it refuses, and what it does in a browser."""

from __future__ import annotations

import http.client
import io
import json
import shlex
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import chromium, complaints, requests, wait_for
from command import CLASSES, command, tiny_generator, tiny_models
from continuous import patches, tiny_masked
from PIL import Image

gradio = pytest.importorskip("gradio", reason="needs the package gradio")

from arzoo.demo import drawing, look  # noqa: E402
from arzoo.demo.editor import MOST_PIXELS, SIDE, opened, to_complete  # noqa: E402
from arzoo.demo.models import Models  # noqa: E402
from arzoo.demo.page import Page  # noqa: E402
from arzoo.demo.port import HOST  # noqa: E402
from arzoo.demo.server import private_uploads, serving  # noqa: E402
from arzoo.demo.slots import Slots  # noqa: E402
from arzoo.generation.generator import Generator  # noqa: E402

CODES, VECTORS, OTHER = "runs/gen", "runs/masked", "runs/other"
PATIENCE = 120.0
"""Seconds to wait for a page on a busy machine."""
PIXELS = """
    const image = arguments[0], canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    return [canvas.height, canvas.width, [...context.getImageData(0, 0, canvas.width, canvas.height).data]];
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("demo")
    tiny_models(made / "runs")
    tiny_generator(made / OTHER, made / "runs/tok", seed=1)
    tiny_masked(made / VECTORS, patches(made / "runs/patches"))
    return made


@pytest.fixture
def page(folder, monkeypatch) -> Iterator[Page]:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ARZOO_HOME", str(folder / "named"))
    with private_uploads():
        yield Page(Models(CODES, torch.device("cpu")), Slots(at_once=1, waiting=2))


@pytest.fixture
def address(page) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    with serving(page, port) as address:
        yield address


class Gate:
    """Slows drawings down, after the first `free` steps, and counts the steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: int = 0) -> None:
        self.steps, self.free, plain = 0, free, Generator.stream

        def stream(model: Generator, *arguments: Any, **more: Any) -> Iterator[Any]:
            for step in plain(model, *arguments, **more):
                self.steps += 1
                if self.steps > self.free:
                    time.sleep(3)
                yield step

        monkeypatch.setattr(Generator, "stream", stream)


def values_of(page: Page, **changes: Any) -> dict[Any, Any]:
    """What the page sends when somebody has chosen nothing, with the changes by the names of fields."""
    own = {
        page.model: CODES, page.kind: "class", page.classes: CLASSES[0], page.text: "red heart", page.seed: 0,
        page.other: "", page.editor: None, page.last: None,
    }  # fmt: skip
    for knobs in (page.knobs, page.other_knobs):
        own |= dict.fromkeys(knobs.boxes.values())
    return own | {getattr(page, name): value for name, value in changes.items()}


def painted(lower: bool = True) -> tuple[Image.Image, list[Image.Image]]:
    stroke = np.zeros((SIDE, SIDE), np.uint8)
    if lower:
        stroke[SIDE // 2 :] = 255
    return Image.new("RGBA", (SIDE, SIDE), (10, 200, 30, 255)), [Image.fromarray(stroke)]


def test_a_drawing_gives_pictures_and_their_commands(page):
    changes = list(page.draw(values_of(page, other=OTHER, seed=7)))
    commands = [changes[0][box]["value"] for box in (page.command, page.other_command)]
    assert [shlex.split(each)[2] for each in commands] == [CODES, OTHER]
    assert all("--seed 7" in each and f"--class {CLASSES[0]}" in each for each in commands)
    stages = [each[page.stage] for each in changes if page.stage in each]
    assert stages[0].count("<figure") == 2
    assert stages[-1].count('class="done"') == 2
    assert changes[-1][page.last].shape == (16, 16, 3)
    alone = list(page.draw(values_of(page, seed=7)))
    assert alone[0][page.other_command]["visible"] is False
    assert np.array_equal(alone[-1][page.last], changes[-1][page.last])
    assert len(page.slots) == 0


def test_a_model_shows_what_it_has(page):
    changes = page.choose(values_of(page, model=VECTORS))
    seen = {name for name, box in page.knobs.boxes.items() if changes[box].get("visible")}
    assert {"guidance", "temperature", "steps", "solver"} <= seen
    assert "top_k" not in seen
    assert changes[page.classes]["choices"] == list(CLASSES)
    texts = page.choose(values_of(page, model="nar_emoji64_text"))
    assert (texts[page.text]["visible"], texts[page.classes]["visible"]) == (True, False)
    both = page.choose(values_of(page, model="ar_ordered_emoji64", kind="text"))
    assert (both[page.kind]["visible"], both[page.text]["visible"]) == (True, True)
    assert both[page.completing]["visible"] is False, "ordered tokens have no place in the picture"
    names = [name for _, name in both[page.other]["choices"]]
    assert "nar_emoji64_text" in names
    assert CODES not in names, "it reads no text"
    others = [name for _, name in changes[page.other]["choices"]]
    assert OTHER in others
    assert "nar_emoji64" not in others, "it lacks the class"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "/etc/passwd"}, "unknown model &#x27;/etc/passwd&#x27;"),
        ({"seed": None}, "the seed None must be"),
        ({"classes": None}, "choose a class"),
        ({"classes": "<b>"}, "unknown class &#x27;&lt;b&gt;&#x27;"),
        ({"other": "vq_emoji64"}, "unknown model"),
        ({"editor": painted(lower=False)}, "paint over"),
    ],
)
def test_wrong_input_is_said_on_the_page(page, changes, words):
    (change,) = page.draw(values_of(page, **changes))
    assert words in change[page.message]
    assert 'role="alert"' in change[page.message]
    assert len(page.slots) == 0


def test_wrong_knobs_are_said_on_the_page(page):
    values = values_of(page) | {page.knobs.boxes["temperature"]: 0}
    (change,) = page.draw(values)
    assert "Temperature 0 must be above 0 and at most 100" in change[page.message]


def test_a_half_picture_is_completed(page, capsys, tmp_path, monkeypatch):
    changes = list(page.draw(values_of(page, model=VECTORS, editor=painted(), seed=3)))
    pixels = changes[-1][page.last]
    assert (np.abs(pixels[:8].astype(int) - [10, 200, 30]) <= 2).all(), "the upper half stays"
    assert (np.abs(pixels[8:].astype(int) - [10, 200, 30]) > 9).any()
    assert "init.png" in changes[0][page.files]
    init, mask = to_complete(painted(), 16, 16)
    init.save("init.png")
    mask.save("mask.png")
    words = shlex.split(changes[0][page.command]["value"])
    result = command(capsys, *words[1:], "--overwrite", "--json")
    with Image.open(result.json["files"][0]) as drawn:
        assert np.array_equal(np.asarray(drawn.convert("RGB")), pixels)
    used = page.use_drawn(values_of(page, last=pixels))[page.editor]
    assert used.size == (SIDE, SIDE)
    again, _ = to_complete((used.convert("RGBA"), painted()[1]), 16, 16)
    assert np.array_equal(np.asarray(again), pixels), "enlarging loses nothing"
    assert "Draw a picture first" in page.use_drawn(values_of(page))[page.message]


def test_the_border_of_a_canvas_is_no_part_of_the_picture():
    canvas, strokes = painted()
    wide = Image.new("RGBA", (SIDE, SIDE))
    wide.paste(canvas.resize((SIDE, SIDE // 2)), (0, SIDE // 4))
    init, mask = to_complete((wide, strokes), 16, 16)
    assert (np.asarray(init) == [10, 200, 30]).all()
    assert np.array_equal(np.asarray(mask)[:, 0] > 0, np.arange(16) >= 8)


def test_uploads_are_bounded_before_they_are_decoded():
    small, large = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(small, "PNG")
    Image.new("L", (MOST_PIXELS // 1024 + 1, 1024)).save(large, "PNG")
    assert opened(small.getvalue()).size == (4, 3)
    for content, words in [
        (large.getvalue(), "more than 4,194,304"),
        (b"no picture", "not a whole picture"),
        (small.getvalue()[:40], "not a whole picture"),
    ]:
        with pytest.raises(gradio.Error, match=words):
            opened(content)


def test_the_editor_writes_no_files_beside_the_code():
    import arzoo.demo

    assert not list(Path(arzoo.demo.__path__[0]).glob("*.pyi"))


def test_the_second_visitor_waits_with_a_word(page):
    first, second = page.draw(values_of(page)), page.draw(values_of(page, seed=1))
    next(first)
    assert "one drawing is before yours" in next(second)[page.message]
    assert "one drawing is before yours" in next(second)[page.message]
    first.close()
    assert next(second)[page.message] == ""
    second.close()
    assert len(page.slots) == 0


def test_a_drawing_that_is_closed_draws_nothing_more(page, monkeypatch):
    gate = Gate(monkeypatch, free=99)
    steps = page.draw(values_of(page))
    while gate.steps < 3:
        next(steps)
    steps.close()
    assert (gate.steps, len(page.slots)) == (3, 0)


def ask(address: str, method: str, path: str, document: Any = None) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    body = None if document is None else json.dumps(document)
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    answer = connection.getresponse()
    return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}


def test_the_server_is_for_this_machine_and_opens_no_paths(page, address, tmp_path, monkeypatch):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    status, _, headers = ask(address, "GET", "/")
    assert status == 200
    assert "default-src 'self'" in headers["content-security-policy"]
    port = int(address.rsplit(":", 1)[1])
    with pytest.raises(OSError), socket.create_connection(("127.0.0.2", port), timeout=5):
        pass
    assert ask(address, "GET", f"/gradio_api/file={secret}")[0] in (403, 404)
    config = page.blocks.config
    use = next(each for each in config["dependencies"] if page.editor._id in each["inputs"])
    asked, plain = list[str](), socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *more, **others: asked.append(str(host)) or plain(host, *more, **others),
    )
    for path, words in [
        (str(secret), "not uploaded"),
        ("http://arzoo.invalid/a.png", "addresses are not opened"),
    ]:
        values = [None] * len(use["inputs"])
        values[use["inputs"].index(page.editor._id)] = {
            "background": {"path": path, "meta": {"_type": "gradio.FileData"}}, "layers": [], "composite": None,
        }  # fmt: skip
        document = {"data": values, "fn_index": use["id"], "session_hash": "abc"}
        status, answer, _ = ask(address, "POST", "/gradio_api/run/predict", document)
        assert (status, words in answer.decode()) == (500, True), answer
    assert not any("invalid" in host for host in asked)


def chosen(browser: Any, selector: str) -> list[Any]:
    return browser.find_elements("css selector", selector)


def wait(what: Any) -> Any:
    return wait_for(what, PATIENCE)


@contextmanager
def visitor(address: str, *, width: int = 1200) -> Iterator[Any]:
    """A browser with the page, whose first model has shown what it has."""
    with chromium() as browser:
        browser.set_window_size(width, 1000)
        browser.get(address)
        wait(lambda: [each for each in chosen(browser, "#class input") if each.get_attribute("value")])
        yield browser


def draw(browser: Any, seed: int) -> None:
    box = chosen(browser, "#seed input")[0]
    box.clear()
    box.send_keys(str(seed))
    chosen(browser, "#draw")[0].click()


def finished(browser: Any, seed: int) -> np.ndarray:
    """Wait for a picture, and return its pixels."""
    text = f"seed {seed}"
    wait(lambda: [each for each in chosen(browser, "figure.done") if text in each.text])
    height, width, values = browser.execute_script(PIXELS, chosen(browser, "figure.done img")[0])
    return np.array(values).reshape(height, width, 4)[..., :3]


def expected(page: Page, seed: int) -> np.ndarray:
    (*_, change) = page.draw(values_of(page, seed=seed, classes=CLASSES[0]))
    return change[page.last]


def test_a_visitor_loads_draws_and_copies_the_command(page, address, capsys):
    with visitor(address) as browser:
        asked = [each for each in requests(browser) if not each.startswith(("data:", "blob:"))]
        assert all(each.startswith(f"{address}/") for each in asked), "nothing is fetched from elsewhere"
        draw(browser, 5)
        pixels = finished(browser, 5)
        assert np.array_equal(pixels, expected(page, 5))
        style = "return getComputedStyle(arguments[0]).imageRendering"
        assert browser.execute_script(style, chosen(browser, "figure.done img")[0]) == "pixelated"
        line = chosen(browser, "#command textarea")[0].get_attribute("value")
        assert chosen(browser, "#command button"), "a button copies it"
        assert not chosen(browser, "#other-command textarea")
        assert [each for each in complaints(browser) if "WebGL" not in each] == []
        asked = [each for each in requests(browser) if not each.startswith(("data:", "blob:"))]
        assert all(each.startswith(f"{address}/") for each in asked)
    result = command(capsys, *shlex.split(line)[1:], "--overwrite", "--json")
    with Image.open(result.json["files"][0]) as drawn:
        assert np.array_equal(np.asarray(drawn.convert("RGB")), pixels)


def test_a_visitor_stops_and_mistypes(page, address, monkeypatch):
    gate = Gate(monkeypatch, free=1)
    with visitor(address) as browser:
        draw(browser, 1)
        wait(lambda: gate.steps >= 2)
        chosen(browser, "#stop")[0].click()
        wait(lambda: len(page.slots) == 0)
        steps = gate.steps
        assert steps < 7, "it was stopped on the way"
        wait(lambda: "Stopped" in chosen(browser, "#message")[0].text)
        time.sleep(1)
        assert gate.steps == steps
        gate.free = 99
        draw(browser, -3)
        wait(
            lambda: (
                "the seed -3 must be" in chosen(browser, "#message [role=alert]")[0].text
                if chosen(browser, "#message [role=alert]")
                else False
            )
        )
        draw(browser, 2)
        assert np.array_equal(finished(browser, 2), expected(page, 2))


def test_two_visitors_see_each_his_own_picture(page, address, monkeypatch):
    gate = Gate(monkeypatch)
    with ExitStack() as stack:
        first, second = (stack.enter_context(visitor(address)) for _ in range(2))
        draw(first, 11)
        wait(lambda: gate.steps >= 1)
        draw(second, 12)
        wait(lambda: "one drawing is before yours" in second.find_element("id", "message").text)
        gate.free = 99
        pictures = [finished(first, 11), finished(second, 12)]
    assert np.array_equal(pictures[0], expected(page, 11))
    assert np.array_equal(pictures[1], expected(page, 12))
    assert not np.array_equal(*pictures)


def test_a_lost_connection_stops_the_drawing_and_frees_its_slot(page, address, monkeypatch):
    gate = Gate(monkeypatch)
    with visitor(address) as browser:
        draw(browser, 1)
        wait(lambda: gate.steps >= 1)
        assert len(page.slots) == 1
        browser.get("about:blank")
        wait(lambda: len(page.slots) == 0)
        steps = gate.steps
        assert steps < 7
        time.sleep(1)
        assert gate.steps == steps


def test_the_brush_and_a_narrow_window(page, address):
    from selenium.webdriver.common.action_chains import ActionChains

    with visitor(address, width=500) as browser:
        wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.execute_script(wide) <= 0, "nothing is cut off on a phone"
        draw(browser, 1)
        before = finished(browser, 1)
        chosen(browser, "#complete button")[0].click()
        wait(lambda: [each for each in chosen(browser, "#use") if each.is_displayed()])
        chosen(browser, "#use")[0].click()
        wait(lambda: chosen(browser, "#editor [aria-label=Brush]"))
        time.sleep(3)  # the picture is laid on the canvas
        brush, canvas = chosen(browser, "#editor [aria-label=Brush]")[0], chosen(browser, "#editor canvas")[0]
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
        brush.click()
        hand = ActionChains(browser).move_to_element_with_offset(canvas, -90, 100).click_and_hold()
        for x in range(-90, 100, 30):
            hand = hand.move_to_element_with_offset(canvas, x, 100)
        hand.release().perform()
        time.sleep(2)
        browser.execute_script("scrollTo(0, 0)")
        draw(browser, 2)
        after = finished(browser, 2)
        assert "--init init.png --mask mask.png" in chosen(browser, "#command textarea")[0].get_attribute(
            "value"
        )
    assert not np.array_equal(before, after)


def test_text_is_text():
    words = "<img src=x> ${1 + 1} {{value}} `a` \\n"
    html = look.message(words, "alert")
    assert "<img" not in html
    assert "${" not in html
    assert "{{" not in html
    request = drawing.Request("a<b", "text", words, 1)
    assert "<img src=x" not in look.stage([request], [None])
