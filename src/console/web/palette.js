// @ts-check
/**
 * Palette: `⌘K` or `Ctrl K` finds pages, people, groups, routes and sessions, and goes straight to a pasted id.
 *
 * The typed text is sent to the operator API, and never becomes part of the page's address.
 */
import { ask, fill, find, h, openDialog, words } from "./dom.js";

const typingMs = 120;
const shownMax = 20;

/** @typedef {{ kind: string, id: string, name: string, detail: string, href: string }} Hit */

/** @param {string} text @returns {Hit[]} */
const pagesFor = (text) => {
  const wanted = text.toLowerCase();
  return words.pages
    .filter((/** @type {{ name: string }} */ { name }) => name.toLowerCase().includes(wanted))
    .map((/** @type {{ name: string, href: string, key: string | null }} */ { name, href, key }) => ({
      kind: "page",
      id: href,
      name,
      detail: key === null ? "" : `g ${key}`,
      href,
    }));
};

const openPalette = () => {
  if (document.querySelector("dialog[open]") !== null) return;
  const said = words.palette;
  const input = h("input", {
    type: "search",
    role: "combobox",
    "aria-label": said.label,
    "aria-expanded": "true",
    "aria-controls": "palette-hits",
    "aria-autocomplete": "list",
    placeholder: said.hint,
    autocomplete: "off",
    spellcheck: "false",
    maxlength: 200,
  });
  const list = h("ul", { id: "palette-hits", role: "listbox", "aria-label": said.label });
  const status = h("p", { class: "muted", role: "status" });
  openDialog({ class: "palette", "aria-label": said.label }, input, list, status);
  /** @type {Hit[]} */
  let hits = [];
  let at = 0;
  let asked = 0;
  let typing = 0;
  let asking = new AbortController();

  const mark = () => {
    for (const [i, item] of [...list.children].entries()) {
      item.setAttribute("aria-selected", String(i === at));
      if (i === at) item.scrollIntoView({ block: "nearest" });
    }
    if (hits.length === 0) input.removeAttribute("aria-activedescendant");
    else input.setAttribute("aria-activedescendant", `hit-${at}`);
  };
  /** @param {Hit[]} found @param {string} said */
  const show = (found, said) => {
    hits = found.slice(0, shownMax);
    at = 0;
    list.replaceChildren(
      ...hits.map(({ kind, name, detail, href }, i) =>
        h(
          "li",
          { id: `hit-${i}`, role: "option", click: () => location.assign(href) },
          h("b", {}, h("bdi", {}, name)),
          h("small", {}, h("bdi", {}, detail)),
          h("span", { class: "kind" }, words.palette.kinds[kind] ?? kind),
        ),
      ),
    );
    status.textContent = said;
    mark();
  };
  const search = async () => {
    const text = input.value.trim();
    const mine = ++asked;
    asking.abort();
    asking = new AbortController();
    if (text === "") return show(pagesFor(""), "");
    const pages = pagesFor(text);
    const { ok, body } = await ask(`/search?${new URLSearchParams({ q: text })}`, { signal: asking.signal });
    if (mine !== asked) return;
    const found = [...pages, ...(ok ? body.hits : [])].filter((hit) => String(hit.href).startsWith("/.pomerium/"));
    const { found: counted, none, failed } = said;
    show(
      found,
      !ok ? failed : found.length === 0 ? none : fill(found.length === 1 ? counted.one : counted.many, found.length),
    );
  };
  input.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => void search(), typingMs);
  });
  input.addEventListener("keydown", async (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (hits.length > 0) at = (at + (event.key === "ArrowDown" ? 1 : hits.length - 1)) % hits.length;
      mark();
    } else if (event.key === "Enter") {
      event.preventDefault();
      clearTimeout(typing);
      // What was just typed or pasted counts, not what was found before it.
      await search();
      const hit = hits[at];
      if (hit !== undefined) location.assign(hit.href);
    }
  });
  input.focus();
  show(pagesFor(""), "");
};

document.addEventListener("keydown", (event) => {
  if ((event.metaKey || event.ctrlKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k") {
    event.preventDefault();
    openPalette();
  }
});
const button = find("#open-palette", HTMLButtonElement);
if (button !== null) {
  button.hidden = false;
  button.addEventListener("click", openPalette);
  const isMac = /mac|iphone|ipad/i.test(navigator.userAgent);
  const kbd = button.querySelector("kbd");
  if (kbd !== null && !isMac) kbd.textContent = "Ctrl K";
}
