# ruff: noqa: N802 -- the functions have the names of Home Assistant's intents
"""The house's functions, one for each intent of Home Assistant: the tools of the recipe, and of `aasut chat --tools`.

What is not given has the value ABSENT. A call without a place is about the whole house.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from rooms import AREAS, FLOORS, PLAN, SIZES, Device, House, NotThereError, Timer, names


class _Absent:
    def __bool__(self) -> bool:
        return False


ABSENT: Any = _Absent()
HOUSE = House.new()
SWITCHED = ("light", "switch", "fan", "media_player", "input_boolean", "climate", "cover", "valve", "lock")
STARTED = ("scene", "script", "button")
SEEN = (*SWITCHED, "sensor", "binary_sensor", "person")

Area = Literal[AREAS]  # type: ignore[valid-type]
Floor = Literal[FLOORS]  # type: ignore[valid-type]
Anything = Literal[names(*SWITCHED, *STARTED)]  # type: ignore[valid-type]
Switchable = Literal[names(*SWITCHED)]  # type: ignore[valid-type]
Visible = Literal[names(*SEEN)]  # type: ignore[valid-type]
Light = Literal[names("light")]  # type: ignore[valid-type]
Fan = Literal[names("fan")]  # type: ignore[valid-type]
Climate = Literal[names("climate")]  # type: ignore[valid-type]
Cover = Literal[names("cover", "valve")]  # type: ignore[valid-type]
Player = Literal[names("media_player")]  # type: ignore[valid-type]
Vacuum = Literal[names("vacuum")]  # type: ignore[valid-type]
Mower = Literal[names("lawn_mower")]  # type: ignore[valid-type]
ToDo = Literal[names("todo")]  # type: ignore[valid-type]
Place = Literal[names("weather")]  # type: ignore[valid-type]
Group = Literal["light", "fan", "cover"]
Kind = Literal["light", "fan", "switch", "lock", "cover", "person"]
CoverClass = Literal["awning", "blind", "curtain", "door", "garage", "gate", "shade", "shutter", "window"]
Color = Literal["white", "black", "red", "orange", "yellow", "green", "blue", "purple", "brown", "pink", "turquoise"]
FanMode = Literal["auto", "on", "off", "low", "medium", "high", "top", "middle", "focus", "diffuse"]
Media = Literal["artist", "album", "track", "playlist", "podcast", "movie", "tv_show"]


def state() -> str:
    """The rooms that were spoken of, as they are now."""
    return str(HOUSE)


def HassTurnOn(
    name: Anything = ABSENT, area: Area = ABSENT, floor: Floor = ABSENT, domain: Group = ABSENT,
    device_class: CoverClass = ABSENT,
) -> str:  # fmt: skip
    """Turn on, open, lock, press or start something."""
    if name in names(*STARTED):
        return f"{name}: done."
    to = {"cover": "open", "valve": "open", "lock": "locked"}
    return _set(_kinds(domain), lambda one: {"is": to.get(one.domain, "on")}, name, area, floor, device_class)


def HassTurnOff(
    name: Switchable = ABSENT, area: Area = ABSENT, floor: Floor = ABSENT, domain: Group = ABSENT,
    device_class: CoverClass = ABSENT,
) -> str:  # fmt: skip
    """Turn off, close or unlock something."""
    to = {"cover": "closed", "valve": "closed", "lock": "unlocked"}
    return _set(_kinds(domain), lambda one: {"is": to.get(one.domain, "off")}, name, area, floor, device_class)


def HassLightSet(
    name: Light = ABSENT, area: Area = ABSENT, floor: Floor = ABSENT, domain: Literal["light"] = ABSENT,
    brightness: int = ABSENT, color: Color = ABSENT, temperature: int = ABSENT,
) -> str:  # fmt: skip
    """Set the brightness in percent, the color, or the white's temperature in kelvin of lights."""
    given = {"brightness": brightness, "color": color, "kelvin": temperature}
    wanted = {what: value for what, value in given.items() if value is not ABSENT}
    return _set(("light",), lambda _: {"is": "off" if brightness == 0 else "on"} | wanted, name, area, floor)


