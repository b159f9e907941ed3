"""Tests that the remote client `migration-route` acts like the command on a host, with the
same exit codes, despite failing connections."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess

import pytest

from tests.harness import remote
from tests.harness.deadlines import until
from tests.harness.migrations import RUN, column, migration, running
from tests.harness.pairs import on
from tests.harness.project import Options
from tests.harness.wire_cutter import wire_cutter

DONE, FAILED, USAGE, PENDING, NOT_ALLOWED, REFUSED, AWAITS, PERSON, AWAY = range(9)
INTERRUPTED = 130


def route(site) -> str:
    """Return the URL that this package is mounted at."""
    return f"{site.server.url}/_m/"


def on_the_host(site, *commands):
    """Return the output of the command for each of these, from one process of the
    project."""
    source = f"""
import io, json
from django.core.management import call_command

def said(words):
    out = io.StringIO()
    call_command("migration_route", *words, stdout=out)
    return out.getvalue()

print(json.dumps([said(words) for words in {commands!r}]))
"""
    return json.loads(site.project.python(source).splitlines()[-1])


def from_afar(site, *commands):
    """Return the output of the client for each of these."""
    return [remote.call(route(site), *words).stdout for words in commands]


# --- the same output, locally and remotely ---------------------------------------------


@on("postgres-gthread")
def test_what_is_asked_before_a_run_reads_as_on_the_host(build, pair):
    """The text is equal character by character, the JSON value by value."""
    site = build(pair, {"0002_sku": column("sku")})
    alike = [["status"], ["plan"], ["plan", "shop.0002_sku"]]
    *texts, health, plan = on_the_host(site, *alike, ["health"], ["plan", "--json"])
    assert from_afar(site, *alike) == texts
    (seen,) = from_afar(site, ["health"])
    assert re.sub(r"\d+", "N", seen) == re.sub(r"\d+", "N", health)
    assert remote.as_json(route(site), "plan") == json.loads(plan)


@on("postgres-gthread")
def test_what_is_asked_after_a_run_reads_as_on_the_host(build, pair):
    """The outputs for the run, the history and the ledger are equal."""
    site = build(pair, {"0002_sku": column("sku")})
    applied = remote.call(route(site), "apply", "--yes", "--reason", "a walk")
    assert applied.returncode == DONE, applied.stderr
    assert "shop.0002_sku done" in applied.stdout
    assert site.has_column("sku")
    run = remote.as_json(route(site), "runs")["runs"][0]
    assert (run["state"], run["reason"]) == ("succeeded", "a walk")
    assert run["requested_by"] == {"kind": "token", "name": "ci"}
    alike = [["runs"], ["show", run["id"]], ["watch", run["id"]], ["ledger", "verify"]]
    assert from_afar(site, *alike) == on_the_host(site, *alike)
    assert remote.as_json(route(site), "show", run["id"]) == run
    (here,) = on_the_host(site, ["ledger", "export"])
    assert from_afar(site, ["ledger", "export"]) == [here]


@on("sqlite-gthread")
def test_a_rehearsal_from_afar(build, pair):
    """It is started, waited for and reported."""
    site = build(pair, {"0002_sku": column("sku")})
    answer = remote.call(route(site), "rehearse", "--data", who="operator")
    assert answer.returncode == DONE, answer.stderr
    assert "shop.0002_sku" in answer.stdout
    assert site.applied() == ["0001_initial"]
    (seen,) = remote.as_json(route(site), "rehearsals")["rehearsals"]
    assert remote.call(route(site), "rehearsals", seen["id"]).stdout == answer.stdout


@on("sqlite-gthread")
def test_a_run_is_held_resumed_and_cancelled_from_afar(build, pair):
    """Each command prints the state of the run afterwards."""
    site = build(pair, {"0002_wait": running('pass_gate("wait")')})
    url = route(site)
    run = remote.as_json(url, "apply", "--yes", "--no-wait")
    site.project.await_gate("wait")
    held = remote.call(url, "pause", run["id"], "--reason", "the sale", who="operator")
    assert "requested: " in held.stdout
    resumed = remote.call(url, "resume", run["id"], who="operator")
    assert (resumed.returncode, "requested:" in resumed.stdout) == (DONE, False)
    assert remote.call(url, "cancel", run["id"]).returncode == NOT_ALLOWED
    assert remote.call(url, "cancel", run["id"], who="operator").returncode == DONE
    assert remote.call(url, "watch", run["id"]).returncode == FAILED
    assert site.applied() == ["0001_initial"]


# --- exit codes ---------------------------------------------------------------------


@on("sqlite-gthread")
def test_exit_codes_of_what_is_asked_for(build, pair):
    """Pending, not allowed, wrong usage, refused, nothing to do."""
    site = build(pair, {"0002_sku": column("sku")})
    url = route(site)
    assert remote.call(url, "status").returncode == DONE
    assert remote.call(url, "status", "--check").returncode == PENDING
    assert remote.call(url, "status", "--check", "required").returncode == PENDING
    assert remote.call(url, "apply", "--yes", who="reader").returncode == NOT_ALLOWED
    assert remote.call(url, "plan", who="revoked").returncode == NOT_ALLOWED
    assert remote.call(url, "plan", who=None).returncode == NOT_ALLOWED
    assert remote.call(url, "plan", "nothing").returncode == USAGE
    assert remote.call(url, "dance").returncode == USAGE
    assert remote.call("", "status").returncode == USAGE
    assert remote.call(f"{site.server.url}/pid/", "status").returncode == USAGE
    unasked = remote.call(url, "apply")
    assert (unasked.returncode, "--yes" in unasked.stderr) == (USAGE, True)
    code, place, _ = remote.as_json(url, "plan")["fingerprint"].split("-")
    other = ["apply", "--yes", "--fingerprint", f"{code}-{place}-{'0' * 64}"]
    assert remote.as_json(url, *other, code=REFUSED)["code"] == "plan_changed"
    assert site.applied() == ["0001_initial"]
    plan = remote.as_json(url, "plan")
    read = ["apply", "--yes", "--fingerprint", plan["fingerprint"]]
    run = remote.as_json(url, *read)
    assert (run["state"], run["fingerprint"]) == ("succeeded", plan["fingerprint"])
    assert remote.as_json(url, "apply", "--yes")["state"] == "noop"
    assert remote.call(url, "status", "--check").returncode == DONE
    for verb in ("resolve", "terminate-blockers"):
        answer = remote.call(url, verb, run["id"], "--reason", "x", who="operator")
        assert answer.returncode == NOT_ALLOWED, answer.stderr


@on("sqlite-gthread")
def test_exit_codes_of_what_becomes_of_a_run(build, pair):
    """A failed run is 1, a partial one 7, and a later refusal because of it 5."""
    fails = {"0002_breaks": migration(RUN, body='raise ValueError("no")')}
    site = build(pair, fails)
    url = route(site)
    failed = remote.call(url, "apply", "--yes")
    assert (failed.returncode, "ValueError: no" in failed.stdout) == (FAILED, True)
    sku = 'migrations.AddField("item", "sku", models.CharField(max_length=20, default=""))'
    midway = migration(sku, RUN, body='raise ValueError("no")', atomic=False)
    site.project.add_migrations({"0002_breaks": midway})
    site.server.stop()
    site.serve()
    url = f"{site.servers[-1].url}/_m/"
    partial = remote.call(url, "apply", "--yes")
    assert (partial.returncode, "resolve" in partial.stdout.lower()) == (PERSON, True)
    assert remote.call(url, "apply", "--yes").returncode == REFUSED


@on("sqlite-sync")
def test_an_approval_that_is_missing_is_6(build, pair):
    """Where the policy requires an approval."""
    options = Options(migration_route={"APPROVALS": {"required": 1}})
    site = build(pair, {"0002_sku": column("sku")}, options=options)
    assert remote.call(route(site), "apply", "--yes").returncode == AWAITS
    assert site.applied() == ["0001_initial"]


def test_an_address_where_nobody_is_is_8():
    """A read-only verb fails at once; `apply` retries for as long as it may."""
    with wire_cutter() as cutter:
        said = remote.call(cutter.url, "status")
        assert (said.returncode, "does not respond" in said.stderr) == (AWAY, True)
        said = remote.call(cutter.url, "apply", "--yes", "--patience", "1s")
        assert (said.returncode, "Retrying for" in said.stderr) == (AWAY, True)
        words = ["apply", "--yes", "--build", "two", "--build-timeout", "1s"]
        assert remote.call(cutter.url, *words).returncode == AWAY
    assert remote.call(cutter.url, "status").returncode == AWAY


@on("sqlite-gthread")
def test_a_second_run_is_refused_and_named(build, pair):
    """5, with the id of the run that owns the database."""
    site = build(pair, {"0002_wait": running('pass_gate("wait")')})
    url = route(site)
    run = remote.as_json(url, "apply", "--yes", "--no-wait")
    site.project.await_gate("wait")
    second = remote.as_json(url, "apply", "--yes", code=REFUSED)
    assert (second["code"], second["run"]) == ("active_run", run["id"])
    site.project.open_gate("wait")
    assert remote.call(url, "watch", run["id"]).returncode == DONE


# --- failures on the way --------------------------------------------------------------


@on("sqlite-gthread")
def test_g3_ctrl_c_ends_the_client_and_not_the_run(build, pair, tmp_path):
    """It prints how to watch the run again, and that works."""
    site = build(pair, {"0002_wait": running('pass_gate("wait")')})
    calling = remote.begin(tmp_path, route(site), "apply", "--yes")
    site.project.await_gate("wait")
    calling.await_words("shop.0002_wait …")
    calling.interrupt()
    assert calling.end() == INTERRUPTED
    said = calling.text()
    told = re.search(
        r"The run continues\. Watch it with: migration-route (watch \w+)\n", said
    )
    assert told, said
    run = remote.as_json(route(site), "runs")["runs"][0]
    assert run["state"] == "running"
    watching = remote.begin(tmp_path, route(site), *told[1].split())
    watching.await_words("shop.0002_wait …")
    site.project.open_gate("wait")
    assert watching.end() == DONE
    assert "shop.0002_wait done" in watching.text()
    assert site.applied() == ["0001_initial", "0002_wait"]


@pytest.mark.parametrize("after", [0, 40], ids=["before", "within"])
@on("sqlite-gthread")
def test_g2_a_lost_answer_starts_no_second_run(build, pair, after):
    """The request has arrived, its response has not: it is sent again with the same key.
    The connections that read events break as well."""
    site = build(pair, {"0002_sku": column("sku")})
    with wire_cutter(site.server.url) as cutter:
        started = cutter.cut(b"POST", after=after, times=2)
        asked = cutter.cut(b"GET /_m/api/v1/runs", after=after, times=3)
        answer = remote.call(cutter.url, "apply", "--yes")
    assert answer.returncode == DONE, answer.stderr
    assert (started.done, asked.done) == (2, 3)
    assert "Retrying for" in answer.stderr
    assert [run["state"] for run in remote.as_json(route(site), "runs")["runs"]] == [
        "succeeded"
    ]


@on("sqlite-gthread")
def test_a_server_that_is_restarted_in_the_middle(build, pair, tmp_path):
    """The run has its own process; the client retries until a server responds."""
    site = build(pair, {"0002_wait": running('pass_gate("wait")')})
    with wire_cutter(site.server.url) as cutter:
        calling = remote.begin(tmp_path, cutter.url, "apply", "--yes")
        site.project.await_gate("wait")
        cutter.lead_to()
        site.server.stop()
        calling.await_words("Retrying for")
        site.project.open_gate("wait")
        cutter.lead_to(site.serve().url)
        assert calling.end() == DONE
    assert "shop.0002_wait done" in calling.text()


@on("postgres-gthread")
def test_an_export_that_breaks_off_goes_on_where_it_was(build, pair, tmp_path):
    """No line is missing, none is doubled, and an older file stays until the new one is
    complete."""
    site = build(pair, {"0002_sku": column("sku")})
    for _ in range(4):
        remote.call(route(site), "apply", "--yes")
    file = tmp_path / "ledger.jsonl"
    file.write_text("the one before")
    with wire_cutter(site.server.url) as cutter:
        words = ["ledger", "export", "--output", str(file)]
        cutter.cut(b"GET /_m/api/v1/ledger/export", after=1500, times=99)
        assert remote.call(cutter.url, *words, "--patience", "0s").returncode == AWAY
        assert file.read_text() == "the one before"
        cutter.cuts[0].times = cutter.cuts[0].done + 2
        assert remote.call(cutter.url, *words).returncode == DONE
        assert cutter.cuts[0].done == cutter.cuts[0].times
    numbers = [json.loads(line)["sequence"] for line in file.read_text().splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 8
    assert remote.call("", "ledger", "verify", "--file", str(file)).returncode == DONE


# --- a deploy: two builds respond alternately -----------------------------------------


def two_builds(build, pair):
    """Return a site served by the old build, and the project of the new build beside it."""
    site = build(pair, options=Options(migration_route={"BUILD": "one"}), workers=1)
    new = site.beside("new", Options(migration_route={"BUILD": "two"}))
    new.add_migrations({"0002_sku": column("sku")})
    return site, new


@on("sqlite-gthread")
def test_another_build_applies_nothing(build, pair):
    """While the old build also responds, it waits; if that does not end, the exit code is
    5."""
    site, new = two_builds(build, pair)
    with wire_cutter(site.server.url, site.serve(new, workers=1).url) as cutter:
        words = ["apply", "--yes", "--build", "two", "--build-timeout", "4s"]
        problem = remote.as_json(cutter.url, *words, code=REFUSED)
        assert problem["code"] == "stale_code"
        cutter.lead_to(site.servers[1].url)
        run = remote.as_json(cutter.url, *words)
    assert (run["state"], run["build"]) == ("succeeded", "two")


def github(jobs):
    """Return the script that the workflow runs, and its environment."""
    (step,) = (s for s in jobs["jobs"]["migrate"]["steps"] if s["name"].startswith("Apply"))
    return ["bash", "-e", "-c", step["run"]], {"GITHUB_SHA": "two", "GITHUB_RUN_ID": "7"}


def gitlab(jobs):
    """Return the script that the job runs, and its environment."""
    script = "\n".join(jobs["migrate"]["script"])
    return ["bash", "-e", "-c", script], {"CI_COMMIT_SHA": "two", "CI_PIPELINE_ID": "7"}


def kubernetes(job):
    """Return the command of the container, with `$(NAME)` expanded as Kubernetes does."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    command = [word.replace("$(BUILD)", "two") for word in container["command"]]
    return command, {"BUILD": "two"}


