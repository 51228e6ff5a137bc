"""The page that plays clips, in a browser."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from browser import chromium, complaints, requests, wait_for
from command import CLASSES, command
from painting import clip_painter

from arzoo.viz.clips import FORMATS, clip_files, write_clip
from arzoo.viz.page import Figure, page

COLOURS = [(200, 30, 40), (20, 160, 60), (40, 60, 220), (230, 200, 20)]
SHOWN = "return [...document.querySelectorAll('video, img')]"
PIXELS = """
    const shown = arguments[0], canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [shown.videoWidth || shown.naturalWidth, shown.videoHeight || shown.naturalHeight];
    const context = canvas.getContext('2d');
    context.drawImage(shown, 0, 0);
    return [canvas.height, canvas.width, [...context.getImageData(0, 0, canvas.width, canvas.height).data]];
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


class Counted(SimpleHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def log_message(self, *arguments):
        self.asked.append(self.path)


@pytest.fixture
def address(tmp_path) -> Iterator[str]:
    """Address of a server of the folder, of the same origin as its files, so that a script may look at them."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Counted, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def colours(frames: int = 4, height: int = 17, width: int = 31) -> np.ndarray:
    """A clip of an odd size whose halves change their colours from frame to frame."""
    clip = np.zeros((frames, height, width, 3), np.uint8)
    for t in range(frames):
        clip[t, :, : width // 2], clip[t, :, width // 2 :] = COLOURS[t % 4], COLOURS[(t + 1) % 4]
    return clip


def pixels(browser: Any, shown: Any) -> np.ndarray:
    height, width, values = browser.execute_script(PIXELS, shown)
    return np.array(values).reshape(height, width, 4)[..., :3]


def watch(browser: Any, folder: Path, count: int) -> None:
    """Look at results: every clip plays, frames differ, and the page asks for nothing but its files."""
    requests(browser), complaints(browser)
    browser.get((folder / "index.html").as_uri())
    clips = browser.execute_script(SHOWN)
    assert len(clips) == count
    for clip in clips:
        browser.execute_script("arguments[0].scrollIntoView()", clip)  # a clip out of sight does not play
        if clip.tag_name == "video":
            wait_for(
                lambda clip=clip: clip.get_property("currentTime") > 0 and not clip.get_property("paused")
            )
        first = clip.screenshot_as_png
        wait_for(lambda clip=clip, first=first: clip.screenshot_as_png != first)
    files = {path.as_uri() for path in folder.iterdir()}
    asked = {address for address in requests(browser) if not address.startswith("data:")}
    assert asked <= files
    assert len(asked) == 1 + count, "the page and its clips"
    assert complaints(browser) == []


@pytest.mark.parametrize("name", ["mp4", "webp", "gif"])
def test_results_play_without_server_and_network(browser, capsys, tmp_path, name):
    if name.startswith("mp4"):
        pytest.importorskip("av")
    folder, model = tmp_path / "a folder", clip_painter(tmp_path)
    result = command(capsys, "generate", model, "--num", 2, "--format", name, "--out", folder)
    assert result.status == 0, result.err
    watch(browser, folder, 2)
    assert [text in browser.find_element("tag name", "body").text for text in CLASSES] == [True, True, False]


def test_clips_of_a_shipped_model_move(browser, capsys, tmp_path):
    pytest.importorskip("av")
    result = command(
        capsys, "generate", "nar_atari", "--class", "freeway", "riverraid", "--num", 4, "--out", tmp_path
    )
    assert result.status == 0, result.err
    watch(browser, tmp_path, 4)
    first = tmp_path / "0000_freeway_seed0.mp4"
    given = ("--class", "freeway", "--init", first, "--keep", 5)
    result = command(capsys, "generate", "nar_atari", *given, "--num", 1, "--out", tmp_path / "next")
    assert result.status == 0, result.err
    watch(browser, tmp_path / "next", 1)


@pytest.mark.parametrize("name", ["mp4", "mp4-444", "frames"])
def test_frames_follow_each_other_in_their_colours(browser, tmp_path, address, name):
    if name.startswith("mp4"):
        pytest.importorskip("av")
    clip, files = colours(), clip_files("a b#ü", name, 4)
    write_clip(tmp_path / (files[0] if FORMATS[name].suffix else "a b#ü"), clip, 4, format=name)
    (tmp_path / "index.html").write_text(page("Clip", [Figure(files, "colours")]), encoding="utf-8")
    browser.get(f"{address}/index.html")
    shown = browser.execute_script(SHOWN)
    ready = ("readyState", 4) if name.startswith("mp4") else ("complete", True)
    wait_for(lambda: all(each.get_property(ready[0]) == ready[1] for each in shown))
    seen = set()

    def all_are_seen() -> bool:
        for each in shown:
            picture = pixels(browser, each)
            height, width, _ = picture.shape
            pair = picture[height // 2, [width // 4, -width // 4]]
            errors = np.abs(clip[:, 8, [7, -7]].astype(int) - pair).max((1, 2))
            assert errors.min() < 10, pair
            seen.add(int(errors.argmin()))
        return len(seen) == 4

    wait_for(all_are_seen)


def test_text_is_text_and_nothing_comes_from_outside(browser, tmp_path, address):
    (tmp_path / "outside.png").write_bytes(b"")
    text = f"<img src='{address}/outside.png'>\"&amp;<script>document.title = 'changed'</script>"
    write_clip(tmp_path / "a.webp", colours())
    html = page(text, [Figure(["a.webp"], text, text)])
    (tmp_path / "index.html").write_text(html, encoding="utf-8")
    foreign = f"<img src='{address}/outside.png'><script>document.title = 'changed'</script>"
    (tmp_path / "changed.html").write_text(html.replace("</html>", f"{foreign}</html>"), encoding="utf-8")
    complaints(browser)
    browser.get((tmp_path / "index.html").as_uri())
    assert browser.title == text
    assert browser.find_element("tag name", "figcaption").text == f"{text} {text}"
    assert complaints(browser) == []
    browser.get((tmp_path / "changed.html").as_uri())
    assert browser.title == text
    assert (
        len([complaint for complaint in complaints(browser) if "Content Security Policy" in complaint]) == 2
    )
    assert "/outside.png" not in Counted.asked, "an attempt is logged by the browser, but does not leave it"


def test_keys_reach_every_clip_and_colours_follow_the_system(browser, tmp_path):
    figures = []
    for name in ("webp", "frames", "mp4"):
        if name == "mp4":
            pytest.importorskip("av")
        files = clip_files(name, name, 4)
        write_clip(tmp_path / (files[0] if FORMATS[name].suffix else name), colours(), format=name)
        figures.append(Figure(files, name))
    (tmp_path / "index.html").write_text(page("Clips", figures), encoding="utf-8")
    browser.get((tmp_path / "index.html").as_uri())
    reached = set()
    for _ in range(20):
        browser.switch_to.active_element.send_keys("\ue004")  # the tabulator
        focused = browser.switch_to.active_element
        reached.add(focused.get_attribute("aria-label") or focused.get_attribute("href").rsplit("/", 1)[-1])
        if {"webp.webp", "frames", "mp4"} <= reached:
            break
    assert {"webp.webp", "frames", "mp4"} <= reached
    schemes = []
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        schemes.append(browser.execute_script("return getComputedStyle(document.documentElement).color"))
    assert schemes[0] != schemes[1]


def test_a_page_without_a_browser():
    """What the other tests cannot say where no browser is installed."""
    html = page(
        "a < b",
        [Figure(["x y.mp4"], "one"), Figure(["b.webp"], "two", "more"), Figure(["c/0.png", "c/1.png"], "3")],
    )
    assert "<title>a &lt; b</title>" in html
    assert '<video src="x%20y.mp4" aria-label="one" autoplay loop muted playsinline controls></video>' in html
    assert '<img src="b.webp" alt="two">' in html
    assert '<img src="c/0.png" alt="frame 0"><img src="c/1.png" alt="frame 1">' in html
    assert "default-src 'none'" in html
    assert "<script" not in html
    assert "http:" not in html
    assert "https:" not in html
