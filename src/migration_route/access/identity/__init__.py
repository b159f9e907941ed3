"""Identity tokens of pipelines (OpenID Connect): who has signed one, and whom it names."""

from __future__ import annotations