@pytest.mark.parametrize("recipe", [github, gitlab, kubernetes])
@on("sqlite-gthread")
def test_the_recipes_of_the_documents_do_what_they_say(build, pair, tmp_path, recipe):
    """Run verbatim: while the old build still responds, nothing happens; when only the new
    one responds, its migrations are applied, and the job succeeds."""
    yaml = pytest.importorskip("yaml")
    file = f"docs/how-to/pipelines/{recipe.__name__}.yml"
    command, words = recipe(yaml.safe_load((remote.ROOT / file).read_text()))
    site, new = two_builds(build, pair)
    with wire_cutter(site.server.url) as cutter:
        job = remote.Calling(tmp_path, command, remote.environment(cutter.url, **words))
        job.await_words("Waiting for build 'two': build 'one' responds")
        cutter.lead_to(site.server.url, site.serve(new, workers=1).url)
        seen = len(cutter.heads)
        until(lambda: len(cutter.heads) > seen + 4, seconds=30, what="it asks both of them")
        assert site.applied() == ["0001_initial"]
        cutter.lead_to(site.servers[1].url)
        assert job.end() == DONE, job.text()
    run = remote.as_json(f"{site.servers[1].url}/_m/", "runs")["runs"][0]
    assert (run["build"], run["state"]) == ("two", "succeeded")
    assert "7" in run["reason"] or "two" in run["reason"]
    assert site.has_column("sku")


