"""Tests of planning."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.planning.parity")
