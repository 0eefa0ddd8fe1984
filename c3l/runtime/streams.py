"""Standard streams that are closed, from the start or by a reader that went away."""

import io
import os
import select
import sys

GONE = 141
"""The exit code where standard output had nowhere to go; a shell's for SIGPIPE."""


class Nowhere(io.TextIOBase):
    """Standard output that was closed from the start: it takes everything and remembers that."""

    lost = False

    def write(self, text: str) -> int:
        self.lost = self.lost or bool(text)
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1


def fill() -> None:
    """Put something in place of the standard streams that are closed.

    Else the next file that is opened gets their descriptor, and whatever prints writes into it; and
    what is meant for standard error comes out of standard output.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest descriptor that is free is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdout is None:
        sys.stdout = Nowhere()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def lost() -> bool:
    """Return whether something was printed that standard output could not take to anybody."""
    return isinstance(sys.stdout, Nowhere) and sys.stdout.lost


def readers_left() -> bool:
    """Return whether somebody may still read both standard streams."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    return not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def silence() -> None:
    """Let what cannot be printed go nowhere. Python would try again when it ends, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)
