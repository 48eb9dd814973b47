"""`aasut run --from-traffic`: a recipe whose pool is what a gateway saw, or a first recipe for it.

The requests are written beside the run, in a file named by its content: a second run over the same traffic finds all
done, and an earlier run stays as it was made. What the recipe says of gold, splits and overlap holds for them too.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aasut import recipe as recipes
from aasut.data import gold
from aasut.errors import DataError, RecipeError
from aasut.files import write_atomically
from aasut.gateway import harvest
from aasut.gateway.harvest import Harvest, Line, Wish
from aasut.pipeline import Run
from aasut.progress import Progress
from aasut.recipe import Recipe, Table
from aasut.recipe.scale import scaled
from aasut.sources.rows import RowFault

FIRST = Path("traffic.yaml")  # the recipe that is written where none is given
FILE = "traffic.jsonl"  # in the gateway's folder: the table of a recipe that was written so


@dataclass(frozen=True)
class Taken:
    """The recipe with its traffic, the folder that its paths are relative to, and what was taken."""

    recipe: Recipe
    base: Path
    found: Harvest
    file: Path

    def finish(self, ran: Run, progress: Progress) -> None:
        """Say how many answers were not bought, and take away files of earlier traffic."""
        recorded = ran.facts["ledger"]["calls_recorded"]
        progress.say(f"{recorded:,} of the teacher's answers were taken from the traffic")
        for path in self.file.parent.glob(f"{harvest.PREFIX}*.json*"):
            if path.stem != self.file.stem:
                path.unlink(missing_ok=True)


def take(
    path: Path | None,
    overrides: Sequence[str],
    store: Path,
    root: Path,
    progress: Progress,
    scale: str,
    most: int | None = None,
    buy: int = 0,
) -> Taken:
    """The recipe at `path` with the traffic in `store`; most, buy: see gateway.harvest.Wish.

    Without a path a recipe is written to FIRST. Raises RecipeError where people have answered nothing yet, DataError
    where the traffic teaches nothing.
    """
    lines: list[Line] = [*harvest.lines(store)]
    if path is None:
        path = FIRST
        _first(lines, path, store, progress)
    loaded, base = recipes.load(path, overrides), path.parent
    _check(loaded, base, path, root, store)
    place = _place(loaded)
    table = loaded.data.tables[place] if place < len(loaded.data.tables) else None
    answered = _answered(loaded, base, place)
    known = {line["id"] for line in lines}
    lines += [line for line in _before(base, table, answered) if line["id"] not in known]
    limits = [most, scaled(loaded, scale).data.limit, table and table.limit]
    wish = Wish(min((limit for limit in limits if limit), default=None), buy, answered)
    found = harvest.take(loaded, lines, wish)
    _say(found, progress)
    if table is not None and Path(table.source).name == FILE:  # people are asked about a fair sample of what came
        write_atomically(base / table.source, harvest.written(found.readable))
    file = harvest.write(found, root / scaled(loaded, scale).name)
    return Taken(_with_table(loaded, base, place, file, str(path)), base, found, file)


def _first(lines: Sequence[Line], path: Path, store: Path, progress: Progress) -> None:
    """A recipe for the commonest prompt in the traffic, and the commonest model that answered it."""
    from aasut.init import slots, start

    if path.exists():
        raise RecipeError(f"{path} is there already.", f"Run it with: aasut run {path} --from-traffic")
    asked, left = [], Counter[str]()
    for line in lines:
        try:
            asked.append((line, harvest.conversation(line)))
        except RowFault as fault:
            left[str(fault)] += 1
    if not asked:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in left.most_common()) or "there are none"
        raise DataError(f"No request in {store} can be used ({reasons}).", "Let the gateway see some chat requests.")
    template = slots.infer([messages for _, messages in asked]).template
    mine = [line for line, messages in asked if slots.reads(template, messages)]
    left["written with other prompts"] += len(asked) - len(mine)
    model = Counter(str(line["request"].get("model")) for line in mine).most_common(1)[0][0]
    of_model = [line for line in mine if line["request"].get("model") == model]
    left[f"asked of models other than {model}"] += len(mine) - len(of_model)
    table = store / FILE
    write_atomically(table, harvest.written([harvest.row_of(line) for line in of_model]))
    found = start.init(table, path, progress, recorded=True)
    for said in found["summary"][:-1]:
        progress.say(said)
    shown = ", ".join(f"{count:,} {reason}" for reason, count in left.most_common() if count)
    progress.say(f"left out    {shown or 'nothing'}")


def _check(recipe: Recipe, base: Path, path: Path, root: Path, store: Path) -> None:
    """Raise RecipeError where the recipe has no human answer to prove anything by, or names the rows to ask."""
    if recipe.data.asked is not None:
        raise RecipeError(
            f"{path} says data.asked, which names the rows that the teacher is asked.",
            "Leave it out: with --from-traffic the teacher is asked nothing that it answered before.",
        )
    by_hand = gold.path_of(recipe, base)
    if any(table.role != "pool" for table in recipe.data.tables) or (by_hand is not None and by_hand.exists()):
        return
    if by_hand is None:
        raise RecipeError(
            f"{path} has no human answers to prove a student by.",
            "Add a table of role gold, or `gold: gold.jsonl` under data.",
        )
    where = shlex.quote(str(path))
    flags = "" if store == Path("traffic") else f" --store {shlex.quote(str(store))}"
    root_flag = "" if root == Path("runs") else f" --root {shlex.quote(str(root))}"
    raise RecipeError(
        f"{path} is there, and people have answered none of its rows yet.",
        f"See its lines marked EDIT, answer rows with: aasut gold {where}{root_flag}, then: aasut run {where} "
        f"--from-traffic{flags}{root_flag}",
    )


def _place(recipe: Recipe) -> int:
    """The number of the recipe's table of traffic; that of a new one where it has none."""
    names = [Path(table.source).name if table.format == "chat" else "" for table in recipe.data.tables]
    return next((n for n, name in enumerate(names) if re.fullmatch(r"traffic(-[0-9a-f]+)?\.jsonl", name)), len(names))


