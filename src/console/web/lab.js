// @ts-check
/**
 * Policy lab: checks the draft while it is written, runs its tests, and replays recorded decisions with it.
 *
 * The draft and the table of cases stay in this browser, one for each route. Nothing here changes what is in force.
 */
import { ask, count, fill, find, words as frameWords, h, keep, openDialog, readKept, wordsOf } from "./dom.js";
import { showTimes } from "./time.js";

const typedMs = 400;
const rowsMax = 200;
const draftCharsMax = 131_072;
const lab = find("#lab", HTMLElement) ?? document.createElement("div");
const words = wordsOf(lab);
/** @type {{ base: string | null, route: string | null, mayReplay: boolean }} */
const target = JSON.parse(lab.dataset["target"] ?? "{}");
const policy = find("#policy", HTMLTextAreaElement) ?? document.createElement("textarea");
const cases = find("#cases", HTMLTextAreaElement) ?? document.createElement("textarea");
const written = policy.value;

/** @param {string} name */
const part = (name) => find(`[data-part="${name}"]`, HTMLElement, lab) ?? document.createElement("div");
/** @param {string} name */
const show = (name) => {
  for (const element of lab.querySelectorAll(name)) if (element instanceof HTMLElement) element.hidden = false;
};

// --- the editors

/** @param {HTMLTextAreaElement} area @param {ReadonlyMap<number, string>} marks */
const drawGutter = (area, marks) => {
  const gutter = find(`[data-gutter="${area.id}"]`, HTMLElement, lab);
  if (gutter === null) return;
  const lines = area.value.split("\n").length;
  gutter.replaceChildren(
    ...Array.from({ length: lines }, (_, i) => h("b", { class: marks.get(i + 1) ?? null }, String(i + 1))),
  );
  gutter.scrollTop = area.scrollTop;
};

/** @param {HTMLTextAreaElement} area @param {number} line @param {number} column */
const goTo = (area, line, column) => {
  const start = area.value.split("\n", line - 1).join("\n").length + (line > 1 ? 1 : 0) + Math.max(0, column - 1);
  area.focus();
  area.setSelectionRange(start, start);
  const lineHeight = Number.parseFloat(getComputedStyle(area).lineHeight) || 20;
  area.scrollTop = Math.max(0, (line - 4) * lineHeight);
};

const draftKey = (/** @type {string} */ of) => `cardea.console.lab.${of}.${target.route ?? ""}`;
const restore = () => {
  const draft = readKept(draftKey("policy"));
  if (draft !== null && draft.length <= draftCharsMax) policy.value = draft;
  const table = readKept(draftKey("cases"));
  if (table !== null && table.length <= draftCharsMax) cases.value = table;
};
const keepDraft = () => {
  keep(draftKey("policy"), policy.value);
  keep(draftKey("cases"), cases.value);
};

// --- the check

/** @param {{ ok: boolean, status: number, body: any }} answer */
const failureOf = ({ status, body }) =>
  status === 0 ? words.unreachable : fill(words.failed, body?.error ?? String(status));

/** @param {any} problem @param {HTMLTextAreaElement} area */
const problemItem = ({ line, column, key, problem, finding, remedy, severity }, area) => {
  const place =
    line > 0
      ? h("button", { type: "button", click: () => goTo(area, line, column) }, fill(words.line, count(line)))
      : h("b", {}, `${words.aroundRoute} `);
  const kind = severity === "error" ? "bad" : "waiting";
  const said = finding ?? (key ? `${key}: ${problem}` : problem);
  return h(
    "li",
    {},
    h("span", { class: `pill ${kind}` }, h("i", { "aria-hidden": "true" }), place),
    said,
    remedy !== "" && h("small", {}, remedy),
  );
};

