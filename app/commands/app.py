"""`hasten app`: the web page."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from hasten.app import options
from hasten.app.console import quiet_libraries
from hasten.app.errors import UserError

LOCAL = "127.0.0.1"
DEFAULT_PORT = 7860

Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="A pipeline folder or hub id to offer beside the bundled models; repeatable."),
]
AnyModel = Annotated[
    bool, typer.Option("--any-model", help="Let visitors name models themselves; only for people you trust.")
]
Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for the whole network.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]
Password = Annotated[
    str | None, typer.Option(envvar="HASTEN_PASSWORD", help="Ask for it before the page opens; any user name.")
]
Mcp = Annotated[bool, typer.Option("--mcp", help="Offer the page's endpoints as tools to agents, by MCP.")]
Keep = Annotated[
    int | None, typer.Option(min=1, help="Comparisons of the page that stay on disk, the newest ones; all if left out.")
]
MostSide = Annotated[
    int | None, typer.Option(min=1, help="Largest height or width of a comparison, in pixels; 16384 if left out.")
]
MostFrames = Annotated[int | None, typer.Option(min=1, help="Most frames of a comparison's videos; 257 if left out.")]
MostSteps = Annotated[int | None, typer.Option(min=1, help="Most steps of a comparison; 200 if left out.")]
MostWaiting = Annotated[
    int | None, typer.Option(min=0, help="Comparisons that may wait for the device; 16 if left out.")
]


def app(
    model: Models = None,
    any_model: AnyModel = False,
    host: Host = LOCAL,
    port: Port = DEFAULT_PORT,
    password: Password = None,
    mcp: Mcp = False,
    keep: Keep = None,
    most_side: MostSide = None,
    most_frames: MostFrames = None,
    most_steps: MostSteps = None,
    most_waiting: MostWaiting = None,
    dtype: options.DtypeName = "auto",
    device: options.Device = "auto",
    out: options.Out = Path("outputs"),
) -> None:
    """A web page with plain and accelerated side by side, for pictures and for videos."""
    try:
        from hasten.app.web.application import build_app, serving_options
        from hasten.app.web.limits import Limits
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("gradio", "gradio_client"):
            raise
        raise UserError("The web page needs gradio; install it with: pip install 'hasten[app]'.") from error
    if mcp and find_spec("mcp") is None:
        raise UserError("--mcp needs the mcp package; install it with: pip install 'hasten[mcp]'.")
    quiet_libraries()
    bounds = {"side": most_side, "num_frames": most_frames, "steps": most_steps, "waiting": most_waiting}
    limits = Limits(kept_runs=keep, **{name: most for name, most in bounds.items() if most is not None})
    page = build_app(out, models=tuple(model or ()), any_model=any_model, dtype=dtype, device=device, limits=limits)
    try:
        page.launch(server_name=host, server_port=port, **serving_options(out, password, mcp=mcp))
    except OSError as error:
        raise UserError(f"Port {port} on {host} cannot be used ({error}); choose another --port.") from error
    finally:
        page.close()
