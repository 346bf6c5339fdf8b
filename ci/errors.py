"""What can go wrong with a launch, beyond the errors of `mrtd.errors`."""

from __future__ import annotations

from typing import Final

from ci.outcome import REMEDIES, Outcome
from ci.progress import Stage
from mrtd.errors import MrtdError

_FIRST: Final = 5
_LAST: Final = 20
_LINE_LENGTH: Final = 200


class LaunchFailed(MrtdError):
    """A guest did not run to its orderly end, or did not say all it had to say.

    Exits with 3: nothing was learned about the image's measurements.

    Attributes:
        reason: what happened, in one sentence.
        code: what kind of failure it is, for programs; the hint is its remedy by default.
        stage: how far the launch had come; None if that is not known.
        evidence: an `excerpt` of each output by its name (``serial``, ``swtpm``,
            ``qemu-system-x86_64``); outputs that said nothing are left out.
    """

    def __init__(
        self,
        reason: str,
        *,
        code: Outcome = Outcome.UNKNOWN,
        stage: Stage | None = None,
        outputs: dict[str, bytes] | None = None,
        hint: str | None = None,
    ) -> None:
        self.reason = reason
        self.code = code
        self.stage = stage
        self.evidence = {
            name: lines for name, text in (outputs or {}).items() if (lines := excerpt(text))
        }
        shown = [f"launch failed: {reason} [{code}]"]
        for name, lines in self.evidence.items():
            shown.append(f"{name}:")
            shown.extend(f"  {line}" for line in lines)
        super().__init__("\n".join(shown), hint=hint or REMEDIES[code])


def excerpt(text: bytes) -> tuple[str, ...]:
    """The first 5 and the last 20 lines that are not blank, 200 characters of each, safe to print.

    QEMU names an error first and dumps a CPU's registers then; a guest's last words count.

    A guest writes what it likes: nothing of it may reach a terminal or a CI log as a control
    sequence.
    """
    lines = [line for line in map(bytes.rstrip, text.splitlines()) if line]
    left_out = len(lines) - _FIRST - _LAST
    if left_out > 0:
        lines[_FIRST:-_LAST] = [b"[%d lines left out]" % left_out]
    return tuple(printable(line)[:_LINE_LENGTH] for line in lines)


def printable(text: bytes) -> str:
    """The text with everything that is no printable character escaped."""
    decoded = text.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in decoded)
