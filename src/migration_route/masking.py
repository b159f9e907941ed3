"""Which parts of a text must not be shown or kept?

Output of migrations is kept for ever and shown to many: what looks like a secret is
masked before it leaves the worker.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = "********"

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # user:password@ in a URL, whatever the scheme
    (
        re.compile(r"(?P<head>\b[a-zA-Z][\w+.-]*://[^\s:/@]*:)[^\s/]+(?P<tail>@)"),
        rf"\g<head>{MASK}\g<tail>",
    ),
    # Authorization: Bearer …, Basic …
    (
        re.compile(r"(?P<head>\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}", re.IGNORECASE),
        rf"\g<head>{MASK}",
    ),
    # password=…, "api_key": "…", SECRET_KEY = '…', libpq's password='…'
    (
        re.compile(
            r"(?P<head>\b[\w-]*(?:password|passwd|pwd|secret|token|api[_-]?key|private[_-]?key"
            r"|access[_-]?key|credential)[\w-]*[\"']?\s*(?:=>|[:=])\s*)"
            r"(?:\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|[^\s,;&\"')}\]]+)",
            re.IGNORECASE,
        ),
        rf"\g<head>{MASK}",
    ),
    # tokens that carry their maker's mark: ours, GitHub, GitLab, AWS, Slack, JWT
    (
        re.compile(
            r"\b(?:mrt_[\w-]{16,}|gh[pousr]_\w{20,}|glpat-[\w-]{16,}|AKIA[0-9A-Z]{16}"
            r"|xox[abprs]-[\w-]{10,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{4,})"
        ),
        MASK,
    ),
)


def masked(text: str, *, secrets: Iterable[str] = ()) -> str:
    """Return `text` with what looks like a secret, and each of `secrets`, masked."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text
