// @ts-check
/**
 * Overview: keeps the sentence, the tiles of the nodes and the counts current. What appears or leaves is the server's to
 * draw, so a node that is new here reloads the page's content.
 */
import { count, fill, find } from "./dom.js";
import { subscribe } from "./live.js";

/** @param {Element} inside @param {string} part @param {string} text */
const setPart = (inside, part, text) => {
  const found = inside.querySelector(`[data-part="${part}"]`);
  if (found !== null && found.textContent !== text) found.textContent = text;
};

const healthWords = () => JSON.parse(find("#map", HTMLElement)?.dataset["words"] ?? "{}");

subscribe("status", (/** @type {any} */ { health, leader, nodes: tiles }) => {
  const lead = find('[data-part="health"]', HTMLElement);
  const map = find("#map", HTMLElement);
  if (lead === null || map === null) return;
  const words = healthWords();
  const pill = find(".pill", HTMLElement, lead);
  const text = pill?.lastChild ?? null;
  const values = health.values.map((/** @type {string | number} */ value) =>
    typeof value === "number" ? count(value) : value,
  );
  const sentence = fill(words.rules[health.rule], ...values);
  if (pill !== null && text !== null && text.textContent !== sentence) {
    pill.className = `pill ${health.kind}`;
    text.textContent = sentence;
  }
  if (leader !== null) setPart(map, "leader", fill(words.leader, leader.brokerId, count(leader.epoch)));
  const known = [...map.querySelectorAll("[data-node]")].filter((tile) => tile instanceof HTMLElement);
  const names = known.map((tile) => tile.dataset["node"]).sort();
  if (
    names.join() !==
    tiles
      .map((/** @type {any} */ { node }) => node)
      .sort()
      .join()
  )
    return void refresh();
  for (const tile of tiles) {
    const element = known.find(({ dataset }) => dataset["node"] === tile.node);
    if (element === undefined) continue;
    element.className = `tile ${tile.kind}`;
    const state = find(".pill", HTMLElement, element);
    if (state !== null) state.className = `pill ${tile.kind}`;
    setPart(element, "word", words[tile.kind]);
    setPart(element, "lag", tile.lag === null ? words.lagUnknown : fill(words.lag, count(tile.lag)));
    const seconds = (Math.max(0, tile.leaseMs ?? 0) / 1_000).toFixed(1);
    setPart(element, "lease", tile.leaseMs === null ? words.leaseUnknown : fill(words.lease, seconds));
    if (tile.position !== null) setPart(element, "position", count(tile.position));
    setPart(element, "version", tile.version);
    const bar = find("meter", HTMLMeterElement, element);
    if (bar !== null && tile.leaseMs !== null) bar.value = Math.max(0, tile.leaseMs);
  }
});

subscribe("counts", (/** @type {Record<string, number | null>} */ counts) => {
  for (const [name, value] of Object.entries(counts)) {
    const figure = find(`[data-count="${name}"]`, HTMLElement);
    if (figure !== null && value !== null) figure.textContent = count(value);
  }
});

let isRefreshing = false;
const refresh = async () => {
  if (isRefreshing) return;
  isRefreshing = true;
  setTimeout(() => location.reload(), 1_000);
};
