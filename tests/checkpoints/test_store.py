"""The checkpoint registry: names, lineage, verification, copies, removal, archives; and its command."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from command import command, failing, tiny_generator, tiny_tokenizer
from scripted import ROOT

import arzoo
from arzoo.base.errors import ArzooError, UnknownName
from arzoo.base.files import seal
from arzoo.checkpoints import names, store
from arzoo.checkpoints.archive import pack, unpack
from arzoo.generation.generator import Generator


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user with no checkpoint of their own, a tokenizer run and a generator run, in an empty working directory."""
    monkeypatch.setenv("ARZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no_hub"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in ("vq", "gen"):
        Path("runs", name).mkdir(parents=True)
        Path("runs", name, "recipe.yaml").write_text("task: tokenizer\n")
    tiny_tokenizer(Path("runs/vq/checkpoint"))
    tiny_generator(Path("runs/gen/checkpoint"), Path("runs/vq"))
    return tmp_path


def draw(name):
    return Generator.load(name).generate([0, 2], seed=1).stills


def test_a_generator_finds_its_tokenizer_by_the_hash(home):
    assert draw("runs/gen").shape == (2, 16, 16, 3)
    store.tag("runs/vq", "mine")
    shutil.rmtree("runs/vq")
    assert draw("runs/gen").shape == (2, 16, 16, 3)
    shutil.rmtree(home / "home" / "mine")
    with pytest.raises(ArzooError, match="checkpoint"):
        draw("runs/gen")


def test_entries_and_lineage(home):
    Path("runs/new").mkdir()
    Path("runs/new/recipe.yaml").touch()
    (home / "home" / "broken").mkdir(parents=True)
    (home / "home" / "broken" / "model_index.json").write_text("{")
    known = {entry.name: entry for entry in store.entries()}
    assert {name: (e.source, e.kind) for name, e in known.items() if e.source != "shipped"} == {
        "runs/vq": ("run", "tokenizer"),
        "runs/gen": ("run", "generator"),
        "runs/new": ("run", "unfinished"),
        "broken": ("named", "damaged"),
    }
    assert known["nar_emoji64"].source == "shipped"
    assert store.lineage(known["runs/gen"], known.values()) == ["runs/vq", "runs/gen"]
    assert store.lineage(known["runs/gen"]) == ["vq (not here)", "runs/gen"]
    shipped = store.lineage(known["nar_emoji64"], known.values())
    assert shipped[0].startswith("emoji64 (")
    assert "vq_emoji64" in shipped
    assert shipped[-1] == "nar_emoji64"
    assert store.entries(["runs/vq"])[-1].name == "runs/vq"
    with pytest.raises(ArzooError, match="no folder nowhere"):
        store.entries(["nowhere"])


def test_a_tag_is_a_copy_that_needs_nothing_beside_it(home):
    before = draw("runs/gen")
    folder = store.tag("runs/gen", "nar_tiny.best")
    assert folder == home / "home" / "nar_tiny.best"
    shutil.rmtree("runs")
    assert torch.equal(draw("nar_tiny.best"), before)
    assert (folder / "README.md").read_text().count("nar_tiny.best") >= 3
    with pytest.raises(ArzooError, match="--overwrite"):
        store.tag("nar_tiny.best", "nar_tiny.best")
    store.tag("nar_tiny.best", "nar_tiny.old")
    assert store.find("nar_tiny.old").source == "named"
    with pytest.raises(UnknownName, match=r"nar_tiny\.best"):
        store.find("nar_tiny.bets")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../a", "a..b", ".a", "a.", "a b", "hf-hub:a", "a\0b", "ä"]
)
def test_what_is_no_name(home, name):
    with pytest.raises(ArzooError, match="no name of a checkpoint"):
        store.tag("runs/gen", name)


def test_shipped_names_are_taken(home):
    with pytest.raises(ArzooError, match=r"nar_emoji64\.mine"):
        store.tag("runs/gen", "nar_emoji64")


