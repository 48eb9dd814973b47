"""Answering by hand in the terminal: one key a label, or typed lines; from a pipe, one line an answer."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from aasut.errors import DataError
from aasut.gold import form
from aasut.gold.session import Item, Session, Tally

SKIP_REASONS = ("I cannot tell", "more than one answer fits")
UNUSABLE = "the input is not usable"
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def sit(session: Session, stdin: TextIO, stdout: TextIO, *, measured: Callable[[], str] = lambda: "") -> None:
    """Ask until nothing is left, `q`, the end of the input, or Ctrl-C. `measured` gives a note such as the kappa."""
    _Sitting(session, stdin, stdout, measured).run()


def keys_of(answers: Sequence[str]) -> tuple[str, ...]:
    """The key of each answer, none where there are over nine: its own digit, or else its number."""
    if not answers or len(answers) > 9:
        return ()
    if all(len(answer) == 1 and answer in "0123456789" for answer in answers):
        return tuple(answers)
    return tuple(str(number) for number in range(1, len(answers) + 1))


def choose(text: str, answers: Sequence[str]) -> str | None:
    """The answer that typed text means: by name, by number, or by a beginning that only one has."""
    said = text.strip().casefold()
    exact = [answer for answer in answers if answer.casefold() == said]
    if exact or not said:
        return exact[0] if exact else None
    if said.isdecimal() and not any(answer.isdecimal() for answer in answers):
        return answers[int(said) - 1] if 1 <= int(said) <= len(answers) else None
    begun = [answer for answer in answers if answer.casefold().startswith(said)]
    return begun[0] if len(begun) == 1 else None


def visible(text: str) -> str:
    """Text in which control characters, which could steer the terminal, are shown as signs."""
    return _CONTROLS.sub(lambda found: chr(0x2400 + ord(found[0])) if ord(found[0]) < 32 else "\ufffd", text)


class _Quit(Exception):
    """Whoever answers wants to stop."""


class _Sitting:
    def __init__(self, session: Session, stdin: TextIO, stdout: TextIO, measured: Callable[[], str]) -> None:
        self.session, self.stdin, self.stdout, self.measured = session, stdin, stdout, measured
        self.answers = session.task.answers
        self.keys = keys_of(self.answers)
        self.terminal = stdin.isatty() and stdout.isatty()

    def run(self) -> None:
        self._introduce()
        try:
            with _single_keys(self.stdin, wanted=self.terminal and bool(self.keys)):
                while (item := self.session.item()) is not None:
                    self._show(item, self.session.tally())
                    self._ask(item)
        except (_Quit, KeyboardInterrupt):
            self._print("\n")
        except UnicodeDecodeError:
            raise DataError("The input is not UTF-8.", "Everything before it is kept.") from None

    def _introduce(self) -> None:
        prompt = "\n".join(message.content for message in self.session.task.prompt.messages)
        self._print(f"What the application asks:\n{_indented(prompt)}\n")
        if fields := form.hint(self.session.task.schema):
            self._print(f"The answer is JSON: {visible(fields)}\n")

    def _show(self, item: Item, tally: Tally) -> None:
        left = "" if tally.seconds_left is None else f", about {clock(tally.seconds_left)} left"
        note = self.measured()
        self._print(f"\n── {tally.done + 1} of {tally.done + tally.left}{left}{f', {note}' if note else ''}\n")
        names = self.session.task.prompt.slots
        for name in names:
            heading = f"{name}:\n" if len(names) > 1 else ""
            self._print(f"{heading}{_indented(item.example.slots[name])}\n")
        if item.round == "adjudicated":
            said = [text or UNUSABLE for text in item.said]
            typed = "" if self.answers else " (:1, :2 … takes one of them)"
            shown = "\n".join(f"  {number}. {visible(text)}" for number, text in enumerate(said, 1))
            self._print(f"People said{typed}:\n{shown}\n")
        self._print(self._help() + "\n")

    def _help(self) -> str:
        if self.keys:
            labels = "   ".join(
                f"[{key}] {visible(answer)}" for key, answer in zip(self.keys, self.answers, strict=True)
            )
            return f"{labels}   [u] undo  [s] skip  [q] quit"
        what = (
            "Type an answer or its beginning: " + ", ".join(visible(answer) for answer in self.answers) + "."
            if self.answers
            else "Type the answer; a line that ends in \\ goes on."
        )
        return f"{what}  :u undo  :s skip  :q quit"

    def _ask(self, item: Item) -> None:
        """One answer, skip or undo; what is no answer is asked again."""
        while True:
            text = self._read()
            command = text[1:] if text[:1] == ":" else text if self.keys else ""
            try:
                if command == "q":
                    raise _Quit
                if command == "u":
                    if self.session.undo():
                        return
                    raise DataError("There is nothing to take back.")
                if command == "s":
                    if self._skip(item):
                        return
                    self._print(self._help() + "\n")
                    continue
                self._take(item, text)
                return
            except DataError as error:
                self._print(f"{error}\n")

    def _take(self, item: Item, text: str) -> None:
        chosen: str | None = text
        if self.answers:
            by_key = dict(zip(self.keys, self.answers, strict=True)) if self.keys else {}
            chosen = by_key.get(text.strip()) or choose(text, self.answers)
        elif item.said and text[:1] == ":" and text[1:].isdecimal() and 1 <= int(text[1:]) <= len(item.said):
            chosen = item.said[int(text[1:]) - 1]
            if not chosen:
                self.session.unusable(item.key, UNUSABLE)
                return
        self.session.answer(item.key, text if chosen is None else chosen)

    def _skip(self, item: Item) -> bool:
        reasons = "   ".join(f"[{number}] {reason}" for number, reason in enumerate((*SKIP_REASONS, UNUSABLE), 1))
        self._print(f"Why? {reasons}   or type a reason; nothing goes back.\n")
        reason = self._line().strip()
        if reason == str(len(SKIP_REASONS) + 1):
            self.session.unusable(item.key, UNUSABLE)
        elif reason.isdecimal() and 1 <= int(reason) <= len(SKIP_REASONS):
            self.session.skip(item.key, SKIP_REASONS[int(reason) - 1])
        elif reason:
            self.session.skip(item.key, reason)
        return bool(reason)

    def _read(self) -> str:
        """What is typed for an item: one key where that is enough, else a line, or several that end in a backslash."""
        if self.terminal and self.keys:
            key = _key(self.stdin)
            if key in ("", "\x04"):
                raise _Quit
            if key in ("u", "s", "q") or key.isdigit():
                self._print(f"{key}\n")
                return key
            if not key.isprintable():
                return self._read()
            self._print(key)
            return key + self._line(shown=False)
        lines = [self._line()]
        while not self.answers and lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            lines.append(self._line())
        return "\n".join(lines)

    def _line(self, *, shown: bool = True) -> str:
        if shown:
            self._print("> ")
        with _whole_lines(self.stdin, wanted=self.terminal and bool(self.keys)):
            line = self.stdin.readline()
        if not line:
            raise _Quit
        return line.rstrip("\r\n")

    def _print(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


def clock(seconds: float) -> str:
    """A length of time in words: 40 s, 12 min, 2 h 5 min."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _indented(text: str) -> str:
    return "\n".join(f"  {visible(line)}" for line in text.split("\n"))


