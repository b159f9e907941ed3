"""Tests of the picture of a plan's dependencies."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.test import Client
from django.urls import reverse

from migration_route.access.actors import shell_actor
from migration_route.planning.plan import Details, PlanRequest
from migration_route.services.plans import dependencies_of, detailed_plan, read_plan
from migration_route.web.plan_graph import COLUMN, PlanGraph, plan_graph
from migration_route.web.plans import plan_view
from tests.factories import History

Dependencies = list[tuple[str, str]]
DEPENDENCIES = "dependencies = [('testapp', '0001_a'), ('auth', '__first__')]"
RUN_BEFORE = "run_before = [('testapp', '0002_b')]"


def key_of(label: str) -> tuple[str, str]:
    """Return the app and the name of "app__name"."""
    app, _, name = label.partition("__")
    return app, name


@pytest.fixture
def drawn(history: History):
    """Draw a plan with these steps: each "app__name" with what it depends on."""
    history.table("0001_initial", "shelf")
    plan = detailed_plan(PlanRequest(targets=("testapp",)))

    def drawn(**steps: Dependencies) -> PlanGraph:
        keys = {label: key_of(label) for label in steps}
        listed = [replace(plan.steps[0], app=app, name=name) for app, name in keys.values()]
        view = plan_view(plan.with_details(steps=tuple(listed)), shell_actor(), Details())
        return plan_graph(view, {keys[label]: found for label, found in steps.items()})

    return drawn


def test_each_step_has_a_row_and_each_app_a_column(drawn) -> None:
    """In the order of the plan."""
    graph = drawn(shop__0001=[], shop__0002=[("shop", "0001")], cart__0001=[])
    assert [node.label for node in graph.nodes] == ["shop.0001", "shop.0002", "cart.0001"]
    rows = [node.y for node in graph.nodes]
    assert rows == sorted(set(rows))
    first, second, third = (node.x for node in graph.nodes)
    assert (second, third) == (first, first + COLUMN)
    assert graph.nodes[1].depends_on == ("shop.0001",)
    assert len(graph.edges) == 1


def test_an_edge_between_apps_reaches_both_steps(drawn) -> None:
    """Its path begins at one node and ends at the other."""
    graph = drawn(shop__0001=[], cart__0001=[("shop", "0001")])
    shop, cart = graph.nodes
    (path,) = graph.edges
    assert path.startswith(f"M{shop.x} {shop.y}")
    assert path.endswith(f"{cart.x} {cart.y}")


def test_dependencies_are_those_of_django(history: History) -> None:
    """With `run_before`; an applied migration is not mistaken for a pending one, although
    `__first__` may name it."""
    history.table("0001_a", "made_a")
    history.table("0002_b", "made_b", body=DEPENDENCIES)
    history.table("0003_c", "made_c", after="0001_a", body=RUN_BEFORE)
    read = read_plan(PlanRequest(), shell_actor())
    found = {
        name: {before for _, before in needs}
        for (_, name), needs in dependencies_of(read).items()
    }
    assert found["0002_b"] == {"0001_a", "0003_c"}
    assert found["0001_a"] == set()


def test_many_apps_stay_in_the_picture(drawn) -> None:
    """Further apps share the last column."""
    steps: dict[str, Dependencies] = {f"app{number}__0001": [] for number in range(40)}
    graph = drawn(**steps)
    assert len({node.x for node in graph.nodes}) == 12
    assert all(node.x < graph.text_x < graph.width for node in graph.nodes)


def test_a_step_is_chosen_as_the_target_on_the_page(
    everyone_can: Client, history: History
) -> None:
    """By a link in the picture."""
    history.table("0001_a", "made_a")
    history.table("0002_b", "made_b")
    url = reverse("migration_route:plan")
    text = everyone_can.get(url).content.decode()
    assert "?database=default&amp;target=testapp.0001_a" in text
    assert "testapp.0002_b, depends on testapp.0001_a" in text
