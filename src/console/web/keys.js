// @ts-check
/**
 * Keys: single keys act outside fields only, can be turned off, and `?` lists them.
 *
 * A view adds its own with the event `key` on the document, whose `detail` is the key.
 */
import { fill, find, h, isField, keep, openDialog, readKept, words } from "./dom.js";
import { moveRow, openRow, selectRow } from "./table.js";
import { toggleUtc } from "./time.js";

const offKey = "cardea.console.keys";
const afterGMs = 1_500;
const themes = ["auto", "light", "dark"];
let isOn = readKept(offKey) !== "off";
let gPressedAt = Number.NEGATIVE_INFINITY;

/** @param {string} key */
const goTo = (key) => {
  const link = find(`nav.side a[data-key="${CSS.escape(key)}"]`, HTMLAnchorElement);
  if (link === null) return false;
  link.click();
  return true;
};

export const copyLink = async () => {
  if (navigator.clipboard === undefined) return;
  const event = new CustomEvent("copy-link", { detail: { url: new URL(location.href) } });
  document.dispatchEvent(event); // a view fixes what "now" means
  await navigator.clipboard.writeText(event.detail.url.href);
  const notices = find("#notices", HTMLElement);
  const toast = h("p", { class: "notice toast" }, String(words.linkCopied));
  notices?.append(toast);
  setTimeout(() => toast.remove(), 3_000);
};

/** @type {Record<string, () => unknown>} */
const actions = {
  "?": () => openKeys(),
  "/": () => {
    const field = find("[data-filter]", HTMLInputElement) ?? find(".filters input, .filters select", HTMLElement);
    field?.focus();
    if (field instanceof HTMLInputElement) field.select();
  },
  j: () => moveRow(1),
  k: () => moveRow(-1),
  x: selectRow,
  t: toggleUtc,
  c: copyLink,
  e: () => find(".selection:not([hidden]) [data-primary], [data-primary]:not(.selection *)", HTMLElement)?.click(),
};

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (!isOn || isField(event.target) || document.querySelector("dialog[open]") !== null) return;
  const { key } = event;
  if (key === "Enter" && event.target instanceof HTMLTableRowElement) return openRow();
  if ((key === "ArrowDown" || key === "ArrowUp") && event.target instanceof HTMLTableRowElement) {
    event.preventDefault();
    return moveRow(key === "ArrowDown" ? 1 : -1);
  }
  if (performance.now() - gPressedAt < afterGMs) {
    gPressedAt = Number.NEGATIVE_INFINITY;
    if (goTo(key)) return event.preventDefault();
  }
  if (key === "g") {
    gPressedAt = performance.now();
    return;
  }
  const action = actions[key];
  if (action !== undefined) {
    event.preventDefault();
    action();
  } else if (key.length === 1) document.dispatchEvent(new CustomEvent("key", { detail: key }));
});

/** @param {string} theme */
const setTheme = (theme) => {
  const secure = location.protocol === "https:" ? "; secure" : "";
  // biome-ignore lint/suspicious/noDocumentCookie: the server reads it, so that the first paint has the theme
  document.cookie = `cardea-console-theme=${theme}; path=/.pomerium/admin; max-age=31536000; samesite=lax${secure}`;
  if (theme === "auto") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
};

export const openKeys = () => {
  const said = words.keys;
  /** @type {[string, string][]} */
  const rows = [
    ["⌘K  Ctrl K", said.search],
    ["/", said.filter],
    ["j  k", said.rows],
    ["Enter", said.open],
    ["x", said.select],
    ["e", said.act],
    [".", said.pause],
    ["c", said.copyLink],
    ["t", said.utc],
    ["?", said.list],
    ["Esc", said.close],
  ];
  for (const { name, key } of words.pages) if (key !== null) rows.push([`g  ${key}`, fill(said.goTo, name)]);
  const current = document.documentElement.dataset["theme"] ?? "auto";
  openDialog(
    { class: "keys", "aria-labelledby": "keys-title" },
    h("h2", { id: "keys-title" }, said.title),
    h("dl", {}, ...rows.flatMap(([keys, does]) => [h("dt", {}, h("kbd", {}, keys)), h("dd", {}, does)])),
    h(
      "p",
      {},
      h(
        "label",
        {},
        h("input", {
          type: "checkbox",
          checked: isOn,
          change: (/** @type {Event} */ { target }) => {
            isOn = target instanceof HTMLInputElement && target.checked;
            keep(offKey, isOn ? "on" : "off");
          },
        }),
        ` ${said.off}`,
      ),
    ),
    h(
      "p",
      {},
      h(
        "label",
        {},
        `${said.theme} `,
        h(
          "select",
          {
            change: (/** @type {Event} */ { target }) => {
              if (target instanceof HTMLSelectElement) setTheme(target.value);
            },
          },
          ...themes.map((theme) => h("option", { value: theme, selected: theme === current }, said.themes[theme])),
        ),
      ),
    ),
    h("form", { method: "dialog" }, h("button", {}, String(words.close))),
  );
};

const button = find("#open-keys", HTMLButtonElement);
if (button !== null) {
  button.hidden = false;
  button.addEventListener("click", openKeys);
}