def HassFanSetSpeed(*, name: Fan = ABSENT, area: Area = ABSENT, floor: Floor = ABSENT, percentage: int) -> str:
    """Set the speed of fans in percent."""
    return _set(("fan",), lambda _: {"is": "on" if percentage else "off", "percentage": percentage}, name, area, floor)


def HassSetPosition(
    *, name: Cover = ABSENT, area: Area = ABSENT, domain: Literal["cover"] = ABSENT,
    device_class: CoverClass = ABSENT, position: int,
) -> str:  # fmt: skip
    """Open a cover or a valve to a position in percent."""
    kinds = ("cover",) if domain else ("cover", "valve")
    moved = {"is": "open" if position else "closed", "position": position}
    return _set(kinds, lambda _: moved, name, area, ABSENT, device_class)


def HassClimateSetTemperature(
    *, name: Climate = ABSENT, area: Area = ABSENT, floor: Floor = ABSENT, temperature: float
) -> str:
    """Set the temperature that heating or cooling keeps, in degrees."""
    return _set(("climate",), lambda _: {"is": "on", "temperature": temperature}, name, area, floor)


def HassClimateSetFanMode(
    *, name: Climate = ABSENT, area: Area = ABSENT, floor: Floor = ABSENT, fan_mode: FanMode
) -> str:
    """Set how the fan of heating or cooling runs."""
    return _set(("climate",), lambda _: {"fan": fan_mode}, name, area, floor)


def HassClimateGetTemperature(name: Climate = ABSENT, area: Area = ABSENT) -> str:
    """Tell the temperature."""
    return _tell(("climate",), name, area)


def HassGetState(
    name: Visible = ABSENT, area: Area = ABSENT, floor: Floor = ABSENT, domain: Kind = ABSENT,
    device_class: CoverClass = ABSENT, state: str = ABSENT,
) -> str:  # fmt: skip
    """Tell the state of things, where a person is, or which things are in a state."""
    kinds = (domain,) if domain else SEEN
    if not state:
        return _tell(kinds, name, area, floor, device_class)
    try:
        found = HOUSE.pick(kinds, name, area, floor, device_class=device_class)
    except NotThereError as error:
        return str(error)
    so = [one.name for one in found if str(one.state["is"]) == state]
    return f"{state}: {', '.join(so) or 'none'} (of {len(found)})."


def HassGetWeather(name: Place = ABSENT) -> str:
    """Tell the weather."""
    return _tell(("weather",), name)


def HassGetCurrentDate() -> str:
    """Tell the date."""
    return f"{datetime.now():%A, %d %B %Y}"


def HassGetCurrentTime() -> str:
    """Tell the time."""
    return f"{datetime.now():%H:%M}"


def HassNevermind() -> str:
    """Do nothing: the speaker thought better of it."""
    return "Nothing was done."


def HassRespond() -> str:
    """Answer small talk and questions about the assistant itself."""
    return "Hello! I switch things in this house, and nothing that you say leaves it."


def HassBroadcast(message: str) -> str:
    """Say a message in all rooms."""
    return f"In all rooms: {message}"


def HassMediaNext(name: Player = ABSENT, area: Area = ABSENT) -> str:
    """Go on to the next track."""
    return _set(("media_player",), lambda _: {"is": "on", "track": "next"}, name, area)


def HassMediaPrevious(name: Player = ABSENT, area: Area = ABSENT) -> str:
    """Go back to the track before."""
    return _set(("media_player",), lambda _: {"is": "on", "track": "previous"}, name, area)


def HassMediaPause(name: Player = ABSENT, area: Area = ABSENT) -> str:
    """Pause what plays."""
    return _set(("media_player",), lambda _: {"is": "paused"}, name, area)


def HassMediaUnpause(name: Player = ABSENT, area: Area = ABSENT) -> str:
    """Go on with what was paused."""
    return _set(("media_player",), lambda _: {"is": "on"}, name, area)


def HassMediaPlayerMute(name: Player = ABSENT) -> str:
    """Make a player silent."""
    return _set(("media_player",), lambda _: {"muted": "yes"}, name)


def HassMediaPlayerUnmute(name: Player = ABSENT) -> str:
    """Let a muted player be heard again."""
    return _set(("media_player",), lambda _: {"muted": "no"}, name)


