"""The training loop, one for tokenizers and generators, on accelerate.

Everything random about a sample follows from the seed and the sample's running number, so a continued run equals one
that was never stopped, and the number of micro-batches and processes changes roundings only; see `Engine` for the
exceptions. A micro-batch is drawn once and used by every part; all parts see the weights from before the step, as in
published adversarial trainings.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, send_to_device
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.utils.checkpoint import noop_context_fn

from arzoo.base import files
from arzoo.base.console import lossy
from arzoo.base.errors import Interrupted
from arzoo.core.draws import Draws, sample_draws
from arzoo.train.batches import micro_batches
from arzoo.train.devices import checkpoint_blocks, full, local, make_accelerator, mean_of_processes
from arzoo.train.ema import Average
from arzoo.train.flops import counter
from arzoo.train.noise import SampleNoise, again
from arzoo.train.objective import LAYERS, Metrics, Objective
from arzoo.train.optim import optimizer, set_lr
from arzoo.train.products import fast_products
from arzoo.train.run import checkpoint, health, report
from arzoo.train.run import lineage as same
from arzoo.train.run import state as states
from arzoo.train.run.interrupt import StopRequest
from arzoo.train.run.log import SPEED, Log, spread, start_trackers
from arzoo.train.run.page import PREVIEWS, RunPage
from arzoo.train.settings import OptimConfig, RunConfig

_TIMED = 5
"""Steps after the first one over which the expected time is measured."""


class Engine:
    """Trains an objective.

    Batch statistics are computed over a micro-batch: the discriminator's batch norm, the adaptive weight and the
    entropy of a codebook. Dropout in compiled modules also depends on the micro-batch.

    Args:
        objective: The objective.
        run: Length and pace.
        optim: Optimizer; parts beside the model always have AdamW, because patterns and Muon are for its matrices.
        out: Folder of the run: log.jsonl, page and curves, previews, saved states, checkpoint.
        record: Recipe, seed and lineage; stored with states and checkpoints.
        console: Console for messages; messages that cannot be written are discarded and the run continues.
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
        self.raw = objective.parts
        self.name, model = next(iter(self.raw.items()))
        self.accelerator = make_accelerator(run, model)
        self.console = lossy(console) if self.accelerator.is_main_process else Console(quiet=True)
        device = self.accelerator.device
        objective.to(device)
        for part in self.raw.values():
            # Weights in the order of channels, which convolutions like, cannot be split.
            part.to(memory_format=torch.contiguous_format) if run.sharded else part.to(device)
        self.average = Average(model, optim.ema)
        if run.checkpointing:
            checkpoint_blocks(model, noop_context_fn if run.compile else again)
        self.trained = {n: [p for p in part.parameters() if p.requires_grad] for n, part in self.raw.items()}
        self.wrapped: dict[str, nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        for name, part in self.raw.items():
            own = optim if name == self.name else optim.replace(name="adamw", no_decay=())
            self.wrapped[name], self.optimizers[name] = self.accelerator.prepare(part, optimizer(part, own))
        if run.sharded:
            self.average.split(model)
            self.trained[self.name] = [p for p in model.parameters() if p.requires_grad]
        compiled: Any = torch.compile if run.compile else lambda part: part
        self.compiled = {name: compiled(part) for name, part in self.wrapped.items()}
        self.step, self.seconds, self.flops = 0, 0.0, 0.0

    @property
    def model(self) -> nn.Module:
        """The averaged model."""
        return self.average.module

    def resume(self, source: Path | None) -> Path | None:
        """Load the newest intact state; nothing is written.

        Args:
            source: State of another run to begin with if this run has no state of its own; its settings may differ.

        Returns:
            The folder of the state; None if there is none.

        Raises:
            ArzooError: The folder holds a run of another recipe, of other data or of another tokenizer, or all its
                states are damaged.
        """
        newest: list[Any] = [None]
        if self.accelerator.is_main_process:
            newest = [states.latest(self.out, self.console.print)]
        if self.accelerator.num_processes > 1:
            broadcast_object_list(newest)
        folder = newest[0]
        if folder is None and source is None:
            return None
        if folder is None:
            assert source is not None
            folder, saved = source, states.trainer(source)
        else:
            saved = states.trainer(folder)
            same.refuse_other(
                self.out, saved, {"recipe": self.record["recipe"], "lineage": self.objective.lineage}
            )
        states.restore(folder, self.raw, self.optimizers, self.average)
        self.step, self.seconds, self.flops = saved["step"], saved["seconds"], saved["flops"]
        return folder

    def fit(self, max_steps: int | None = None) -> Metrics:
        """Train to the end of the schedule, or to step `max_steps` of it.

        Returns:
            The last validation figures.

        Raises:
            Interrupted: The run was asked to stop; its state is saved.
            ArzooError: A value is not finite, or the disk is full.
        """
        end = self.end(max_steps)
        metrics: Metrics | None = None
        if self.accelerator.is_main_process:
            states.sweep(self.out)
        with contextlib.ExitStack() as stack:
            request = stack.enter_context(StopRequest(self.console))
            progress = stack.enter_context(self._progress())
            log = self._open_log(stack)
            page = None if log is None else RunPage(self.out, self.record, self.run.steps, self.console)
            task = progress.add_task("training", total=end, completed=self.step)
            batches = stack.enter_context(contextlib.closing(self.batches(range(self.step, end))))
            first, timed, clock = self.step, 0.0, report.TimeLeft(end)
            self._logged = self.step, self.seconds  # as of the last line of the log
            while self.step < end:
                started = time.perf_counter()
                line = (
                    self._counted_step(batches) if self.step == 0 else self.train_step(batches, self.compiled)
                )
                self.step += 1
                for message in self.objective.messages():
                    self.console.print(message, highlight=False, markup=False, soft_wrap=True)
                elapsed = time.perf_counter() - started
                self.seconds += elapsed
                timed += elapsed if self.step > first + 1 else 0
                if self.step == min(first + 1 + _TIMED, end) and self.step > first + 1:
                    seconds = timed / (self.step - first - 1)
                    self.console.print(
                        report.cost(self.flops, seconds, end - self.step), highlight=False, markup=False
                    )
                progress.update(task, advance=1, description=f"loss {float(line['loss']):.4f}")
                last, left = self.step == end, clock.after(self.step)
                validated = self.step % self.run.preview_every == 0 or last
                if validated:
                    metrics = self._validate()
                if self.step % self.run.log_every == 0 or validated:
                    line |= self.objective.health()
                    self._log(log, line, (metrics or {}) if validated else {}, left)
                elif self.step == first + 1 and log is not None and not self.console.is_terminal:
                    log.show(self._entry(line, {}), left)
                stop = self._must_stop(request)
                if self.step % self.run.save_every == 0 or last or stop:
                    self._save(log)
                if page is not None and (validated or stop):  # after the state, which matters more
                    page.write(self.step, last or stop)
                if stop and not last:
                    raise Interrupted(f"stopped after step {self.step}, saved; the same command continues")
        metrics = self._validate() if metrics is None else metrics
        metrics = {k: v for k, v in metrics.items() if not isinstance(v, list)}
        if self.accelerator.is_main_process:
            record = checkpoint.record_of(self.record, self.step, self.seconds, self.accelerator)
            checkpoint.write(
                self.objective, self.model, self.out, metrics, record, self.console, trained=self.step > first
            )
        self.accelerator.wait_for_everyone()
        return metrics

    def end(self, max_steps: int | None) -> int:
        """Return the last step of the run: the end of its schedule, or `max_steps` if that is earlier."""
        return min(self.run.steps, max_steps or self.run.steps)

    def batches(self, steps: Iterable[int]) -> Generator[Any]:
        """Yield this process's micro-batches of some steps; they are read ahead."""
        which = [(step, self._numbers(step, i)) for step in steps for i in range(self.run.accumulate)]
        return micro_batches(self.objective, which, self.run.workers)

    def _numbers(self, step: int, i: int) -> range:
        """Running numbers of the samples of this process's i-th micro-batch of a step."""
        world = self.accelerator.num_processes
        size = self.run.batch // self.run.accumulate // world
        first = step * self.run.batch + (i * world + self.accelerator.process_index) * size
        return range(first, first + size)

    def _counted_step(self, batches: Iterator[Any]) -> dict[str, Any]:
        """Take the first step of a run and count its operations; only step 0 is counted, so all runs count the same."""
        fast_products()  # what it tries out in the first step of a process is no work of that step
        with counter() as counted:
            line = self.train_step(batches, self.wrapped)
        self.flops = float(counted.get_total_flops() * self.accelerator.num_processes)
        return line

    def train_step(self, batches: Iterator[Any], parts: dict[str, nn.Module]) -> dict[str, Any]:
        """Take the next step without increasing `step`.

        Args:
            batches: Micro-batches of the step from `batches`.
            parts: The modules to run: `compiled` or `wrapped`.

        Returns:
            Numbers to log.
        """
        run = self.run
        for name, part in parts.items():
            part.train()
            self.optimizers[name].zero_grad()
        sums: dict[str, Any] = {}
        updated: dict[str, None] = {}  # a set in the order of the parts
        for i in range(run.accumulate):
            batch = send_to_device(next(batches), self.accelerator.device)
            for name in parts:
                with self._alone(name), self._synced(name, i == run.accumulate - 1), self._noise(i):
                    loss, numbers = self._loss(name, parts, batch)
                    for key, value in numbers.items():
                        sums[key] = sums.get(key, 0) + value / run.accumulate
                    if loss is None:
                        continue
                    updated[name] = None
                    self.accelerator.backward(loss / run.accumulate)
                    key = "loss" if name == self.name else f"{name}_loss"
                    sums[key] = sums.get(key, 0) + loss.detach() / run.accumulate
        sums |= self._update(updated, sums)
        numbers_of_step = range(self.step * run.batch, (self.step + 1) * run.batch)
        sums |= self.objective.after_step(self.step, numbers_of_step)
        self.average.update(self.raw[self.name], self.step)
        return sums

    def _noise(self, i: int) -> contextlib.AbstractContextManager[Any]:
        """Context in which layers draw from the seeds of the samples of the i-th micro-batch."""
        torch.manual_seed(int(Draws([self.run.seed], self.step).integers((1, 1), 2**62)))
        if self.run.compile:  # random functions inside compiled modules cannot be replaced
            return contextlib.nullcontext()
        return SampleNoise(sample_draws(self.run.seed, self._numbers(self.step, i), LAYERS))

    def _loss(self, name: str, parts: dict[str, nn.Module], batch: Any) -> tuple[Any, dict[str, Any]]:
        """Loss of a part on a micro-batch; the other parts are used without their wrappers."""
        modules = {**self.raw, name: parts[name]}
        # Compilation and checkpointing trace or repeat the calls that faster products replace.
        plain = self.run.compile or self.run.checkpointing
        products = contextlib.nullcontext() if plain else fast_products()
        with self.accelerator.autocast(), products:
            loss, numbers = self.objective.loss(name, modules, batch, self.step)
        return loss, {k: v.detach() if isinstance(v, torch.Tensor) else v for k, v in numbers.items()}

    @contextlib.contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Context in which only one part receives gradients."""
        others = [p for other, parameters in self.trained.items() if other != name for p in parameters]
        for parameter in others:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in others:
                parameter.requires_grad_(True)

    def _synced(self, name: str, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Context in which processes exchange gradients only for the last micro-batch of a step."""
        return contextlib.nullcontext() if last else self.accelerator.no_sync(self.wrapped[name])

    def _update(self, updated: dict[str, None], sums: dict[str, Any]) -> dict[str, Any]:
        """Clip gradients and step the optimizers, unless a value is not finite."""
        line: dict[str, Any] = {}
        for name in updated:
            norm = nn.utils.clip_grad_norm_(self.trained[name], self.optim.clip)
            line[f"{name}_gradient_norm"] = full(norm) if self.run.sharded else norm
        # The norm is that of the averaged gradient, so all processes see the same and stop together.
        checked = [*line.values(), *([sums["loss"]] if self.accelerator.num_processes == 1 else [])]
        if not all(bool(torch.as_tensor(value).isfinite()) for value in checked):
            self._fail()
        watched = self.name in updated and (self.step + 1) % self.run.log_every == 0
        ratio = health.UpdateRatio(self.raw[self.name]) if watched else None
        line["lr"] = self.optim.lr * self.optim.factor(self.step, self.run.steps)
        for name in updated:
            set_lr(self.optimizers[name], line["lr"])
            self.optimizers[name].step()
        if ratio is not None:
            line["update_ratio"] = ratio.measure()
        return line

    def _fail(self) -> None:
        """Compute the step once more to find the origin of the first value that is not finite, and raise.

        Raises:
            ArzooError: Always.
        """
        culprit = None
        for i, batch in enumerate(self.batches([self.step])):
            batch = send_to_device(batch, self.accelerator.device)
            for name, part in self.raw.items():
                part.zero_grad()
                with self._noise(i):
                    where = health.first_bad_module(
                        part,
                        lambda n=name, b=batch: self._loss(n, self.raw, b)[0],  # type: ignore[misc]
                    )
                culprit = culprit or (where and f"{where} of {name!r}")
        raise health.not_finite(self.step + 1, culprit, states.latest(self.out), self.out, self.optim.lr / 3)

    def _save(self, log: Log | None) -> None:
        for part in self.raw.values():
            if not all(bool(local(p).isfinite().all()) for p in part.parameters()):
                self._fail()
        tensors = states.collect(self.raw, self.optimizers, self.average)
        if log is not None:
            log.sync()
            extra = {"recipe": self.record["recipe"], "lineage": self.objective.lineage}
            extra |= {"seconds": self.seconds, "flops": self.flops}
            record = checkpoint.record_of(self.record, self.step, self.seconds, self.accelerator)
            states.save(
                self.out, self.step, tensors, extra, self.run.keep,
                lambda folder: checkpoint.write_state(self.objective, self.model, folder, record, self.console),
            )  # fmt: skip
        self.accelerator.wait_for_everyone()

    def _must_stop(self, request: StopRequest) -> bool:
        """Return whether any process was asked to stop; all of them must leave the loop after the same step."""
        if self.accelerator.num_processes == 1:
            return request.asked
        asked = torch.tensor([request.asked], dtype=torch.int, device=self.accelerator.device)
        return bool(self.accelerator.reduce(asked).item())

    def _validate(self) -> Metrics:
        """Save previews and compute figures of the averaged model."""
        model = self.average.gather()
        if not self.accelerator.is_main_process:
            return {}
        model.eval()
        folder = self.out / PREVIEWS
        with files.explain_full_disk(PREVIEWS, self.out, "Make room; then the same command continues."):
            folder.mkdir(exist_ok=True)
            self.objective.preview(model, folder, self.step)
        return health.to_plain(self.objective.validate(model))

    def _open_log(self, stack: contextlib.ExitStack) -> Log | None:
        """Open the trackers in all processes, and the log in the main process."""
        start_trackers(self.accelerator, self.run.trackers, self.out, self.record["recipe"])
        if not self.accelerator.is_main_process:
            return None
        log = Log(self.out, self.step, self.console, self.objective.units, self.run.steps)
        stack.callback(log.close)
        return log

    def _log(self, log: Log | None, line: dict[str, Any], metrics: Metrics, left: str) -> None:
        line = mean_of_processes(line, self.accelerator)
        if log is None:
            return
        entry, self._logged = self._entry(line, metrics), (self.step, self.seconds)
        log.write(entry, bool(metrics), left)
        numbers = {name: value for name, value in entry.items() if name not in ("step", SPEED)}
        self.accelerator.log(spread(numbers), step=self.step)

    def _entry(self, line: Metrics, metrics: Metrics) -> dict[str, Any]:
        """Return the line of the log after a step; its speed is that since the line before."""
        step, seconds = self._logged
        speed = self.run.batch * (self.step - step) / max(self.seconds - seconds, 1e-9)
        numbers = {k: health.rounded(v) for k, v in health.to_plain(line | metrics).items()}
        return {"step": self.step, **numbers, SPEED: round(speed, 1)}

    def _progress(self) -> Progress:
        columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn()
        return Progress(*columns, console=self.console, disable=not self.console.is_terminal)
