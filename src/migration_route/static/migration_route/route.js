// Optional enhancements; the pages are complete without them. A form is submitted once, and
// the page of a run follows it: events come from the JSON API, and when the state of the run
// changes or a step finishes, the live parts are replaced from a fresh copy of the page.

const PAUSE = 1000;
const LONGEST_PAUSE = 5000;
const LONGEST_TROUBLE = 15000;
const RISKS = ["safe", "caution", "dangerous"];
const HOME_PAUSE = 10000;
const MOST_LINES = 3000;
const LONGEST_STATEMENT = 300;
const TONES = { applying: "busy", applied: "good", reverted: "good", failed: "bad", partial: "bad" };
const DONE = new Set(["applied", "reverted"]);
const SILENT = new Set(["operation_finished", "statement_running", "progress"]);

for (const form of document.querySelectorAll("form[data-once]")) {
  const button = form.querySelector("button[type=submit]");
  const label = button.textContent;
  form.addEventListener("submit", () => {
    button.disabled = true;
    button.textContent = button.dataset.busy || label;
  });
  // The back button can restore the page with its button disabled.
  window.addEventListener("pageshow", () => {
    button.disabled = false;
    button.textContent = label;
  });
}

const summaries = new Map(); // by the database and what is pending on it
const shown = new WeakMap(); // the HTML of each live part, without the loaded verdicts
const home = document.querySelector("[data-home]");
if (home) {
  const find = document.querySelector("[data-find]");
  if (find) {
    find.hidden = false;
    find.querySelector("input").addEventListener("input", () => showMatches(home));
  }
  for (const part of document.querySelectorAll("[data-live]")) {
    shown.set(part, part.innerHTML);
  }
  loadSummaries(home);
  setInterval(() => refreshHome(home), HOME_PAUSE);
}

// Loads the verdict on each plan, one after the other.
async function loadSummaries(root) {
  for (const card of [...root.querySelectorAll("[data-summary]")]) {
    const { key, summary } = card.dataset;
    if (!summaries.has(key)) {
      const response = await fetch(summary).catch(() => null);
      if (!response?.ok || response.redirected) {
        continue;
      }
      summaries.set(key, await response.text());
    }
    const fresh = new DOMParser().parseFromString(summaries.get(key), "text/html");
    card.querySelector("[data-verdict-of]").replaceChildren(...fresh.body.childNodes);
  }
}

async function refreshHome(root) {
  if (document.hidden || root.contains(document.activeElement)) {
    return;
  }
  const response = await fetch(window.location.href, { cache: "no-store" }).catch(() => null);
  if (!response?.ok || response.redirected) {
    return;
  }
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
    if (next && next.innerHTML !== shown.get(part)) {
      shown.set(part, next.innerHTML);
      part.replaceChildren(...next.childNodes);
    }
  }
  showMatches(root);
  await loadSummaries(root);
}

function showMatches(root) {
  const words = (document.querySelector("#find")?.value ?? "").toLowerCase().split(/\s+/);
  for (const row of root.querySelectorAll("[data-row]")) {
    row.hidden = !words.every((word) => row.dataset.row.toLowerCase().includes(word));
  }
}

const longPlan = document.querySelector("[data-more]");
if (longPlan) {
  loadDetails(longPlan);
}

// Loads the details of a long plan part by part. If a part cannot be loaded, the link to it
// stays.
async function loadDetails(steps) {
  const further = document.querySelector("[data-further]");
  const progress = further.querySelector("span");
  progress.textContent = "Loading…";
  while (steps.dataset.more) {
    const response = await fetch(steps.dataset.more).catch(() => null);
    const text = response?.ok && !response.redirected ? await response.text() : "";
    const fresh = new DOMParser().parseFromString(text, "text/html");
    const next = fresh.querySelector("[data-plan]");
    if (next?.dataset.plan !== steps.dataset.plan) {
      progress.textContent = "";
      return;
    }
    for (const step of next.querySelectorAll(":scope > [data-detailed]")) {
      steps.querySelector(`:scope > [data-step="${step.dataset.step}"]`).replaceWith(step);
    }
    addFindings(fresh.querySelector("[data-findings]"));
    addRisk(fresh);
    steps.dataset.more = next.dataset.more ?? "";
    further.querySelector("a").href = steps.dataset.more;
  }
  further.remove();
  const risk = document.querySelector("[data-risk]");
  risk.textContent = risk.dataset.risk;
  if (risk.dataset.risk !== "dangerous") {
    document.querySelector("[data-confirm-unchecked]")?.remove();
  }
}

