"""The table of published weights, and what is done with a name in it."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

import pytest
import torch
from command import command, failing, tiny_tokenizer

import arzoo
from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.base.files import file_sha256
from arzoo.base.runtime import store_folder
from arzoo.checkpoints import conversion, names, published
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.checkpoints.published import PUBLISHED, Published, instructions, locate
from arzoo.models.common.convert import SOURCES, settings_of, split
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.llamagen.convert import transformer_table
from arzoo.models.llamagen.network import TransformerConfig

CONFIG = TransformerConfig(width=64, depth=2, heads=1, vocab=16, grid=(1, 4, 4), classes=3)


def test_the_table_holds_together():
    for name, entry in PUBLISHED.items():
        assert names.is_name(name), name
        assert entry.layout in SOURCES, name
        assert set(entry.settings) <= set(settings_of(entry.layout)), name
        assert not entry.tokenizer or PUBLISHED[entry.tokenizer].tokenizer == "", name
        assert entry.on_hub or entry.place.startswith("https://"), name
        assert re.fullmatch(r"([0-9a-f]{64})?", entry.sha256), name
        assert entry.link in instructions(entry), name
        assert (entry.file or "FILE") in instructions(entry), name
    assert {e.layout for e in PUBLISHED.values()} >= set(SOURCES) - {"nar_video", "mamba"}


def test_sizes_are_those_of_the_presets():
    """Heads of generators have sizes of their own, so that only other networks are equal to the last parameter."""
    sizes: dict[tuple[str, str], int] = {}
    for entry in PUBLISHED.values():
        kinds = ("tokenizer", "segmenter")
        kind = next((kind for kind in kinds if entry.preset in registry.names(kind)), "backbone")
        if (kind, entry.preset) not in sizes:
            with torch.device("meta"):
                net = registry.create(kind, entry.preset)
            sizes[kind, entry.preset] = sum(p.numel() for p in net.parameters())
        count = sizes[kind, entry.preset]
        if kind != "backbone" or entry.layout == "xar":
            assert entry.parameters == count, entry.name
        else:
            assert count < entry.parameters < 1.95 * count, entry.name


def weights(path: Path) -> Path:
    """A file of random weights in LlamaGen's layout."""
    parts = {"backbone": CONFIG.build(), "head": CategoricalConfig(width=64, vocab=16).build()}
    ours = {f"{part}.{k}": v for part, module in parts.items() for k, v in module.state_dict().items()}
    torch.save({"model": split(ours, transformer_table(CONFIG))}, path)
    return path


