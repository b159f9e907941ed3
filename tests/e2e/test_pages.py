"""Tests that the pages work for staff in a browser without scripts."""

from __future__ import annotations

from html.parser import HTMLParser

from tests.harness.migrations import column
from tests.harness.pairs import on, on_each_once


class Forms(HTMLParser):
    """Collects the forms of a page: their actions and the values of their fields."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "form":
            action = values.get("action", "")
            self.found.append({"action": action, "fields": {}})
        elif tag in ("input", "textarea") and self.found and "name" in values:
            self.found[-1]["fields"][values["name"]] = values.get("value") or ""

    def to(self, action):
        """Return the fields of the form with this action."""
        (fields,) = (f["fields"] for f in self.found if f["action"] == action)
        return fields


@on_each_once
def test_a_plan_is_read_and_applied_in_the_browser(build, pair):
    """From the dashboard over the plan to the run, by links and one button; a plan that has
    changed meanwhile is shown again and not applied."""
    site = build(pair, {"0002_sku": column("sku")})
    browser = site.person("boss").http
    browser.follow_redirects = True
    del browser.headers["X-CSRFToken"]
    dashboard = browser.get("/_m/")
    assert dashboard.status_code == 200
    assert "/_m/plan/" in dashboard.text
    page = browser.get("/_m/plan/", params={"database": "default"})
    assert "0002_sku" in page.text
    fields = Forms(page.text).to("/_m/apply/")

    without_csrf = {k: v for k, v in fields.items() if k != "csrfmiddlewaretoken"}
    assert browser.post("/_m/apply/", data=without_csrf).status_code == 403
    other = {**fields, "fingerprint": fields["fingerprint"][:-4] + "0000"}
    refused = browser.post("/_m/apply/", data=other)
    assert refused.status_code == 409
    assert "0002_sku" in refused.text
    assert site.applied() == ["0001_initial"]

    page = browser.post("/_m/apply/", data={**fields, "reason": "with the browser"})
    assert page.status_code == 200
    assert page.url.path.startswith("/_m/runs/")
    run = page.url.path.rstrip("/").rpartition("/")[2]
    reader = site.client("reader")
    ended = reader.wait_for_end(run)
    assert (ended["state"], ended["reason"]) == ("succeeded", "with the browser")
    assert ended["requested_by"] == {"kind": "user", "name": "boss"}
    assert site.has_column("sku")
    assert "0002_sku" in browser.get(page.url).text
    assert run in browser.get("/_m/runs/").text
    assert browser.get("/_m/ledger/").status_code == 200


@on("postgres-uvicorn")
def test_the_pages_are_shut_to_others(build, pair):
    """Anonymous clients, users and staff without permission see no plan and apply
    nothing."""
    site = build(pair, {"0002_sku": column("sku")}, workers=1)
    callers = (
        site.client(None),
        site.person("visitor", at="/accounts/login/"),
        site.person("helper"),
    )
    for caller in callers:
        for path in ("", "plan/", "runs/", "ledger/"):
            page = caller.http.get(f"/_m/{path}")
            assert page.status_code in (302, 401, 403), page.text
            assert "0002_sku" not in page.text
        answer = caller.http.post("/_m/apply/", data={"database": "default"})
        assert answer.status_code in (302, 401, 403), answer.text
    assert site.applied() == ["0001_initial"]