// The plan is as dangerous as its most dangerous part.
function addRisk(fresh) {
  const [shown, next] = [document, fresh].map((page) => page.querySelector("[data-risk]"));
  if (RISKS.indexOf(next.dataset.risk) > RISKS.indexOf(shown.dataset.risk)) {
    shown.dataset.risk = next.dataset.risk;
    shown.className = next.className;
    shown.textContent = next.textContent;
    document.querySelector("[data-verdict]").className = fresh.querySelector("[data-verdict]").className;
  }
}

// Adds the findings of a further part of the plan to their groups.
function addFindings(fresh) {
  const shown = document.querySelector("[data-findings]");
  for (const list of ["[data-grave]", "[data-minor]"]) {
    for (const group of [...fresh.querySelector(list).children]) {
      addGroup(shown.querySelector(list), group);
    }
  }
  const minor = shown.querySelector("[data-minor]");
  setCount("[data-count-minor]", minor);
  setCount("[data-count-info]", minor);
  setCount("[data-count-warning]", shown.querySelector("[data-grave]"));
  minor.closest("details").hidden = !minor.children.length;
  shown.hidden = !shown.querySelector("li");
}

function addGroup(list, group) {
  const same = list.querySelector(`:scope > [data-group="${group.dataset.group}"]`);
  if (!same) {
    list.append(group);
    return;
  }
  const items = same.querySelector("ul");
  const known = new Set([...items.children].map((item) => item.textContent));
  items.append(...[...group.querySelectorAll("li")].filter((item) => !known.has(item.textContent)));
  same.querySelector("[data-count]").textContent = String(items.children.length);
}

function setCount(selector, list) {
  for (const count of document.querySelectorAll(selector)) {
    count.textContent = String(list.querySelectorAll("li").length);
  }
}

const confirmation = document.querySelector("#confirm[data-expected]");
if (confirmation) {
  const check = () => {
    const expected = confirmation.dataset.expected;
    const isRight = !confirmation.value || confirmation.value.trim() === expected;
    confirmation.setCustomValidity(isRight ? "" : `Type ${expected} to confirm.`);
  };
  confirmation.addEventListener("input", check);
  check();
}

let firstAmount = null; // of the operation that is running, to compute its rate
let ahead = 0; // milliseconds by which this clock is ahead of the server's clock

const rehearsal = document.querySelector("[data-follow=rehearsal][data-active]");
if (rehearsal) {
  rehearsal.querySelector("[data-reload]").hidden = true;
  followRehearsal(rehearsal);
}

// Replaces the report from a fresh copy of the page until the rehearsal has ended. What the
// user has opened or selected is on other pages, so the whole report is replaced.
async function followRehearsal(root) {
  for (let pause = PAUSE; root.hasAttribute("data-active"); pause = Math.min(pause * 1.3, LONGEST_PAUSE)) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    const response = await fetch(window.location.href, { cache: "no-store" }).catch(() => null);
    if (!response?.ok || response.redirected) {
      continue;
    }
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    const next = fresh.querySelector("[data-follow=rehearsal]");
    if (next.innerHTML !== shown.get(root)) {
      shown.set(root, next.innerHTML);
      root.replaceChildren(...next.childNodes);
      root.querySelector("[data-reload]")?.setAttribute("hidden", "");
    }
    root.toggleAttribute("data-active", next.hasAttribute("data-active"));
    const icon = document.querySelector("[data-icon]");
    icon?.setAttribute("href", fresh.querySelector("[data-icon]").getAttribute("href"));
  }
}

const endedRun = document.querySelector("[data-run]:not([data-active]) [data-log]");
if (endedRun) {
  endedRun.scrollTop = endedRun.scrollHeight; // an error is in the last lines
}

const run = document.querySelector("[data-run][data-active]");
if (run) {
  follow(run);
}

