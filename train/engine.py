"""The training loop, one for tokenizers and generators, on accelerate.

Everything random in a step follows from (seed, step), so a run that continues is the run that was never stopped.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from timm.utils import ModelEmaV3
from torch import nn

from arzoo.draws import Draws
from arzoo.errors import ArzooError, Interrupted
from arzoo.train import state as states
from arzoo.train.interrupt import StopRequest
from arzoo.train.objective import Metrics, Objective
from arzoo.train.settings import OptimConfig, RunConfig


class Engine:
    """Trains an objective.

    Args:
        objective: What to train.
        run: Length and pace.
        optim: Optimizer of every part.
        out: Folder of the run: log.jsonl, previews, saved states, checkpoint.
        record: How the run was asked for; stored with states and checkpoints.
        console: Where messages go.
    """

    def __init__(
        self,
        objective: Objective,
        run: RunConfig,
        optim: OptimConfig,
        out: Path,
        record: dict[str, Any],
        console: Console,
    ) -> None:
        if run.threads:
            torch.set_num_threads(run.threads)
        self.objective, self.run, self.optim, self.out, self.record = objective, run, optim, out, record
        self.console = console
        precision = "bf16" if run.precision == "bf16" else "no"
        self.accelerator = Accelerator(mixed_precision=precision, gradient_accumulation_steps=run.accumulate)
        self.ema = ModelEmaV3(next(iter(objective.parts.values())), decay=optim.ema, use_warmup=True)
        self.optimizers = {name: optim.optimizer(part) for name, part in objective.parts.items()}
        prepared = self.accelerator.prepare(*objective.parts.values(), *self.optimizers.values())
        count = len(objective.parts)
        self.parts: dict[str, nn.Module] = dict(zip(objective.parts, prepared[:count], strict=True))
        self.optimizers = dict(zip(objective.parts, prepared[count:], strict=True))
        if run.compile:
            self.parts = {name: torch.compile(part) for name, part in self.parts.items()}  # type: ignore[misc]
        self.step = 0
        self.seconds = 0.0

    @property
    def model(self) -> nn.Module:
        """The averaged model."""
        return self.ema.module

    def resume(self) -> bool:
        """Continue from the newest saved state.

        Returns:
            Whether there was one.

        Raises:
            ArzooError: The folder holds a run of another recipe.
        """
        folder = states.latest(self.out)
        if folder is None:
            return False
        saved = json.loads((folder / "trainer.json").read_text())
        if saved["recipe"] != self.record["recipe"]:
            changed = [k for k, v in self.record["recipe"].items() if saved["recipe"].get(k) != v]
            raise ArzooError(
                f"{self.out} holds a run with other settings (they differ in: {', '.join(changed)}). "
                f"Continue it with the "
                "same ones, or give another --out."
            )
        states.restore(self.accelerator, folder, self.ema)
        self.step, self.seconds = saved["step"], saved["seconds"]
        return True

    def fit(self, max_steps: int | None = None) -> Metrics:
        """Train up to the end of the schedule, or to `max_steps` of it.

        Returns:
            The last validation figures.

        Raises:
            Interrupted: The run was asked to stop; its state is saved.
        """
        end = min(self.run.steps, max_steps or self.run.steps)
        metrics: Metrics = {}
        with (
            StopRequest(self.console) as request,
            self._progress() as progress,
            (self.out / "log.jsonl").open("a") as log,
        ):
            task = progress.add_task("training", total=end, completed=self.step)
            while self.step < end:
                started = time.perf_counter()
                line = self._train_step()
                self.step += 1
                self.seconds += time.perf_counter() - started
                progress.update(task, advance=1, description=f"loss {line['loss']:.4f}")
                last = self.step == end
                if self.step % self.run.preview_every == 0 or last:
                    metrics = self._look()
                    line |= metrics
                if self.step % self.run.log_every == 0 or last or metrics.keys() & line.keys():
                    self._log(log, line)
                stop = self._asked(request)
                if self.step % self.run.save_every == 0 or last or stop:
                    extra = {"recipe": self.record["recipe"], "seconds": self.seconds}
                    states.save(self.accelerator, self.out, self.step, self.ema, extra, self.run.keep)
                if stop and not last:
                    raise Interrupted(f"stopped behind step {self.step}, saved; the same command continues")
        if self.accelerator.is_main_process:
            record = {**self.record, "steps": self.step, "hours": round(self.seconds / 3600, 3)}
            self.objective.export(self.model, self.out / "checkpoint", metrics, record)
        return metrics

    def _asked(self, request: StopRequest) -> bool:
        """Whether any process was asked to stop; all of them must leave the loop at the same step."""
        if self.accelerator.num_processes == 1:
            return request.asked
        asked = torch.tensor([request.asked], dtype=torch.int, device=self.accelerator.device)
        return bool(self.accelerator.reduce(asked).item())

    def _train_step(self) -> Metrics:
        run, accelerator = self.run, self.accelerator
        line: dict[str, Any] = {}
        world = accelerator.num_processes
        micro = run.batch // run.accumulate // world
        for part in self.parts.values():
            part.train()
        for name, optimizer in self.optimizers.items():
            optimizer.zero_grad()
            worked = False
            for i in range(run.accumulate):
                number = (self.step * run.accumulate + i) * world + accelerator.process_index
                torch.manual_seed(int(Draws([run.seed], number).integers((1, 1), 2**62)))
                batch = self.objective.batch(number, micro)
                with accelerator.autocast():
                    loss, numbers = self.objective.loss(name, self.parts, batch, self.step)
                line |= numbers
                if loss is None:
                    continue
                worked = True
                accelerator.backward(loss / run.accumulate)
                line["loss" if name == next(iter(self.parts)) else f"{name}_loss"] = loss
            if not worked:
                continue
            self._update(name, line)
        line |= self.objective.after_step(self.step)
        self.ema.update(accelerator.unwrap_model(next(iter(self.parts.values()))), step=self.step)
        return states.to_floats(line)

    def _update(self, name: str, line: dict[str, Any]) -> None:
        lr = self.optim.lr * self.optim.factor(self.run.steps)(self.step)
        for group in self.optimizers[name].param_groups:
            group["lr"] = lr
        norm = self.accelerator.clip_grad_norm_(self.parts[name].parameters(), self.optim.clip)
        if not torch.isfinite(torch.as_tensor(norm)):
            raise ArzooError(
                f"the gradient of {name!r} is not finite at step {self.step}; nothing was changed by "
                f"this step. The last "
                f"saved state is in {self.out / 'state'}: continue from it with a lower --optim.lr."
            )
        self.optimizers[name].step()
        line["lr"], line[f"{name}_gradient_norm"] = lr, norm

    def _look(self) -> Metrics:
        if not self.accelerator.is_main_process:
            return {}
        self.model.eval()
        folder = self.out / "previews"
        folder.mkdir(exist_ok=True)
        self.objective.preview(self.model, folder, self.step)
        return self.objective.validate(self.model)

    def _log(self, log: Any, line: Metrics) -> None:
        if not self.accelerator.is_main_process:
            return
        speed = self.run.batch * self.step / max(self.seconds, 1e-9)
        entry = {
            "step": self.step,
            **{k: round(v, 6) for k, v in line.items()},
            "samples_per_second": round(speed, 1),
        }
        log.write(json.dumps(entry) + "\n")
        log.flush()
        if not self.console.is_terminal:
            self.console.print(
                "  ".join(f"{k} {v:g}" for k, v in entry.items()), soft_wrap=True, highlight=False
            )

    def _progress(self) -> Progress:
        columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn()
        return Progress(*columns, console=self.console, disable=not self.console.is_terminal)
