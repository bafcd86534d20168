// @ts-check
/**
 * Times: relative ones stay current, absolute ones are in the reader's time zone, and `t` shows every one in UTC.
 */
import { fill, keep, language, readKept, words } from "./dom.js";

const utcKey = "cardea.console.utc";
let isUtc = readKept(utcKey) === "true";

const units = /** @type {const} */ ([
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1_000],
]);

/** @param {number} at @param {number} now */
export const relative = (at, now) => {
  const distance = Math.abs(at - now);
  const [unit, ms] = units.find(([, size]) => distance >= size) ?? units[3];
  const amount = Math.round(distance / ms);
  if (amount === 0) return String(words.now);
  return fill(at > now ? words.inFuture[unit] : words.ago[unit], amount);
};

/** @param {Date} at @param {Intl.DateTimeFormatOptions} options */
const format = (at, options) => {
  try {
    return new Intl.DateTimeFormat(language, options).format(at);
  } catch {
    return at.toISOString();
  }
};

/** @param {Date} at */
export const absolute = (at) => {
  /** @type {Intl.DateTimeFormatOptions} */
  const zone = isUtc ? { timeZone: "UTC" } : {};
  const isToday = format(at, { dateStyle: "short", ...zone }) === format(new Date(), { dateStyle: "short", ...zone });
  const text = format(
    at,
    isToday ? { timeStyle: "medium", ...zone } : { dateStyle: "medium", timeStyle: "medium", ...zone },
  );
  return isUtc ? `${text} UTC` : text;
};

/** Time of day alone. @param {Date} at */
export const timeOfDay = (at) =>
  `${format(at, { timeStyle: "medium", ...(isUtc ? { timeZone: "UTC" } : {}) })}${isUtc ? " UTC" : ""}`;

/** @param {Element} element */
const show = (element) => {
  if (!(element instanceof HTMLTimeElement)) return;
  const at = new Date(element.dateTime);
  if (Number.isNaN(at.getTime())) return;
  const here = format(at, { dateStyle: "medium", timeStyle: "long" });
  element.title = `${here} · ${at.toISOString()}`;
  const isRelative = element.hasAttribute("data-relative") && !isUtc;
  const text = isRelative ? relative(at.getTime(), Date.now()) : absolute(at);
  if (element.textContent !== text) element.textContent = text;
};

/** @param {ParentNode} [inside] */
export const showTimes = (inside = document) => {
  for (const element of inside.querySelectorAll("time")) show(element);
};

export const toggleUtc = () => {
  isUtc = !isUtc;
  keep(utcKey, String(isUtc));
  showTimes();
};

const currentMs = 10_000;
showTimes();
setInterval(() => {
  if (!document.hidden) for (const element of document.querySelectorAll("time[data-relative]")) show(element);
}, currentMs);
