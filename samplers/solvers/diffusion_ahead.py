"""Ancestral sampling that checks several denoising steps with one evaluation of the network, with the law of `ddpm`.

"Accelerated Diffusion Models via Speculative Sampling" (2025), section 3, with the network's own last prediction as the
draft: it hardly changes between neighboring steps. From the state of a token, the next states are drafted with the
newest prediction; one evaluation predicts at all of them; drafts are kept until the first that is not, which is
replaced. After the last draft the prediction gives one more step, so every evaluation takes at least one. The last step
has no noise and cannot be drafted.

Tokens advance at their own pace. A group is ready when its slowest token is, and until then all of its tokens are
evaluated: calls are saved, evaluated states are not.

Shapes: B samples, m positions, n = B m tokens, L states, C channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from arzoo.core.control import Settings
from arzoo.core.draws import Draws
from arzoo.samplers.solvers.diffusion import kept_steps, posterior
from arzoo.samplers.speculative.normals import Normal, kept, residual


def ddpm_ahead(
    predict: Callable[[Tensor, Tensor | float], Tensor], x: Tensor, settings: Settings, draws: Draws
) -> Tensor:
    """Draw tokens (B, m, C) with the law of `ddpm`.

    Args:
        predict: As for `ddpm`, and also for several states of each token: (B, m L, C), those of a token in a row, at
            timesteps (B, m L).
        x: Noise (B, m, C).
        settings: `head_window` is L, at least 2.
        draws: Randomness of the B samples.
    """
    steps, window, shape = kept_steps(settings), settings.head_window, x.shape
    rows, times = torch.from_numpy(steps.coefficients()).to(x), torch.tensor(steps.timesteps, device=x.device)

    def law(state: Tensor, out: Tensor, step: Tensor) -> Normal:
        mean, deviation = posterior(state, out, rows[step.clamp(min=0)].split(1, -1))
        return Normal(mean, deviation * settings.temperature)

    out = predict(x, steps.timesteps[-1]).flatten(0, 1)
    x, last = x.flatten(0, 1), len(times) - 1
    token = torch.arange(len(x), device=x.device)
    step = torch.full_like(token, last)
    x, step = law(x, out, step).at(draws.normal(shape).to(x).flatten(0, 1)), step - 1
    while (most := int(step.max())) >= 0:
        span = min(window, max(most + 1, 2))  # the random numbers are those of a whole window
        noise = draws.normal((*shape[:2], window, shape[2])).to(x).flatten(0, 1)
        level = draws.uniform((*shape[:2], window - 1)).to(x.device).flatten(0, 1)
        seeds = draws.integers(shape[:2], 2**62).flatten()
        states, drafts = [x], list[Normal]()
        for ahead in range(span - 1):
            drafts.append(law(states[-1], out, step - ahead))
            states.append(drafts[-1].at(noise[:, ahead]))
        state, draft = torch.stack(states, 1), Normal.stack(drafts)
        steps_ahead = step[:, None] - torch.arange(span, device=x.device)
        outs = predict(
            state.reshape(shape[0], -1, shape[2]), times[steps_ahead.clamp(min=0)].view(shape[0], -1)
        )
        outs = outs.reshape(len(x), span, -1)
        target = law(state, outs, steps_ahead)
        good = kept(state[:, 1:], target.select((slice(None), slice(-1))), draft, level[:, : span - 1])
        count = (good & (steps_ahead[:, :-1] > 0)).int().cumprod(-1).sum(-1)
        new, out, left = target.select((token, count)), outs[token, count], step - count
        following = torch.where(left[:, None] > 0, new.at(noise[:, -1]), new.mean)
        wrong = ((left > 0) & (count < span - 1)).nonzero()[:, 0]
        number = count[wrong]
        following[wrong] = residual(
            state[wrong, number + 1],
            new.select(wrong),
            draft.select((wrong, number)),
            seeds[wrong.cpu()].tolist(),
        )
        x = torch.where(step[:, None] >= 0, following, x)
        step = torch.where(step >= 0, left - 1, step)
    return x.view(shape)
