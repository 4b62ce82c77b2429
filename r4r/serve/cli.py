"""The command `r4r-serve`: a trained pipeline as a page for people and a server for programs."""

import argparse
import ipaddress
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from r4r.errors import ConfigError, DataError, R4RError
from r4r.files import a_path
from r4r.terminal import refusal, speak_any_terminal

if TYPE_CHECKING:
    import uvicorn

TOKEN = "R4R_SERVE_TOKEN"  # environment variable
SHORTEST = 16  # characters of a token
SILENCE_S = 10.0  # of a new connection
CONNECTIONS = 100  # at once
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def main(argv: Sequence[str] | None = None) -> None:
    """The command line. Exit codes: 0 ended, 1 the pipeline cannot be loaded or the port not be had, 2 wrong usage."""
    speak_any_terminal()
    given = _parser().parse_args(argv)
    try:
        _serve(given)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        told = str(error) if isinstance(error, R4RError) else refusal(error)
        if told is None:
            raise
        print(f"r4r-serve: {told}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="r4r-serve",
        description="Serve the pipeline of a finished run: a page to read, edit and question its reasons, and the same "
        "for programs (/openapi.json). Nothing is trained, and no teacher is asked.",
    )
    parser.add_argument("result", help="the run's folder, or its result.json")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind; beyond this machine a token is needed")
    parser.add_argument("--port", type=_port, default=8765, help="%(default)s; 0: any that is free")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a name that browsers find this server by"
    )
    parser.add_argument("--artifacts", type=a_path, help="the store, where it lies elsewhere than the record says")
    parser.add_argument(
        "--interactions", type=a_path, help="file to append to (default: interactions.jsonl in the run)"
    )
    parser.add_argument("--plugins", default="", help="modules of your own that the record may name: a,b")
    return parser


def _serve(given: argparse.Namespace) -> None:
    try:
        import uvicorn

        from r4r.serve.app import create_app
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("r4r"):
            raise
        raise R4RError(f"{error.name} is not installed: pip install 'r4r[serve]'") from error
    from r4r.serve.entrance import load, open_record

    token = token_for(given.host, os.environ.get(TOKEN, "").strip() or None)
    run = open_record(given.result)
    log = (given.interactions or run.path.parent / "interactions.jsonl").absolute()
    try:
        log.open("a", encoding="utf-8").close()
    except OSError as error:
        raise DataError(
            f"{log}: cannot be written ({error.strerror}); name another file with --interactions"
        ) from error
    with listening(given.host, given.port) as own:
        pipeline = load(run, given.artifacts, tuple(filter(None, given.plugins.split(","))))
        hosts = {*LOOPBACK, *given.allow_host, _named(given.host)}
        app = create_app(pipeline, log, hosts, token)
        address = f"http://{_named(given.host)}:{own.getsockname()[1]}/"
        print(f"{address}{f'#token={quote(token)}' if token else ''}\ninteractions: {log}", flush=True)
        try:
            uvicorn.Server(server_settings(app)).run(sockets=[own])
        finally:
            pipeline.close()


def server_settings(app: Any) -> "uvicorn.Config":
    """How the server runs: quiet, with so many connections at most, of which none may stay silent for long."""
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Punctual(H11Protocol):
        """A connection that is closed where no whole request comes on it in SILENCE_S, the next one included."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.loop.call_later(SILENCE_S, self.look, None)

        def look(self, before: Any) -> None:
            """
            Args:
                before: the request that was answered at the last look.
            """
            waits = self.cycle is None or self.cycle.response_complete
            if waits and self.cycle is before:
                self.transport.close()
            if not self.transport.is_closing():
                self.loop.call_later(SILENCE_S, self.look, self.cycle)

    quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
    return uvicorn.Config(app, http=Punctual, limit_concurrency=CONNECTIONS, **quiet)


def listening(host: str, port: int) -> socket.socket:
    """A socket that is bound before the pipeline is loaded, which takes longer; port 0 is any that is free.

    Raises:
        R4RError: the address is none of this machine, or the port is taken or not allowed.
    """
    try:
        kind, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(place[:2], family=kind)
    except (OSError, UnicodeError) as error:  # a name that no host can have is told by the codec
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise R4RError(f"cannot listen on {host} port {port}: {why}; --host and --port name another") from error


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"{text}: a port is a number from 0 to 65535")
    return int(text)


def token_for(host: str, given: str | None) -> str | None:
    """The token that requests must bring: the one of the environment; beyond this machine, a new one if there is none.

    Raises:
        ConfigError: it is too short to be one.
    """
    if given is not None and len(given) < SHORTEST:
        raise ConfigError([f"{TOKEN}: a token has at least {SHORTEST} characters"])
    return given or (None if _is_loopback(host) else secrets.token_urlsafe(24))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may lead anywhere
        return False


def _named(host: str) -> str:
    """An address as URLs and Host headers have it."""
    return f"[{host}]" if ":" in host else host


if __name__ == "__main__":
    main()
