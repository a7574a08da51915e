"""``shapewright studio``: the local web page and its HTTP interface."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shapewright.cli.common import talk
from shapewright.errors import MissingPackageError, UsageError


def command(
    host: Annotated[
        str, typer.Option(help="Address to listen on; another than 127.0.0.1 opens it to others.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 for any that is free.", min=0, max=65535)] = 8017,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="A name under which it may be reached.")
    ] = None,
    ladders: Annotated[Path, typer.Option(help="Folder of the ladders that it shows and starts.")] = Path(
        "ladders"
    ),
    workers: Annotated[
        int | None, typer.Option(help="Processes that answer; by default one per core.", min=1, max=64)
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="The longest that an answer without a search may take, in seconds.", min=0.1)
    ] = 60.0,
    search_timeout: Annotated[
        float, typer.Option(help="The longest that a search may take, in seconds.", min=0.1)
    ] = 600.0,
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Open a local page: choose hardware and budget, move the numbers, compare.

    Nothing leaves this machine: the page loads nothing from elsewhere, and
    other sites cannot reach it. The same questions as JSON: /api/openapi.json

    Example: shapewright studio --port 8017
    """
    try:
        import uvicorn

        from shapewright.cli import verbs
        from shapewright.studio.app import LOOPBACK, create_app
    except ImportError as error:
        raise MissingPackageError("the studio", str(error.name), extra="studio") from error
    if ladders.exists() and not ladders.is_dir():
        raise UsageError(
            f"--ladders (={ladders}) is a file", "ladders are kept in a folder", "name a folder; it is made when needed"
        )  # fmt: skip
    import socket

    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)  # who follows the printed address at once waits rather than being refused
    except OSError as error:
        listener.close()
        raise UsageError(
            f"nothing can listen on {host}:{port}", str(error), "choose another --port, or --port 0 for any"
        ) from error
    names = LOOPBACK | {host.lower()} | {name.lower() for name in allow_host or ()}
    app = create_app(
        ladders=ladders,
        hosts=names,
        workers=workers,
        timeout_s=timeout,
        search_timeout_s=search_timeout,
        verbs=verbs.askable(),
        run_verb=verbs.answer,
    )
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listener.getsockname()[1]}/"
    console = talk()
    console.print(f"Shapewright studio: {address}    (stop: Ctrl-C)", markup=False)
    if host not in LOOPBACK:
        console.print("warning: others on the network can reach it and use this machine", markup=False)
    if open_browser:
        import threading
        import webbrowser

        threading.Timer(1.0, webbrowser.open, [address]).start()
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
    uvicorn.Server(config).run(sockets=[listener])
