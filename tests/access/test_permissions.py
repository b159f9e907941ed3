"""Tests of every right against every other, and of the databases of an actor."""

from __future__ import annotations

import os
import pwd

import pytest

from migration_route.access.actors import Actor, authorise, may, scopes_of, shell_actor
from migration_route.core.enums import USER_ONLY_SCOPES, ActorKind, Scope
from migration_route.core.errors import Forbidden, Unauthenticated
from tests.factories import an_actor

READ, PLAN = Scope.READ, Scope.PLAN
IMPLIED = {
    Scope.READ: set(),
    Scope.PLAN: {READ},
    Scope.REHEARSE: {READ, PLAN},
    Scope.APPLY: {READ, PLAN},
    Scope.REVERSE: {READ, PLAN},
    Scope.FAKE: {READ, PLAN},
    Scope.OPERATE: {READ},
    Scope.APPROVE: {READ, PLAN},
    Scope.FORCE: {READ},
    Scope.RESOLVE: {READ, PLAN},
}


@pytest.mark.parametrize("scope", Scope)
def test_a_right_brings_the_rights_to_read_and_nothing_else(scope):
    """Any right on a plan implies reading it; none implies a right that changes
    something."""
    assert scopes_of(an_actor(scope)) == {scope, *IMPLIED[scope]}


@pytest.mark.parametrize("scope", Scope)
def test_nobody_without_a_right_may_do_it(scope):
    """The error names the missing right."""
    actor = an_actor(databases=None, scopes=frozenset())
    assert not may(actor, scope)
    with pytest.raises(Forbidden) as refused:
        authorise(actor, scope)
    assert refused.value.facts == {"needs": scope}


@pytest.mark.parametrize("scope", sorted(USER_ONLY_SCOPES))
def test_no_token_may_do_what_is_for_people(scope):
    """Even if its scopes contain it."""
    token = an_actor(*Scope, kind=ActorKind.TOKEN, name="ci")
    assert not may(token, scope)
    with pytest.raises(Forbidden):
        authorise(token, scope)
    assert may(an_actor(scope), scope)


def test_all_of_several_rights_are_needed():
    """A backwards run requires both `apply` and `reverse`."""
    with pytest.raises(Forbidden) as refused:
        authorise(an_actor(Scope.APPLY), Scope.APPLY, Scope.REVERSE)
    assert refused.value.facts == {"needs": "reverse"}
    authorise(an_actor(Scope.APPLY, Scope.REVERSE), Scope.APPLY, Scope.REVERSE)


def test_an_actor_may_be_kept_to_some_databases():
    """The right applies to those databases only, and where no database is named."""
    actor = an_actor(Scope.APPLY, databases=frozenset({"other"}))
    authorise(actor, Scope.APPLY, database="other")
    authorise(actor, Scope.READ)
    with pytest.raises(Forbidden, match="has no access to the database 'default'"):
        authorise(actor, Scope.APPLY, database="default")


def test_an_empty_list_of_databases_is_none_at_all():
    actor = an_actor(databases=frozenset())
    assert not may(actor, Scope.READ, "default")


def test_nobody_is_unauthenticated():
    """Without a session and a token the response is 401, not 403."""
    with pytest.raises(Unauthenticated):
        authorise(Actor(kind=ActorKind.ANONYMOUS), Scope.READ)


def test_a_flaw_counts_before_every_right():
    """A session without a CSRF token has no rights, whoever its user is."""
    access_error = Forbidden("The CSRF check failed.")
    actor = an_actor(access_error=access_error)
    assert not may(actor, Scope.READ)
    with pytest.raises(Forbidden, match="CSRF"):
        authorise(actor, Scope.READ)


def test_who_has_a_shell_has_every_right():
    """The command has the passwords of the settings: denying it anything would be
    pointless."""
    actor = shell_actor()
    assert actor.kind is ActorKind.COMMAND
    assert scopes_of(actor) == frozenset(Scope)
    assert "@" in actor.name


def test_a_user_without_a_name_has_a_number(monkeypatch):
    """A container may run with a user id that is not in the password file."""

    def nobody(uid: int) -> str:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert shell_actor().name.partition("@")[0] == shell_actor().key == str(os.getuid())


@pytest.mark.parametrize("variable", ["LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER"])
def test_no_variable_of_the_environment_decides_who_has_the_shell(monkeypatch, variable):
    """The process account counts, on any host."""
    before = shell_actor()
    monkeypatch.setenv(variable, "grace")
    monkeypatch.setattr("socket.gethostname", lambda: "another-host")
    found = shell_actor()
    assert found.identity == before.identity
    assert found.key == pwd.getpwuid(os.getuid()).pw_name
    assert found.name == f"{found.key}@another-host"
