"""What an error that came over the network means: a fault to wait out, a licence to accept, or neither."""

import errno
import http.client
import os
import socket
import ssl
import sys
import urllib.error
from collections.abc import Iterator

from huggingface_hub import constants
from huggingface_hub.errors import DisabledRepoError, GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError

# Whichever of them is there: the hub's client has changed its library of requests before, and `datasets` reads other hosts through aiohttp.
OF_LIBRARIES = {
    "httpx": ("TimeoutException", "NetworkError", "RemoteProtocolError", "ProxyError"),
    "httpx2": ("TimeoutException", "NetworkError", "RemoteProtocolError", "ProxyError"),
    "requests": ("ConnectionError", "Timeout"),
    "requests.exceptions": ("ChunkedEncodingError",),
    "aiohttp": ("ClientConnectionError", "ClientPayloadError"),
}
OF_PYTHON = (ConnectionError, TimeoutError, socket.gaierror, http.client.IncompleteRead, http.client.RemoteDisconnected, ssl.SSLError)
UNREACHABLE = {errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.ECONNRESET}
LATER = {408, 425, 429}  # of the answers below 500, those that ask to come again
FINAL = (RepositoryNotFoundError, RevisionNotFoundError, OfflineModeIsEnabled)
GATED = "is a gated dataset"  # `datasets` words its own error and drops the hub's
UNKNOWN = "exist on the Hub or cannot be accessed"  # likewise


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and all that led to it, each once."""
    waiting, seen = [error], set[int]()
    while waiting:
        if id(one := waiting.pop()) not in seen:
            seen.add(id(one))
            yield one
            waiting += [cause for cause in (one.__context__, one.__cause__) if cause is not None]


def transient(error: BaseException) -> bool:
    """Whether the same request may succeed a little later; never where the hub has said no, or where nobody wants it asked."""
    return not constants.HF_HUB_OFFLINE and not is_final(error) and any(map(is_fault, chain(error)))


def is_final(error: BaseException) -> bool:
    """Whether the hub has answered that there is no such thing, or none for this user, or cannot be trusted to be the hub.

    What was merely being handled meanwhile says nothing, but for a certificate.
    """
    if any(isinstance(one, ssl.SSLCertVerificationError) for one in chain(error)):
        return True
    own: BaseException | None = error
    while own is not None:
        if isinstance(own, FINAL) or GATED in str(own) or UNKNOWN in str(own) or OfflineModeIsEnabled.__name__ in str(own):
            return True
        own = own.__cause__
    return False


def is_fault(error: BaseException) -> bool:
    """Whether this one error is a fault of the network or of a server."""
    if (status := status_of(error)) is not None:
        return status in LATER or status >= 500
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        return is_fault(error.reason)
    if isinstance(error, OF_PYTHON) or (isinstance(error, OSError) and error.errno in UNREACHABLE):
        return True
    kinds = (getattr(sys.modules[library], name, None) for library, names in OF_LIBRARIES.items() if library in sys.modules for name in names)
    return any(isinstance(error, kind) for kind in kinds if isinstance(kind, type))


def status_of(error: BaseException) -> int | None:
    """The number of the server's answer, if this error is about one."""
    for holder, name in ((getattr(error, "response", None), "status_code"), (error, "status"), (error, "code")):
        if isinstance(status := getattr(holder, name, None), int):
            return status
    return None


def refused(error: BaseException, page: str, what: str, begun: bool = False) -> str | None:
    """What to accept and which variable to set, if the hub gives a thing (a model, a data set) to some accounts only; None if it is not about that.

    `begun` says that a part of it was given before, so that it cannot be unknown.
    """
    known = list(chain(error))
    token = "set HF_TOKEN to a token of that account"
    if os.environ.get("HF_TOKEN"):
        token = "see that HF_TOKEN is a valid token of that account which may read gated repositories"
    if any(isinstance(one, GatedRepoError) or GATED in str(one) for one in known):
        return f"the {what} is gated; accept its licence at {page} and {token}"
    answers = [one for one in known if status_of(one) in (401, 403)]
    words = next((" ".join(str(getattr(one, "server_message", None) or one).split())[:300] for one in answers), "")
    if any(isinstance(one, DisabledRepoError) for one in answers):
        return f"the hub gives the {what} to nobody, see {page}: {words}"
    if begun and answers:
        return f"the hub gives no more of the {what}; if {page} is still there, {token}: {words}"
    if answers or any(UNKNOWN in str(one) for one in known):
        return f"the hub has no such {what}, or none for this account; if {page} is there, accept its licence, if it has one, and {token}"
    return None


def worded(error: BaseException, length: int) -> str:
    """An error's words in one line, or its kind if it has none."""
    return " ".join(str(error).split())[:length] or type(error).__name__
