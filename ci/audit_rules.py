"""The page of the audit's rules: ``python -m ci.audit_rules`` writes it from their table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from mrtd.audit.rules import RULES
from mrtd.notes import Level

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "audit-rules.md"
_HEAD: Final = """\
# Rules of `mrtd audit`

Written from the table in `mrtd/audit/rules.py` by `python -m ci.audit_rules`. Ids are stable: they
are what `--ignore` and programs name. An alarm means that the registers do not identify what they
seem to; a warning, that something is unprotected or unknown; an info is what to know.
"""


def page() -> str:
    """The page, in Markdown."""
    parts = [_HEAD]
    for level in Level:
        parts.append(f"## {level.capitalize()}\n")
        for rule in RULES.values():
            if rule.level is level:
                title = rule.title[0].upper() + rule.title[1:]
                parts.append(
                    f"### `{rule.id}` ({rule.level})\n\n{title}. {rule.risk}\n\n"
                    f"**Do:** {rule.remedy}.\n\n**Source:** {rule.source}.\n"
                )
    return "\n".join(parts)


def main() -> int:
    """Write it."""
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