/** The newest check; an older answer is dropped. */
let checks = 0;
const check = async () => {
  checks += 1;
  const own = checks;
  part("check").textContent = words.checking;
  const route = target.route === null ? {} : { route: target.route };
  const base = target.route === null || target.base === null ? {} : { base: target.base };
  const answer = await ask("/policy/check", { method: "POST", body: { text: policy.value, ...route, ...base } });
  if (own !== checks) return;
  if (!answer.ok) {
    part("check").textContent = failureOf(answer);
    return;
  }
  const { ok, problems, findings, sentences } = answer.body;
  const listed = [...problems, ...findings];
  const errors = problems.filter((/** @type {any} */ one) => one.severity === "error").length;
  const said = ok
    ? listed.length === 0
      ? words.good
      : fill(words.goodWarnings, count(listed.length))
    : errors === 1
      ? words.badOne
      : fill(words.bad, count(errors));
  part("check").replaceChildren(
    h(
      "span",
      { class: `pill ${ok ? (listed.length === 0 ? "good" : "waiting") : "bad"}` },
      h("i", { "aria-hidden": "true" }),
      said,
    ),
  );
  part("problems").replaceChildren(
    ...listed.slice(0, rowsMax).map((/** @type {any} */ one) => problemItem(one, policy)),
  );
  part("says").replaceChildren(
    ...(sentences.length === 0
      ? []
      : [h("h3", {}, words.says), h("ul", {}, ...sentences.map((/** @type {string} */ one) => h("li", {}, one)))]),
  );
  /** @type {Map<number, string>} */
  const marks = new Map();
  for (const { line, severity } of listed)
    if (line > 0 && marks.get(line) !== "bad") marks.set(line, severity === "error" ? "bad" : "warn");
  drawGutter(policy, marks);
};

let typing = 0;
const onTyped = () => {
  drawGutter(policy, new Map());
  clearTimeout(typing);
  typing = setTimeout(() => {
    keepDraft();
    void check();
  }, typedMs);
  if (lastResult !== null) part("progress").textContent = words.edited;
};

// --- tests

const runTests = async () => {
  part("tests").textContent = words.checking;
  const route = target.route === null ? {} : { route: target.route };
  const base = target.route === null || target.base === null ? {} : { base: target.base };
  const body = { text: policy.value, cases: cases.value, ...route, ...base };
  const answer = await ask("/policy/test", { method: "POST", body });
  if (!answer.ok) {
    part("tests").textContent = failureOf(answer);
    return;
  }
  const { problems, notes, cases: results, unmet } = answer.body;
  /** @type {Map<number, string>} */
  const marks = new Map();
  for (const { ok, line } of results) if (!ok) marks.set(line, "bad");
  drawGutter(cases, marks);
  if (problems.length > 0) {
    part("tests").replaceChildren(
      h("ul", { class: "problems" }, ...problems.map((/** @type {any} */ one) => problemItem(one, cases))),
    );
    return;
  }
  const good = results.filter((/** @type {any} */ { ok }) => ok).length;
  const kind = good === results.length ? "good" : "bad";
  const rows = results.map((/** @type {any} */ { name, line, ok, expected, result, reasons }) =>
    h(
      "li",
      {},
      h(
        "span",
        { class: `pill ${ok ? "good" : "bad"}` },
        h("i", { "aria-hidden": "true" }),
        h("button", { type: "button", click: () => goTo(cases, line, 1) }, fill(words.line, count(line))),
      ),
      name,
      h(
        "small",
        {},
        ok
          ? words.asExpected
          : fill(words.expected, Object.values(expected).join(", "), [result, ...reasons].join(", ")),
      ),
    ),
  );
  const left = unmet.map((/** @type {any} */ { rule, line }) =>
    h(
      "li",
      {},
      line > 0 && h("button", { type: "button", click: () => goTo(policy, line, 1) }, fill(words.line, count(line))),
      fill(words.unmet, rule),
    ),
  );
  part("tests").replaceChildren(
    h(
      "p",
      {},
      h(
        "span",
        { class: `pill ${kind}` },
        h("i", { "aria-hidden": "true" }),
        fill(words.testsDone, count(good), count(results.length)),
      ),
    ),
    h("ul", { class: "problems" }, ...rows, ...left, ...notes.map((/** @type {string} */ note) => h("li", {}, note))),
  );
};

// --- what-if

/** @type {any} */
let lastResult = null;
/** @type {AbortController | null} */
let running = null;

/** @param {number} at */
const timeOf = (at) => h("time", { datetime: new Date(at).toISOString() }, new Date(at).toISOString());

