"""Pictures of tokenizers in the layout of generators: the functions behind `arzoo.base.sharing.OfImages`."""

from __future__ import annotations

import torch

from arzoo.core.contracts import Tokenizer
from arzoo.core.tokens import Tokens, require_tokens
from arzoo.data.transforms import to_model
from arzoo.generation.canvas import decoded, require_pictures
from arzoo.generation.drawings import Drawings
from arzoo.generation.inputs import Pictures, pictures_of
from arzoo.tokenizers.common.lengths import encoded


@torch.no_grad()
def encode_images(tokenizer: Tokenizer, images: Pictures, quality: float | None) -> Tokens:
    """Encode pictures or clips, see `OfImages.encode_images`."""
    clips = require_pictures(
        tokenizer.image_size, pictures_of(images, tokenizer.image_size, tokenizer.frames)
    )
    return encoded(tokenizer, to_model(clips).to(_device(tokenizer)), quality)


def decode_images(tokenizer: Tokenizer, tokens: Tokens) -> Drawings:
    """Decode tokens, see `OfImages.decode_images`; one by one on a CPU, so that no picture depends on the others."""
    require_tokens(tokens)
    device, spec = _device(tokenizer), tokenizer.spec
    return decoded(tokenizer, spec, tokens.copy(device), spec.layout, device.type == "cpu")


def _device(tokenizer: Tokenizer) -> torch.device:
    return next(tokenizer.parameters()).device
