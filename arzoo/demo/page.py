"""The page: what a visitor chooses, and what follows from it."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator, Mapping
from typing import Any

import gradio
import numpy as np
from PIL import Image

from arzoo.base.errors import ArzooError, UsageError
from arzoo.demo import look
from arzoo.demo.drawing import LONGEST_TEXT, Request, drawing, side_by_side
from arzoo.demo.editor import SIDE, editor, to_complete
from arzoo.demo.knobs import FIRST, TEXTS, Knob, knobs_of
from arzoo.demo.models import CLASS, NOTHING, TEXT, Models
from arzoo.demo.slots import Slots
from arzoo.generation.generator import Generator
from arzoo.generation.regions import clip_shape

FIRST_CLASS, FIRST_TEXT = "face-smiling/openmoji", "red heart"
PATIENCE = 0.2
"""Seconds between looks at the line of waiting drawings."""

Values = Mapping[Any, Any]
Changes = dict[Any, Any]


class Knobs:
    """The knobs of a model, of which those that it does not have are hidden."""

    def __init__(self) -> None:
        self.boxes: dict[str, Any] = {}
        with gradio.Row():
            for name in FIRST:
                self.boxes[name] = self._box(name)
        with gradio.Accordion("More", open=False) as self.more, gradio.Row():
            for name in TEXTS:
                if name not in FIRST:
                    self.boxes[name] = self._box(name)

    @staticmethod
    def _box(name: str) -> Any:
        more: dict[str, Any] = {"label": TEXTS[name][0], "visible": False, "min_width": 140}
        if name == "greedy":
            return gradio.Checkbox(**more)
        if name == "solver":
            return gradio.Dropdown(**more)
        return gradio.Number(step=0.1 if name in ("guidance", "temperature", "top_p") else 1, **more)

    def show(self, knobs: Mapping[str, Knob]) -> Changes:
        """Return the changes that show some knobs with their own values, and no others."""
        changes: Changes = {box: gradio.update(visible=False) for box in self.boxes.values()}
        for name, knob in knobs.items():
            choices = {"choices": list(knob.choices)} if knob.choices else {}
            changes[self.boxes[name]] = gradio.update(
                visible=True, value=knob.value, info=knob.info, **choices
            )
        changes[self.more] = gradio.update(visible=any(name not in FIRST for name in knobs))
        return changes

    def read(self, values: Values, model: Generator) -> dict[str, Any]:
        """Return the values that differ from the model's own."""
        read = {name: knob.read(values[self.boxes[name]]) for name, knob in knobs_of(model).items()}
        return {name: value for name, value in read.items() if value is not None}