def HassMediaSearchAndPlay(
    *, name: Player = ABSENT, area: Area = ABSENT, search_query: str, media_class: Media = ABSENT
) -> str:
    """Look for something to play, and play it."""
    sought = f"{media_class} {search_query}" if media_class else search_query
    return _set(("media_player",), lambda _: {"is": "on", "plays": sought}, name, area)


def HassSetVolume(*, name: Player = ABSENT, area: Area = ABSENT, volume_level: int) -> str:
    """Set the volume in percent."""
    return _set(("media_player",), lambda _: {"volume": volume_level}, name, area)


def HassSetVolumeRelative(
    *, name: Player = ABSENT, area: Area = ABSENT, floor: Floor = ABSENT, volume_step: int | Literal["up", "down"]
) -> str:
    """Make it louder or less loud, by percent or by a step."""
    step = {"up": 10, "down": -10}.get(str(volume_step), volume_step)

    def louder(one: Device) -> dict[str, Any]:
        return {"volume": min(100, max(0, one.state["volume"] + int(step)))}

    return _set(("media_player",), louder, name, area, floor)


def HassStartTimer(
    name: str = ABSENT, hours: int = ABSENT, minutes: int = ABSENT, seconds: int = ABSENT,
    conversation_command: str = ABSENT,
) -> str:  # fmt: skip
    """Start a timer, with a command to do at its end where one is given."""
    length = _length(hours, minutes, seconds)
    HOUSE.timers.append(Timer(length, str(name or ""), str(conversation_command or ""), started=length))
    return f"Started: {HOUSE.timers[-1]}."


def HassCancelTimer(
    name: str = ABSENT, area: Area = ABSENT, start_hours: int = ABSENT, start_minutes: int = ABSENT,
    start_seconds: int = ABSENT,
) -> str:  # fmt: skip
    """Cancel a timer, which its name, room or first length tells."""
    return _timed("Cancelled", HOUSE.timers.remove, name, start_hours, start_minutes, start_seconds)


def HassCancelAllTimers(area: Area = ABSENT) -> str:
    """Cancel all timers, or those of a room."""
    count = len(HOUSE.timers)
    HOUSE.timers.clear()
    return f"Cancelled {count} timers."


def HassPauseTimer(
    name: str = ABSENT, area: Area = ABSENT, start_hours: int = ABSENT, start_minutes: int = ABSENT,
    start_seconds: int = ABSENT,
) -> str:  # fmt: skip
    """Pause a timer."""
    change = lambda timer: setattr(timer, "paused", True)  # noqa: E731
    return _timed("Paused", change, name, start_hours, start_minutes, start_seconds)


def HassUnpauseTimer(
    name: str = ABSENT, area: Area = ABSENT, start_hours: int = ABSENT, start_minutes: int = ABSENT,
    start_seconds: int = ABSENT,
) -> str:  # fmt: skip
    """Let a paused timer run on."""
    change = lambda timer: setattr(timer, "paused", False)  # noqa: E731
    return _timed("Running", change, name, start_hours, start_minutes, start_seconds)


def HassTimerStatus(
    name: str = ABSENT, area: Area = ABSENT, start_hours: int = ABSENT, start_minutes: int = ABSENT,
    start_seconds: int = ABSENT,
) -> str:  # fmt: skip
    """Tell how long a timer still runs."""
    return _timed("Left", lambda _: None, name, start_hours, start_minutes, start_seconds)


def HassIncreaseTimer(
    name: str = ABSENT, area: Area = ABSENT, hours: int = ABSENT, minutes: int = ABSENT, seconds: int = ABSENT,
    start_hours: int = ABSENT, start_minutes: int = ABSENT, start_seconds: int = ABSENT,
) -> str:  # fmt: skip
    """Add time to a timer."""
    change = _longer(_length(hours, minutes, seconds))
    return _timed("Longer", change, name, start_hours, start_minutes, start_seconds)


def HassDecreaseTimer(
    name: str = ABSENT, area: Area = ABSENT, hours: int = ABSENT, minutes: int = ABSENT, seconds: int = ABSENT,
    start_hours: int = ABSENT, start_minutes: int = ABSENT, start_seconds: int = ABSENT,
) -> str:  # fmt: skip
    """Take time off a timer."""
    change = _longer(-_length(hours, minutes, seconds))
    return _timed("Shorter", change, name, start_hours, start_minutes, start_seconds)


