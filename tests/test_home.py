"""examples/home: the grammar as a teacher, the commands drawn from it, the house, and the recipe."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aasut import tools
from aasut.agents.functions import Toolbox
from aasut.errors import RecipeError
from aasut.recipe import load
from aasut.teacher import python_rules
from aasut.teacher.server import ScriptedServer
from aasut.types import Message, Request
from command_line import command

HOME = Path(__file__).parents[1] / "examples" / "home"
SCALE = 0.15
SAME = {
    "turn on the desk lamp": "डेस्क लैंप चालू करो",
    "switch off the tv": "टीवी बंद कर दो",
    "turn off all the lights in the lounge": "बैठक की सारी लाइटें बंद कर दो",
    "set the temperature of the ac to 22.5 degrees": "एसी का तापमान 22.5 डिग्री सेट करो",
    "set desk lamp to red": "डेस्क लैंप का रंग लाल करो",
    "start a 5 minute timer": "5 मिनट का टाइमर लगाओ",
    "cancel all timers": "सभी टाइमर रद्द करो",
    "pause music in the kitchen": "रसोई में गाना रोको",
    "lock the front door": "मुख्य दरवाजा को लॉक करो",
    "what's the weather in mumbai": "मुंबई का मौसम कैसा है",
}


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"home_{name}", HOME / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with a few commands of each template."""
    folder = tmp_path_factory.mktemp("home") / "home"
    shutil.copytree(HOME, folder, ignore=shutil.ignore_patterns("data", "__pycache__"))
    module("commands").write(folder / "data", 7, SCALE)
    return folder


@pytest.fixture(scope="module")
def rows(home: Path) -> dict[str, list[dict[str, str]]]:
    def read(role: str) -> list[dict[str, str]]:
        return [json.loads(line) for line in (home / "data" / f"{role}.jsonl").read_text("utf-8").splitlines()]

    return {role: read(role) for role in ("pool", "gold")}


@pytest.fixture(scope="module")
def grammar() -> ModuleType:
    return module("grammar")


def test_no_template_or_sentence_of_gold_is_in_training(rows: dict[str, list[dict[str, str]]], grammar: Any) -> None:
    pool, gold = rows["pool"], rows["gold"]
    trained = {row["template"] for row in pool}
    assert len(trained) > 700
    assert len({row["template"] for row in gold}) > 250
    assert not trained & {row["template"] for row in gold}
    texts = [row["text"].casefold() for row in (*pool, *gold)]
    assert len(set(texts)) == len(texts)
    for row in gold:
        for found in grammar.readings(row["text"]):
            assert f"{row['language']}/{found.intent.name}/{found.intent_sentence.text}" not in trained


def test_intents_with_few_templates_are_trained_on_and_listed(
    home: Path, rows: dict[str, list[dict[str, str]]], grammar: Any
) -> None:
    listed = json.loads((home / "data" / "in_training.json").read_text(encoding="utf-8"))
    few = {(one["language"], one["intent"]) for one in listed}
    assert ("en", "HassBroadcast") in few
    assert ("hi", "HassPauseTimer") in few
    assert not few & {(row["language"], row["intent"]) for row in rows["gold"]}
    assert few <= {(row["language"], row["intent"]) for row in rows["pool"]}
    assert {row["intent"] for row in rows["pool"]} == set(grammar.grammar("en").intents)


def test_what_was_drawn_is_kept_or_dropped_for_a_reason() -> None:
    commands = module("commands")
    first, _, accounts = commands.draw(3, 0.05)
    for account in accounts.values():
        assert account.drawn == account.kept + sum(account.dropped.values())
    assert sum(account.kept for account in accounts.values()) == len(first["pool"]) + len(first["gold"])
    assert accounts["en gold"].dropped["a template of training reads it"] > 0
    assert commands.draw(3, 0.05)[0] == first
    assert commands.draw(4, 0.05)[0] != first


def test_the_answers_are_the_grammars_in_their_one_written_form(
    rows: dict[str, list[dict[str, str]]], grammar: Any
) -> None:
    defined = (HOME / "tools.json").read_text(encoding="utf-8")
    for row in rows["gold"]:
        assert grammar.answer(f"Some words.\nCommand: {row['text']}") == row["calls"]
    for row in (*rows["gold"], *rows["pool"]):
        said = grammar.answer(row["text"])
        assert tools.canonical(said, defined) == said
        assert len(json.loads(said)) == 1


@pytest.mark.parametrize(("english", "hindi"), SAME.items())
def test_both_languages_give_the_same_call(grammar: Any, english: str, hindi: str) -> None:
    said = grammar.answer(f"Command: {hindi}")
    assert said.startswith("[")
    assert grammar.answer(f"Command: {english}") == said


@pytest.mark.parametrize("text", ["", "\n", "colourless green ideas sleep", "Command:", "यह क्या बात हुई भाई साहब"])
def test_what_is_no_command_is_answered_with_text(grammar: Any, text: str) -> None:
    assert not tools.is_calls(grammar.answer(text))


def test_the_teacher_is_exact_over_http(rows: dict[str, list[dict[str, str]]]) -> None:
    from aasut.recipe import Endpoint
    from aasut.teacher.openai import OpenAiTeacher

    wanted = rows["gold"][::20]
    defined = (HOME / "tools.json").read_text(encoding="utf-8")
    requests = [Request((Message("user", f"Command: {row['text']}"),), max_tokens=96, tools=defined) for row in wanted]
    with ScriptedServer(python_rules.load(HOME / "grammar.py")) as server:
        teacher = OpenAiTeacher(Endpoint(base_url=server.url, model="home-grammar", api_key_env=""))
        found = teacher.complete(requests)
        teacher.close()
    assert [tools.canonical(one.text, defined) for one in found] == [row["calls"] for row in wanted]


