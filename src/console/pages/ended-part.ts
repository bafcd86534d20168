/** Ended part: what the reader has just signed out of, and how far that is enforced. Pure. */
import type { EndedSessions } from "../../auth/index.ts";
import { unreachable } from "../../events/index.ts";
import type { PageText } from "../text/texts.ts";
import { type Html, type HtmlValue, html } from "./html.ts";
import { timeElement } from "./layout.ts";

export const endedCss = `
.ended { margin: 1rem 0; padding: .75rem .875rem; border-radius: 10px; background: var(--good-soft); }
.ended.waiting { background: var(--warn-soft); }
.ended p { margin: 0; } .ended p + p { margin-top: .25rem; }
.ended i { font-style: normal; margin-inline-end: .375rem; color: var(--good); } .ended.waiting i { color: var(--warn); }
`;

/** @param url of this page, which shows the state of that moment */
export function endedPart(ended: EndedSessions | null | undefined, text: PageText, url: string): HtmlValue {
  if (ended === null || ended === undefined) return null;
  const { reach } = ended;
  const isOver = reach.type === "everywhere" || reach.type === "already" || (reach.type === "region" && reach.complete);
  return html`<div class="${isOver ? "ended" : "ended waiting"}" role="status" data-ended="${reach.type}"${!isOver && html` data-again`}>
<p><i aria-hidden="true">${isOver ? "●" : "◐"}</i>${reach.type !== "already" && html`<b>${whatOf(ended, text)}</b> `}${reachOf(reach, text)}</p>${
    !isOver && html`<p><a href="${url}">${text.ended.checkAgain}</a></p>`
  }</div>`;
}

function whatOf({ what, count }: EndedSessions, { ended }: PageText): string {
  switch (what) {
    case "this":
      return ended.this;
    case "one":
      return ended.one;
    case "others":
      return ended.others(count);
    case "all":
      return ended.all(count);
    default:
      return unreachable(what);
  }
}

function reachOf(reach: EndedSessions["reach"], { ended }: PageText): Html {
  switch (reach.type) {
    case "everywhere": {
      const marker = "\u0000";
      const [before = "", after = ""] = ended.everywhere(marker).split(marker);
      return html`${before}${timeElement(reach.at)}${after}`;
    }
    case "spreading":
      return html`${ended.spreading(reach.confirmed, reach.servers, Math.ceil(reach.withinMs / 1_000))}`;
    case "region":
      return html`${reach.complete ? ended.region : ended.regionSpreading}`;
    case "already":
      return html`${ended.already}`;
    case "unknown":
      return html`${ended.unknown}`;
    default:
      return unreachable(reach);
  }
}
