"""`s2s serve`: text of speech over HTTP and WebSockets, and a page."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from s2s.cli.options import Device, Dtype, Threads, check_decoding, check_device, usage
from s2s.errors import UserError

TOKEN = "S2S_TOKEN"


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]MODEL",
            help="Bundle, or name of a model (whisper-tiny.en, whisper-base, ...), and how clients name it; repeat it. "
            "The first is the default, and OpenAI's whisper-1. Default: whisper-base.",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen: this machine alone, or 0.0.0.0 for all others too.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help=f"Clients have to show the token in it (Authorization: Bearer); or set {TOKEN}."
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN", help="Pages of that server may use this one, such as https://example.org; repeat it."
        ),
    ] = None,
    decoding: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="How files are searched, as for s2s transcribe; default: the model's way."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Of live sessions: endpoint.end_silence=0.5, ...; repeat it."),
    ] = None,
    max_sessions: Annotated[int, typer.Option(min=1, help="Live sessions at once; more are refused (503).")] = 64,
    max_requests: Annotated[int, typer.Option(min=1, help="Files in hand at once; more are refused (429).")] = 32,
    max_upload: Annotated[int, typer.Option(min=1, metavar="MIB", help="Size of a file; larger ones: 413.")] = 100,
    max_file_seconds: Annotated[float, typer.Option(help="Length of a file; longer ones are refused (413).")] = 14400,
    max_session_seconds: Annotated[float, typer.Option(help="Length of a live session; then it ends.")] = 14400,
    idle_seconds: Annotated[
        float, typer.Option(help="A client that sends nothing for so long is not waited for.")
    ] = 30,
    grace_seconds: Annotated[
        float, typer.Option(help="For what is in hand when the server is stopped; then it is cut off.")
    ] = 30,
    threads: Threads = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Write only errors to standard error.")] = False,
) -> None:
    """Serve models: a page, files as OpenAI's API takes them, live sessions, metrics.

    GET / is the page. POST /v1/audio/transcriptions and /v1/audio/translations take files, /v1/audio/stream is a
    WebSocket for 16-bit samples, GET /v1/models, /health and /metrics tell of the server. docs/serving.md has it all.

    Ctrl-C or SIGTERM stops it: nothing new is taken, live sessions are told their last text, files are finished, for
    --grace-seconds; a second one cuts them off. The exit code is then 0; it is 1 where a model cannot be loaded or the
    address cannot be had, and 2 for options that make no sense.
    """
    from s2s.optional import require

    require("s2s serve", ("starlette", "uvicorn", "python_multipart", "websockets", "prometheus_client"), "serve")

    from s2s.decoding.config import load_decoding_config
    from s2s.server.models import named_models
    from s2s.server.settings import MIB, ServerSettings
    from s2s.streaming.settings import StreamSettings

    with usage():
        sources = named_models(model or ["whisper-base"])
        settings = ServerSettings(
            host=host,
            port=port,
            token=_token(token_file),
            origins=tuple(allow_origin or ()),
            max_upload_bytes=max_upload * MIB,
            max_file_seconds=max_file_seconds,
            max_requests=max_requests,
            max_sessions=max_sessions,
            max_session_seconds=max_session_seconds,
            idle_seconds=idle_seconds,
            grace_seconds=grace_seconds,
        )
        stream_settings = StreamSettings.of(None, None, overrides or [])
        check_decoding(decoding)
        config = load_decoding_config([f"decoding={decoding}"]) if decoding else None

    import torch

    from s2s.server.metrics import Metrics
    from s2s.server.models import serving
    from s2s.server.run import listening, run, server_of

    if threads:
        torch.set_num_threads(threads)
    check_device(device)
    if not settings.is_local and settings.token is None and not quiet:
        print(f"s2s: anybody who reaches {host} may use this server: --token-file keeps others out", file=sys.stderr)

    def ready(address: str) -> None:
        if not quiet:
            print(f"s2s: {', '.join(sources)} at {address} (Ctrl-C stops it)", file=sys.stderr, flush=True)

    metrics = Metrics()
    with (
        listening(settings.host, settings.port) as sock,
        serving(sources, settings, metrics, config, stream_settings, device, dtype) as models,
        server_of(models, settings, metrics) as server,
    ):
        run(server, sock, ready)
    if not quiet:
        print("s2s: stopped", file=sys.stderr)


def _token(file: Path | None) -> str | None:
    """The token in a file, or in the environment."""
    if file is None:
        return os.environ.get(TOKEN) or None
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--token-file {file}: cannot be read: {error}") from error
    if not token:
        raise UserError(f"--token-file {file}: is empty, expected a token")
    return token
