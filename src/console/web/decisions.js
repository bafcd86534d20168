// @ts-check
/**
 * Decisions, live: one event stream of the operator API, which puts new rows on top.
 *
 * - At most 500 rows are held. A stream that is faster than people read is sampled, and the page says how many rows it
 *   left out.
 * - `.` or the button pauses; what arrives meanwhile waits, up to 500 rows.
 * - A broken stream resumes after the last record that was received.
 */
import { count, fill, find, h, wordsOf } from "./dom.js";
import { setPaused } from "./live.js";
import { absolute, showTimes } from "./time.js";

const rowsMax = 500;
/** Rows that are drawn in one turn, and the time between two turns. */
const rowsAtOnce = 20;
const turnMs = 250;
const heldMax = 500;
const reopenMs = 5_000;
/** A hidden tab closes its stream after this long, and resumes when it is seen again. */
const hiddenMs = 30_000;
const namesMax = 5_000;

const table = find("#decisions", HTMLTableElement);
const body = find("#decisions tbody", HTMLTableSectionElement);
const state = find("#feed-state", HTMLElement);
const pause = find("#pause", HTMLButtonElement);
const words = wordsOf(table);
/** @type {Map<string, string>} */
const names = new Map();
/** @type {any[]} */
let held = [];
let leftOut = 0;
let isPaused = false;
let after = "";
/** @type {EventSource | null} */
let source = null;

const kinds = /** @type {Record<string, string>} */ ({
  permit: "good",
  deny: "bad",
  signin: "waiting",
  unavailable: "fenced",
});

/** @param {string} text */
const say = (text) => {
  if (state !== null && state.textContent !== text) state.textContent = text;
};

/** @param {string} text */
const bdi = (text) => h("bdi", {}, text);

/** @param {any} record */
const reasonOf = (record) => {
  const codes = Array.isArray(record.reasons) ? record.reasons : [];
  const known = codes.find((/** @type {string} */ code) => Object.hasOwn(words.reasons, code));
  return known === undefined
    ? codes.join(", ")
    : fill(words.reasons[known], names.get(record.userId) ?? words.noPerson);
};

/** @param {string} text */
const gapRow = (text) => h("tr", { class: "gap", tabindex: -1 }, h("td", { colspan: 6 }, text));

/** @param {any} record */
const rowOf = (record) => {
  if (record.missed !== undefined)
    return gapRow(record.missed === null ? words.missedSome : fill(words.missed, count(record.missed)));
  if (record.kind === "gap") {
    const lost = record.last - record.first + 1;
    const text = lost === 1 ? fill(words.gapOne, record.node) : words.gapMany;
    return gapRow(text.replace("{0}", count(lost)).replace("{1}", record.node));
  }
  const id = `${record.boot}:${record.seq}`;
  const at = new Date(record.at);
  const time = h("time", { datetime: Number.isNaN(at.getTime()) ? null : at.toISOString() }, absolute(at));
  const href = `/.pomerium/admin/decisions/${encodeURIComponent(id)}`;
  const person = () =>
    typeof record.userId === "string"
      ? h(
          "a",
          { class: "chip", href: `/.pomerium/admin/people/${encodeURIComponent(record.userId)}`, title: record.userId },
          bdi(names.get(record.userId) ?? record.userId.slice(0, 8)),
        )
      : h("span", { class: "muted" }, words.noPerson);
  const word = Object.hasOwn(words.results, record.result) ? words.results[record.result] : String(record.result);
  const route =
    typeof record.routeId === "string" &&
    h(
      "small",
      {},
      h(
        "a",
        {
          class: "chip",
          href: `/.pomerium/admin/access?${new URLSearchParams({ route: record.routeId })}`,
          title: record.routeId,
        },
        bdi(record.routeName || record.routeId),
      ),
    );
  return h(
    "tr",
    { "data-id": id, tabindex: -1 },
    h("td", {}, h("a", { class: "row", href }, time)),
    h(
      "td",
      {},
      h("span", { class: `pill ${kinds[record.result] ?? "off"}` }, h("i", { "aria-hidden": "true" }), word),
      " ",
      h("span", { class: "muted" }, String(record.status)),
    ),
    h("td", { class: "wide" }, person()),
    h(
      "td",
      {},
      h("span", { class: "narrow" }, person()),
      h("code", { class: "request" }, `${record.method} `, bdi(`${record.host}${record.path}`)),
      " ",
      route,
    ),
    h("td", { class: "wide" }, record.result === "permit" ? "" : bdi(reasonOf(record))),
    h("td", { class: "wide" }, bdi(record.node)),
  );
};

