"""May this producer come in?"""

from __future__ import annotations

from protocol.errors import SpecError
from protocol.messages import PROTOCOL_VERSION, Hello, RefusalCode
from protocol.spec import StreamSpec, differences


def hello_refusal(
    hello: Hello, known: StreamSpec | None, streams: frozenset[str] | None, number_in_use: bool
) -> tuple[RefusalCode, str] | None:
    """Why not, or None. known: what this stream's spec is already. streams: the only ones taken, if not None."""
    if hello.protocol != PROTOCOL_VERSION:
        return (
            "protocol_version",
            f"the sink speaks version {PROTOCOL_VERSION}, the producer {hello.protocol}; install the same release",
        )
    if number_in_use:
        return "unknown_session", f"session number {hello.session} is in use; choose a random one for each Hello"
    if streams is not None and hello.spec.name not in streams:
        taken = ", ".join(sorted(streams))
        return "unknown_stream", f"stream {hello.spec.name!r} is not taken here; this sink takes {taken}"
    try:
        hello.spec.check()
    except SpecError as error:
        return "wrong_spec", str(error)
    if known is not None and known != hello.spec:
        rows = "; ".join(differences(known, hello.spec))
        text = f"stream {known.name!r} has another schema: {rows}; use another stream name or the same schema"
        return "wrong_spec", text
    return None
