"""Small networks that are trained on first use and then kept in the cache."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from arzoo.base.console import note
from arzoo.base.files import atomic_file
from arzoo.base.runtime import cache_folder, cache_remedy

N = TypeVar("N", bound=nn.Module)


def trained_once(name: str, depends: Iterable[str], build: Callable[[], N], train: Callable[[], N]) -> N:
    """Load a network from the cache, or train and keep it.

    Args:
        name: Name of the verifier, for the file and messages.
        depends: All that the weights depend on: settings, and hashes of data and of frozen networks.
        build: Makes the network without weights.
        train: Makes and trains it.

    Returns:
        The network, frozen and in evaluation mode.
    """
    key = hashlib.sha256("\n".join(depends).encode()).hexdigest()
    path = cache_folder() / "verifiers" / f"{name}-{key[:24]}.safetensors"
    if path.exists():
        net = build()
        try:
            net.load_state_dict(load_file(path))
            return net.eval().requires_grad_(False)
        except (SafetensorError, RuntimeError) as error:
            warnings.warn(f"{path} is damaged ({error}); training the verifier again", stacklevel=2)
    note(f"training verifier {name!r} on first use, which may take minutes; it is kept in the cache")
    net = train().eval().requires_grad_(False)
    try:
        with atomic_file(path) as partial:
            save_file(net.state_dict(), partial)
    except OSError as error:
        warnings.warn(
            f"the verifier is not kept for the next time ({error.strerror or error}). {cache_remedy()}",
            stacklevel=2,
        )
    return net