async function follow(root) {
  const data = root.dataset;
  let pause = PAUSE;
  let trouble = 0;
  let polls = 0;
  root.querySelector("[data-reload]")?.setAttribute("hidden", "");
  const log = root.querySelector("[data-log]");
  log.scrollTop = log.scrollHeight;
  const clock = setInterval(() => {
    showElapsed(root);
    growBars(root);
  }, PAUSE);
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, trouble || pause));
    try {
      const answer = await fetchJson(`${data.events}?after=${data.last}`);
      showEvents(root, answer.events);
      data.last = String(answer.last);
      pause = answer.events.length ? PAUSE : Math.min(pause * 1.3, LONGEST_PAUSE);
      polls += 1;
      const waits = data.standing.startsWith("awaiting_approval"); // it produces no events
      if (answer.events.length || answer.ended || waits || polls % 3 === 0) {
        const record = await fetchJson(data.run);
        showSteps(root, record.steps);
        const standing = `${record.state} ${record.steps.filter((step) => DONE.has(step.state)).length} ${record.waiting?.attempt ?? 0} ${record.waiting?.until ?? ""} ${record.approval?.given ?? 0}`;
        if (standing !== data.standing) {
          await refresh(root, record.ended);
          data.standing = standing;
        }
        if (answer.ended && record.ended) {
          clearInterval(clock);
          showNow(root, "");
          root.removeAttribute("data-active");
          return;
        }
      }
      trouble = 0;
      showTrouble(root, "");
    } catch (error) {
      if (error instanceof SignedOut) {
        showTrouble(root, "This site no longer accepts your login. Reload the page to sign in.");
        clearInterval(clock);
        return;
      }
      trouble = Math.min((trouble || PAUSE) * 1.7, LONGEST_TROUBLE);
      showTrouble(root, "The site does not respond; retrying. The run is not affected.");
    }
  }
}

class SignedOut extends Error {}

async function fetchJson(url) {
  const response = await fetch(url, { headers: { Accept: "application/json" }, cache: "no-store" });
  if (response.status === 401 || response.status === 403) {
    throw new SignedOut();
  }
  if (!response.ok) {
    throw new Error(`${response.status} from ${url}`);
  }
  ahead = Date.now() - Date.parse(response.headers.get("Date") ?? new Date().toUTCString());
  return response.json();
}

// Replaces the parts marked `data-live` with those of a fresh copy of the page. A part in
// which the user is typing is kept as long as the run is active.
async function refresh(root, ended) {
  const response = await fetch(window.location.href, { cache: "no-store" });
  if (response.redirected) {
    throw new SignedOut();
  }
  if (!response.ok) {
    throw new Error(`${response.status} from this page`);
  }
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const part of root.querySelectorAll("[data-live]")) {
    const next = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
    if (next && (ended || !part.contains(document.activeElement))) {
      part.replaceChildren(...next.childNodes);
    }
  }
  document.title = fresh.title;
  const icon = document.querySelector("[data-icon]");
  icon?.setAttribute("href", fresh.querySelector("[data-icon]").getAttribute("href"));
  if (fresh.querySelector("#statements").checked) {
    root.querySelector("#statements").checked = true; // to show where the run stopped
    root.querySelector("[data-log]").scrollTop = Number.MAX_SAFE_INTEGER;
  }
  root.querySelector("[data-reload]")?.setAttribute("hidden", "");
}

function showSteps(root, steps) {
  steps.forEach((step, position) => {
    const item = root.querySelector(`.mr-steps--run [data-step="${position}"]`);
    const badge = item?.querySelector("[data-step-state]");
    const state = step.state.replaceAll("_", " ");
    if (badge && badge.textContent !== state) {
      badge.textContent = state;
      badge.className = `mr-badge mr-badge--${TONES[step.state] || "quiet"}`;
      item.querySelector("[data-step-duration]").textContent = duration(step.duration_ms);
    }
  });
}

function showEvents(root, events) {
  const log = root.querySelector("[data-log]");
  const lines = root.querySelector("[data-lines]");
  const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  for (const event of events) {
    showWork(root, event);
    if (!SILENT.has(event.kind)) {
      lines.append(line(event, root.dataset.since));
    }
  }
  while (lines.childElementCount > MOST_LINES) {
    lines.firstElementChild.remove();
  }
  root.querySelector("[data-nothing]").hidden = lines.childElementCount > 0;
  if (follows && events.length) {
    log.scrollTop = log.scrollHeight;
  }
}

function line(event, since) {
  const item = document.createElement("li");
  item.className = `mr-line mr-line--${event.kind}`;
  const seconds = Math.max(0, Date.parse(event.at) - Date.parse(since)) / 1000;
  item.append(span("mr-at", `+${seconds.toFixed(2)} s`), " ", span("mr-text", text(event)));
  if (event.duration_ms !== null) {
    item.append(" ", span("mr-took", duration(event.duration_ms)));
  }
  if (event.facts.traceback) {
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    const traceback = document.createElement("pre");
    summary.textContent = "Traceback";
    traceback.textContent = event.facts.traceback;
    details.append(summary, traceback);
    item.append(details);
  }
  return item;
}

function text(event) {
  switch (event.kind) {
    case "state":
      return `State: ${event.text.replaceAll("_", " ")}`;
    case "step_started":
      return `${event.text} started`;
    case "step_finished":
      return `${event.text} finished`;
    case "statement":
      return shortStatement(event.text);
    case "statements_omitted":
      return `… and ${event.facts.count ?? "more"} more statements`;
    default:
      return event.text;
  }
}

