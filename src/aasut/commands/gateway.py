"""`aasut gateway`: put it in front of the API that the application calls; with status, export, keys and reload."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from aasut.commands import gateway_status, keys
from aasut.progress import Progress

app = typer.Typer(no_args_is_help=False, help="Put the gateway in front of the API that the application calls.")

app.add_typer(keys.app, name="keys")
app.command("status")(gateway_status.status)
app.command("export")(gateway_status.export)

Store = Annotated[Path, typer.Option("--store", help="Folder of the gateway: its record and its keys.")]


@app.callback(invoke_without_command=True)
def gateway(
    context: typer.Context,
    upstream: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Base address of the API behind it, e.g. https://api.openai.com/v1."),
    ] = None,
    student: Annotated[
        str | None, typer.Option(metavar="RUN", help="A finished run, whose student answers what it is certified for.")
    ] = None,
    mode: Annotated[
        Literal["shadow", "canary", "certified"] | None,
        typer.Option(help="shadow: only compare. canary: a share of the requests. certified: all that match."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Settings in YAML; docs/gateway.md lists them. Flags go over it."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Override a setting, e.g. record.keep_days=30."),
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(
            help="Environment variable with the API's key; clients' own keys are passed on where it is not given."
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 unless told otherwise.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 8000 unless told otherwise, 0 takes a free one.")
    ] = None,
    record_strict: Annotated[
        bool, typer.Option("--record-strict", help="Answer nothing that cannot be recorded.")
    ] = False,
    store: Store = Path("traffic"),
    root: Annotated[Path, typer.Option("--root", help="Folder that holds the runs.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of text.")] = False,
) -> None:
    """Pass requests on to an API, record them, and answer with a student what it is certified to answer."""
    if context.invoked_subcommand is not None:
        return
    from aasut.gateway import server, settings
    from aasut.recipe.file import over, read

    flags = {
        "upstream.base_url": upstream,
        "upstream.api_key_env": api_key_env,
        "listen.host": host,
        "listen.port": port,
        "record.strict": record_strict or None,
        "student.run": student,
        "student.mode": mode,
    }

    def load() -> settings.Settings:
        plain: dict[str, Any] = read(config, overrides or []) if config else over({}, overrides or [])
        for path, value in flags.items():
            section, _, field = path.partition(".")
            if value is not None:
                plain.setdefault(section, {})[field] = value
        if config is None and "upstream" not in plain:
            raise typer.BadParameter("Give --upstream URL, or --config FILE.")
        return settings.parse(plain, str(config or "aasut gateway"))

    progress = Progress()
    progress.terminal = progress.terminal and not as_json
    server.run(load, store, root, progress)


@app.command("reload")
def reload(store: Store = Path("traffic")) -> None:
    """Make a running gateway read its settings, keys and student again; no request is dropped."""
    from aasut.gateway import server

    server.reload(store)
    print("The gateway was told; aasut gateway status says what came of it.")
