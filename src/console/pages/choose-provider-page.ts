/** Provider choice page: one link for each identity provider that a route allows. Pure. */
import type { Page } from "../../auth/index.ts";
import { html, safeUrl } from "./html.ts";
import { isolateText, isolateValue, type PageFrame } from "./layout.ts";
import type { PageContext } from "./page-context.ts";

type ChooseProviderPage = Extract<Page, { type: "choose-provider" }>;

const css = `
.choices { list-style: none; margin: 1.25rem 0 0; padding: 0; display: grid; gap: .5rem; }
.choices li { margin: 0; }
.choices .button { width: 100%; justify-content: space-between; gap: .75rem; text-align: start; overflow-wrap: anywhere; min-width: 0; }
.choices .button span:last-child { color: var(--muted); flex: none; }
.choices small { display: block; font-weight: 400; color: var(--bad); }
`;

export function chooseProviderPage({ host, providers }: ChooseProviderPage, { text }: PageContext): PageFrame {
  const { pages } = text;
  const choices = providers.map(({ title, url, isDown }) => {
    const href = safeUrl(url);
    return (
      href !== null &&
      html`<li><a class="button" href="${href}"><span>${isolateText(title)}${
        isDown && html`<small>${pages.notResponding}</small>`
      }</span><span aria-hidden="true">→</span></a></li>`
    );
  });
  return {
    page: "choose-provider",
    title: pages.choose,
    width: "narrow",
    css,
    body: html`<h1>${pages.choose}</h1>
<p>${host === null ? pages.chooseForProgram : pages.chooseFor(isolateValue(host))}</p>
<ul class="choices">${choices}</ul>`,
  };
}
