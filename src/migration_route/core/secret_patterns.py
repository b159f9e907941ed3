"""Finds and masks secrets in texts: given ones, and text that looks like a secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus

MASK = "********"

REACH: Final = 4096
"""Characters that are read beyond a cut, to recognize a secret that spans it."""

_SHORTEST_LINE = 16  # of a secret of several lines, such as a private key

_PEM_BEGIN = r"-----BEGIN [A-Z0-9 ]{1,40}-----"
_PEM_END = r"-----END [A-Z0-9 ]{1,40}-----"
# An SQL string; an unterminated one extends to the end of the text.
_LITERAL = (
    r"(?:(?:[EeNn]|[Uu]&)?'(?:[^'\\]|''|\\.)*(?:'|\\?\Z)"
    r'|"(?:[^"\\]|""|\\.)*(?:"|\\?\Z)'
    r"|\$(?P<tag>\w{0,60})\$.*?(?:\$(?P=tag)\$|\Z))"
)

# The group `secret` is masked. A pattern is tried only where one of its words occurs in
# the text, in lower case. Every repetition that can be retried from another start is
# bounded, so the time is linear in the length of the text.
_PATTERNS: Final = tuple(
    (words, re.compile(pattern, flags))
    for words, pattern, flags in (
        (("-----begin",), rf"{_PEM_BEGIN}(?P<secret>.*?)(?:{_PEM_END}|\Z)", re.DOTALL),
        # user:password@ in a URL, whatever the scheme
        (
            ("://",),
            r"\b[a-zA-Z][\w+.-]{0,30}://[^\s:/@]{0,200}:"
            r"(?P<secret>[^\s/]+|(?!\d{1,5}/)[^\s@]{1,100})(?=@)",
            0,
        ),
        # https://TOKEN@host
        (("://",), r"\b[a-zA-Z][\w+.-]{0,30}://(?P<secret>[\w~.-]{20,500})(?=@)", 0),
        # Authorization: Bearer …, Basic …
        (
            ("bearer", "basic"),
            r"\b(?:bearer|basic)\s{1,5}(?P<secret>[\w.~+/=-]{8,})",
            re.IGNORECASE,
        ),
        # password=…, "api_key": "…", SECRET_KEY = '…', libpq's password='…', and with the
        # quotes escaped, as inside a string
        (
            ("pass", "pwd", "secret", "token", "key", "credential"),
            r"(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key"
            r"|private[_-]?key|access[_-]?key|credential)[\w-]{0,60}"
            r"\\?[\"'`]?\s{0,20}(?:=>|[:=])\s{0,20}"
            r"(?P<secret>\\\"(?:[^\"\\\n]|\\[^\"\n])*\\\"|\"(?:[^\"\\\n]|\\.)*\""
            r"|'(?:[^'\\\n]|''|\\.)*'|[^\s,;&\"')}\]]+)",
            re.IGNORECASE,
        ),
        # PASSWORD '…' of a role or a user mapping, PASSWORD('…')
        (
            ("password",),
            r"(?<![\w\"'`])password(?:\s{0,20}\(\s{0,20}|\s{1,20}|(?='))"
            rf"(?P<secret>{_LITERAL})",
            re.IGNORECASE | re.DOTALL,
        ),
        # SET PASSWORD FOR user = '…'
        (
            ("password",),
            r"\bset\s{1,20}password\s{1,20}(?:for\s{1,20}[^\s=]{1,200}\s{0,20})?=\s{0,20}"
            rf"(?:password\s{{0,20}}\(\s{{0,20}})?(?P<secret>{_LITERAL})",
            re.IGNORECASE | re.DOTALL,
        ),
        # IDENTIFIED BY '…', IDENTIFIED WITH plugin AS '…', IDENTIFIED VIA plugin USING '…'
        (
            ("identified",),
            r"\bidentified\s{1,20}(?:(?:with|via)\s{1,20}[^\s]{1,100}\s{1,20})?"
            r"(?:by|as|using)\s{0,20}(?:password\s{0,20}\(?\s{0,20})?"
            rf"(?P<secret>{_LITERAL})",
            re.IGNORECASE | re.DOTALL,
        ),
        # tokens with a known prefix: ours, GitHub, GitLab, AWS, Slack, JWT
        (
            (
                "mrt_",
                "ghp_",
                "gho_",
                "ghu_",
                "ghs_",
                "ghr_",
                "glpat-",
                "akia",
                "xox",
                "eyj",
            ),
            r"\b(?P<secret>mrt_[\w-]{16,}|gh[pousr]_\w{20,}|glpat-[\w-]{16,}|AKIA[0-9A-Z]{16}"
            r"|xox[abprs]-[\w-]{10,}"
            r"|eyJ[\w-]{8,2000}\.[\w-]{8,8000}\.[\w-]{4,})",
            0,
        ),
        # hashes of passwords: Django's hashers, crypt(3), PostgreSQL's SCRAM
        (
            ("$",),
            r"(?<![\w$])(?P<secret>(?:pbkdf2_sha\d{1,3}|bcrypt(?:_sha256)?|scrypt|argon2)"
            r"\$[^\s'\",)]{8,}|\$(?:2[abxy]|5|6|y|argon2\w{1,2})\$[^\s'\",)]{8,}"
            r"|SCRAM-SHA-\d{1,3}\$\d{1,9}:[^\s'\",)]{8,})",
            0,
        ),
    )
)

_BEGINS_PEM = re.compile(_PEM_BEGIN)
_ENDS_PEM = re.compile(_PEM_END)
_IN_PEM = re.compile(r"\s*\S*\s*|[\w-]{1,40}:.*")

Span = tuple[int, int]


class Redactor:
    """Masks known secrets, and text that looks like a secret."""

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        spelled = {way for secret in secrets for way in _spellings(secret)}
        self._secrets = sorted(spelled, key=len, reverse=True)

    def text(self, text: str) -> str:
        return _with_mask(text, [secret for _, secret in self._find(text)])

    def head(self, text: str, limit: int) -> tuple[str, int]:
        """Return the start of a text, masked, and the position of the cut: the limit, or
        the end of a secret that spans it, including the words that identify it."""
        found = self._find(text[: limit + REACH])
        cut = limit
        for (start, end), _ in found:
            cut = end if start < cut < end else cut
        return _with_mask(text[:cut], [one for _, one in found if one[1] <= cut]), cut

    def clipped(self, text: str, limit: int) -> str:
        """Return the start of a text, masked, and a note of how much was left out."""
        if len(text) <= limit:
            return self.text(text)
        shown, cut = self.head(text, limit)
        return f"{shown}… ({len(text) - cut} characters left out)"

    def middle_clipped(self, text: str, limit: int) -> str:
        """Return the start and the end of a text, masked: half of the limit each."""
        half = limit // 2
        if len(text) <= limit:
            return self.text(text)
        tail = text[-half - REACH :]
        found, cut = self._find(tail), REACH
        for (start, end), _ in found:
            cut = end if start < cut < end else cut
        kept = [(start - cut, end - cut) for _, (start, end) in found if start >= cut]
        return f"{self.clipped(text, half)}\n{_with_mask(tail[cut:], kept)}"

    def _find(self, text: str) -> list[tuple[Span, Span]]:
        """Return the secrets of a text, in order: for each the span that identifies it, and
        the span that is secret."""
        found: list[tuple[Span, Span]] = []
        for secret in self._secrets:
            start = text.find(secret)
            while start >= 0:
                span = (start, start + len(secret))
                found.append((span, span))
                start = text.find(secret, start + 1)
        lowered = text.lower()
        for words, pattern in _PATTERNS:
            if any(word in lowered for word in words):
                found += [
                    (match.span(), match.span("secret")) for match in pattern.finditer(text)
                ]
        return sorted(found)


class PemLines:
    """Recognizes the lines of PEM blocks in a text that arrives line by line."""

    __slots__ = ("_inside",)

    def __init__(self) -> None:
        self._inside = False

    def hides(self, line: str) -> bool:
        """Return whether a line lies inside a block, and track where blocks start and end.

        A truncated block ends at the first line that cannot belong to it.
        """
        was_inside = self._inside
        if begins := list(_BEGINS_PEM.finditer(line)):
            self._inside = _ENDS_PEM.search(line, begins[-1].end()) is None
            return False  # the pattern of the redactor masks the rest of the line
        if not was_inside:
            return False
        if _ENDS_PEM.search(line):
            self._inside = False
            return True
        self._inside = _IN_PEM.fullmatch(line) is not None
        return self._inside


def _with_mask(text: str, spans: list[Span]) -> str:
    """Return a text with these spans masked; overlapping spans become one mask."""
    pieces: list[str] = []
    done = 0
    for start, end in sorted(spans):
        if start >= done and start < end:
            pieces += [text[done:start], MASK]
        done = max(done, end)
    return "".join([*pieces, text[done:]])


def _spellings(secret: str) -> Iterator[str]:
    """Yield a secret as it is, and as URLs, Python, JSON and SQL write it. For a secret of
    several lines, also yield each line, because output is read by line."""
    yield secret
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield repr(secret)[1:-1]
    yield json.dumps(secret)[1:-1]
    yield secret.replace("'", "''")
    if "\n" in secret.strip():
        for line in secret.splitlines():
            if len(line.strip()) >= _SHORTEST_LINE and not line.startswith("-----"):
                yield line.strip()
