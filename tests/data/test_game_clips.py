"""Clips of games: recorded once, split by episode, mapped into memory."""

import json
import multiprocessing
import os
import sys

import numpy as np
import pytest
import torch
from command import ten_pictures

import arzoo.data
from arzoo.base import registry
from arzoo.base.errors import ArzooError, MissingPackage
from arzoo.base.files import SEAL, seal
from arzoo.data import episodes
from arzoo.data.clip_store import CLIPS, INDEX, read_clips, write_clips
from arzoo.data.episodes import Recording, recorded

pytest.importorskip("ale_py")
pytestmark = pytest.mark.filterwarnings("ignore:combat could not be recorded", "ignore:atari_clips differs")


def recording(*games: str) -> Recording:
    return Recording("games", "arzoo.data.atari", games, "ale-py", 1, episodes=3)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache with a game that moves, one that barely does, and one that ends its process."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARZOO_CACHE", str(folder))
        with pytest.warns(UserWarning, match="combat could not be recorded"):
            recorded(recording("pong", "video_chess", "combat", "freeway"), 32, 17)
    return folder


@pytest.fixture
def games(cache, monkeypatch):
    monkeypatch.setenv("ARZOO_CACHE", str(cache))
    return recorded(recording(), 32, 17)[0]


def test_classes_are_the_games_that_run_and_move(games):
    assert games.classes == ("pong", "freeway")
    assert games.images.shape == (18, 17, 32, 32, 3)
    assert games.frames == 17
    assert torch.bincount(games.labels).tolist() == [9, 9]
    assert not games.mirrorable.any()
    assert len(games.report) == 2
    assert "combat could not be recorded: its process ended with status" in games.report[0]
    assert "video_chess is left out: a step changes 0.0" in games.report[1]
    moves = (games.images[:, 1:] != games.images[:, :-1]).any(-1).float().mean((1, 2, 3))
    assert (moves > 0).all()


def test_the_last_episodes_are_held_out(games):
    train, validation = games.split("train"), games.split("validation")
    assert (len(train), len(validation)) == (12, 6)
    assert train.labels.tolist() == [0] * 6 + [1] * 6
    assert validation.images.data_ptr() - games.images.data_ptr() == 12 * games.images[0].numel(), (
        "not a copy"
    )


def test_a_recording_is_the_same_every_time(games, tmp_path, monkeypatch):
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path))
    again, index = recorded(recording("pong"), 32, 17)
    assert torch.equal(again.images, games.images[games.labels == 0])
    assert index["version"]
    assert sorted(path.name for path in (tmp_path / "data" / "games-17x32-1").iterdir()) == [
        CLIPS,
        "index.json",
    ]
    damaged = tmp_path / "data" / "games-17x32-1" / CLIPS
    damaged.unlink()  # what is open stays readable: it is mapped from the file
    damaged.write_bytes(b"short")
    assert torch.equal(recorded(recording("pong"), 32, 17)[0].images, again.images)


def test_shorter_clips_are_beginnings_and_one_frame_is_a_picture(games):
    five, pictures = (recorded(recording(), 32, frames)[0] for frames in (5, 1))
    assert torch.equal(five.images, games.images[:, :5])
    assert torch.equal(pictures.images, games.images[:, 0])
    assert (five.frames, pictures.frames) == (5, 1)
    assert five.split("validation").sha256 != games.split("validation").sha256
    for size, frames in ((0, 17), (32, 0), (32, True)):
        with pytest.raises(ArzooError, match="must be a whole number of at least 1"):
            recorded(recording("pong"), size, frames)


