// @ts-check
/**
 * Receipt panel: watches a receipt until it is complete or lost, and fills in its rows as nodes confirm.
 *
 * - It works on a page, in a dialog and after a reload: all that it needs is the target in `data-receipt`.
 * - Rows that are done come first, in the order of their confirmation, each with the time since the change was recorded
 *   by the leader's clock. A node that is silent says by when it will be fenced.
 * - Without a broker it asks again; a receipt outlives a change of leader.
 */
import { count, fill, find, h, words } from "./dom.js";
import { keepRunning, pageOfChange, stopRunning } from "./running.js";
import { timeOfDay } from "./time.js";

/**
 * @typedef {{ node: string, region: string, role: string, status: "applied" | "fenced" | "unconfirmed",
 *   fencedInMs: number | null, confirmedAt?: number | null }} ReceiptNode
 * @typedef {{ status: "complete" | "incomplete" | "lost", nodes: ReceiptNode[], signed: string | null,
 *   commandId: string | null, at: number | null, recordedAt?: string | null,
 *   link: { position: number } | null }} Receipt
 */
const timeoutMs = 60_000;
const retryMs = [1_000, 2_000, 5_000, 10_000];
const tickMs = 250;
const announceMs = 1_000;
const rank = { applied: 0, fenced: 1, unconfirmed: 2 };
const kinds = { applied: "good", fenced: "fenced", unconfirmed: "waiting" };
const isCalm = matchMedia("(prefers-reduced-motion: reduce)");

/** @param {number} ms */
const duration = (ms) => (ms < 1_000 ? `${count(Math.round(ms))} ms` : `${(ms / 1_000).toFixed(1)} s`);

/**
 * An empty panel, as the server draws it.
 * @param {string} target
 */
export const createPanel = (target) => {
  const said = words.receipt;
  const name = target.replace(/^(?:command|link):/, "");
  const command = `cardea receipt ${name} --wait`;
  const copy = h("button", { type: "button", class: "copy", "data-copy": command, hidden: true }, String(words.copy));
  const panel = h(
    "section",
    { class: "receipt", "data-receipt": target, "data-status": "unknown", "aria-label": said.title },
    h(
      "div",
      { class: "receipt-head" },
      h("output", { class: "figure", "data-part": "figure" }, "…"),
      h(
        "div",
        {},
        h("p", { class: "receipt-said", "data-part": "said", role: "status" }),
        h("p", { class: "muted", "data-part": "more" }),
      ),
    ),
    h(
      "div",
      { class: "table-box" },
      h(
        "table",
        {},
        h("caption", { class: "quiet" }, said.table),
        h(
          "thead",
          {},
          h("tr", {}, ...[said.node, said.status, said.after].map((head) => h("th", { scope: "col" }, head))),
        ),
        h("tbody", { "data-part": "rows" }),
      ),
    ),
    h("div", { class: "actions", "data-part": "actions" }),
    h("div", { class: "command" }, h("code", {}, command), copy),
  );
  document.dispatchEvent(new CustomEvent("copyable", { detail: copy }));
  return panel;
};

/** @param {HTMLElement} panel @param {string} name */
const partOf = (panel, name) => {
  const found = find(`[data-part="${name}"]`, HTMLElement, panel);
  if (found === null) throw new TypeError(`a receipt panel has no ${name}`);
  return found;
};

/**
 * A sentence that changes at most once a second, so that a screen reader can follow. What is final is said at once.
 * @param {HTMLElement} element
 */
const createSentence = (element) => {
  let saidAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let saying;
  const show = (/** @type {string} */ text) => {
    saidAt = Date.now();
    if (element.textContent !== text) element.textContent = text;
  };
  return {
    /** @param {string} text */
    say(text) {
      clearTimeout(saying);
      saying = setTimeout(() => show(text), Math.max(0, saidAt + announceMs - Date.now()));
    },
    /** @param {string} text */
    conclude(text) {
      clearTimeout(saying);
      show(text);
    },
  };
};

/** @typedef {{ row: HTMLTableRowElement, until: number, after: number | null, isWaiting: boolean }} ShownRow */