/** @param {any} difference @param {any} names */
const differenceRow = ({ change, route, person, count: many, already, example }, names) => {
  const who =
    person === null
      ? words.visitor
      : h(
          "a",
          { class: "chip", href: `/.pomerium/admin/people/${encodeURIComponent(person)}`, title: person },
          names.people[person] ?? person.slice(0, 8),
        );
  const path = `${example.method} ${example.host}${example.path}`;
  const decision = `/.pomerium/admin/decisions/${encodeURIComponent(example.requestId)}`;
  const kind = change === "gains" ? "good" : "bad";
  const changed = change === "gains" ? words.gains : words.loses;
  return h(
    "tr",
    { "data-id": `${change} ${route} ${person}`, tabindex: "-1", "data-change": change },
    h(
      "td",
      { "data-count": many },
      h(
        "span",
        { class: `pill ${kind}` },
        h("i", { "aria-hidden": "true" }),
        changed,
        ` ${fill(words.timesOver, count(many))}`,
      ),
    ),
    h("td", {}, who),
    h(
      "td",
      {},
      h("a", { class: "row", href: decision }, path),
      h("small", { class: "muted" }, timeOf(example.at)),
      already > 0 && h("small", { class: "muted" }, fill(words.already, count(already))),
    ),
  );
};

/** @param {any} result */
const showResult = (result) => {
  lastResult = result;
  const { replayed, differences, moreDifferences, notReplayed, cut, names, digest } = result;
  const people = (/** @type {string} */ change) =>
    new Set(
      differences
        .filter((/** @type {any} */ one) => one.change === change)
        .map((/** @type {any} */ { person }) => person),
    ).size;
  part("progress").replaceChildren(
    h(
      "b",
      {},
      differences.length === 0
        ? fill(words.same, count(replayed))
        : fill(words.different, count(replayed), count(people("gains")), count(people("loses"))),
    ),
  );
  const head = [words.change, words.person, words.first].map((label) => h("th", { scope: "col" }, label));
  const missing = notReplayed.reduce((/** @type {number} */ sum, /** @type {any} */ one) => sum + one.count, 0);
  const more = differences.length - Math.min(rowsMax, differences.length) + moreDifferences;
  const summary = h(
    "button",
    { type: "button", class: "copy", "data-copy": result.markdown, "data-copied": frameWords.copied, hidden: true },
    words.copySummary,
  );
  part("result").replaceChildren(
    ...[
      cut !== null && h("p", { class: "notice" }, cut === "limit" ? words.cutLimit : words.cutTime),
      differences.length > 0 &&
        h(
          "div",
          { class: "table-box" },
          h(
            "table",
            { "data-table": true, id: "differences" },
            h("caption", { class: "quiet" }, words.differences),
            h("thead", {}, h("tr", {}, ...head)),
            h("tbody", {}, ...differences.slice(0, rowsMax).map((/** @type {any} */ one) => differenceRow(one, names))),
          ),
        ),
      more > 0 && h("p", { class: "muted" }, fill(words.moreDifferences, count(more))),
      notReplayed.length > 0 &&
        h(
          "details",
          { "data-part": "not-replayed" },
          h("summary", {}, fill(words.notReplayed, count(missing))),
          h(
            "ul",
            {},
            ...notReplayed.map((/** @type {any} */ one) =>
              h("li", {}, fill(words.why, one.count === 0 ? words.some : count(one.count), one.why)),
            ),
          ),
        ),
      h(
        "div",
        { class: "actions" },
        summary,
        h("small", { class: "muted", "data-part": "digest" }, fill(words.digest, digest.slice(0, 16))),
      ),
    ].filter((one) => one !== false),
  );
  document.dispatchEvent(new CustomEvent("copyable", { detail: summary }));
  showTimes(part("result"));
};

/** The events of an answer, as they arrive. @param {Response} answer @param {(event: any) => void} onEvent */
const readEvents = async (answer, onEvent) => {
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
  if (reader === undefined) return;
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop() ?? "";
    for (const block of blocks) {
      const data = block.split("\n").find((line) => line.startsWith("data: "));
      if (data !== undefined) onEvent(JSON.parse(data.slice(6)));
    }
  }
};

