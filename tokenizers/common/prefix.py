"""Check of prefixes for tokenizers that draw nothing from no token."""

from __future__ import annotations

from arzoo.base.errors import ArzooError
from arzoo.core.tokens import Tokens


def refuse_empty(tokens: Tokens) -> None:
    """Refuse samples without tokens.

    Raises:
        ArzooError: A sample has none.
    """
    if bool((tokens.length < 1).any()):
        raise ArzooError(
            f"sample {int(tokens.length.argmin())} has no tokens; a picture is drawn from its first 1 to "
            f"{tokens.values.shape[1]} tokens. Keep at least one: tokens.first(1)"
        )