def test_the_tools_file_is_the_houses_functions() -> None:
    assert json.loads((HOME / "tools.json").read_text(encoding="utf-8")) == Toolbox.load(HOME / "house.py").definitions


def test_every_call_is_carried_out_in_the_house(rows: dict[str, list[dict[str, str]]], grammar: Any) -> None:
    house = Toolbox.load(HOME / "house.py")
    for row in (*rows["gold"], *rows["pool"]):
        (call,) = json.loads(grammar.answer(row["text"]))
        result = house.call(call["name"], call["arguments"])
        assert not result.failed, (row["text"], result.text)
        assert len(result.text.splitlines()) == 1


def test_calls_change_the_house() -> None:
    house = Toolbox.load(HOME / "house.py")

    def done(function: str, /, **given: Any) -> str:
        return house.call(function, given).text

    assert house.state() == "All is as it was."
    said = done("HassLightSet", name="Spotlights", brightness=40, color="red")
    assert said == "Spotlights on brightness 40% color red."
    assert "Spotlights on brightness 40% color red" in str(house.state())
    assert done("HassTurnOff", area="Kitchen", domain="light") == "Spotlights off brightness 40% color red."
    assert done("HassTurnOff", name="Front Door") == "Front Door unlocked."
    assert done("HassTurnOn", name="Front Door") == "Front Door locked."
    assert done("HassGetState", domain="light", state="on") == "on: none (of 12)."
    assert done("HassClimateSetTemperature", name="Thermostat", temperature=22.5) == "Thermostat on temperature 22.5°."
    assert done("HassSetVolumeRelative", name="Radio", volume_step="down") == "Radio off volume 20%."
    assert done("HassStartTimer", minutes=5, name="tea") == "Started: tea 5 min."
    assert done("HassIncreaseTimer", name="tea", seconds=30) == "Longer: tea 5 min 30 s."
    assert done("HassPauseTimer", start_minutes=5) == "Paused: tea 5 min 30 s (paused)."
    assert done("HassCancelTimer", name="pizza") == "There is no such timer. Running: tea 5 min 30 s (paused)."
    assert done("HassListAddItem", name="Groceries", item="milk") == "Groceries list: milk."
    assert done("HassListRemoveItem", name="Groceries", item="eggs") == "eggs is not on the list Groceries: milk."
    shown = str(house.state()).splitlines()
    assert [line.partition(":")[0] for line in shown[:2]] == ["Kitchen", "Hallway"]  # no others were spoken of
    assert shown[-2:] == ["Timers: tea 5 min 30 s (paused)", "Groceries list: milk"]
    assert "There is no cover in Kitchen" in done("HassSetPosition", area="Kitchen", domain="cover", position=5)
    assert house.call("HassTurnOn", {"name": "Flux Lamp"}).failed


def test_a_recipes_tools_come_from_a_file(home: Path) -> None:
    recipe = load(home / "recipe.yaml")
    assert recipe.task.build().tools == json.dumps(json.loads((home / "tools.json").read_text("utf-8")))


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "is no file"), ("[", "is no JSON"), ('"x"', "valid list"), ("[]", "are no function definitions")],
)
def test_what_is_no_file_of_tools_is_one_line(home: Path, content: str | None, reason: str) -> None:
    path = home / "wrong.json"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)
    with pytest.raises(RecipeError, match=reason) as caught:
        load(home / "recipe.yaml", ["task.tools=wrong.json"])
    assert len(str(caught.value).splitlines()) == 1


def test_the_recipe_runs(home: Path, tmp_path: Path, tiny_llama: Path) -> None:
    with ScriptedServer(python_rules.load(HOME / "grammar.py")) as server:
        flags = [f"teacher.endpoint.base_url={server.url}", f"student.model={{address: 'file:{tiny_llama}'}}"]
        sets = [word for flag in flags for word in ("--set", flag)]
        code, _, err = command("run", home / "recipe.yaml", "--scale", "ci", "--root", tmp_path, "--quiet", *sets)
    assert code == 0, err
    facts = json.loads((tmp_path / "home-ci" / "report.json").read_text(encoding="utf-8"))
    assert facts["verdict"]["n"] == facts["conservation"]["evaluate"]["kept"] == 16
    assert facts["teacher"]["accuracy"] == 1.0
    agent = ["agent", HOME / "agent.yaml", "turn on the kitchen lights", "--set", "model.run=home-ci", "--json"]
    done = aasut(*agent, "--root", tmp_path)
    assert done.returncode in (0, 1), done.stderr  # what so small a model calls is chance
    assert set(json.loads(done.stdout)) >= {"reason", "calls", "state"}
    done = aasut("traces", "list", "--root", tmp_path, "--json")
    assert [one["agent"] for one in json.loads(done.stdout)["traces"]] == ["house"]
    done = aasut("chat", "home-ci", "--root", tmp_path, "--tools", HOME / "house.py", "--json", stdin="lights on\n")
    assert len(done.stdout.splitlines()) == 1, done.stderr


def aasut(*words: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "aasut", *map(str, words)]
    return subprocess.run(line, input=stdin, capture_output=True, text=True, timeout=600)