/** @param {ReceiptNode} node @param {boolean} isNews */
const createRow = ({ node, region, role, status }, isNews) => {
  const said = words.receipt;
  const pill = h("span", { class: `pill ${kinds[status]}` }, h("i", { "aria-hidden": "true" }), said.statuses[status]);
  return h(
    "tr",
    { "data-node": node, "data-status": status, class: isNews && !isCalm.matches ? "arrived" : null },
    h("td", {}, node, h("small", { class: "muted" }, ` ${region}`)),
    h("td", {}, pill),
    h(
      "td",
      { class: "after" },
      h("span", { "data-part": "after" }),
      Object.hasOwn(said.roles, role) && h("small", { class: "muted" }, ` ${said.roles[role]}`),
    ),
  );
};

/**
 * Time (ms) from the record to this state of the node; null: not known.
 * @param {ReceiptNode} node @param {Receipt} receipt
 * @param {ShownRow | undefined} before what this connection showed last; undefined: nothing
 */
const afterOf = (node, receipt, before) => {
  const recordedAt = Date.parse(receipt.recordedAt ?? "");
  if (Number.isNaN(recordedAt)) return null;
  if (node.status === "applied")
    return typeof node.confirmedAt === "number" ? Math.max(0, node.confirmedAt - recordedAt) : null;
  // Only a connection that has seen the node wait knows when it was fenced.
  if (node.status === "fenced" && before?.isWaiting === true)
    return Math.max(0, (receipt.at ?? Date.now()) - recordedAt);
  return before?.after ?? null;
};

/** @param {ShownRow} shown @param {number} longest the bars are relative to the slowest */
const drawTime = ({ row, until, after }, longest) => {
  const said = words.receipt;
  const cell = partOf(row, "after");
  const status = row.dataset["status"];
  if (status === "unconfirmed") {
    const left = Math.max(0, Math.ceil((until - Date.now()) / 1_000));
    cell.textContent = fill(said.until, timeOfDay(new Date(until)), count(left));
  } else if (status === "fenced")
    cell.textContent = after === null ? said.fencedText : `${duration(after)} · ${said.fencedText}`;
  else if (after !== null && cell.dataset["ms"] !== `${after}/${longest}`) {
    cell.dataset["ms"] = `${after}/${longest}`;
    const bar = h("i", { class: "bar", "aria-hidden": "true" });
    cell.replaceChildren(duration(after), " ", bar);
    bar.style.width = `${Math.max(2, (80 * after) / longest)}px`;
  }
};

/** @param {HTMLElement} panel */
const createDrawing = (panel) => {
  const said = words.receipt;
  /** @type {Map<string, ShownRow>} */
  const known = new Map();
  const sentence = createSentence(partOf(panel, "said"));

  const drawTimes = () => {
    const longest = Math.max(1, ...[...known.values()].map(({ after }) => after ?? 0));
    for (const shown of known.values()) drawTime(shown, longest);
  };

  /** @param {Receipt} receipt */
  const drawRows = (receipt) => {
    const { nodes } = receipt;
    const names = new Set(nodes.map(({ node }) => node));
    for (const name of known.keys()) if (!names.has(name)) known.delete(name);
    for (const node of nodes) {
      const before = known.get(node.node);
      const isSame = before !== undefined && before.row.dataset["status"] === node.status;
      const row = isSame ? before.row : createRow(node, before !== undefined);
      const until = Date.now() + (node.fencedInMs ?? 0);
      const after = afterOf(node, receipt, before);
      known.set(node.node, { row, until, after, isWaiting: node.status === "unconfirmed" });
    }
    const sorted = [...nodes].sort(
      (a, b) =>
        rank[a.status] - rank[b.status] || (a.confirmedAt ?? Number.MAX_VALUE) - (b.confirmedAt ?? Number.MAX_VALUE),
    );
    partOf(panel, "rows").replaceChildren(...sorted.flatMap(({ node }) => known.get(node)?.row ?? []));
    drawTimes();
  };

  /** @param {Receipt} receipt */
  const conclusionOf = ({ nodes, status }) => {
    if (status === "lost") return said.lost;
    const times = [...known.values()].map(({ after }) => after);
    const isTimed = times.every((time) => time !== null);
    const time = duration(Math.max(0, ...times.map((each) => each ?? 0)));
    const fenced = nodes.filter((node) => node.status === "fenced").length;
    if (fenced === 0) return isTimed ? fill(said.everywhere, time) : said.everywhereUntimed;
    const numbers = [count(nodes.length - fenced), count(fenced)];
    return isTimed ? fill(said.withFencedIn, time, ...numbers) : fill(said.withFenced, ...numbers);
  };

  return {
    drawTimes,
    sentence,
    /** The connection broke: what happened since then has no known time. */
    interrupt() {
      for (const [name, shown] of known) known.set(name, { ...shown, isWaiting: false });
    },
    /** @param {Receipt} receipt */
    draw(receipt) {
      const { nodes, status, link } = receipt;
      drawRows(receipt);
      const done = nodes.filter((node) => node.status !== "unconfirmed").length;
      panel.dataset["status"] = status;
      partOf(panel, "figure").textContent = status === "lost" ? "" : `${count(done)}/${count(nodes.length)}`;
      partOf(panel, "more").textContent =
        status === "lost" ? said.lostText : link === null ? "" : fill(said.recorded, count(link.position));
      if (status === "incomplete") sentence.say(fill(said.waiting, count(done), count(nodes.length)));
      else sentence.conclude(conclusionOf(receipt));
    },
  };
};