function shortStatement(sql) {
  const text = sql
    .replaceAll(/(?:%s, ){4,}%s/g, "%s, …")
    .replaceAll(/(\(%s, …\)|\(%s(?:, %s)*\))(?:, \1){2,}/g, (all, row) => `${row}, ${all.split(row).length - 1} times`)
    .replaceAll(/(WHEN \([^()]*\) THEN %s )\1{2,}/g, (all, one) => `${one}… ${all.split(one).length - 1} times `);
  if (text.length <= LONGEST_STATEMENT) {
    return text;
  }
  const leftOut = (text.length - LONGEST_STATEMENT).toLocaleString("en");
  const half = LONGEST_STATEMENT / 2;
  return `${text.slice(0, half)} … (${leftOut} characters) … ${text.slice(-half)}`;
}

function span(name, content) {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = content;
  return element;
}

// Shows the current step, its operation, and a statement that takes long.
function showWork(root, event) {
  const since = root.querySelector("[data-elapsed]").dataset;
  switch (event.kind) {
    case "step_started":
      root.dataset.step = event.text;
      since.from = event.at;
      showNow(root, event.text);
      break;
    case "operation_started":
      showNow(root, root.dataset.step ? `${root.dataset.step}: ${event.text}` : event.text);
      break;
    case "statement_running":
      setText(root, "[data-statement]", shortStatement(event.text));
      break;
    case "progress":
      showAmount(root, event);
      break;
    case "statement":
      setText(root, "[data-statement]", "");
      break;
    case "step_finished":
      showNow(root, "");
      break;
  }
}

// Shows how far an operation or a statement is, and how long the rest takes at this rate.
function showAmount(root, event) {
  const { done, total, phase } = event.facts;
  const at = Date.parse(event.at);
  if (!firstAmount || firstAmount.phase !== phase || done < firstAmount.done) {
    firstAmount = { done, at, phase };
  }
  const bar = root.querySelector("[data-amount-bar]");
  root.querySelector("[data-amount]").hidden = false;
  if (total) {
    bar.max = total;
    bar.value = done;
  } else {
    bar.removeAttribute("value");
  }
  const rate = (done - firstAmount.done) / (at - firstAmount.at);
  const left = total && rate > 0 ? `, about ${duration(Math.round((total - done) / rate))} left` : "";
  setText(root, "[data-amount-text]", `${event.text}${left}`);
}

function hideAmount(root) {
  firstAmount = null;
  root.querySelector("[data-amount]").hidden = true;
  setText(root, "[data-amount-text]", "");
}

function showNow(root, activity) {
  setText(root, "[data-now]", activity);
  setText(root, "[data-statement]", "");
  hideAmount(root);
  if (!activity) {
    setText(root, "[data-elapsed]", "");
    delete root.querySelector("[data-elapsed]").dataset.from;
  }
}

function showElapsed(root) {
  const { from } = root.querySelector("[data-elapsed]").dataset;
  if (from) {
    const seconds = Math.max(0, Math.floor((Date.now() - ahead - Date.parse(from)) / 1000));
    setText(root, "[data-elapsed]", `for ${seconds < 60 ? `${seconds} s` : duration(seconds * 1000)}`);
  }
}

// Lets the bar of the running step grow.
function growBars(root) {
  for (const bar of root.querySelectorAll(".mr-bar-done[data-since]")) {
    const seconds = (Date.now() - ahead - Number(bar.dataset.since)) / 1000;
    const most = 1000 - Number(bar.getAttribute("x"));
    const width = Math.min(Math.max(seconds * Number(bar.dataset.rate), 4), most);
    bar.setAttribute("width", String(Math.round(width)));
  }
}

// Changes a text only if it differs: a screen reader announces each change.
function setText(root, selector, content) {
  const element = root.querySelector(selector);
  if (element.textContent !== content) {
    element.textContent = content;
  }
}

function showTrouble(root, message) {
  root.querySelector("[data-trouble]").hidden = !message;
  setText(root, "[data-trouble]", message);
}

function duration(milliseconds) {
  if (milliseconds === null) {
    return "";
  }
  if (milliseconds < 1000) {
    return `${milliseconds} ms`;
  }
  if (milliseconds < 10000) {
    return `${(milliseconds / 1000).toFixed(1)} s`;
  }
  const seconds = Math.round(milliseconds / 1000);
  if (milliseconds < 60000) {
    return `${seconds} s`;
  }
  if (milliseconds < 3600000) {
    return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  }
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}