def _answered(recipe: Recipe, base: Path, place: int) -> frozenset[str]:
    """Ids of the table's rows that people answered by hand, or began to."""
    path, mark = gold.path_of(recipe, base), f"{place}:"
    lines = [] if path is None else gold.read(path)
    return frozenset(line.id.removeprefix(mark) for line in lines if line.id.startswith(mark))


def _before(base: Path, table: Table | None, answered: frozenset[str]) -> list[Line]:
    """Lines of the table as it is that people answered: they stay, also where the gateway keeps them no longer."""
    if table is None or not (base / table.source).is_file():
        return []
    with (base / table.source).open(encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    return [line for line in lines if line["id"] in answered]


def _say(found: Harvest, progress: Progress) -> None:
    """What was taken, and what was left out and why. Raises DataError where nothing teaches."""
    rows = found.conservation
    reasons = [*rows.dropped.items(), *rows.failed.items()]
    left = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons, key=lambda one: -one[1]))
    if not found.recorded and not found.unanswered:
        raise DataError(
            f"None of the {rows.rows_in:,} requests in the traffic teaches anything ({left or 'there are none'}).",
            "Ask in the recipe as the application asks: the same endpoint, model and prompt, no worked examples, no "
            "log-probabilities that were not recorded. Or have the teacher asked for some of them with --buy ROWS.",
        )
    progress.say(
        f"traffic    {rows.rows_in:,} requests, {rows.kept:,} taken: {found.recorded:,} with the teacher's answer, "
        f"{found.unanswered:,} without; {found.escalated:,} that a student passed on"
        + (f". Left out: {left}" if left else "")
    )
    if found.answers.drawn:
        progress.say(
            f"{found.answers.drawn:,} recorded answers were drawn at a temperature, where the recipe asks at 0: they "
            "are what the application got"
        )


def _with_table(recipe: Recipe, base: Path, place: int, file: Path, where: str) -> Recipe:
    """The recipe with the file as its table of that number."""
    plain = recipe.model_dump(mode="json", exclude_unset=True, by_alias=True)
    source = Path(os.path.relpath(file.resolve(), base.resolve())).as_posix()
    table: dict[str, object] = {"source": source, "format": "chat", "id": "id", "role": "pool"}
    table |= {"recorded": True} if recipe.teacher.endpoint else {}
    plain["data"]["tables"][place : place + 1] = [table]
    return recipes.parse(plain, where)
