// @ts-check
/**
 * Running receipts: those that this browser watches, so that each page can lead back to them until they are done.
 */
import { ask, count, fill, find, h, keep, readKept, words } from "./dom.js";

const key = "cardea.console.receipts";
const receiptsMax = 10;
const checkMs = 5_000;
/** A receipt that stays incomplete for this long leaves the list. */
const keptMs = 3_600_000;

const prefix = "/.pomerium/admin/";
const pageCharsMax = 500;

/** `page`: where the change was made. @returns {{ target: string, at: number, page?: unknown }[]} */
const readRunning = () => {
  try {
    const kept = JSON.parse(readKept(key) ?? "[]");
    const isRunning = (/** @type {any} */ one) => typeof one?.target === "string" && one.at > Date.now() - keptMs;
    return Array.isArray(kept) ? kept.filter(isRunning).slice(-receiptsMax) : [];
  } catch {
    return [];
  }
};

const show = () => {
  const running = readRunning();
  const shown = find("#running", HTMLAnchorElement);
  if (running.length === 0) return shown?.remove();
  const [first] = running;
  if (first === undefined) return;
  const pill = shown ?? h("a", { id: "running", class: "chip set" });
  pill.href = `/.pomerium/admin/receipts/${encodeURIComponent(first.target)}`;
  const { receipt } = words;
  pill.textContent = running.length === 1 ? receipt.runningOne : fill(receipt.running, count(running.length));
  if (shown === null) find("#live", HTMLElement)?.before(pill);
};

/** The page where this browser made a change that is still watched; null: not known. @param {string} target */
export const pageOfChange = (target) => {
  const page = readRunning().find((one) => one.target === target)?.page;
  return typeof page === "string" && page.startsWith(prefix) && !page.startsWith(`${prefix}receipts/`) ? page : null;
};

/** @param {string} target */
export const keepRunning = (target) => {
  const others = readRunning().filter((one) => one.target !== target);
  const page = pageOfChange(target) ?? `${location.pathname}${location.search}`.slice(0, pageCharsMax);
  keep(key, JSON.stringify([...others, { target, at: Date.now(), page }].slice(-receiptsMax)));
  show();
};

/** @param {string} target */
export const stopRunning = (target) => {
  keep(key, JSON.stringify(readRunning().filter((one) => one.target !== target)));
  show();
};

const check = async () => {
  if (document.hidden) return;
  for (const { target } of readRunning()) {
    if (find(`[data-receipt="${CSS.escape(target)}"]`, HTMLElement) !== null) continue;
    const { ok, status, body } = await ask(`/receipts/${encodeURIComponent(target)}?wait=none`);
    if ((ok && body.status !== "incomplete") || status === 404) stopRunning(target);
  }
};
show();
setInterval(check, checkMs);
