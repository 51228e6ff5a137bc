"""Whatever is typed: done, or one message, and the exit status that belongs to it."""

from __future__ import annotations

import pytest
from command import command, tiny_models
from fuzz.settings import examples, only_ours
from hypothesis import assume, example, given
from hypothesis import strategies as st

from arzoo.base.errors import ArzooError
from arzoo.checkpoints import names, store
from arzoo.cli.__main__ import VERBS
from arzoo.cli.knobs import control
from arzoo.core.control import Control, Progress
from arzoo.generation import sharing
from arzoo.generation.regions import kept_pixels

TEXT = st.text(max_size=12) | st.sampled_from(
    ["", "-", "--", "-1", "0", "nan", "inf", "1e999", "../..", "/etc/passwd", "~", "~nobody", "a\0b", "\udcff",
     "x" * 300,
     "hf-hub:", "hf-hub:../..", "1:2", ":", "9" * 5000, "0,0,4,4", "%s", "{}", "\n", "ａ"]
)  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty working directory, a hub that must not be asked, and no call of git for every record."""
    monkeypatch.setattr("arzoo.base.runtime.commit", lambda: None)
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ARZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no_hub"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def refuse(name, **options):
    assert name.count("/") == 1
    assert ".." not in name
    raise OSError("no network in tests")


def check(result) -> None:
    assert result.status in (0, 1, 2), result
    assert "Traceback" not in result.err
    assert "unexpected" not in result.err, result.err
    if result.status:
        assert result.err.strip()


OPTIONS = ("--guidance", "--guidance-interval", "--temperature", "--top-k", "--top-p", "--keep", "--init", "--class",
           "--device", "--precision", "--like", "--tokenizer", "--num", "--batch", "--threads", "--seed")  # fmt: skip


@examples(60)
@given(st.sampled_from(OPTIONS), TEXT, st.booleans())
def test_any_value_of_an_option_of_generate(capsys, models, empty, option, value, as_json):
    if option in ("--num", "--threads", "--batch") and value.strip("0").isdigit():
        value = "-" + value  # a large number is honest work
    arguments = ["generate", models / "gen", "--num", "1", option, value, "--out", "out", "--overwrite"]
    result = command(capsys, *arguments, *(["--json"] if as_json else []))
    check(result)
    if as_json and result.out.strip():
        assert result.json


@examples(60)
@given(
    st.sampled_from([verb for verb in VERBS if verb not in ("train", "doctor", "data")]),
    st.lists(TEXT, max_size=3),
)
def test_any_words_behind_a_verb(capsys, empty, verb, words):
    assume(words or verb != "search")  # a search by default settings is honest work
    check(command(capsys, verb, *words))


@examples(80)
@given(st.lists(TEXT, min_size=1, max_size=2))
def test_any_words(capsys, empty, words):
    check(command(capsys, *words))


@examples(60)
@given(st.sampled_from(["show", "verify", "rm", "tag", "export"]), st.lists(TEXT, max_size=2))
def test_any_checkpoint(capsys, empty, models, action, names):
    check(command(capsys, "checkpoints", action, models / "gen", *names))
    assert (models / "gen" / "model_index.json").exists()


@examples(200)
@given(TEXT | TEXT.map("hf-hub:".__add__) | TEXT.map("../".__add__))
def test_names_of_checkpoints(empty, name):
    with only_ours():
        assert names.resolve(name).exists()
    with only_ours():
        sharing.load_pretrained(name)


@examples(200)
@given(st.text(alphabet="ab./\\-_@~:\0 é%", max_size=12))
def test_names_never_become_paths(empty, name):
    if names.is_name(name):
        assert (empty / name).parent == empty
        assert ".." not in name
    else:
        with pytest.raises(ArzooError):
            store.tag("nar_emoji64", name)
    with only_ours():
        repository, revision = names.check_repository(name)
        assert repository.count("/") == 1
        assert not {"", ".", ".."} & set(repository.split("/"))
        assert ".." not in (revision or "")


@examples(200)
@given(
    TEXT,
    TEXT,
    st.sampled_from(["linear", "cosine"]),
    st.integers() | st.none(),
    st.floats() | st.none(),
    st.floats() | st.none(),
    TEXT | st.none(),
    TEXT | st.none(),
)
@example("2", "", "linear", None, None, None, None, "9" * 5000)
def test_knobs_are_in_range_or_refused(
    guidance, interval, schedule, top_k, top_p, temperature, head_steps, max_timestep
):
    knobs = {"guidance": guidance, "guidance_interval": interval or None, "guidance_schedule": schedule,
             "top_k": top_k, "top_p": top_p, "temperature": temperature, "greedy": False, "head_steps": head_steps,
             "head_schedule": "linear", "head_solver": None, "max_timestep": max_timestep,
             "head_window": None, "more_smooth": False}  # fmt: skip
    with only_ours():
        settings = control(Control(), knobs).at(Progress(step=0, steps=2, done=0, after=1, total=2))
        assert 0 < settings.temperature <= 100
        assert settings.top_k >= 0
        assert 0 < settings.top_p <= 1
        assert abs(settings.guidance) < float("inf")
        assert settings.head_steps in range(1001)
        assert settings.max_timestep is None or settings.max_timestep in range(1, 1000)


@examples(150)
@given(TEXT | st.lists(st.integers(-3, 20), min_size=4, max_size=4).map(lambda n: ",".join(map(str, n))))
def test_regions(keep):
    with only_ours():
        mask = kept_pixels(keep, 16, 16)
        assert mask.any()
