/** History: events by day, and the differences of two texts. Pure. */
import { type Html, type HtmlValue, html } from "../../pages/html.ts";

export type TimelineEntry = Readonly<{
  id: string;
  /** Time of day, as `timeValue` gives it. */
  time: HtmlValue;
  sentence: HtmlValue;
  /** Position, receipt, a button. */
  aside?: HtmlValue;
  href?: string;
  /** A line across the timeline: a new epoch. */
  divider?: true;
}>;

export function timelineOf(days: readonly Readonly<{ day: string; entries: readonly TimelineEntry[] }>[]): Html {
  return html`<div class="timeline" data-timeline>${days.map(
    ({ day, entries }) =>
      html`<section><h2>${day}</h2><ol>${entries.map(
        ({ id, time, sentence, aside, href, divider }) =>
          html`<li data-id="${id}"${divider === true && html` class="divider"`}><span class="when">${time}</span><span class="what">${
            href === undefined ? sentence : html`<a href="${href}">${sentence}</a>`
          }</span><span class="aside">${aside}</span></li>`,
      )}</ol></section>`,
  )}</div>`;
}

export type DiffLine = Readonly<{ kind: "same" | "added" | "removed"; text: string }>;

/** Lines with signs, so that no colour is needed to read them. */
export function diffLines(lines: readonly DiffLine[], label: string): Html {
  const sign = { same: " ", added: "+", removed: "−" } as const;
  return html`<pre class="diff" tabindex="0" role="group" aria-label="${label}">${lines.map(({ kind, text }) => {
    const line = html`<span class="sign" aria-hidden="true">${sign[kind]}</span>${text}
`;
    return kind === "added"
      ? html`<ins>${line}</ins>`
      : kind === "removed"
        ? html`<del>${line}</del>`
        : html`<span>${line}</span>`;
  })}</pre>`;
}
