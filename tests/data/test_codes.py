"""The code cache: whole or refused, and what it says about its origin."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import time

import pytest
import torch
import toy
from command import command, failing, picture, ten_pictures, tiny_kl_tokenizer, tiny_tokenizer
from continuous import made

from arzoo.base import lock, registry
from arzoo.base.errors import ArzooError
from arzoo.base.files import seal
from arzoo.checkpoints.folder import Checkpoint, load_parts, save_parts, weights_sha256
from arzoo.checkpoints.index import data_of as recorded_data
from arzoo.data.base import ImageSet, annotations_sha256
from arzoo.data.codes import INDEX, LABELS, Codes
from arzoo.data.encoding import encode_split
from arzoo.data.transforms import to_model
from arzoo.data.views import Views
from arzoo.generation.generator import Generator
from arzoo.metrics.trained_on import data_of
from arzoo.train.recipe import Recipe, load_recipe
from arzoo.train.run.lineage import differences


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return tiny_tokenizer(tmp_path_factory.mktemp("models") / "tok")


@pytest.fixture(scope="module")
def cache(tokenizer, tmp_path_factory):
    model = load_parts(tokenizer)[1]["tokenizer"]
    return encode_split(tmp_path_factory.mktemp("codes") / "train", model, "hash", ten_pictures(), Views())


def content(codes: Codes) -> tuple:
    rows = codes.rows(torch.zeros(10, dtype=torch.long), torch.arange(10))
    return rows.tolist(), codes.labels.tolist(), codes.classes, codes.key, codes.spec, codes.source


def rewrite(folder, **changes) -> None:
    """An index of a cache that says something else, as if it had been written so."""
    found = json.loads((folder / INDEX).read_text()) | changes
    (folder / INDEX).write_text(json.dumps(found | {"seal": seal(found)}))


@pytest.mark.parametrize("name", [INDEX, LABELS, "shard_00000.safetensors"])
def test_a_damaged_cache_is_refused_or_says_the_same(cache, tmp_path, name):
    folder, wanted = tmp_path / "codes", content(cache)
    shutil.copytree(cache.folder, folder)
    whole = (folder / name).read_bytes()
    places = range(0, len(whole), max(1, len(whole) // 30))
    damaged = [whole[:i] for i in places]
    for bit in (0x01, 0x20, 0x80):
        damaged += [whole[:i] + bytes([whole[i] ^ bit]) + whole[i + 1 :] for i in places]
    refused = 0
    for content_of_file in damaged:
        (folder / name).write_bytes(content_of_file)
        try:
            same = content(Codes.load(folder)) == wanted
        except ArzooError as error:
            same = "not a whole code cache" in str(error)
            refused += 1
        assert same
    assert refused > len(damaged) // 2
    (folder / name).unlink()
    with pytest.raises(ArzooError, match=r"not a (whole )?code cache"):
        Codes.load(folder)


@pytest.mark.parametrize(
    "text", ["[]", "null", "3", '{"format": 3}', '{"format": 3, "seal": 1}', "[" * 100000]
)
def test_an_index_that_is_none_is_refused(cache, tmp_path, text):
    shutil.copytree(cache.folder, tmp_path / "codes")
    (tmp_path / "codes" / INDEX).write_text(text)
    with pytest.raises(ArzooError, match="not a whole code cache"):
        Codes.load(tmp_path / "codes")


def test_labels_fit_pictures_and_classes(cache, tmp_path):
    shutil.copytree(cache.folder, tmp_path / "codes")
    rewrite(tmp_path / "codes", classes=["even"])
    with pytest.raises(ArzooError, match="labels from 0 to 1, there are 1 classes"):
        Codes.load(tmp_path / "codes")
    rewrite(tmp_path / "codes", classes=["even", "odd"], pictures=9)
    with pytest.raises(ArzooError, match=r"labels of \(10,\) for 9 pictures"):
        Codes.load(tmp_path / "codes")


def test_of_a_large_cache_a_sample_is_compared_unless_everything_is_asked_for(
    tokenizer, tmp_path, monkeypatch
):
    monkeypatch.setattr("arzoo.data.encoding.SHARD", 1)
    model, folder = load_parts(tokenizer)[1]["tokenizer"], tmp_path / "codes"
    whole = encode_split(folder, model, "hash", ten_pictures(), Views("flip"))
    monkeypatch.setattr("arzoo.data.codes.SAMPLED", (folder / whole.shards[0]).stat().st_size)
    before = content(whole)
    for number, sampled in ((0, True), (1, False)):
        path = folder / whole.shards[number]
        kept = path.read_bytes()
        path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        with pytest.raises(ArzooError, match=f"{path.name} is missing or not what was written"):
            Codes.load(folder, thorough=True)
        if sampled:
            with pytest.raises(ArzooError, match=path.name):
                Codes.load(folder)
        else:
            assert Codes.load(folder).key == whole.key
        assert content(encode_split(folder, model, "hash", ten_pictures(), Views("flip"))) == before, (
            "repaired"
        )
        path.write_bytes(b"short")
        with pytest.raises(ArzooError, match=path.name):
            Codes.load(folder)
        path.write_bytes(kept)


def test_encoding_again_repairs_labels(cache, tokenizer, tmp_path):
    shutil.copytree(cache.folder, tmp_path / "codes")
    (tmp_path / "codes" / LABELS).write_bytes(b"")
    model = load_parts(tokenizer)[1]["tokenizer"]
    again = encode_split(tmp_path / "codes", model, "hash", ten_pictures(), Views())
    assert content(again) == content(cache)


def test_names_of_classes_are_brought_up_to_date_without_encoding(cache, tokenizer, tmp_path, monkeypatch):
    folder = tmp_path / "codes"
    shutil.copytree(cache.folder, folder)
    model = load_parts(tokenizer)[1]["tokenizer"]
    monkeypatch.setattr(model, "distribution", None)  # nothing is encoded
    renamed = dataclasses.replace(ten_pictures(), classes=("flat", "round"))
    assert encode_split(folder, model, "hash", renamed, Views()).classes == ("flat", "round")
    assert Codes.load(folder).classes == ("flat", "round")
    assert content(encode_split(folder, model, "hash", ten_pictures(), Views())) == content(cache)


def test_what_a_generator_is_told_is_part_of_its_lineage(tokenizer, tmp_path, monkeypatch):
    told = []
    for names, captions in ((("even", "odd"), "a"), (("even", "odd"), "b"), (("flat", "round"), "a")):
        data = dataclasses.replace(ten_pictures(), classes=names, captions=tuple(captions * 10))
        monkeypatch.setitem(registry._entries["dataset"], "ten", lambda data=data: data)
        encoded(tmp_path / "codes", tokenizer, data, "ten")
        told.append(recipe_of_codes(tokenizer, tmp_path / "codes").build().lineage)
    assert told[0] == told[1], "captions are not read by a model of classes"
    assert differences(told[0], told[2]) == ["data.annotations_sha256"]
    assert annotations_sha256(("a",), ("b", "c")) != annotations_sha256(("a",), ("b", "d"))
    assert annotations_sha256(("a",)) != annotations_sha256(("a",), ())


def slowly_encoding(folder, tokenizer, marks) -> None:
    """Encode with a tokenizer that takes its time, and leave a mark for every batch it sees."""
    model = load_parts(tokenizer)[1]["tokenizer"]
    encode = model.distribution

    def slow(pictures):
        (marks / f"{os.getpid()}_{time.monotonic_ns()}").touch()
        time.sleep(0.5)
        return encode(pictures)

    model.distribution = slow
    encode_split(folder, model, "hash", ten_pictures(), Views(), batch=4)


def test_two_processes_encode_one_after_the_other(cache, tokenizer, tmp_path, capfd):
    folder, marks = tmp_path / "codes", tmp_path / "marks"
    marks.mkdir()
    children = [toy.in_process(slowly_encoding, folder, tokenizer, marks) for _ in range(3)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert len({path.name.partition("_")[0] for path in marks.iterdir()}) == 1, "the others find its codes"
    assert len(list(marks.iterdir())) == 3
    assert content(Codes.load(folder)) == content(cache)
    said = f"another process encodes into {folder}. Waiting until it is done."
    assert capfd.readouterr().err.count(said) == 2
    assert not list(folder.glob("*.partial"))


def test_a_second_tokenize_into_a_folder_is_refused(capsys, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setitem(registry._entries["dataset"], "ten", ten_pictures)
    out = tmp_path / "codes"
    arguments = ["tokenize", "ten", "--tokenizer", str(tokenizer), "--out", str(out)]
    ready, held = os.pipe()

    def hold():
        with lock.alone(out):
            os.write(held, b"1")
            time.sleep(60)

    child = toy.in_process(hold)
    os.read(ready, 1)
    failing(command(capsys, *arguments), f"another process encodes into {out}. Wait until")
    assert [path.name for path in out.iterdir()] == [lock.FILE]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert command(capsys, *arguments).status == 0


def test_caches_of_an_older_format_say_how_to_make_them_anew(cache, tmp_path):
    shutil.copytree(cache.folder, tmp_path / "codes")
    rewrite(tmp_path / "codes", format=2)
    with pytest.raises(
        ArzooError, match=r"format 2, this version reads 3 to 5\). Remove it, or .* --overwrite"
    ):
        Codes.load(tmp_path / "codes")


def encoded(folder, tokenizer, data, source: str = "") -> None:
    """Both splits, as `arzoo tokenize` writes them."""
    model = load_parts(tokenizer)[1]["tokenizer"]
    digest = Checkpoint(tokenizer, json.loads((tokenizer / "model_index.json").read_text()))
    for split in ("train", "validation"):
        encode_split(
            folder / split, model, digest.parts["tokenizer"]["weights"], data.split(split), Views(),
            source=source,
        )  # fmt: skip


def recipe_of_codes(tokenizer, codes) -> Recipe:
    changes = {"tokenizer": str(tokenizer), "codes": str(codes), "model": {"width": 32, "depth": 1}}
    return load_recipe("nar_emoji64", changes)


def recorded(recipe, tmp_path) -> Checkpoint:
    """A checkpoint with what training would write about its origin."""
    training = {"recipe": recipe.to_dict(), "lineage": recipe.build().lineage}
    return Checkpoint(tmp_path, {"kind": "generator", "parts": {}, "training": training})


def test_a_generator_descends_from_the_data_of_its_codes(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setitem(registry._entries["dataset"], "ten", ten_pictures)
    encoded(tmp_path / "codes", tokenizer, ten_pictures(), "ten")
    found = recorded(recipe_of_codes(tokenizer, tmp_path / "codes"), tmp_path)
    assert recorded_data(found.index) == ("ten", ten_pictures().split("train").sha256)
    assert data_of(found) == "ten"


def test_codes_without_a_name_are_not_given_one(tokenizer, tmp_path):
    encoded(tmp_path / "codes", tokenizer, ten_pictures())
    recipe = recipe_of_codes(tokenizer, tmp_path / "codes")
    found = recorded(recipe, tmp_path)
    assert recorded_data(found.index)[0] == ""
    with pytest.raises(ArzooError, match="does not say what it was trained on"):
        data_of(found)
    # Older checkpoints name the default data set beside the hash of another one.
    old = {"recipe": recipe.to_dict(), "lineage": {"data": {"name": "emoji64", "sha256": "1" * 64}}}
    assert recorded_data({"training": old}) == ("", "1" * 64)


def test_tokenize_records_where_the_pictures_are(capsys, tokenizer, tmp_path, monkeypatch):
    for i in range(4):
        (tmp_path / "in").mkdir(exist_ok=True)
        picture(tmp_path / "in" / f"{i}.png", seed=i)
    monkeypatch.chdir(tmp_path)
    result = command(capsys, "tokenize", "in", "--tokenizer", tokenizer, "--out", "codes")
    assert result.status == 0, result.err
    assert Codes.load(tmp_path / "codes" / "train").source == str(tmp_path / "in")


def rescaled(tokenizer, folder):
    """The same weights with another scale of the vectors."""
    model = load_parts(tokenizer)[1]["tokenizer"]
    other = model.config.replace(scale=2 * model.config.scale).build()
    other.load_state_dict(model.state_dict())
    save_parts(folder, "tokenizer", {"tokenizer": other}, spec=other.spec.to_dict())
    assert weights_sha256(other) == weights_sha256(model)
    return folder


def test_codes_of_the_same_weights_in_another_scale_are_refused(tmp_path):
    first = tiny_kl_tokenizer(tmp_path / "tok")
    other = rescaled(first, tmp_path / "other")
    encoded(tmp_path / "codes", first, ten_pictures())
    changes = {"codes": str(tmp_path / "codes"), "model": {"width": 32, "depth": 1}}
    load_recipe("mar_emoji64", {**changes, "tokenizer": str(first)}).build()
    with pytest.raises(ArzooError, match="such as another scale"):
        load_recipe("mar_emoji64", {**changes, "tokenizer": str(other)}).build()


def test_a_generator_refuses_its_tokenizer_in_another_scale(tmp_path, monkeypatch):
    monkeypatch.setenv("ARZOO_HOME", str(tmp_path / "home"))
    first = tiny_kl_tokenizer(tmp_path / "tok")
    other = rescaled(first, tmp_path / "other")
    made("mar", first).save(tmp_path / "gen")
    assert Generator.load(tmp_path / "gen").tokenizer.config.scale == 0.5
    with pytest.raises(ArzooError, match=r"with scale 0\.5, not 1\.0 as in the one you passed"):
        Generator.load(tmp_path / "gen", other)
    path = tmp_path / "gen" / "model_index.json"
    index = json.loads(path.read_text())
    del index["tokenizer"]["settings"]
    path.write_text(json.dumps(index | {"seal": seal(index)}))
    assert Generator.load(tmp_path / "gen", other).tokenizer.config.scale == 1.0, "as older generators do"


def test_tokens_that_pictures_do_not_have_are_not_stored(tokenizer, tmp_path, monkeypatch):
    """A contract that says nothing of them has none."""
    model = load_parts(tokenizer)[1]["tokenizer"]
    distribution = model.distribution

    def shortened(x):
        tokens, spread = distribution(x)
        tokens.length[0] = 3
        return tokens, spread

    monkeypatch.setattr(model, "distribution", shortened)
    with pytest.raises(
        ArzooError, match="tokenizer vq gives pictures different numbers of tokens without a quality"
    ):
        encode_split(tmp_path / "codes", model, "hash", ten_pictures(), Views())


def clips_of_ten() -> ImageSet:
    """Ten clips of five frames, of which every other one may be mirrored."""
    images = torch.randint(0, 256, (10, 5, 16, 16, 3), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )
    return dataclasses.replace(ten_pictures(), images=images, mirrorable=torch.arange(10) % 2 == 0)


@pytest.mark.parametrize(
    "views", [Views(), Views("augment", 2), Views("flip"), Views("ten_crop")], ids=lambda v: v.kind
)
def test_all_frames_of_a_clip_have_the_same_view(views):
    clips = clips_of_ten()
    for view in range(views.count):
        whole = views.block(clips, view, 0)
        assert whole.shape == (10, 3, 5, 16, 16)
        for frame in range(5):
            pictures = dataclasses.replace(clips, images=clips.images[:, frame])
            assert torch.equal(whole[:, :, frame], views.block(pictures, view, 0))


def test_clips_are_encoded_into_a_cache(tmp_path):
    config = registry.lookup("tokenizer", "vq_4_micro")().replace(image_size=16, frames=5)
    torch.manual_seed(0)
    tokenizer, clips = config.build().eval(), clips_of_ten()
    codes = encode_split(tmp_path / "codes", tokenizer, "hash", clips, Views("flip"), batch=3)
    assert codes.variants == 2
    index = torch.arange(10)
    with torch.no_grad():
        tokens = tokenizer.encode(to_model(clips.images))
        assert torch.equal(codes.rows(torch.zeros_like(index), index), tokens.values)
        assert tokens.values.shape[1] == codes.spec.layout.size == 5 * 4 * 4
        stored = codes.tokens(torch.zeros_like(index), index)
        assert torch.equal(tokenizer.decode(stored), tokenizer.decode(tokens))
    mirrored = codes.rows(torch.ones_like(index), index)
    assert [bool((a == b).all()) for a, b in zip(mirrored, tokens.values, strict=True)] == [False, True] * 5
