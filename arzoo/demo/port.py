"""The address of the page: a port of this machine, which nobody else reaches."""

from __future__ import annotations

import socket

from arzoo.base.errors import ArzooError

HOST = "127.0.0.1"


def require_port(port: int) -> None:
    """Check that a port is free.

    Raises:
        ArzooError: It is taken; the message names one that is free.
    """
    if is_free(port):
        return
    other = next((each for each in range(port + 1, min(port + 100, 65536)) if is_free(each)), None)
    advice = "" if other is None else f", or take another one: arzoo demo --port {other}"
    raise ArzooError(
        f"port {port} of this machine is taken. If that is another `arzoo demo`, use it: http://{HOST}:{port}{advice}"
    )


def is_free(port: int) -> bool:
    """Return whether a server can listen on a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
