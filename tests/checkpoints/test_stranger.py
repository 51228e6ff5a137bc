"""Names inside a checkpoint: a stranger's folder is never followed to paths or to the network."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import command, failing, tiny_generator, tiny_tokenizer
from words import add_words

from arzoo.base.errors import ArzooError
from arzoo.base.files import SEAL, seal
from arzoo.checkpoints import store
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.checkpoints.lookup import tokenizer_of
from arzoo.generation.generator import Generator
from arzoo.generation.prompts import PromptReader


@pytest.fixture
def stranger(tmp_path, monkeypatch) -> Iterator[Path]:
    """A generator's folder, its tokenizer in a place that is not known here; a network that refuses."""
    monkeypatch.setenv("ARZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no_hub"))
    asked: list[object] = []

    def refuse(*arguments: object, **options: object) -> None:
        asked.append(arguments)
        raise OSError("there is no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    for name in ("work", "received"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    tiny_generator(tmp_path / "received" / "gen", tiny_tokenizer(tmp_path / "far" / "tok"))
    yield tmp_path / "received" / "gen"
    assert not asked, "something was asked of the network"


def rename(folder: Path, part: str, **facts: str) -> None:
    """Change what an index says of its tokenizer or text encoder, under a new seal."""
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    index[part] |= facts
    path.write_text(json.dumps(index | {SEAL: seal(index)}))


def names(stranger: Path) -> list[str]:
    """What leads to the tokenizer, or to the network, if it is followed."""
    far = stranger.parents[1] / "far" / "tok"
    return [str(far), "../../far/tok", "hf-hub:org/tok", "hf-hub:org/tok@main", "~/tok", "org/tok"]


def test_a_tokenizer_is_not_looked_for_where_a_checkpoint_says(stranger):
    for name in names(stranger):
        rename(stranger, "tokenizer", name=name)
        for follow in (Generator.load, store.verify):
            with pytest.raises(
                ArzooError, match=r"the tokenizer .* is not here.* not followed\. Say where it is"
            ):
                follow(stranger)


def test_what_the_user_names_is_taken(stranger):
    far = stranger.parents[1] / "far" / "tok"
    rename(stranger, "tokenizer", name="hf-hub:org/tok")
    expected = Generator.load(stranger, tokenizer=far)
    assert expected.tokenizer_hash == open_checkpoint(far).parts["tokenizer"]["weights"]
    with pytest.raises(ArzooError, match="you passed"):
        Generator.load(stranger, tokenizer=tiny_tokenizer(stranger.parent / "other", seed=5))


def test_its_own_folder_and_what_is_known_here_are_looked_through(stranger):
    far = stranger.parents[1] / "far" / "tok"
    for name in ("hf-hub:org/tok", "tok"):
        rename(stranger, "tokenizer", name=name)
        shutil.copytree(far, stranger / "tokenizer")
        assert tokenizer_of(open_checkpoint(stranger)).folder == stranger / "tokenizer"
        shutil.rmtree(stranger / "tokenizer")
        named = store.tag(str(far), "mine")
        assert tokenizer_of(open_checkpoint(stranger)).folder == named, "by the hash of its weights"
        shutil.rmtree(named)
    named = store.tag(str(far), "tok")
    rename(stranger, "tokenizer", name="tok", sha256="")
    assert tokenizer_of(open_checkpoint(stranger)).folder == named, "by its name"


def test_a_folder_in_the_working_directory_is_not_what_a_checkpoint_names(stranger):
    shutil.copytree(stranger.parents[1] / "far" / "tok", "tok")
    with pytest.raises(ArzooError, match=r"the tokenizer .tok. of .* is not here: neither in its folder nor"):
        Generator.load(stranger)
    assert Generator.load(stranger, tokenizer="./tok").tokenizer_hash


def test_the_command_says_what_to_do(stranger, capsys):
    rename(stranger, "tokenizer", name="hf-hub:org/tok")
    failing(
        command(capsys, "generate", stranger, "--num", 1), "'hf-hub:org/tok'", "not followed", "--tokenizer"
    )
    far = stranger.parents[1] / "far" / "tok"
    drawn = command(capsys, "generate", stranger, "--num", 1, "--tokenizer", far, "--out", "out")
    assert drawn.status == 0, drawn.err


def test_a_text_encoder_is_not_looked_for_where_a_checkpoint_says(stranger, monkeypatch):
    words, far = add_words(monkeypatch), stranger.parents[1] / "far" / "tok"
    shutil.rmtree(stranger)
    tiny_generator(stranger, far, text=PromptReader(words, 6))
    (stranger.parents[1] / "encoder").mkdir()
    for name in (str(stranger.parents[1] / "encoder"), "../../encoder", "hf-hub:org/bert", "org/bert"):
        rename(stranger, "text", name=name)
        with pytest.raises(
            ArzooError, match=r"trained with text encoder .*not followed\. Say where.*--text-encoder"
        ):
            Generator.load(stranger, tokenizer=far).generate(prompts=["dog"])
        assert len(Generator.load(stranger, tokenizer=far, text=words).generate(prompts=["dog"])) == 1