@contextmanager
def _single_keys(stdin: TextIO, *, wanted: bool) -> Iterator[None]:
    """Keys come one by one, without Enter and without being shown; what was typed ahead stays."""
    if not wanted:
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(stdin)
    try:
        tty.setcbreak(stdin, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(stdin, termios.TCSANOW, before)


@contextmanager
def _whole_lines(stdin: TextIO, *, wanted: bool) -> Iterator[None]:
    """Within `_single_keys`: typing is shown and can be mended until Enter."""
    if not wanted:
        yield
        return
    import termios

    before = termios.tcgetattr(stdin)
    lines = [*before[:3], before[3] | termios.ICANON | termios.ECHO, *before[4:]]
    termios.tcsetattr(stdin, termios.TCSANOW, lines)
    try:
        yield
    finally:
        termios.tcsetattr(stdin, termios.TCSANOW, before)


def _key(stdin: TextIO) -> str:
    """One character, read past Python's buffer; an arrow or another key that sends several gives the first alone."""
    first = os.read(stdin.fileno(), 1)
    if first == b"\x1b":
        _drop_sequence(stdin)
    more = 0 if first < b"\xc0" else 1 if first < b"\xe0" else 2 if first < b"\xf0" else 3
    return (first + b"".join(os.read(stdin.fileno(), 1) for _ in range(more))).decode("utf-8", "replace")


def _drop_sequence(stdin: TextIO) -> None:
    """Read the rest of what a key such as an arrow sends: up to its final letter or tilde, and no more."""
    import select

    introduced = False
    while select.select([stdin], [], [], 0)[0]:
        raw = os.read(stdin.fileno(), 1)
        if not raw or (introduced and b"@" <= raw <= b"~") or (not introduced and raw not in (b"[", b"O")):
            return
        introduced = True