class Page:
    """The page.

    Args:
        models: The models that it offers.
        slots: How many drawings it makes at once.
        options: Options of `arzoo generate` that every command has.
    """

    def __init__(self, models: Models, slots: Slots, options: tuple[str, ...] = ()) -> None:
        self.models, self.slots, self.options = models, slots, options
        first = models.first
        with gradio.Blocks(title="arzoo", analytics_enabled=False, delete_cache=(600, 600)) as self.blocks:
            device = look.text(str(models.device))
            gradio.HTML(
                f"<h1>arzoo</h1><p>Models on this machine draw ({device}); nothing leaves it.</p>",
                elem_id="head",
            )
            with gradio.Row():
                with gradio.Column(scale=4, min_width=320):
                    self._what(first)
                    self._editor()
                    self._compare()
                with gradio.Column(scale=6, min_width=320):
                    with gradio.Row():
                        self.go = gradio.Button("Draw", variant="primary", elem_id="draw")
                        self.stop = gradio.Button("Stop", elem_id="stop")
                    self.message = gradio.HTML(elem_id="message")
                    self.stage = gradio.HTML(look.empty(), elem_id="stage")
                    self.command = self._command("command", "The command that draws this picture")
                    self.other_command = self._command("other-command", "The command of the other picture")
                    self.files = gradio.HTML(elem_id="files")
            self.last = gradio.State(None)
            self._events()

    def _what(self, first: str) -> None:
        self.model = gradio.Dropdown(self.models.names, value=first, label="Model", elem_id="model")
        kinds = [(CLASS, CLASS), (TEXT, TEXT)]
        self.kind = gradio.Radio(kinds, label="Draw by", visible=False, elem_id="kind")
        self.classes = gradio.Dropdown(label="Class", visible=False, elem_id="class")
        self.text = gradio.Textbox(
            FIRST_TEXT, label="Text", visible=False, max_lines=1, max_length=LONGEST_TEXT, elem_id="text"
        )
        with gradio.Row(elem_id="seeds"):
            self.seed = gradio.Number(
                0, label="Seed", precision=0, elem_id="seed", scale=3, min_width=140,
                info="the same seed draws the same picture",
            )  # fmt: skip
            self.another = gradio.Button("Another seed", scale=1, min_width=140, size="sm")
        self.knobs = Knobs()

    def _editor(self) -> None:
        with gradio.Accordion("Complete a picture", open=False, elem_id="complete") as self.completing:
            gradio.HTML("Paint over what is to be drawn anew; the rest of the picture stays.")
            self.use = gradio.Button("Use the drawn picture", elem_id="use")
            self.editor = editor(label="Picture", elem_id="editor", height=460)

    def _compare(self) -> None:
        with gradio.Accordion("Compare with another model", open=False, elem_id="compare"):
            self.other = gradio.Dropdown(
                label="Other model", info="draws the same class or text with the same seed", elem_id="other"
            )
            self.other_knobs = Knobs()

    @staticmethod
    def _command(elem_id: str, label: str) -> Any:
        return gradio.Textbox(
            label=label, interactive=False, visible=False, lines=2, max_lines=6, buttons=["copy"], elem_id=elem_id
        )  # fmt: skip

    def _events(self) -> None:
        chosen = {self.model, self.kind, self.classes, self.text, self.other}
        shown = {
            self.message, self.kind, self.classes, self.text, self.completing, self.other, self.knobs.more,
            *self.knobs.boxes.values(),
        }  # fmt: skip
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        self.blocks.load(self.choose, chosen, shown, **quick)
        self.model.input(self.choose, chosen, shown, **quick)
        subject = {self.message, self.classes, self.text, self.other}
        self.kind.input(self.choose_kind, chosen, subject, **quick)
        self.classes.input(self.choose_kind, chosen, subject, **quick)
        others = {self.message, self.other_knobs.more, *self.other_knobs.boxes.values()}
        self.other.change(self.choose_other, chosen, others, **quick)
        self.another.click(lambda: random.randrange(2**31), None, self.seed, **quick)
        self.use.click(self.use_drawn, {self.last}, {self.message, self.editor}, **quick)
        asked = {
            *chosen, self.seed, self.editor, *self.knobs.boxes.values(), *self.other_knobs.boxes.values()
        }  # fmt: skip
        results = {self.message, self.stage, self.command, self.other_command, self.files, self.last}
        calm: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        drawn = self.go.click(self.draw, asked, results, concurrency_limit=None, **calm)
        self.stop.click(lambda: look.message("Stopped."), None, self.message, cancels=[drawn], **quick)

    def choose(self, values: Values) -> Changes:
        """Show what belongs to the chosen model."""
        with self._explained() as changes:
            name = values[self.model]
            subjects, model = self.models.require(name), self.models.load(name)
            kind = values[self.kind] if values[self.kind] in subjects.kinds else subjects.kinds[0]
            changes |= {self.kind: gradio.update(visible=len(subjects.kinds) > 1, value=kind or None)}
            if subjects.classes:
                known = [values[self.classes], FIRST_CLASS, subjects.classes[0]]
                chosen = next(each for each in known if each in subjects.classes)
                changes[self.classes] = gradio.update(choices=list(subjects.classes), value=chosen)
            changes |= self.knobs.show(knobs_of(model))
            changes[self.completing] = gradio.update(visible=can_complete(model))
            changes = merged(changes, self._of_kind(values, name, kind))
        return changes

    def choose_kind(self, values: Values) -> Changes:
        """Show the class or the text, and the models that draw it too."""
        with self._explained() as changes:
            changes = self._of_kind(values, values[self.model], values[self.kind] or NOTHING)
        return changes

    def _of_kind(self, values: Values, name: str, kind: str) -> Changes:
        subjects = self.models.require(name)
        kind = kind if kind in subjects.kinds else subjects.kinds[0]
        subject = values[self.classes] if kind == CLASS else ""
        if kind == CLASS and subject not in subjects.classes:
            subject = FIRST_CLASS if FIRST_CLASS in subjects.classes else subjects.classes[0]
        others = [
            each
            for each in self.models.names
            if each != name and self.models.subjects[each].has(kind, subject)
        ]
        kept = values[self.other] if values[self.other] in others else None
        return {
            self.message: "",
            self.classes: gradio.update(visible=kind == CLASS),
            self.text: gradio.update(visible=kind == TEXT),
            self.other: gradio.update(
                choices=[("none", ""), *((each, each) for each in others)], value=kept or ""
            ),
        }

    def choose_other(self, values: Values) -> Changes:
        """Show the knobs of the other model."""
        with self._explained() as changes:
            name = values[self.other]
            changes |= self.other_knobs.show(knobs_of(self.models.load(name)) if name else {})
        return changes

    def use_drawn(self, values: Values) -> Changes:
        """Put the drawn picture on the canvas, where it can be painted over."""
        pixels = values[self.last]
        if pixels is None:
            return {self.message: look.message("Draw a picture first.", "alert")}
        image = Image.fromarray(pixels)
        scale = max(1, SIDE // max(image.size))
        return {
            self.message: "",
            self.editor: image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST),
        }

    def requests(self, values: Values) -> list[tuple[Generator, Request]]:
        """Return what a visitor asks for, with the models.

        Raises:
            ArzooError: Something is out of range, or missing.
        """
        asked = [(values[self.model], self.knobs)]
        if values[self.other]:
            asked.append((values[self.other], self.other_knobs))
        requests, init, mask = list[tuple[Generator, Request]](), None, None
        for name, knobs in asked:
            subjects, model = self.models.require(name), self.models.load(name)
            kind = values[self.kind] if values[self.kind] in subjects.kinds else subjects.kinds[0]
            subject = {CLASS: values[self.classes], TEXT: " ".join((values[self.text] or "").split())}.get(
                kind, ""
            )
            seed = values[self.seed]
            if values[self.editor] is not None and init is None and can_complete(model):
                init, mask = to_complete(values[self.editor], *model.tokenizer.image_size)
                if not np.asarray(mask).any():
                    raise ArzooError(
                        "paint over what of the picture is to be drawn anew, or remove the picture from the canvas"
                    )
            request = Request(name, kind, subject or "", seed, knobs.read(values, model), init, mask)
            request.check()
            requests.append((model, request))
        return requests

    def draw(self, values: Values) -> Iterator[Changes]:
        """Draw what a visitor asks for, as soon as it is his turn."""
        try:
            with self.slots.place() as place:
                while before := place.before:
                    yield {self.message: look.message(waiting(before))}
                    time.sleep(PATIENCE)
                asked = self.requests(values)
                requests = [request for _, request in asked]
                commands = self._commands(requests)
                for shown in side_by_side([drawing(model, request) for model, request in asked]):
                    yield {self.stage: look.stage(requests, shown), **commands}
                    commands = {}
                yield {self.last: shown[0].pixels if shown[0] else None}
        except ArzooError as error:
            yield {self.message: look.message(str(error), "alert")}

    def _commands(self, requests: list[Request]) -> Changes:
        commands = [request.command(self.options) for request in requests]
        other = commands[1] if len(commands) > 1 else ""
        return {
            self.message: "",
            self.command: gradio.update(value=commands[0], visible=True),
            self.other_command: gradio.update(value=other, visible=bool(other)),
            self.files: look.files(requests[0]),
        }

    @contextlib.contextmanager
    def _explained(self) -> Iterator[Changes]:
        """Yield changes to fill; after an error of the library they are its message."""
        changes: Changes = {self.message: ""}
        try:
            yield changes
        except ArzooError as error:
            changes[self.message] = look.message(str(error), "alert")


def merged(first: Changes, second: Changes) -> Changes:
    """Return changes of components, those of one component together."""
    both = {**first, **second}
    for component in first.keys() & second.keys():
        if isinstance(first[component], dict) and isinstance(second[component], dict):
            both[component] = {**first[component], **second[component]}
    return both


def waiting(before: int) -> str:
    """Return what a visitor reads who waits for others."""
    drawings = "one drawing is" if before == 1 else f"{before} drawings are"
    return f"Waiting: {drawings} before yours, which begins by itself."


def can_complete(model: Generator) -> bool:
    """Return whether a model completes still pictures: its tokens have places in them."""
    try:
        clip_shape(model)
    except UsageError:
        return False
    return model.tokenizer.frames == 1
