"""Who is at the other end: TLS material, and a token that both ends share."""

from __future__ import annotations

import hashlib
import hmac
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from calibration.link.frames import reason_of
from kdsim.errors import TransportError

#: A shorter token could be guessed by trying.
_LEAST_TOKEN_BYTES = 16
_MOST_TOKEN_BYTES = 4096
_PURPOSE = b"kdsim knowledge link 1"


@dataclass(frozen=True, slots=True)
class Tls:
    """Where the TLS material lies.

    Attributes
    ----------
    certificate, key : str or None
        PEM files that this end shows; a server must have both.
    authority : str or None
        PEM file that this end trusts. A client must have it: the system's store is not asked. A
        server that has it asks clients for a certificate too.
    """

    certificate: str | None = None
    key: str | None = None
    authority: str | None = None

    def context(self, *, server: bool) -> ssl.SSLContext:
        """Build the context for one end.

        Raises
        ------
        TransportError
            If a file is missing or no PEM.
        """
        needed = (self.certificate and self.key) if server else self.authority
        if not needed:
            end = "server needs a certificate and a key" if server else "client needs an authority"
            raise TransportError(f"TLS: a {end}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key)
            if self.authority:
                context.load_verify_locations(self.authority)
                context.verify_mode = ssl.CERT_REQUIRED
        except OSError as error:  # ssl.SSLError is one
            files = ", ".join(filter(None, (self.certificate, self.key, self.authority)))
            raise TransportError(f"TLS: cannot load {files}: {reason_of(error)}") from error
        return context


def readable_file(path: str | os.PathLike[str]) -> str:
    """Return `path` if a file is there.

    Raises
    ------
    TransportError
        If not; TLS libraries answer with errors that name no file.
    """
    if not Path(path).is_file():
        raise TransportError(f"TLS: no such file: {path}")
    return str(path)


def read_token(path: str | os.PathLike[str]) -> bytes:
    """Read the token that teacher and edge share from a file; blanks around it do not count.

    Raises
    ------
    TransportError
        If the file cannot be read, or the token is too short to be a secret.
    """
    try:
        with Path(path).open("rb") as file:
            token = file.read(_MOST_TOKEN_BYTES + 1).strip()
    except OSError as error:
        raise TransportError(f"token file {path}: cannot be read: {error.strerror}") from error
    if not _LEAST_TOKEN_BYTES <= len(token) <= _MOST_TOKEN_BYTES:
        raise TransportError(
            f"token file {path}: a token has {_LEAST_TOKEN_BYTES} to {_MOST_TOKEN_BYTES} bytes, "
            f"got {len(token)}; make one with: openssl rand -hex 32"
        )
    return token


def proof_of(token: bytes, challenge: bytes) -> bytes:
    """Return what shows, for this challenge only, that one knows the token (HMAC-SHA256)."""
    return hmac.new(token, _PURPOSE + challenge, hashlib.sha256).digest()


def is_proof(token: bytes, challenge: bytes, given: bytes) -> bool:
    """Whether `given` is the proof; takes the same time whichever byte is wrong."""
    return hmac.compare_digest(proof_of(token, challenge), given)
