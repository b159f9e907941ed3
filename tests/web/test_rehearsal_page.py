"""Tests that a rehearsal can be started beside the plan, and that its report is shown."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse

from migration_route.core.enums import Scope
from migration_route.ledger import rehearsals
from migration_route.vendors import in_place_of
from tests.factories import History
from tests.web.conftest import SignIn
from tests.web.test_plan_page import PLAN, form_of, read

REHEARSE = reverse("migration_route:rehearse")
LIST = reverse("migration_route:rehearsals")


def rehearse(client: Client, **words: str) -> str:
    """Submit the form on the page of the plan, and return the page that it redirects to."""
    fields = form_of(read(client))
    wanted = {name: fields[name] for name in ("database", "fingerprint")}
    answer = client.post(REHEARSE, {**wanted, **words}, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_button_leads_to_the_report(inline: History, everyone_can: Client) -> None:
    """Statements, output, and what could not be rehearsed; the plan links to it."""
    inline.table("0001_initial", "shelf")
    inline.python("0002_fill", "print('<b>hello</b>')")
    assert "This exact plan has not been rehearsed" in read(everyone_can)
    text = rehearse(everyone_can, kind="data", round_trip="on")
    assert "CREATE TABLE shelf" in text
    assert "&lt;b&gt;hello" in text
    assert "<b>hello" not in text
    assert "Limitations" in text
    assert "with data" in text
    (record,) = rehearsals.list_rehearsals()
    assert record.actor_name == "ada"
    plan = read(everyone_can)
    assert f"{LIST}{record.id}/" in plan
    assert "rehearsed at" in plan
    assert f"{LIST}{record.id}/" in everyone_can.get(LIST).content.decode()


def test_a_plan_that_does_not_go_through_says_where(
    inline: History, everyone_can: Client
) -> None:
    """The step, the operation and the error; a browser does not poll any more."""
    inline.table("0001_initial", "shelf")
    inline.python("0002_fill", "raise ValueError('no <i>more</i>')")
    text = rehearse(everyone_can)
    assert "The plan fails." in text
    assert "Operation 1: <strong>ValueError" in text
    assert "no &lt;i&gt;more" in text
    (record,) = rehearsals.list_rehearsals()
    assert (
        'http-equiv="refresh"'
        not in everyone_can.get(f"{LIST}{record.id}/").content.decode()
    )


def test_who_lacks_the_right_reads_and_has_no_button(
    inline: History, sign_in: SignIn
) -> None:
    """And is refused when submitting the form all the same."""
    inline.table("0001_initial", "shelf")
    client = sign_in(Scope.PLAN, Scope.READ)
    text = read(client)
    assert f'action="{REHEARSE}"' not in text
    assert client.post(REHEARSE, {"fingerprint": "x"}).status_code == 403
    assert rehearsals.list_rehearsals() == []


def test_a_form_that_makes_no_sense_is_refused(
    inline: History, everyone_can: Client
) -> None:
    """By a page with the reason."""
    inline.table("0001_initial", "shelf")
    assert everyone_can.post(REHEARSE, {"kind": "both"}).status_code == 400
    assert everyone_can.post(REHEARSE, {"fingerprint": "a-b-c"}).status_code == 409
    assert everyone_can.get(f"{LIST}{'0' * 32}/").status_code == 404
    assert everyone_can.get(f"{LIST}nonsense/").status_code == 400
    assert everyone_can.get(PLAN).status_code == 200


def test_in_place_is_offered_to_whom_it_is_allowed(
    inline: History, sign_in: SignIn
) -> None:
    """Where the database can roll it back, and to users who may force; the form names the
    cost."""
    inline.table("0001_initial", "shelf")
    offered = 'name="in_place" value="on"'
    can = not in_place_of("default").reason
    text = read(sign_in(*Scope))
    assert (offered in text) is can
    assert ("for up to 5 s" in text) is can
    User.objects.all().delete()
    client = sign_in(Scope.PLAN, Scope.READ, Scope.REHEARSE)
    text = read(client)
    assert offered not in text
    fields = form_of(text)
    wanted = {name: fields[name] for name in ("database", "fingerprint")}
    assert client.post(REHEARSE, {**wanted, "in_place": "on"}).status_code == 403
    assert rehearsals.list_rehearsals() == []


def test_in_place_the_report_says_that_it_was_rolled_back(
    inline: History, everyone_can: Client
) -> None:
    """And where it cannot be, why not."""
    inline.table("0001_initial", "shelf")
    fields = form_of(read(everyone_can))
    wanted = {name: fields[name] for name in ("database", "fingerprint")}
    wanted |= {"in_place": "on", "reason": "to see"}
    answer = everyone_can.post(REHEARSE, wanted, follow=True)
    text = answer.content.decode()
    if why := in_place_of("default").reason:
        assert answer.status_code == 409
        assert why in text
        return
    assert "The plan succeeded and was rolled back." in text
    assert "CREATE TABLE shelf" in text
    assert "after_the_commit" in text
    assert "to see" in text
    with connection.cursor() as cursor:
        assert "shelf" not in connection.introspection.table_names(cursor)
    listed = everyone_can.get(LIST).content.decode()
    assert "1 migration in place, on default" in listed
    assert ", in place, " in read(everyone_can)