@pytest.fixture
def known(tmp_path, monkeypatch) -> Published:
    """A small published model with its tokenizer, in an empty working directory with an empty store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARZOO_HOME", str(tmp_path / "home"))
    parts = (CONFIG.build(), CategoricalConfig(width=64, vocab=16).build())
    count = sum(p.numel() for part in parts for p in part.parameters())
    entry = Published(
        "small_64", "Small of squares, 64 pixels", "llamagen", "llamagen_b", count, "some-org/Small", "S_64.pt",
        "MIT", {"grid": [4, 4]}, "small_vq",
    )  # fmt: skip
    monkeypatch.setitem(PUBLISHED, entry.name, entry)
    other = dataclasses.replace(entry, name="small_128", file="S_128.pt", settings={"grid": [8, 8]})
    monkeypatch.setitem(PUBLISHED, other.name, other)
    vq = Published(
        "small_vq", "VQ of squares", "llamagen_vq", "vq_16", 1, "https://example.org/small", "vq.pt"
    )
    monkeypatch.setitem(PUBLISHED, vq.name, vq)
    return entry


def test_a_file_is_recognised_by_its_name_and_size(capsys, known):
    weights(Path("S_64.pt"))
    result = command(capsys, "convert", "S_64.pt")
    assert result.status == 0, result.err
    for words in (
        "layout llamagen",
        "small_64 (Small of squares",
        "some-org/Small",
        "MIT",
        "small_128 (grid=[8,8])",
    ):
        assert words in result.err
    checkpoint = names.resolve("small_64")
    assert checkpoint == store_folder() / "small_64"
    assert "MIT" in (checkpoint / "README.md").read_text()
    draw = ("generate", "small_64", "--num", 1, "--class", 2, "--out", "out")
    failing(command(capsys, *draw), "VQ of squares", "https://example.org/small", "license: unknown")
    tiny_tokenizer(store_folder() / "small_vq")
    result = command(capsys, *draw)
    assert result.status == 0, result.err
    failing(command(capsys, "convert", "S_64.pt"), "there is a checkpoint 'small_64' already", "--overwrite")


def test_a_file_is_found_by_the_name_of_the_model(capsys, known):
    failing(
        command(capsys, "convert", "small_64"), "S_64.pt", "some-org/Small", "arzoo convert small_64", "MIT"
    )
    weights(Path("S_64.pt"))
    facts = command(capsys, "convert", "small_64", "made", "--json").json
    assert (facts["published"], facts["licence"], facts["folder"]) == ("small_64", "MIT", "made")
    weights(Path("S_128.pt"))
    plan = command(capsys, "convert", "small_128", "--dry-run", "--json").json
    assert plan["folder"] == str(store_folder() / "small_128")
    assert not Path(plan["folder"]).exists()


def test_a_taken_name_is_refused_before_the_conversion(capsys, known, monkeypatch):
    weights(Path("S_64.pt"))
    assert command(capsys, "convert", "small_64").status == 0
    monkeypatch.setattr("arzoo.checkpoints.conversion.recognised", lambda *_: pytest.fail("it was converted"))
    failing(command(capsys, "convert", "small_64"), "there is a checkpoint 'small_64' already", "--overwrite")


def test_weights_of_a_known_size_and_another_name_may_be_ones_own(capsys, known):
    weights(Path("mine.pt"))
    result = command(capsys, "convert", "mine.pt", "--set", "grid=[4,4]", "--json")
    assert result.json["may_be"] == ["small_64", "small_128"]
    assert "weights of your own" in result.err
    assert (store_folder() / "mine").is_dir()
    failing(command(capsys, "convert", store_folder() / "mine"), "DST", status=2)


def test_another_file_under_the_name_is_refused(capsys, known, monkeypatch):
    monkeypatch.setitem(PUBLISHED, "small_64", dataclasses.replace(known, parameters=7))
    weights(Path("S_64.pt"))
    failing(command(capsys, "convert", "small_64"), "is not small_64", "7 parameters")
    damaged = dataclasses.replace(known, sha256="0" * 64)
    monkeypatch.setitem(PUBLISHED, "small_64", damaged)
    failing(command(capsys, "convert", "S_64.pt"), "sha256 is not 0000", "Download it again")
    whole = dataclasses.replace(known, sha256=file_sha256(Path("S_64.pt")))
    monkeypatch.setitem(PUBLISHED, "small_64", whole)
    assert command(capsys, "convert", "S_64.pt").status == 0


def test_a_file_called_like_a_model_of_another_size_is_converted_as_what_it_is(capsys, known, monkeypatch):
    larger = dataclasses.replace(
        known, name="larger_64", parameters=7, file="last.pt", settings={"grid": [99, 1]}
    )
    monkeypatch.setitem(PUBLISHED, "larger_64", larger)
    weights(Path("last.pt"))
    result = command(capsys, "convert", "last.pt", "made", "--json")
    assert "published" not in result.json, result.err


@pytest.mark.parametrize(("settings", "times"), [({"grid": [4, 4]}, 1), ({"grid": [2, 8]}, 2)])
def test_a_file_is_converted_again_only_with_other_settings(capsys, known, monkeypatch, settings, times):
    """As MAR's `checkpoint-last.pth`, the name of three sizes with the same settings."""
    monkeypatch.delitem(PUBLISHED, "small_64")
    larger = dataclasses.replace(known, name="larger_64", parameters=7, settings=settings)
    for entry in (larger, known):
        monkeypatch.setitem(PUBLISHED, entry.name, entry)
    convert, calls = conversion.convert_opened, []

    def counted(*args, **given):
        calls.append(given)
        return convert(*args, **given)

    monkeypatch.setattr(conversion, "convert_opened", counted)
    weights(Path("S_64.pt"))
    assert command(capsys, "convert", "S_64.pt", "made", "--json").json["published"] == "small_64"
    assert len(calls) == times
    assert open_checkpoint("made").config("backbone").grid == (1, 4, 4)