@on("sqlite-gthread")
def test_the_workflow_says_what_a_code_means(build, pair):
    """It ends with that exit code."""
    yaml = pytest.importorskip("yaml")
    text = (remote.ROOT / "docs/how-to/pipelines/github.yml").read_text()
    command, words = github(yaml.safe_load(text))
    approvals = {"APPROVALS": {"required": 1}, "BUILD": "two"}
    site = build(
        pair, {"0002_sku": column("sku")}, options=Options(migration_route=approvals)
    )
    job = subprocess.run(
        command,
        env=remote.environment(route(site), **words),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert job.returncode == AWAITS
    assert "::error::Waiting for an approval" in job.stdout


# --- a terminal ---------------------------------------------------------------------


@on("sqlite-gthread")
def test_a_person_is_asked_and_sees_it_live(build, pair):
    """On a terminal the client asks, and prints the same lines and a live one."""
    site = build(pair, {"0002_wait": running('pass_gate("wait")')})
    ours, theirs = pty.openpty()
    client = subprocess.Popen(
        [remote.BIN / "migration-route", "apply"],
        env=remote.environment(route(site), TERM="xterm", COLUMNS="100"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    seen = bytearray()

    def sees(words: str) -> bool:
        with contextlib.suppress(OSError):  # no output yet, or the client has ended
            seen.extend(os.read(ours, 65536))
        return words.encode() in seen

    try:
        until(lambda: sees("Apply this plan? [y/N]"), seconds=30, what="a question")
        os.write(ours, b"y\n")
        site.project.await_gate("wait")
        until(lambda: sees("0/1"), seconds=30, what="how many steps are done")
        site.project.open_gate("wait")
        until(lambda: sees("succeeded"), seconds=30, what="the end")
        until(lambda: sees("") and client.poll() is not None, seconds=30, what="its end")
    finally:
        client.kill()
        client.wait()
        os.close(ours)
    assert client.returncode == DONE
    assert b"shop.0002_wait done" in seen