/** @param {HTMLFormElement} form */
const replay = async (form) => {
  if (running !== null) {
    running.abort();
    return;
  }
  const button = find("button", HTMLButtonElement, form);
  const own = new AbortController();
  running = own;
  lastResult = null;
  part("result").replaceChildren();
  part("progress").textContent = fill(words.running, count(0), count(0));
  if (button !== null) button.textContent = words.stop;
  const chosen = new FormData(form);
  const body = {
    text: policy.value,
    route: target.route,
    ...(target.base === null ? {} : { base: target.base }),
    sinceMs: Number(chosen.get("sinceMs")),
    facts: chosen.get("facts"),
  };
  let isDone = false;
  let saidAt = 0;
  try {
    const answer = await fetch("/.pomerium/admin/api/v1/policy/replay", {
      method: "POST",
      headers: { accept: "text/event-stream", "content-type": "application/json" },
      body: JSON.stringify(body),
      signal: own.signal,
    });
    if (answer.status === 401) document.dispatchEvent(new CustomEvent("signed-out"));
    if (!answer.ok) {
      const refused = await answer.json().catch(() => null);
      part("progress").textContent = failureOf({ ok: false, status: answer.status, body: refused });
      return;
    }
    await readEvents(answer, (event) => {
      if (event.type === "result") {
        isDone = true;
        showResult(event);
      } else if (event.type === "failed") {
        isDone = true;
        part("progress").textContent = fill(words.failed, event.error);
      } else if (Date.now() - saidAt >= 1_000) {
        saidAt = Date.now();
        part("progress").textContent = fill(words.running, count(event.read), count(event.replayed));
      }
    });
    if (!isDone) part("progress").textContent = words.unreachable;
  } catch {
    if (!isDone) part("progress").textContent = own.signal.aborted ? words.stopped : words.unreachable;
  } finally {
    running = null;
    if (button !== null) button.textContent = words.run;
  }
};

// --- buttons

/** @param {HTMLElement} button @param {string} text */
const copyFrom = async (button, text) => {
  await navigator.clipboard.writeText(text);
  const label = button.textContent ?? "";
  button.textContent = frameWords.copied;
  setTimeout(() => {
    button.textContent = label;
  }, 2_000);
};
const shadow = () => {
  const lines = policy.value.replace(/\n+$/, "").split("\n");
  return `shadow_policy:\n${lines.map((line) => (line === "" ? "" : `  ${line}`)).join("\n")}\n`;
};
const reset = () => {
  const discard = h("button", { type: "submit", class: "danger" }, words.discard);
  const cancel = h("button", { type: "button", click: () => dialog.close() }, frameWords.cancel);
  const form = h(
    "form",
    {
      submit: (/** @type {Event} */ event) => {
        event.preventDefault();
        policy.value = written;
        dialog.close();
        onTyped();
      },
    },
    h("h2", { id: "reset-title" }, words.resetTitle),
    h("p", {}, words.resetText),
    h("div", { class: "actions" }, cancel, discard),
  );
  const dialog = openDialog({ "aria-labelledby": "reset-title" }, form);
  cancel.focus();
};
/** @type {Record<string, (button: HTMLElement) => unknown>} */
const acts = {
  "copy-yaml": (button) => copyFrom(button, policy.value),
  "copy-shadow": (button) => copyFrom(button, shadow()),
  reset,
  test: runTests,
};
lab.addEventListener("click", (event) => {
  const button = event.target instanceof Element ? event.target.closest("[data-do]") : null;
  if (button instanceof HTMLElement) void acts[button.dataset["do"] ?? ""]?.(button);
});

const form = find('[data-part="replay-form"]', HTMLFormElement, lab);
form?.addEventListener("submit", (event) => {
  event.preventDefault();
  void replay(form);
});
for (const area of [policy, cases]) {
  area.addEventListener("scroll", () => {
    const gutter = find(`[data-gutter="${area.id}"]`, HTMLElement, lab);
    if (gutter !== null) gutter.scrollTop = area.scrollTop;
  });
  area.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    if (area === cases) void runTests();
    else if (form !== null && running === null) void replay(form);
  });
}
policy.addEventListener("input", onTyped);
cases.addEventListener("input", () => {
  drawGutter(cases, new Map());
  keepDraft();
});

part("no-scripts").remove();
restore();
drawGutter(policy, new Map());
drawGutter(cases, new Map());
if (navigator.clipboard === undefined) for (const button of lab.querySelectorAll("[data-do^=copy]")) button.remove();
show('[data-part="tools"]');
show('[data-part="kept"]');
show('[data-part="replay-form"]');
show('[data-do="test"]');
void check();
