/** Provider choice page: one link for each identity provider that a route allows. Pure. */
import type { Page } from "../../auth/index.ts";
import { html, safeUrl } from "./html.ts";
import { isolateText, renderLayout } from "./layout.ts";

type ChooseProviderPage = Extract<Page, { type: "choose-provider" }>;

const css = `
.choices { list-style: none; margin: 1.25rem 0 0; padding: 0; display: grid; gap: .625rem; }
.choices li { margin: 0; }
.choices .button { width: 100%; justify-content: space-between; gap: .75rem; text-align: start; overflow-wrap: anywhere; min-width: 0; }
.choices .button span:last-child { color: var(--muted); flex: none; }
.choices small { display: block; font-weight: 400; color: var(--bad); }
`;

export function chooseProviderPage({ host, providers }: ChooseProviderPage): string {
  const goal =
    host === null
      ? html`<p>A program on your computer asked you to sign in.</p>`
      : html`<p>You need to sign in to open <b>${isolateText(host)}</b>.</p>`;
  const choices = providers.map(({ title, url, isDown }) => {
    const href = safeUrl(url);
    return (
      href !== null &&
      html`<li><a class="button" href="${href}"><span>${isolateText(title)}${
        isDown && html`<small>Not responding right now</small>`
      }</span><span aria-hidden="true">→</span></a></li>`
    );
  });
  return renderLayout({
    page: "choose-provider",
    title: "Choose how to sign in",
    width: "narrow",
    css,
    body: html`<h1>Choose how to sign in</h1>
${goal}
<ul class="choices">${choices}</ul>`,
  });
}
