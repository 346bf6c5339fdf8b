"""What can go wrong with a launch, beyond the errors of `mrtd.errors`."""

from __future__ import annotations

from typing import Final

from mrtd.errors import MrtdError

_LINES: Final = 20
_LINE_LENGTH: Final = 200


class LaunchFailed(MrtdError):
    """A guest did not run to its orderly end, or did not say all it had to say.

    Exits with 3: nothing was learned about the image's measurements.

    Attributes:
        reason: what happened, in one sentence.
        evidence: the last lines of each output by its name (``serial``, ``qemu``, ``swtpm``),
            control characters escaped; outputs that said nothing are left out.
    """

    def __init__(
        self, reason: str, *, outputs: dict[str, bytes] | None = None, hint: str | None = None
    ) -> None:
        self.reason = reason
        self.evidence = {
            name: lines for name, text in (outputs or {}).items() if (lines := last_lines(text))
        }
        shown = [f"launch failed: {reason}"]
        for name, lines in self.evidence.items():
            shown.append(f"last lines of {name}:")
            shown.extend(f"  {line}" for line in lines)
        super().__init__("\n".join(shown), hint=hint)


def last_lines(text: bytes) -> tuple[str, ...]:
    """The last 20 lines that are not blank, of 200 characters at most, safe to print.

    A guest writes what it likes: nothing of it may reach a terminal or a CI log as a control
    sequence.
    """
    lines = (printable(line.rstrip()) for line in text.splitlines())
    return tuple(line[:_LINE_LENGTH] for line in lines if line)[-_LINES:]


def printable(text: bytes) -> str:
    """The text with everything that is no printable character escaped."""
    decoded = text.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in decoded)
