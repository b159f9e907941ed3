"""Tests that the documented code verifies the signature of a message."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from migration_route.notifications.delivery import signature

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "notifications.md"
BODY = b'{"id": "1"}'


def documented():
    """Return the function from the documentation."""
    text = PAGE.read_text(encoding="utf-8")
    (code,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        if "hmac" in block
    )
    names: dict[str, object] = {}
    exec(code, names)  # noqa: S102 - our own page
    return names["is_from_the_route"]


def test_the_known_answer():
    """The format is fixed: existing receivers must not break."""
    assert signature(b"{}", secrets=["0123456789abcdef"], seconds=1732000000) == (
        "t=1732000000,v1=9e11f591bab02c0e3ecf5c70fe7903ed8bb460af415b9369e39dd39d844900f4"
    )


def test_the_documented_lines_take_what_is_ours():
    now = int(time.time())
    header = signature(BODY, secrets=["a-secret-of-ours"], seconds=now)
    assert documented()(BODY, header, "a-secret-of-ours")


def test_while_a_secret_is_replaced_either_one_will_do():
    now = int(time.time())
    header = signature(BODY, secrets=["the-new-secret-1", "the-old-secret-1"], seconds=now)
    for secret in ("the-new-secret-1", "the-old-secret-1"):
        assert documented()(BODY, header, secret)


@pytest.mark.parametrize(
    ("body", "change", "age"),
    [
        (BODY + b" ", lambda header: header, 0),
        (BODY, lambda header: header.replace("v1=", "v1=0"), 0),
        (BODY, lambda header: header.replace("v1=", "v0="), 0),
        (BODY, lambda header: header.split(",")[0], 0),
        (BODY, lambda header: "", 0),
        (BODY, lambda header: header, 3600),
        (BODY, lambda header: re.sub(r"t=\d+", f"t={int(time.time())}", header), 3600),
    ],
    ids=["body", "mark", "version", "unsigned", "nothing", "old", "made young"],
)
def test_the_documented_lines_refuse_anything_else(body, change, age):
    seconds = int(time.time()) - age
    header = change(signature(BODY, secrets=["a-secret-of-ours"], seconds=seconds))
    assert not documented()(body, header, "a-secret-of-ours")
