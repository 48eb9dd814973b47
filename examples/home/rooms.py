"""The simulated house: devices, which calls pick by name, place and kind, timers and lists.

Time stands still in it: a timer shows what is set, and runs until it is cancelled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PLAN: dict[str, Any] = json.loads((Path(__file__).parent / "house.json").read_text(encoding="utf-8"))
AREAS = tuple(area["name"] for area in PLAN["areas"])
FLOORS = tuple(floor["name"] for floor in PLAN["floors"])
FLOOR_OF = {area["name"]: area["floor"] for area in PLAN["areas"]}
# What a device of a kind is like when the house is new.
NEW: dict[str, dict[str, Any]] = {
    "light": {"is": "off"},
    "switch": {"is": "off"},
    "fan": {"is": "off"},
    "input_boolean": {"is": "off"},
    "cover": {"is": "closed"},
    "valve": {"is": "closed"},
    "lock": {"is": "locked"},
    "climate": {"is": "on", "temperature": 21},
    "media_player": {"is": "off", "volume": 30},
    "vacuum": {"is": "docked"},
    "lawn_mower": {"is": "docked"},
    "binary_sensor": {"is": "off"},
    "sensor": {"is": "42"},
    "person": {"is": "home"},
    "weather": {"is": "sunny"},
}
UNITS = {"brightness": "%", "percentage": "%", "position": "%", "volume": "%", "temperature": "°"}


class NotThereError(LookupError):
    """No device is meant; the message says which there are."""


@dataclass
class Device:
    """One device, and its state by field; `is` is the main one."""

    name: str
    domain: str
    area: str
    device_class: str
    state: dict[str, Any]
    asked: bool = False  # was it meant by a call?

    def __str__(self) -> str:
        extra = [f"{what} {value}{UNITS.get(what, '')}" for what, value in self.state.items() if what != "is"]
        return " ".join([self.name, str(self.state["is"]), *extra])


@dataclass
class Timer:
    """A timer, in seconds."""

    seconds: int
    name: str = ""
    command: str = ""
    paused: bool = False
    started: int = 0

    def __str__(self) -> str:
        hours, rest = divmod(self.seconds, 3600)
        parts = [(hours, "h"), (rest // 60, "min"), (rest % 60, "s")]
        said = " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"
        return f"{self.name or self.command or 'timer'} {said}" + (" (paused)" if self.paused else "")


@dataclass
class House:
    """Everything that calls change."""

    devices: dict[str, Device] = field(default_factory=dict)
    timers: list[Timer] = field(default_factory=list)
    lists: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def new(cls) -> House:
        """The house as house.json has it, with nothing done in it yet."""
        devices = {
            one["name"]: Device(
                one["name"], one["domain"], one["area"], one.get("device_class", ""), dict(NEW[one["domain"]])
            )
            for one in PLAN["entities"]
            if one["domain"] in NEW
        }
        lists = {one["name"]: [] for one in PLAN["entities"] if one["domain"] == "todo"}
        return cls(devices, [], lists | {"Shopping": []})

    def pick(
        self, domains: tuple[str, ...] = (), name: Any = "", area: Any = "", floor: Any = "", **more: Any
    ) -> list[Device]:
        """The devices that a call means; all of the kinds `domains` where it names none. Raises NotThereError."""
        if name:
            if name not in self.devices:
                known = [one.name for one in self.devices.values() if not domains or one.domain in domains]
                raise NotThereError(f"There is no {name} here. There are: {', '.join(known)}.")
            return [self.devices[name]]
        for given, known in ((area, AREAS), (floor, FLOORS)):
            if given and given not in known:
                raise NotThereError(f"There is no {given} here. There are: {', '.join(known)}.")
        wanted = more.get("device_class")
        found = [
            one
            for one in self.devices.values()
            if (not domains or one.domain in domains)
            and (not area or one.area == area)
            and (not floor or FLOOR_OF.get(one.area) == floor)
            and (not wanted or one.device_class == wanted)
        ]
        if not found:
            what = wanted or " or ".join(domains).replace("_", " ") or "device"
            raise NotThereError(f"There is no {what} in {area or floor or 'this house'}.")
        return found

    def timer(self, **wanted: Any) -> Timer:
        """The timer that a call means: by name, by the length that it was started with, else the last one."""
        started = sum(int(wanted.get(f"start_{unit}") or 0) * size for unit, size in SIZES.items())
        name = wanted.get("name") or ""
        for timer in reversed(self.timers):
            if (not name or timer.name == name) and (not started or timer.started == started):
                return timer
        others = ", ".join(map(str, self.timers)) or "none"
        raise NotThereError(f"There is no such timer. Running: {others}.")

    def __str__(self) -> str:
        """The rooms that calls were about, and what runs."""
        lines = []
        for area in (*AREAS, ""):
            there = [one for one in self.devices.values() if one.area == area and one.domain != "weather"]
            if any(one.asked for one in there):
                lines.append(f"{area or 'House'}: {'; '.join(map(str, there))}")
        lines += [f"Timers: {'; '.join(map(str, self.timers))}"] if self.timers else []
        lines += [f"{name} list: {', '.join(items)}" for name, items in self.lists.items() if items]
        return "\n".join(lines) or "All is as it was."


SIZES = {"hours": 3600, "minutes": 60, "seconds": 1}


def names(*domains: str) -> tuple[str, ...]:
    """Names of what there is of these kinds."""
    return tuple(one["name"] for one in PLAN["entities"] if one["domain"] in domains)
