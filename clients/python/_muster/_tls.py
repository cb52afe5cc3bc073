"""How a server is known that is asked by https: by the machine's authorities, by those in MUSTER_TLS_CA, or by its key alone.

MUSTER_TLS_FINGERPRINT is the SHA-256 of the key of the server's certificate, as ``muster up`` prints it and ``curl
--pinnedpubkey`` takes it. With it nobody has to have signed the certificate, and its names do not matter.
"""

from __future__ import annotations

import base64
import hashlib
import os
import ssl

from . import _errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Tuple


def wrap(sock: socket.socket, host: str) -> ssl.SSLSocket:
    """Speak TLS on a connection, to the right server. Raises UnavailableError: another one is not waited for."""
    try:
        return _wrap(sock, host)
    except ssl.SSLCertVerificationError as e:
        raise _another(host, e.verify_message) from e


def _another(host: str, why: str) -> _errors.UnavailableError:
    return _errors.UnavailableError(
        "the Muster server at %s is not known to be the right one: %s" % (host, why),
        "set MUSTER_TLS_FINGERPRINT to what muster up printed there, or MUSTER_TLS_CA to a file with its certificate",
    )


def _wrap(sock: socket.socket, host: str) -> ssl.SSLSocket:
    fingerprint = os.environ.get("MUSTER_TLS_FINGERPRINT", "")
    context = ssl.create_default_context(cafile=os.environ.get("MUSTER_TLS_CA") or None)
    if fingerprint:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    tls = context.wrap_socket(sock, server_hostname=host)
    if fingerprint:
        got = fingerprint_of(tls.getpeercert(True) or b"")
        if got != fingerprint:
            tls.close()
            raise _another(host, "its key has the fingerprint " + got)
    return tls


def fingerprint_of(certificate: bytes) -> str:
    """Return the fingerprint of the key of a certificate in DER form."""
    try:
        _, at, _ = _element(certificate, 0)  # the certificate
        _, at, _ = _element(certificate, at)  # what is signed of it
        kind, _, after = _element(certificate, at)
        if kind == 0xA0:  # the version, which may be absent
            at = after
        for _ in range(5):  # number, algorithm, issuer, validity, subject
            _, _, at = _element(certificate, at)
        _, _, end = _element(certificate, at)
    except IndexError:
        raise ssl.SSLError("the server's certificate cannot be read") from None
    return "sha256//" + base64.b64encode(hashlib.sha256(certificate[at:end]).digest()).decode("ascii")


def _element(der: bytes, at: int) -> Tuple[int, int, int]:
    """Return the kind of the element at an offset, and where its content begins and ends."""
    kind, length = der[at], der[at + 1]
    at += 2
    if length & 0x80:
        digits = length & 0x7F
        length = int.from_bytes(der[at : at + digits], "big")
        at += digits
    return kind, at, at + length