def test_no_game_at_all_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path))
    with pytest.raises(ArzooError, match="no game of games could be recorded: its process ended"):
        recorded(recording("combat"), 16, 17)
    assert not any(path.name.startswith("clips") for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(("game", "message"), [("full", "no room to write clips"), ("killed", "tries again")])
def test_what_is_not_the_fault_of_a_game_is_not_kept(tmp_path, monkeypatch, game, message):
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path))
    with pytest.raises(ArzooError, match=message):
        recorded(Recording("games", "failing_player", (game,), "ale-py", 1), 16, 17)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_scenarios_are_recorded(tmp_path, monkeypatch):
    pytest.importorskip("vizdoom")
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    scenarios = Recording("scenarios", "arzoo.data.doom", ("basic", "my_way_home"), "vizdoom", 1, episodes=2)
    data = recorded(scenarios, 32, 17)[0]
    assert data.images.shape == (12, 17, 32, 32, 3)
    assert data.classes == ("basic", "my_way_home")
    assert data.held_out.tolist() == [False] * 6 + [True] * 6
    assert data.images.float().std((1, 2, 3, 4)).min() > 10, "no clip is empty"
    assert [path.name for path in tmp_path.iterdir()] == ["cache"], (
        "nothing is written into the working folder"
    )
    one = Recording("again", "arzoo.data.doom", ("basic",), "vizdoom", 1, episodes=2)
    assert torch.equal(recorded(one, 32, 17)[0].images, data.images[data.labels == 0])


def test_load_passes_size_and_frames_on(monkeypatch):
    registry.names("dataset")

    def clips(size: int = 8, frames: int = 3):
        data = ten_pictures(size)
        return type(data)("clips", data.images[:, None].repeat(1, frames, 1, 1, 1), data.labels, data.classes,
                          data.held_out)  # fmt: skip

    monkeypatch.setitem(registry._entries["dataset"], "clips", clips)
    monkeypatch.setitem(registry._entries["dataset"], "ten", ten_pictures)
    assert arzoo.data.load("clips").images.shape == (10, 3, 8, 8, 3)
    assert arzoo.data.load("clips", 4, frames=9).images.shape == (10, 9, 4, 4, 3)
    assert arzoo.data.load("ten", 16, frames=1).frames == 1
    with pytest.raises(ArzooError, match="ten has pictures, clips of 9 frames are needed"):
        arzoo.data.load("ten", frames=9)


@pytest.mark.parametrize(
    ("name", "fps"), [("atari_clips", 15), ("atari12_clips", 15), ("vizdoom_clips", 8.75)]
)
def test_recordings_say_their_frames_per_second(name, fps, monkeypatch):
    game = name.removesuffix("_clips").removesuffix("12")
    pytest.importorskip(game.replace("atari", "ale_py"))
    module = f"arzoo.data.sets.{game}"
    monkeypatch.setattr(f"{module}.recorded", lambda *_: (ten_pictures(8), {"shape": [10, 1, 8, 8, 3]}))
    assert arzoo.data.load(name).fps == fps


@pytest.mark.parametrize(
    ("name", "package"),
    [("atari_clips", "ale_py.roms"), ("atari12_clips", "ale_py.roms"), ("vizdoom_clips", "vizdoom")],
)
def test_a_missing_package_says_what_to_install(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage, match=r"pip install 'arzoo\[video\]'"):
        arzoo.data.load(name)


def test_clips_larger_than_the_memory_are_read(tmp_path):
    write_clips(tmp_path, (2, 4, 4, 3), [np.full((3, 2, 4, 4, 3), 7, np.uint8)], note="seven")
    clips, index = read_clips(tmp_path)
    assert (clips == 7).all()
    assert index["note"] == "seven"
    (tmp_path / "index.json").write_text((tmp_path / "index.json").read_text().replace("seven", "eight"))
    assert read_clips(tmp_path) is None
    index = {"shape": [1 << 30, 1, 16, 22, 3]}  # of a file that is one hole
    with (tmp_path / CLIPS).open("wb") as file:
        file.truncate((1 << 30) * 16 * 22 * 3)
    (tmp_path / INDEX).write_text(json.dumps(index | {SEAL: seal(index)}))
    clips, _ = read_clips(tmp_path)
    assert not clips[-1].any()
    assert not clips[len(clips) // 2].any()


def _record_slowly(recording, folder, size, frames):
    with (folder.parent / "calls").open("a") as file:
        file.write(f"{os.getpid()}\n")
    shape = (frames, size, size, 3)
    facts = {"labels": [0], "classes": ["one"], "held_out": [False], "remarks": [], "dull": []}
    write_clips(folder, shape, [np.zeros((1, *shape), np.uint8)], **facts)


def test_two_processes_record_once(tmp_path, monkeypatch):
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(episodes, "_record", _record_slowly)
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=recorded, args=(recording("pong"), 8, 17)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len((tmp_path / "data" / "calls").read_text().splitlines()) == 1
