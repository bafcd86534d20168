// @ts-check
/**
 * Console: the script of every view. It adds times, copying, keys, the palette and liveness; content is the server's.
 */
import { find, words } from "./dom.js";
import "./time.js";
import "./keys.js";
import "./palette.js";
import "./table.js";
import "./live.js";
import "./running.js";

/** @type {WeakSet<HTMLButtonElement>} */
const enabled = new WeakSet();

/** @param {HTMLButtonElement} button */
const enableCopy = (button) => {
  if (enabled.has(button) || navigator.clipboard === undefined) return;
  enabled.add(button);
  const label = button.textContent ?? "";
  let timer = 0;
  button.hidden = false;
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.dataset["copy"] ?? "");
    button.textContent = button.dataset["copied"] ?? String(words.copied);
    clearTimeout(timer);
    timer = setTimeout(() => {
      button.textContent = label;
    }, 2_000);
  });
};
for (const button of document.querySelectorAll("button.copy"))
  if (button instanceof HTMLButtonElement) enableCopy(button);
document.addEventListener("copyable", (event) => {
  if (event instanceof CustomEvent && event.detail instanceof HTMLButtonElement) enableCopy(event.detail);
});

// A menu that is open is closed by a click beside it.
const me = find("details.me", HTMLDetailsElement);
document.addEventListener("click", (event) => {
  if (me?.open === true && event.target instanceof Node && !me.contains(event.target)) me.open = false;
});
const side = find("nav.side > details", HTMLDetailsElement);
// A wide window has no button to open the menu with.
const narrow = matchMedia("(max-width: 47.99rem)");
const fitMenu = () => {
  if (side !== null) side.open = !narrow.matches;
};
narrow.addEventListener("change", fitMenu);
fitMenu();
