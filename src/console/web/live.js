// @ts-check
/**
 * Live: one event stream for the page, shared by whatever is live on it.
 *
 * - The head of the page says whether the stream lives: the server sends `alive` every five seconds.
 * - A hidden tab closes its stream after half a minute. Reconnects back off, with jitter.
 * - A session that ended says so in a dialog, and leaves the page as it is.
 */
import { ask, count, fill, find, h, openDialog, words } from "./dom.js";
import { showStanding } from "./standing.js";

const silentMs = 12_000;
const hiddenMs = 30_000;
const backoffMs = [1_000, 2_000, 5_000, 10_000];

/** @type {Map<string, Set<(data: any) => void>>} */
const listeners = new Map();
/** The newest data of each topic that came while the page was paused. @type {Map<string, any[]>} */
const heldBack = new Map();
const heldBackMax = 500;
/** @type {EventSource | null} */
let source = null;
let attempts = 0;
let silence = 0;
let hiding = 0;
let opening = 0;
let isPaused = false;
const indicator = find("#live", HTMLElement);
const indicatorText = find('[data-part="text"]', HTMLElement, indicator ?? document);

/** @param {"off" | "live" | "paused" | "lost"} state @param {string} [text] */
const setState = (state, text) => {
  if (indicator !== null) indicator.dataset["state"] = state;
  if (indicatorText !== null && text !== undefined && indicatorText.textContent !== text)
    indicatorText.textContent = text;
};

/**
 * Calls back with each event of a topic, from the next one on.
 * @param {string} topic @param {(data: any) => void} listener
 */
export const subscribe = (topic, listener) => {
  const set = listeners.get(topic) ?? new Set();
  set.add(listener);
  listeners.set(topic, set);
  if (source !== null && !source.url.includes(topic)) reopen();
};

/** @param {string} topic @param {any} data */
const deliver = (topic, data) => {
  for (const listener of listeners.get(topic) ?? []) listener(data);
};

/** @param {boolean} paused */
export const setPaused = (paused) => {
  isPaused = paused;
  document.body.toggleAttribute("data-paused", paused);
  if (paused) return;
  for (const [topic, held] of heldBack) for (const data of held) deliver(topic, data);
  heldBack.clear();
};

const heard = () => {
  attempts = 0;
  clearTimeout(silence);
  silence = setTimeout(() => setState("lost", String(words.paused)), silentMs);
};

const open = () => {
  clearTimeout(opening);
  // An approver without a role has no live figures, and so no indicator.
  if (source !== null || document.hidden || indicator === null) return;
  const topics = [...listeners.keys()];
  const opened = new EventSource(`/.pomerium/admin/api/v1/live?topics=${topics.join(",")}`);
  source = opened;
  opened.addEventListener("alive", (event) => {
    heard();
    const { applied, standing } = JSON.parse(event.data);
    showStanding(standing);
    setState(isPaused ? "paused" : "live", fill(words.live, count(applied.position)));
    document.dispatchEvent(new CustomEvent("alive", { detail: applied }));
  });
  for (const topic of topics)
    opened.addEventListener(topic, (event) => {
      heard();
      const data = JSON.parse(event.data);
      if (!isPaused) return deliver(topic, data);
      const held = heldBack.get(topic) ?? [];
      held.push(data);
      heldBack.set(topic, held.slice(-heldBackMax));
    });
  opened.addEventListener("error", () => {
    if (source !== opened) return;
    opened.close();
    source = null;
    void retry();
  });
};

const retry = async () => {
  const wait = backoffMs[Math.min(attempts, backoffMs.length - 1)] ?? 10_000;
  attempts += 1;
  if (attempts > 1) {
    setState("lost", String(words.paused));
    // An event stream does not say why it was refused. A node that cannot confirm the reader's session answers 503.
    const { status } = await ask("/me");
    if (status === 503) showStanding({ type: "unconfirmed" });
  }
  clearTimeout(opening);
  opening = setTimeout(open, wait * (0.75 + Math.random() / 2));
};

const close = () => {
  source?.close();
  source = null;
  clearTimeout(silence);
};
const reopen = () => {
  close();
  open();
};

document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(close, hiddenMs);
  else open();
});
document.addEventListener("key", (event) => {
  if (event instanceof CustomEvent && event.detail === ".") setPaused(!isPaused);
});

let isEnded = false;
document.addEventListener("signed-out", () => {
  if (isEnded) return;
  isEnded = true;
  close();
  for (const shown of document.querySelectorAll("dialog[open]")) if (shown instanceof HTMLDialogElement) shown.close();
  openDialog(
    { "aria-labelledby": "ended-title" },
    h("h2", { id: "ended-title" }, String(words.ended)),
    h("p", {}, String(words.endedText)),
    h("div", { class: "actions" }, h("a", { class: "button first", href: location.href }, String(words.signInAgain))),
  );
});

// After the scripts of the view have subscribed.
setTimeout(open, 0);
addEventListener("pagehide", close);
addEventListener("pageshow", open);
