// @ts-check
/**
 * DOM: what the scripts of the console share to find, make and fill elements. Nothing here reads text as markup.
 */

/**
 * @template {Element} Found
 * @param {string} selector
 * @param {new () => Found} type
 * @param {ParentNode} [inside]
 * @returns {Found | null}
 */
export const find = (selector, type, inside = document) => {
  const found = inside.querySelector(selector);
  return found instanceof type ? found : null;
};

/**
 * Makes an element. Attributes that are null or false are left out; functions listen to the event of their name.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | number | boolean | null | ((event: any) => unknown)>} [attributes]
 * @param {...(Node | string | null | false | undefined)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export const h = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== false && child !== undefined));
  return element;
};

/**
 * Opens a modal dialog, which leaves the document when it closes. The browser returns the focus to what had it.
 * @param {Record<string, string>} attributes @param {...(Node | string)} children
 */
export const openDialog = (attributes, ...children) => {
  const dialog = h("dialog", attributes, ...children);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
};

/** Fills each `{}` of a sentence in turn. @param {string} sentence @param {...(string | number)} values */
export const fill = (sentence, ...values) => {
  let i = 0;
  return sentence.replace(/\{\}/g, () => String(values[i++] ?? ""));
};

/**
 * The words of an element's `data-words`.
 * @param {Element | null} [element]
 * @returns {any}
 */
export const wordsOf = (element = document.body) => {
  const text = element instanceof HTMLElement ? element.dataset["words"] : undefined;
  try {
    return JSON.parse(text ?? "{}");
  } catch {
    return {};
  }
};

/** @type {any} */
export const words = wordsOf();

const { lang } = document.documentElement;
/** The page's language, in the reader's variant of it. */
export const language = navigator.languages.find((tag) => tag.split("-", 1)[0] === lang) ?? lang;
const numbers = (() => {
  try {
    return new Intl.NumberFormat(language);
  } catch {
    return new Intl.NumberFormat("en");
  }
})();
/** @param {number} value */
export const count = (value) => numbers.format(value);

/** @param {EventTarget | null} target */
export const isField = (target) =>
  target instanceof HTMLElement &&
  (target.isContentEditable || target.matches("input:not([type=checkbox]), textarea, select"));

/**
 * Asks the operator API.
 * @param {string} path below its prefix
 * @param {{ method?: string, body?: object, signal?: AbortSignal }} [options]
 * @returns {Promise<{ ok: boolean, status: number, body: any }>} status 0: no answer
 */
export const ask = async (path, { method = "GET", body, signal } = {}) => {
  try {
    const answer = await fetch(`/.pomerium/admin/api/v1${path}`, {
      method,
      headers: { accept: "application/json", ...(body === undefined ? {} : { "content-type": "application/json" }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(signal === undefined ? {} : { signal }),
    });
    const text = await answer.text();
    if (answer.status === 401) document.dispatchEvent(new CustomEvent("signed-out"));
    return { ok: answer.ok, status: answer.status, body: text === "" ? null : JSON.parse(text) };
  } catch {
    return { ok: false, status: 0, body: null };
  }
};

/** A key of this browser, or null. @param {string} key */
export const readKept = (key) => {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
};
/** @param {string} key @param {string} value */
export const keep = (key, value) => {
  try {
    localStorage.setItem(key, value);
  } catch {
    // A private window may keep nothing; the choice then lasts as long as the page.
  }
};