def test_a_damaged_checkpoint_is_not_copied(home):
    weights = Path("runs/vq/checkpoint/tokenizer/model.safetensors")
    flip(weights)
    for name in ("runs/vq", "runs/gen"):
        with pytest.raises(ArzooError, match="damaged"):
            store.tag(name, "copy")
    assert not (home / "home" / "copy").exists()


def test_removal(home, capsys):
    store.tag("runs/gen", "mine")
    failing(command(capsys, "checkpoints", "rm", "nar_emoji64", "--yes"), "is shipped")
    failing(command(capsys, "checkpoints", "rm", "mine"), "--yes", str(home / "home" / "mine"))
    assert (home / "home" / "mine").exists()
    failing(command(capsys, "checkpoints", "rm", "runs/vq", "--yes"), "the tokenizer of runs/gen")
    assert command(capsys, "checkpoints", "rm", "runs/vq", "runs/gen", "--yes").status == 1
    assert command(capsys, "checkpoints", "rm", "runs/gen", "--yes").status == 0
    assert command(capsys, "checkpoints", "rm", "runs/vq/", "mine", "--yes").status == 0
    assert not any(Path("runs").iterdir())
    assert not any((home / "home").iterdir())
    failing(command(capsys, "checkpoints", "rm", "mine", "--yes"), "unknown checkpoint 'mine'", status=2)
    os.symlink(tiny_tokenizer(home / "far"), "near")
    failing(command(capsys, "checkpoints", "rm", "near", "--yes"), "is a link")
    assert (home / "far" / "model_index.json").exists()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(bytes(content))


def test_verify_finds_one_flipped_byte_of_a_shipped_weight(home, capsys, monkeypatch):
    bundled = home / "bundled"
    shutil.copytree(ROOT / "arzoo" / "pretrained", bundled)
    monkeypatch.setattr(names, "BUNDLED", bundled)
    assert command(capsys, "checkpoints", "verify", "--json").json.keys() == {
        path.parent.name for path in (ROOT / "arzoo" / "pretrained").glob("*/model_index.json")
    }
    for weights in ("nar_emoji64/head", "vq_emoji64/tokenizer"):
        path = bundled / weights / "model.safetensors"
        whole = path.read_bytes()
        flip(path)
        result = command(capsys, "checkpoints", "verify", "nar_emoji64", "vq_emoji64")
        assert (result.status, result.out) == (1, "")
        (line,) = result.err.splitlines()
        assert line.startswith(f"error: {path} is damaged")
        path.write_bytes(whole)
    flip(bundled / "nar_emoji64" / "head" / "model.safetensors")
    assert command(capsys, "checkpoints", "verify", "vq_emoji64").status == 0


def test_verify_compares_values_with_the_index(home):
    path = Path("runs/vq/checkpoint/model_index.json")
    index = json.loads(path.read_text())
    index["parts"]["tokenizer"]["weights"] = "0" * 64
    path.write_text(json.dumps({**index, "seal": seal(index)}))
    with pytest.raises(ArzooError, match="are not those its index names"):
        store.verify("runs/vq")
    with pytest.raises(ArzooError, match="trained on tokenizer"):
        store.verify("runs/gen")


def test_list_and_show(home, capsys):
    found = {facts["name"]: facts for facts in command(capsys, "checkpoints", "--json").json["checkpoints"]}
    assert found["runs/gen"]["lineage"] == ["runs/vq", "runs/gen"]
    assert found["vq_emoji64"]["metrics"]["validation_psnr"] > 10
    assert found["vq_emoji64"]["bytes"] > 1 << 20
    table = command(capsys, "checkpoints", "ls", "runs/*").out
    assert "runs/vq" in table
    assert "nar_emoji64" not in table
    assert "weights:" in command(capsys, "checkpoints", "show", "runs/gen").out
    failing(command(capsys, "checkpoints", "show"), "show NAME", status=2)
    failing(command(capsys, "checkpoints", "tag", "a"), "tag NAME NEW", status=2)
    assert command(capsys, "checkpoints", "list").status == 2