def test_a_file_name_that_models_share_decides_for_none(capsys, known, monkeypatch):
    """As FlexTok's `model.safetensors`: nothing of one model is recorded for another."""
    twin = dataclasses.replace(known, name="small_twin", title="Small of circles", licence="other")
    monkeypatch.setitem(PUBLISHED, twin.name, twin)
    weights(Path("S_64.pt"))
    facts = command(capsys, "convert", "S_64.pt", "made", "--json").json
    assert facts["may_be"] == ["small_64", "small_128", "small_twin"]
    assert not {"published", "at", "licence"} & facts.keys()
    checkpoint = open_checkpoint("made")
    assert not {"published", "at", "licence"} & checkpoint.index["training"].keys()
    assert checkpoint.config("backbone").grid == (1, 4, 4), "the settings are those of both"
    facts = command(capsys, "convert", "small_twin", "named", "--json").json
    assert (facts["published"], facts["licence"]) == ("small_twin", "other")
    monkeypatch.setitem(PUBLISHED, twin.name, dataclasses.replace(twin, sha256=file_sha256(Path("S_64.pt"))))
    assert command(capsys, "convert", "S_64.pt", "hashed", "--json").json["published"] == "small_twin"


def test_a_file_of_the_hub_is_fetched(capsys, known, monkeypatch):
    import huggingface_hub

    asked = []

    def fetch(repository: str, file: str) -> str:
        asked.append((repository, file))
        return str(weights(Path(file)))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    facts = command(capsys, "convert", "hf-hub:some-org/Small/S_64.pt", "--json").json
    assert (facts["published"], asked) == ("small_64", [("some-org/Small", "S_64.pt")])


@pytest.mark.parametrize("text", ["a", "a/b/", "a/b/../c", "a/b//c", "a/b/.c", "/b/c", "a/b/c d", "a/b/c\n"])
def test_what_is_no_file_of_the_hub_is_not_asked_for(text, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ArzooError, match="no file of the hub"):
        locate("hf-hub:" + text)


def test_names_say_where_to_get_them(monkeypatch):
    with pytest.raises(ArzooError) as error:
        arzoo.load("llamagen_b_256")
    for words in (
        "c2i_B_256.pt",
        "FoundationVision/LlamaGen",
        "arzoo convert llamagen_b_256",
        "license: MIT",
    ):
        assert words in str(error.value)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # nothing is downloaded to find that out
    for ask in (
        lambda: arzoo.load("hf-hub:FoundationVision/LlamaGen"),
        lambda: locate("hf-hub:FoundationVision/LlamaGen"),
    ):
        with pytest.raises(ArzooError) as error:
            ask()
        for words in (
            "c2i_L_384.pt (llamagen_l_384)",
            "arzoo convert hf-hub:FoundationVision/LlamaGen/c2i_B_256.pt",
        ):
            assert words in str(error.value)


def test_nothing_is_said_that_is_not_known():
    """No licence was found for these, and no hash for any."""
    for name in ("karl_small_in1k", "xar_b_256", "flowar_s_256", "par4_xl_384"):
        assert f"license: {published.UNKNOWN}" in instructions(PUBLISHED[name])


def test_the_page_has_the_table(capsys):
    page = (Path(__file__).parents[2] / "docs" / "published.md").read_text(encoding="utf-8")
    for entry in PUBLISHED.values():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{entry.name}` |"))
        cells = (entry.title, entry.layout, entry.file or "unknown", entry.place, entry.licence or "unknown")
        assert all(cell in row for cell in cells), row
    assert page.count("\n| `") == len(PUBLISHED)
    listed = command(capsys, "models", "llamagen_b*", "--kind", "published", "--json").json["published"]
    assert list(listed) == ["llamagen_b_256", "llamagen_b_384"]
    assert listed["llamagen_b_256"]["file"] == "c2i_B_256.pt"