def HassListAddItem(name: ToDo, item: str) -> str:
    """Put an item on a list."""
    return _listed(name, item, "add")


def HassListCompleteItem(name: ToDo, item: str) -> str:
    """Tick an item off a list."""
    return _listed(name, item, "complete")


def HassListRemoveItem(name: ToDo, item: str) -> str:
    """Take an item off a list."""
    return _listed(name, item, "remove")


def HassShoppingListAddItem(item: str) -> str:
    """Put an item on the shopping list."""
    return _listed("Shopping", item, "add")


def HassShoppingListCompleteItem(item: str) -> str:
    """Tick an item off the shopping list."""
    return _listed("Shopping", item, "complete")


def HassVacuumStart(name: Vacuum = ABSENT, floor: Floor = ABSENT) -> str:
    """Let a vacuum clean, or a floor be cleaned."""
    return _set(("vacuum",), lambda _: {"is": "cleaning", "where": floor or "the house"}, name)


def HassVacuumCleanArea(name: Vacuum = ABSENT, area: Area = ABSENT) -> str:
    """Let a room be cleaned."""
    return _set(("vacuum",), lambda _: {"is": "cleaning", "where": area or "here"}, name)


def HassVacuumReturnToBase(name: Vacuum) -> str:
    """Send a vacuum back to its dock."""
    return _set(("vacuum",), lambda _: {"is": "docked"}, name)


def HassLawnMowerStartMowing(name: Mower = ABSENT) -> str:
    """Mow the lawn."""
    return _set(("lawn_mower",), lambda _: {"is": "mowing"}, name)


def HassLawnMowerDock(name: Mower = ABSENT) -> str:
    """Stop mowing, and send the mower back to its dock."""
    return _set(("lawn_mower",), lambda _: {"is": "docked"}, name)


def _kinds(domain: Any) -> tuple[str, ...]:
    return (domain,) if domain else SWITCHED


def _set(
    kinds: tuple[str, ...], change: Callable[[Device], dict[str, Any]], name: Any = "", area: Any = "", floor: Any = "",
    device_class: Any = "",
) -> str:  # fmt: skip
    """Change the devices that are meant; one line of what they are now."""
    try:
        found = HOUSE.pick(kinds, name, area, floor, device_class=device_class)
    except NotThereError as error:
        return str(error)
    for device in found:
        device.state |= change(device)
        device.asked = True
    return "; ".join(map(str, found)) + "."


def _tell(kinds: tuple[str, ...], name: Any = "", area: Any = "", floor: Any = "", device_class: Any = "") -> str:
    return _set(kinds, lambda _: {}, name, area, floor, device_class)


def _length(hours: Any, minutes: Any, seconds: Any) -> int:
    return sum(int(given or 0) * size for given, size in zip((hours, minutes, seconds), SIZES.values(), strict=True))


def _longer(seconds: int) -> Callable[[Timer], None]:
    def change(timer: Timer) -> None:
        timer.seconds = max(0, timer.seconds + seconds)

    return change


def _timed(said: str, change: Callable[[Timer], None], name: Any, hours: Any, minutes: Any, seconds: Any) -> str:
    """Change the timer that is meant; rooms are not told apart."""
    try:
        timer = HOUSE.timer(name=name, start_hours=hours, start_minutes=minutes, start_seconds=seconds)
    except NotThereError as error:
        return str(error)
    change(timer)
    return f"{said}: {timer}."


def _listed(name: str, item: str, action: str) -> str:
    if name not in HOUSE.lists:
        return f"There is no list {name}. There are: {', '.join(HOUSE.lists)}."
    items = HOUSE.lists[name]
    if action == "add":
        items.append(item)
    elif item not in items:
        return f"{item} is not on the list {name}: {', '.join(items) or 'it is empty'}."
    else:
        items.remove(item)
    return f"{name} list: {', '.join(items) or 'empty'}."


assert len(PLAN["entities"]) == len({one["name"] for one in PLAN["entities"]}), "names of house.json are not unique"
