// @ts-check
/**
 * Script of the routes portal: search while typing, favourites in this browser, tiles or list, and keys. Without it the
 * search is a form, and everything but the favourites works.
 */

/**
 * A route as the list for programs gives it.
 * @typedef {{ id: string, name: string, description: string, from: string, logo_url: string, kind: string,
 *   url: string | null, command: string | null, owner?: string, picture?: string | null }} Route
 */
const pinsKey = "cardea.portal.pins";
const viewKey = "cardea.portal.view";
const pinsMax = 50;
const listPath = "/.pomerium/api/v1/routes";
const typingMs = 200;

/**
 * @template {Element} Found
 * @param {string} selector
 * @param {new () => Found} type
 * @returns {Found}
 */
const required = (selector, type) => {
  const found = document.querySelector(selector);
  if (!(found instanceof type)) throw new TypeError(`the page has no ${selector}`);
  return found;
};
const main = required("main", HTMLElement);
const search = required("input[type=search]", HTMLInputElement);
const results = required("#results", HTMLElement);
const pinned = required("#pinned", HTMLElement);
const status = required("#status", HTMLElement);
const template = required("#tile", HTMLTemplateElement);
const isComplete = results.dataset["complete"] === "true";

/** @returns {string[]} */
const readPins = () => {
  try {
    const kept = JSON.parse(localStorage.getItem(pinsKey) ?? "[]");
    return Array.isArray(kept) ? kept.filter((id) => typeof id === "string").slice(0, pinsMax) : [];
  } catch {
    return [];
  }
};
/** @param {string} key @param {string} value */
const keep = (key, value) => {
  try {
    localStorage.setItem(key, value);
  } catch {
    // A private window may keep nothing; the choice then lasts as long as the page.
  }
};
let pins = readPins();

/** @param {Element} from @param {string} part @returns {HTMLElement} */
const partOf = (from, part) => {
  const found = from.querySelector(`[data-part="${part}"]`);
  if (!(found instanceof HTMLElement)) throw new TypeError(`a tile has no ${part}`);
  return found;
};

