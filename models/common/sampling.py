"""Published sampling settings, as the knobs of a converted checkpoint.

Settings are looked up by width, or by the number of tokens. Weights of an unpublished size sample without guidance.
"""

from __future__ import annotations

from arzoo.core.control import Control
from arzoo.samplers.schedules import by_stage, falling, over_steps, over_tokens, power_cosine, rising

_LLAMAGEN = {768: 2.0, 1024: 2.0, 1280: 1.75, 1536: 1.75, 3200: 1.65}
_NAR = dict.fromkeys(_LLAMAGEN, 2.0)
_NAR_VIDEO = {1024: 1.25, 1280: 1.25}
_PAR = {1024: 1.6, 1280: 1.5, 1536: 1.435, 3200: 1.345}
_CODES = {"llamagen": _LLAMAGEN, "nar": _NAR, "nar_video": _NAR_VIDEO, "par": _PAR}
_TEXT = {"llamagen": Control(guidance=7.5, top_k=1000), "nar": Control(guidance=7.5)}
_MAR = {768: 2.9, 1024: 3.0, 1280: 3.2}
_HIMAR = {768: (4, 2.7, 2.5), 1024: (4, 3.5, 3.5), 1280: (12, 5.5, 3.2)}
_XAR = {768: (40, 2.7), 1024: (50, 2.3), 1280: (50, 2.2)}
_RAR = {768: (16.0, 2.75, 1.0), 1024: (15.5, 2.5, 1.02), 1280: (6.9, 1.5, 1.02), 1408: (8.0, 1.2, 1.02)}
_MASKGIT = {32: (9.5, 4.5), 64: (11.0, 3.0)}
NBP = Control(top_k=16000, top_p=0.9)
"""The knobs of NBP, without guidance."""
_VAR = {1024, 1280, 1536, 1920, 2304}
_AIM = Control(guidance=5.0, top_k=600, top_p=0.98)
_FLOWAR = {768: (25, 4.3, 0.9), 1024: (25, 2.4, 0.9), 1536: (50, 2.4, 0.7)}


def codes(source: str, width: int, text: bool) -> Control:
    """Return the knobs of "llamagen", "nar", "nar_video" or "par" by width: constant guidance, no top-k for classes."""
    if text:
        return _TEXT.get(source, Control())
    return Control(guidance=_CODES[source].get(width, 1.0))


def mar(width: int) -> Control:
    """Return the knobs of MAR: guidance rises with the number of tokens; 100 steps of diffusion."""
    if width not in _MAR:
        return Control()
    return Control(guidance=over_tokens(1.0, _MAR[width]), head_steps=100)


def himar_steps(width: int) -> int:
    """Return the steps of the dense tokens of Hi-MAR."""
    return _HIMAR.get(width, (4,))[0]


def himar(width: int) -> Control:
    """Return the knobs of Hi-MAR: guidance rises with the tokens of each stage; 100 and 250 steps of diffusion."""
    if width not in _HIMAR:
        return Control()
    _, pivots, dense = _HIMAR[width]
    guidance = by_stage(over_tokens(1.0, pivots), over_tokens(1.0, dense))
    return Control(guidance=guidance, head_steps=by_stage(100, 250))


def xar(width: int) -> Control:
    """Return the knobs of xAR: guidance rises over the cells."""
    if width not in _XAR:
        return Control()
    steps, last = _XAR[width]
    return Control(guidance=over_steps(1.0, last), head_steps=steps)


def rar(width: int) -> Control:
    """Return the knobs of RAR: guidance rises by half a cosine over a power of the step."""
    if width not in _RAR:
        return Control()
    scale, power, temperature = _RAR[width]
    return Control(guidance=power_cosine(scale, power), temperature=temperature)


def maskgit(tokens: int) -> Control:
    """Return the knobs of TiTok's generators by number of tokens, those of its evaluation, which softens logits."""
    if tokens not in _MASKGIT:
        return Control(temperature=falling(1.0))
    temperature, added = _MASKGIT[tokens]
    return Control(guidance=rising(1 + added), temperature=falling(temperature, soften=True))


def aim(width: int) -> Control:
    """Return the knobs of AiM, which are those of its documentation for all sizes."""
    return _AIM if width in (768, 1024, 1536) else Control()


def flowar(width: int) -> Control:
    """Return the knobs of FlowAR: guidance rises over the scales and is off at the noisiest times."""
    if width not in _FLOWAR:
        return Control()
    steps, last, end = _FLOWAR[width]
    return Control(guidance=over_steps(1.0, last), interval=(0.0, end), head_steps=steps)


def var(width: int) -> Control:
    """Return the knobs of VAR's evaluation: guidance rises over the scales (cfg 1.5, which is added to 1)."""
    return Control(guidance=over_steps(1.0, 2.5), top_k=900, top_p=0.96) if width in _VAR else Control()
