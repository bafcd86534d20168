// @ts-check
/**
 * Script of every page: the reader's own time in front of UTC, and buttons that copy. Without it pages are whole: times
 * are in UTC, and one click selects what there is to copy.
 */

/** That of the page, in the reader's variant of it: 24 hours, or a.m. and p.m. */
const { lang } = document.documentElement;
const language = navigator.languages.find((tag) => tag.split("-", 1)[0] === lang) ?? lang;

/** @param {HTMLTimeElement} element */
const showLocalTime = (element) => {
  const at = new Date(element.dateTime);
  if (Number.isNaN(at.getTime())) return;
  const isToday = at.toDateString() === new Date().toDateString();
  /** @type {Intl.DateTimeFormatOptions} */
  const options = isToday ? { timeStyle: "medium" } : { dateStyle: "long", timeStyle: "medium" };
  const utc = new Intl.DateTimeFormat(language, { timeStyle: "medium", timeZone: "UTC" }).format(at);
  element.title = element.textContent ?? "";
  const here = new Intl.DateTimeFormat(language, options).format(at);
  element.textContent = at.getTimezoneOffset() === 0 ? `${here} UTC` : `${here} (${utc} UTC)`;
};

/** @type {WeakSet<HTMLButtonElement>} */
const enabled = new WeakSet();

/** @param {HTMLButtonElement} button */
const enableCopy = (button) => {
  if (enabled.has(button)) return;
  enabled.add(button);
  const label = button.textContent ?? "";
  let timer = 0;
  button.hidden = false;
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.dataset["copy"] ?? "");
    button.textContent = button.dataset["copied"] ?? label;
    clearTimeout(timer);
    timer = setTimeout(() => {
      button.textContent = label;
    }, 2_000);
  });
};

for (const element of document.querySelectorAll("time")) showLocalTime(element);
// What is still spreading: the page is loaded again, unless the reader is using it.
const again = document.querySelector("[data-again] a");
if (again instanceof HTMLAnchorElement)
  setInterval(() => {
    if (!document.hidden && document.activeElement === document.body) location.replace(again.href);
  }, 2_000);
// Browsers offer the clipboard only over https and on localhost.
if (navigator.clipboard !== undefined)
  for (const button of document.querySelectorAll("button.copy"))
    if (button instanceof HTMLButtonElement) enableCopy(button);
// A page's own script announces the buttons that it adds.
document.addEventListener("copyable", (event) => {
  if (navigator.clipboard !== undefined && event instanceof CustomEvent && event.detail instanceof HTMLButtonElement)
    enableCopy(event.detail);
});

export {};
