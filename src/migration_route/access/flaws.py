"""Why may a machine not in, besides what every caller may be told?"""

from __future__ import annotations

from migration_route.errors import Forbidden, Unauthenticated


class IssuerUnavailable(Unauthenticated):
    """The keys that identity tokens are checked with cannot be had."""

    code = "issuer_unavailable"
    http_status = 503
    exit_code = 8
    hint = "Ask again later, or use a token of the settings."


class WrongNetwork(Forbidden):
    """Nobody may do this from this address."""

    hint = "NETWORKS, or the token's own networks, name the addresses that may."