/** Only addresses that a person would open. @param {string | null} url */
const safeAddress = (url) => (url !== null && /^https?:\/\//i.test(url) ? url : null);

/** @param {Route} route @returns {HTMLElement} */
const tileOf = (route) => {
  const copy = template.content.firstElementChild?.cloneNode(true);
  if (!(copy instanceof HTMLElement)) throw new TypeError("the template has no tile");
  copy.dataset["id"] = route.id;
  const link = partOf(copy, "name");
  const url = safeAddress(route.url);
  link.textContent = route.name;
  if (link instanceof HTMLAnchorElement && url !== null) link.href = url;
  partOf(copy, "address").textContent = url === null ? route.from.replace(/^\w+\+https?:\/\//, "") : new URL(url).host;
  partOf(copy, "description").textContent = route.description;
  const owner = partOf(copy, "owner");
  if (route.owner === undefined) owner.remove();
  else owner.textContent = (owner.dataset["words"] ?? "").replace("{}", () => route.owner ?? "");
  const logo = copy.querySelector(".logo");
  const picture = route.picture ?? "";
  if (/^(?:data:image\/|\/\.pomerium\/assets\/)/.test(picture)) {
    const image = document.createElement("img");
    image.alt = "";
    image.src = picture;
    logo?.replaceChildren(image);
  } else if (logo !== null) logo.textContent = ([...route.name.trim()][0] ?? "?").toUpperCase();
  const run = partOf(copy, "run");
  if (route.command === null) run.remove();
  else {
    const code = run.querySelector("code");
    const button = run.querySelector("button");
    if (code !== null) code.textContent = route.command;
    if (button !== null) button.dataset["copy"] = route.command;
  }
  enable(copy);
  return copy;
};

/** Only the template has the button; one in each tile would double the page. @param {Element} tile */
const addPin = (tile) => {
  if (tile.closest('[data-part="refused"]') !== null) return null;
  const pin = template.content.querySelector("button.pin")?.cloneNode(true);
  if (!(pin instanceof HTMLButtonElement)) return null;
  tile.append(pin);
  return pin;
};

/** @param {Element} tile */
const enable = (tile) => {
  const id = tile instanceof HTMLElement ? (tile.dataset["id"] ?? "") : "";
  const pin = tile.querySelector("button.pin") ?? addPin(tile);
  if (pin instanceof HTMLButtonElement) {
    pin.hidden = false;
    pin.setAttribute("aria-pressed", String(pins.includes(id)));
    pin.addEventListener("click", () => togglePin(id, pin));
  }
  const copy = tile.querySelector("button.copy");
  if (copy instanceof HTMLButtonElement) document.dispatchEvent(new CustomEvent("copyable", { detail: copy }));
};

/** @param {string} id @param {HTMLButtonElement} button */
const togglePin = (id, button) => {
  const isPinned = pins.includes(id);
  pins = isPinned ? pins.filter((other) => other !== id) : [...pins, id].slice(-pinsMax);
  keep(pinsKey, JSON.stringify(pins));
  const inPinned = pinned.contains(button);
  for (const pin of document.querySelectorAll(`[data-id="${CSS.escape(id)}"] button.pin`))
    pin.setAttribute("aria-pressed", String(!isPinned));
  void showPins().then(() => {
    // The button may have left with its tile.
    if (inPinned && isPinned) search.focus();
  });
};

/** @param {URLSearchParams} query @returns {Promise<{ routes: Route[], next: string | null } | null>} */
const ask = async (query) => {
  try {
    const answer = await fetch(`${listPath}?${query}`, { headers: { accept: "application/json" } });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
};

const showPins = async () => {
  const list = pinned.querySelector("ul");
  if (list === null) return;
  /** @type {Map<string, Element>} */
  const known = new Map();
  for (const tile of document.querySelectorAll("#results li[data-id], #pinned li[data-id]"))
    if (tile instanceof HTMLElement) known.set(tile.dataset["id"] ?? "", tile);
  const missing = pins.filter((id) => !known.has(id));
  if (missing.length > 0) {
    const found = await ask(new URLSearchParams([...missing.map((id) => ["id", id]), ["limit", String(pinsMax)]]));
    for (const route of found?.routes ?? []) known.set(route.id, tileOf(route));
  }
  const tiles = pins.flatMap((id) => {
    const tile = known.get(id);
    if (tile === undefined) return [];
    if (!results.contains(tile)) return [tile];
    const copy = tile.cloneNode(true);
    if (!(copy instanceof HTMLElement)) return [];
    copy.hidden = false;
    enable(copy);
    return [copy];
  });
  list.replaceChildren(...tiles);
  pinned.hidden = tiles.length === 0 || search.value.trim() !== "";
};

/** @param {number} shown */
const announce = (shown) => {
  status.textContent =
    (shown === 1 ? status.dataset["one"] : status.dataset["many"])?.replace("{}", String(shown)) ?? "";
  const empty = required("#empty", HTMLElement);
  empty.hidden = shown > 0;
  const sentence = partOf(empty, "sentence");
  if (search.value.trim() !== "") sentence.textContent = sentence.dataset["words"] ?? "";
};

const filterHere = () => {
  const words = search.value
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== "");
  let shown = 0;
  for (const tile of results.querySelectorAll("li[data-id]")) {
    const text = tile instanceof HTMLElement ? (tile.textContent ?? "").toLowerCase() : "";
    const fits = words.every((word) => text.includes(word));
    if (tile instanceof HTMLElement) tile.hidden = !fits;
    if (fits) shown++;
  }
  for (const section of results.querySelectorAll("section"))
    section.hidden = section.querySelector("li[data-id]:not([hidden])") === null;
  announce(shown);
};

let asked = 0;
const searchThere = async () => {
  const mine = ++asked;
  const found = await ask(new URLSearchParams({ q: search.value, limit: "40" }));
  if (mine !== asked || found === null) return;
  const list = document.createElement("ul");
  list.className = "apps";
  list.append(...found.routes.map(tileOf));
  results.replaceChildren(list);
  const pager = document.getElementById("pager");
  if (pager !== null) pager.hidden = true;
  announce(found.routes.length);
};

let typing = 0;
search.addEventListener("input", () => {
  clearTimeout(typing);
  pinned.hidden = search.value.trim() !== "" || pinned.querySelector("li") === null;
  if (isComplete) filterHere();
  else typing = setTimeout(() => void searchThere(), typingMs);
});

/** @param {string} view */
const showView = (view) => {
  main.classList.toggle("list", view === "list");
  for (const link of document.querySelectorAll("a[data-view]"))
    if (link instanceof HTMLElement) link.hidden = link.dataset["view"] === view;
};
for (const link of document.querySelectorAll("a[data-view]"))
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const view = link instanceof HTMLElement ? (link.dataset["view"] ?? "tiles") : "tiles";
    keep(viewKey, view);
    showView(view);
    const other = document.querySelector("a[data-view]:not([hidden])");
    if (other instanceof HTMLElement) other.focus();
  });
if (!new URLSearchParams(location.search).has("view")) {
  let kept = "tiles";
  try {
    kept = localStorage.getItem(viewKey) ?? "tiles";
  } catch {
    // As above.
  }
  showView(kept);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const inField = event.target instanceof HTMLInputElement;
  if (event.key === "/" && !inField) {
    event.preventDefault();
    search.focus();
    search.select();
    return;
  }
  if (event.key === "Escape" && inField && search.value !== "") {
    search.value = "";
    search.dispatchEvent(new Event("input"));
    return;
  }
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const links = [...document.querySelectorAll(".apps b a[href]")].filter(
    (link) => link instanceof HTMLElement && link.offsetParent !== null,
  );
  const here = document.activeElement === null ? -1 : links.indexOf(document.activeElement);
  if (here === -1 && (!inField || event.key === "ArrowUp")) return;
  const next = links[here + (event.key === "ArrowDown" ? 1 : -1)] ?? (event.key === "ArrowUp" ? search : undefined);
  if (!(next instanceof HTMLElement)) return;
  event.preventDefault();
  next.focus();
});

for (const tile of results.querySelectorAll("li[data-id]")) enable(tile);
void showPins();

export {};