/** @param {any} record */
const receive = (record) => {
  held.push(record);
  // The newest stay, and every gap.
  if (held.length > heldMax) {
    const at = held.findIndex(({ kind, missed }) => kind !== "gap" && missed === undefined);
    held.splice(at === -1 ? 0 : at, 1);
    leftOut += 1;
  }
};

const draw = () => {
  if (body === null || document.hidden) return;
  if (isPaused) {
    if (held.length > 0) say(`${words.paused} · ${fill(words.waiting, count(held.length + leftOut))}`);
    return;
  }
  // A dead connection that is not closed is noticed by the stream of the frame.
  if (find("#live", HTMLElement)?.dataset["state"] === "lost") say(words.stopped);
  if (held.length === 0) return;
  const important = held.filter(({ kind, missed }) => kind === "gap" || missed !== undefined);
  const decided = held.filter(({ kind, missed }) => kind !== "gap" && missed === undefined);
  const shown = decided.slice(-rowsAtOnce);
  leftOut += decided.length - shown.length;
  held = [];
  for (const record of [...important, ...shown]) body.prepend(rowOf(record));
  while (body.rows.length > rowsMax) body.lastElementChild?.remove();
  const box = table?.closest(".table-box");
  if (box instanceof HTMLElement) box.hidden = false;
  const none = find("#no-decisions", HTMLElement);
  if (none !== null) none.hidden = true;
  showTimes(body);
  say(leftOut > 0 ? `${words.live} · ${fill(words.sampled, count(leftOut))}` : words.live);
};

const open = () => {
  const query = new URLSearchParams(table?.dataset["stream"]);
  if (after !== "") query.set("after", after);
  const opened = new EventSource(`/.pomerium/admin/api/v1/decisions?${query}`);
  source = opened;
  opened.addEventListener("open", () => say(isPaused ? words.paused : words.live));
  opened.addEventListener("names", (event) => {
    if (names.size > namesMax) names.clear();
    for (const [id, name] of Object.entries(JSON.parse(event.data))) names.set(id, name);
  });
  opened.addEventListener("cursor", (event) => {
    after = event.lastEventId;
  });
  opened.addEventListener("missed", (event) => receive({ missed: JSON.parse(event.data).count }));
  opened.addEventListener("message", (event) => {
    after = event.lastEventId;
    receive(JSON.parse(event.data));
  });
  opened.addEventListener("error", () => {
    say(words.stopped);
    // After a refusal an EventSource stays closed; after a broken connection it reconnects by itself.
    if (opened.readyState !== EventSource.CLOSED || source !== opened) return;
    setTimeout(open, reopenMs * (0.75 + Math.random() / 2));
  });
};

const setPausedHere = (/** @type {boolean} */ paused) => {
  isPaused = paused;
  if (pause !== null) {
    pause.firstChild?.replaceWith(`${paused ? words.resume : words.pause} `);
    pause.setAttribute("aria-pressed", String(paused));
  }
  say(paused ? words.paused : words.live);
};

if (table?.dataset["stream"] !== undefined && table.dataset["stream"] !== "") {
  open();
  setInterval(draw, turnMs);
  if (pause !== null) {
    pause.hidden = false;
    pause.addEventListener("click", () => {
      setPaused(!isPaused);
      setPausedHere(!isPaused);
    });
  }
  document.addEventListener("key", (event) => {
    if (event instanceof CustomEvent && event.detail === ".") setPausedHere(!isPaused);
  });
  const close = () => {
    source?.close();
    source = null;
  };
  let hiding = 0;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(close, hiddenMs);
    else if (source === null) open();
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", () => {
    if (source === null) open();
  });
  // "Now" moves: a copied link shows what was on the page.
  document.addEventListener("copy-link", (event) => {
    if (!(event instanceof CustomEvent) || !(event.detail.url instanceof URL)) return;
    const times = [...(body?.querySelectorAll("time") ?? [])].map(({ dateTime }) => dateTime).sort();
    event.detail.url.searchParams.set("from", times[0] ?? new Date(Date.now() - 60_000).toISOString());
    event.detail.url.searchParams.set("to", times.at(-1) ?? new Date().toISOString());
  });
}
