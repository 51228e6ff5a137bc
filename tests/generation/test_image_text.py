"""The image-text verifier, retrieval figures, and the script that measures how well pictures fit their prompts."""

from __future__ import annotations

import functools
import importlib.util
import json

import pytest
import torch
import torch.nn.functional as F
from command import command, ten_pictures, tiny_generator, tiny_tokenizer
from scripted import ROOT
from words import add_words

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.generation.generator import Generator
from arzoo.generation.prompts import PromptReader
from arzoo.generation.verifiers import image_text
from arzoo.generation.verifiers.image_text import Heads, ImageText, ImageTextConfig, train_heads
from arzoo.metrics.scores.retrieval import derangement, mean_and_error, ranks, recall
from arzoo.samplers.verifiers.base import Subject

SMALL = ImageTextConfig(width=32, hidden=64, epochs=20, batch=64, lr=3e-3)


def pairs(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of pictures and texts that show the same hidden thing in two ways."""
    random = torch.Generator().manual_seed(seed)
    mixing = torch.Generator().manual_seed(99)
    things = torch.randn(count, 12, generator=random)
    to_image, to_text = torch.randn(12, 40, generator=mixing), torch.randn(12, 24, generator=mixing)
    noise = 0.1 * torch.randn(count, 40, generator=random)
    return things @ to_image + noise, F.normalize(things @ to_text, dim=1)


@pytest.fixture(scope="module")
def heads() -> Heads:
    return train_heads(*pairs(400), torch.arange(400), SMALL)


def test_heads_find_the_text_of_pictures_they_have_not_seen(heads):
    images, texts = pairs(50, seed=7)
    similarity = heads.images(images) @ heads.texts(texts).T
    assert recall(ranks(similarity, torch.arange(50)), 1).mean() > 0.7
    shuffled = ranks(similarity, derangement(50, 0)).double()
    assert 20 < shuffled.mean() < 33


def test_heads_follow_the_seed_alone(heads):
    torch.manual_seed(123)
    state = torch.get_rng_state()
    again = train_heads(*pairs(400), torch.arange(400), SMALL)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(heads.parameters(), again.parameters(), strict=True))
    other = train_heads(*pairs(400), torch.arange(400), SMALL.replace(seed=1))
    assert not torch.equal(heads.text.weight, other.text.weight)


def test_all_drawings_of_a_name_are_right(heads):
    images, texts = (x[:4] for x in pairs(4))
    texts[1] = texts[0]
    same = torch.eye(4, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    logits = heads.log_scale.exp() * heads.images(images) @ heads.texts(texts).T
    log_a, log_b = logits.log_softmax(1), logits.T.log_softmax(1)
    expected = sum(
        -(log[0, :2].mean() + log[1, :2].mean() + log[2, 2] + log[3, 3]) / 4 for log in (log_a, log_b)
    )
    torch.testing.assert_close(heads.loss(images, texts, same), expected / 2)


def captioned(side: int = 16):
    """Ten colored squares, two a caption, the last two held out."""
    colours = torch.tensor([[200, 20, 20], [20, 200, 20], [20, 20, 200], [200, 200, 20], [90, 90, 90]])
    images = colours.repeat_interleave(2, 0)[:, None, None].expand(10, side, side, 3).to(torch.uint8)
    names = ("red", "green", "blue", "yellow", "grey")
    data = ten_pictures(side)
    return type(data)(**{**vars(data), "images": images, "captions": tuple(names[i // 2] for i in range(10))})


@pytest.fixture
def verifier(monkeypatch, tmp_path):
    """Makes verifiers of colored squares; their cache is `tmp_path`."""
    words = add_words(monkeypatch)
    monkeypatch.setitem(registry._entries["dataset"], "squares", captioned)
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))

    def again(**options):
        image_text._parts.cache_clear()  # as a new process
        return ImageText(Subject(prompt="red"), data="squares", text=words, **options)

    return again


def test_verifier_is_trained_once_and_kept(verifier, tmp_path):
    one = verifier()
    (path,) = (tmp_path / "cache" / "verifiers").iterdir()
    images = captioned().images
    scores = one.score_images(images)
    assert scores.shape == (10,)
    assert scores[:2].min() > scores[2:8].max() + 0.1, "the first two squares are red"
    torch.testing.assert_close(one.similarity(images, ["blue", "red"])[:, 1], scores)
    assert torch.equal(verifier().score_images(images), scores)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.warns(UserWarning, match="is damaged"):
        assert torch.equal(verifier().score_images(images), scores)
    other = verifier(seed=1)
    assert len(list(path.parent.iterdir())) == 2
    assert not torch.equal(other.score_images(images), scores)


def test_verifier_learns_from_captions(verifier, monkeypatch):
    monkeypatch.setitem(registry._entries["dataset"], "squares", ten_pictures)
    with pytest.raises(ArzooError, match="has no captions"):
        verifier()


def test_verifier_is_listed(capsys):
    listed = command(capsys, "models", "--kind", "verifier", "--json").json["verifier"]
    assert "image_text" in listed
    assert "minilm" in command(capsys, "models", "--kind", "text_encoder", "--json").json["text_encoder"]


def test_ranks_and_errors():
    similarity = torch.tensor([[0.9, 0.1, 0.5], [0.2, 0.3, 0.4], [0.5, 0.5, 0.5]])
    rank = ranks(similarity, torch.arange(3))
    assert rank.tolist() == [1, 2, 3], "a tie counts as worse"
    assert recall(rank, 2).tolist() == [1, 1, 0]
    mean, error = mean_and_error(torch.arange(400) % 2)
    assert mean == 0.5
    assert error == pytest.approx(0.5 / 20, rel=0.1)
    for n in (2, 3, 50):
        order = derangement(n, seed=n)
        assert sorted(order.tolist()) == list(range(n))
        assert not (order == torch.arange(n)).any()
    with pytest.raises(ArzooError, match="at least 2"):
        derangement(1, 0)


# ---- scripts/dev/prompt_match.py


@pytest.fixture(scope="module")
def script():
    path = ROOT / "scripts" / "dev" / "prompt_match.py"
    spec = importlib.util.spec_from_file_location("prompt_match", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Perfect:
    """Says of every row that it shows the text of the same number, and remembers what it was shown."""

    def __init__(self) -> None:
        self.seen = []

    def similarity(self, images, captions):
        self.seen.append((images, captions))
        return torch.eye(len(images))


def test_matching_prompts_stand_out_from_shuffled_ones(script, monkeypatch, tmp_path):
    reader = PromptReader(add_words(monkeypatch), 6)
    tiny_generator(tmp_path / "gen", tiny_tokenizer(tmp_path / "tok"), text=reader)
    model, data, verifier = Generator.load(tmp_path / "gen"), captioned(), Perfect()
    found = script.match(model, verifier, data, 0, seed=0, style="twemoji")
    assert found["n"] == 5
    assert found["prompts"]["R@1"] == {"value": 1.0, "error": 0.0}
    assert found["prompts"]["mean rank"]["value"] == 1
    assert found["shuffled prompts"]["R@1"]["value"] == 0
    assert found["shuffled prompts"]["mean rank"]["value"] == 5, "all but one text score the same"
    (drawn, captions), (real, _) = verifier.seen
    assert drawn.shape == real.shape == (5, 16, 16, 3)
    expected = model.generate(prompts=[f"{caption}, twemoji" for caption in captions], seed=0)
    assert torch.equal(drawn, expected.stills)
    line = script.markdown("gen", "train", found)
    assert line.startswith("| gen | 5 train | 1 ± 0 / 0 ± 0 / 1 ± 0 |")
    assert line.count("|") == 8
    json.dumps(found)


def test_script_measures_a_checkpoint(script, verifier, monkeypatch, tmp_path, capsys):
    tiny_generator(tmp_path / "gen", tiny_tokenizer(tmp_path / "tok"), text=PromptReader("words", 6))
    words = functools.partial(script.ImageText, text="words")
    monkeypatch.setattr(script, "ImageText", words)
    out = tmp_path / "new" / "match.json"
    arguments = [
        "prompt_match.py",
        str(tmp_path / "gen"),
        "--data",
        "squares",
        "--split",
        "train",
        "--out",
        str(out),
    ]
    monkeypatch.setattr("sys.argv", arguments)
    script.main()
    document = json.loads(out.read_text())
    assert document["n"] == 4
    assert document["protocol"]["seed"] == 0
    assert document["protocol"]["verifier_seed"] == 1
    assert len(document["protocol"]["text_encoder"]) == len(document["protocol"]["weights"]) == 64
    assert document["real drawings"]["R@1"]["value"] == 1, "squares of these colours were learned"
    assert "| 4 train |" in capsys.readouterr().out
