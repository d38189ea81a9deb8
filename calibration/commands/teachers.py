"""Options of the commands that serve a teacher's knowledge, or request it from a remote teacher."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from calibration.link.server import KnowledgeServer
    from calibration.link.stream import RemoteTeacher
    from calibration.link.tls import Tls

_F = TypeVar("_F", bound=Callable[..., Any])

_TOKEN_HELP = "File with a token that teacher and edge share (16 bytes or more; never sent)."
#: How often a server looks for refusals to report.
_LOOK_S = 1.0


def access_options(command: _F) -> _F:
    """Add the options by which two ends identify themselves: TLS files and a token."""
    for option in (
        click.option("--token-file", type=click.Path(), help=_TOKEN_HELP),
        click.option("--tls-key", type=click.Path(), help="PEM key of this end's certificate."),
        click.option(
            "--tls-cert",
            type=click.Path(),
            help="PEM certificate of this end; a TLS server needs one.",
        ),
        click.option(
            "--tls-ca",
            type=click.Path(),
            help="PEM certificate of the authority that signed the other end's; a server given "
            "one serves only edges with a certificate.",
        ),
    ):
        command = option(command)
    return command


def remote_teacher(teacher: str | None, **access: str | None) -> RemoteTeacher | None:
    """Gather what leads to a teacher elsewhere; None where none is named.

    Raises
    ------
    AddressError, TransportError
        If the address or a file is not usable.
    click.UsageError
        If there is access to a teacher, but no teacher.
    """
    from calibration.link.stream import RemoteTeacher, parse_address

    if teacher is None:
        if any(access.values()):
            raise click.UsageError(
                "--tls-ca, --tls-cert, --tls-key and --token-file need --teacher HOST:PORT"
            )
        return None
    return RemoteTeacher(parse_address(teacher), *credentials(**access))


def credentials(
    tls_ca: str | None = None, tls_cert: str | None = None, tls_key: str | None = None,
    token_file: str | None = None,
) -> tuple[Tls | None, bytes | None]:  # fmt: skip
    """Read the files by which an end identifies itself: its TLS material and its token.

    Raises
    ------
    TransportError
        Naming the file that is missing or is no secret.
    """
    from calibration.link.tls import Tls, read_token, readable_file

    given = (tls_cert, tls_key, tls_ca)
    files = [None if name is None else readable_file(name) for name in given]
    token = None if token_file is None else read_token(token_file)
    return (Tls(*files) if any(files) else None), token


def serve_until_interrupted(server: KnowledgeServer) -> None:
    """Serve until Ctrl-C, reporting on stderr whom the server turned away and why."""
    host, port = server.address
    click.echo(f"serving on {host}:{port}; Ctrl-C ends", err=True)
    try:
        while True:
            time.sleep(_LOOK_S)
            for reason in server.take_refusals():
                click.echo(reason, err=True)
    except KeyboardInterrupt:
        return
