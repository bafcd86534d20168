// @ts-check
/** Changes: says when there are newer ones. The list itself is the server's. */
import { ask, count, fill, find, h, wordsOf } from "./dom.js";

const newer = find("#newer", HTMLElement);
let isAsking = false;
let head = Number(newer?.dataset["head"] ?? 0);
let found = 0;

/** @param {number} applied */
const look = async (applied) => {
  if (newer === null || isAsking || applied <= head) return;
  isAsking = true;
  const query = new URLSearchParams(newer.dataset["query"]);
  query.set("after", String(head));
  query.set("limit", "100");
  const { ok, body } = await ask(`/changes?${query}`);
  isAsking = false;
  if (!ok) return;
  head = body.head;
  found += body.changes.filter((/** @type {any} */ row) => row.folded === undefined).length;
  if (found === 0) return;
  const said = wordsOf(newer);
  newer.replaceChildren(
    h(
      "p",
      { class: "notice" },
      h("a", { href: location.href }, found === 1 ? said.newerOne : fill(said.newer, count(found))),
    ),
  );
};
document.addEventListener("alive", (event) => {
  if (event instanceof CustomEvent && typeof event.detail?.position === "number") void look(event.detail.position);
});
