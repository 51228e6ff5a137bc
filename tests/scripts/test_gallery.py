"""The script that redraws the pictures of the README."""

import torch
from PIL import Image
from scripted import scripts


def test_reconstructions_of_a_tokenizer_are_drawn(tmp_path, monkeypatch):
    with scripts("scripts/dev") as load:
        gallery = load("gallery")
    monkeypatch.setattr(gallery, "IMAGES", tmp_path)
    gallery.reconstructions(["vq_emoji64"])
    with Image.open(tmp_path / "tokenizers.png") as sheet:
        assert sheet.width > 16 * 64
        assert sheet.height > 2 * 64
    assert not torch.is_inference_mode_enabled()