@pytest.mark.parametrize("target", ["copy", "copy.tar"])
def test_export_and_back(home, capsys, target):
    before = draw("runs/gen")
    options = ["checkpoints", "export", "runs/gen", target]
    assert command(capsys, *options).status == 0
    shutil.rmtree("runs")
    assert torch.equal(draw(target), before)
    assert isinstance(arzoo.load(target), Generator)
    folder = unpack(target) if target.endswith(".tar") else Path(target)
    assert (folder / "README.md").read_text().count("copy") >= 3
    assert ".folder" not in (folder / "README.md").read_text()
    failing(command(capsys, *options[:2], target, target), "exist")
    assert command(capsys, *options[:2], target, target, "--overwrite").status == 0
    assert [path.name for path in Path.cwd().iterdir()] == [target]


def test_the_same_archive_for_the_same_files(home):
    folder = Path("runs/vq/checkpoint")
    pack(folder, Path("a.tar"))
    pack(folder, Path("b.tar"))
    assert Path("a.tar").read_bytes() == Path("b.tar").read_bytes()
    assert unpack("a.tar") == unpack("b.tar")
    failing_archive = Path("c.tar")
    failing_archive.write_bytes(Path("a.tar").read_bytes()[:-20000])
    with pytest.raises(ArzooError):
        unpack(failing_archive)
    assert len(list((home / "cache" / "unpacked").iterdir())) == 1


def member(name: str, content: bytes = b"{}", **facts: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in facts.items():
        setattr(info, key, value)
    return info, content


@pytest.mark.parametrize(
    "bad",
    [
        member("../evil.json"),
        member("/tmp/evil.json"),
        member("a/../../evil.json"),
        member("..\\evil.json"),
        member("C:\\evil.json"),
        member("evil.py"),
        member("evil.pkl"),
        member(".hidden.json"),
        member("a/b/c/d/e.json"),
        member("link.json", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("link.json", b"", type=tarfile.LNKTYPE, linkname="model_index.json"),
        member("device.json", b"", type=tarfile.CHRTYPE),
        member("fifo.json", b"", type=tarfile.FIFOTYPE),
        member("model_index.json"),
        member("model_index.json/x.json"),
        member("big.json", b"", size=1 << 40),
    ],
    ids=lambda bad: f"{bad[0].name}-{bad[0].type!r}",
)
def test_archives_that_are_refused(home, bad):
    info, content = bad
    with tarfile.open("bad.tar", "w:") as archive:
        first, index = member("model_index.json")
        archive.addfile(first, io.BytesIO(index))
        archive.addfile(info, io.BytesIO(content) if len(content) == info.size else None)
    with pytest.raises(ArzooError, match=r"bad\.tar"):
        unpack("bad.tar")
    assert not list(home.rglob("evil*"))
    assert not list((home / "cache" / "unpacked").iterdir())
    assert {path.name for path in Path.cwd().iterdir()} == {"runs", "bad.tar"}


def test_an_archive_of_something_else(home):
    Path("text.tar").write_text("no archive")
    with pytest.raises(ArzooError, match="not a complete"):
        arzoo.load("text.tar")
    Path("x.json").write_text("{}")
    with tarfile.open("other.tar", "w:") as archive:
        archive.add("x.json")
    with pytest.raises(ArzooError, match="no model_index"):
        arzoo.load("other.tar")
    with tarfile.open("packed.tar", "w:gz") as archive:
        archive.add("x.json")
    with pytest.raises(ArzooError, match="not a complete"):
        arzoo.load("packed.tar")


def test_archives_are_taken_out_by_a_python_without_filters(home, monkeypatch):
    pack(Path("runs/vq/checkpoint"), Path("a.tar"))
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    monkeypatch.setattr(
        tarfile.TarFile, "extract", lambda *rest, **named: pytest.fail("it follows the archive")
    )
    folder, source = unpack("a.tar"), Path("runs/vq/checkpoint")
    files = [path.relative_to(source) for path in source.rglob("*") if path.is_file()]
    assert files
    assert all((folder / path).read_bytes() == (source / path).read_bytes() for path in files)
