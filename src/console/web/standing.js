// @ts-check
/**
 * Standing: a bar above every page while its node is behind the log, or cannot confirm what it shows. Meanwhile of the
 * latter no change can be made.
 */
import { count, fill, find, h, words } from "./dom.js";
import { timeOfDay } from "./time.js";

const id = "standing";

/** @param {string | null} text */
const showBar = (text) => {
  const bar = find(`#${id}`, HTMLElement);
  if (text === null) return bar?.remove();
  if (bar === null)
    find("#notices", HTMLElement)?.append(h("p", { id, class: "notice stale", "data-stale": true }, text));
  else if (bar.textContent !== text) bar.textContent = text;
};

export const mayChange = () => document.body.dataset["standing"] !== "unconfirmed";

/** The bar gives the reason, so disabled buttons can stay in the tab order. */
const markButtons = () => {
  for (const button of document.querySelectorAll("button[data-act]")) {
    if (mayChange()) {
      button.removeAttribute("aria-disabled");
      button.removeAttribute("aria-describedby");
    } else {
      button.setAttribute("aria-disabled", "true");
      button.setAttribute("aria-describedby", id);
    }
  }
};

/** @param {{ type: string, events?: number, seenAt?: string }} standing as `alive` has it */
export const showStanding = ({ type, events = 0, seenAt = "" }) => {
  document.body.dataset["standing"] = type;
  if (type === "unconfirmed") showBar(String(words.unconfirmed));
  else if (type === "behind")
    showBar(fill(events === 1 ? words.behindOne : words.behind, timeOfDay(new Date(seenAt)), count(events)));
  else showBar(null);
  markButtons();
};

// What the server drew, with the reader's own time.
const { standing = "current", events, seenAt } = document.body.dataset;
showStanding({ type: standing, events: Number(events), ...(seenAt === undefined ? {} : { seenAt }) });