/** @param {HTMLElement} panel @param {Receipt} receipt */
const offerDownload = (panel, { signed, commandId }) => {
  if (signed === null) return;
  const said = words.receipt;
  const name = `receipt-${commandId ?? "of-link"}.jws`;
  const url = URL.createObjectURL(new Blob([`${signed}\n`], { type: "application/jose" }));
  const keys = `${location.origin}/.well-known/cardea/receipts/jwks.json`;
  partOf(panel, "actions").replaceChildren(
    h("a", { class: "button", href: url, download: name }, said.download),
    h("p", { class: "muted" }, `${said.verify} `, h("code", {}, `cardea receipts verify ${name} --jwks-url ${keys}`)),
  );
};

/** The dialog of a change offers the change itself; any other page leads to the one where it was made. @param {HTMLElement} panel */
const offerReturn = (panel) => {
  const href = pageOfChange(panel.dataset["receipt"] ?? "");
  if (href === null || panel.closest("dialog") !== null) return;
  partOf(panel, "actions").append(h("a", { class: "button", href }, words.receipt.madeOn));
};

/** Watches until the receipt is complete or lost, or the panel leaves the document. @param {HTMLElement} panel */
export const watchReceipt = (panel) => {
  const target = panel.dataset["receipt"] ?? "";
  const drawing = createDrawing(panel);
  let attempts = 0;
  let isOver = false;
  /** @type {EventSource | null} */
  let source = null;

  const end = () => {
    isOver = true;
    clearInterval(ticking);
    source?.close();
  };
  const retry = () => {
    source?.close();
    drawing.interrupt();
    const wait = retryMs[Math.min(attempts, retryMs.length - 1)];
    attempts += 1;
    setTimeout(open, wait);
  };
  const askAgain = () => {
    drawing.sentence.say(words.receipt.unavailable);
    retry();
  };
  const open = () => {
    if (isOver || !panel.isConnected) return end();
    source = new EventSource(
      `/.pomerium/admin/api/v1/receipts/${encodeURIComponent(target)}?wait=all&timeoutMs=${timeoutMs}`,
    );
    source.addEventListener("progress", (event) => {
      attempts = 0;
      drawing.draw(JSON.parse(event.data));
    });
    source.addEventListener("receipt", (event) => {
      const receipt = JSON.parse(event.data);
      drawing.draw(receipt);
      offerDownload(panel, receipt);
      if (receipt.status === "incomplete") return retry();
      end();
      if (receipt.status === "lost") offerReturn(panel);
      stopRunning(target);
      panel.dispatchEvent(new CustomEvent("receipt-done", { bubbles: true, detail: receipt.status }));
    });
    source.addEventListener("unavailable", askAgain);
    source.addEventListener("error", askAgain);
  };
  const ticking = setInterval(drawing.drawTimes, tickMs);
  panel.addEventListener("receipt-left", end, { once: true });
  keepRunning(target);
  open();
};

for (const panel of document.querySelectorAll("[data-receipt]")) if (panel instanceof HTMLElement) watchReceipt(panel);
