/**
 * Demo app page: what an application behind the proxy learns about its visitor, and a clock that shows when access
 * ends.
 *
 * Pure. Everything but the clock works without JavaScript.
 */
import {
  definitionList,
  type Html,
  type HtmlValue,
  html,
  isolateText,
  linkButton,
  renderLayout,
} from "../console/index.ts";
import { unreachable } from "../events/index.ts";
import type { AssertionVerdict } from "./demo-assertion.ts";

export type DemoAppView = Readonly<{
  host: string;
  verdict: AssertionVerdict;
  /** As received: name, value, name, value … */
  rawHeaders: readonly string[];
  jwksUrl: string;
  links: readonly Readonly<{ name: string; url: string }>[];
}>;

/** Scripts of the same host only, no plug-ins, no frames elsewhere. */
export const demoAppPolicy =
  "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'self'";

const css = `
.verdict { display: flex; gap: .875rem; padding: .875rem 1rem; border-radius: 10px; margin: 1.25rem 0 0; background: var(--soft); }
.verdict.good { background: var(--good-soft); } .verdict.bad { background: var(--bad-soft); }
.verdict svg { flex: none; width: 1.5rem; height: 1.5rem; color: var(--muted); } .verdict.good svg { color: var(--good); } .verdict.bad svg { color: var(--bad); }
.verdict p { margin: 0; } .verdict b { font-weight: 600; }
.clock + p { margin-top: .5rem; }
@media (min-width: 30.01rem) { dl { grid-template-columns: 14rem 1fr; } }
.clock { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem 1rem; padding: 1rem 1.125rem; border: 1px solid var(--line); border-radius: 10px; border-inline-start: 5px solid var(--muted); }
.clock time { font: 600 2rem/1.2 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; font-variant-numeric: tabular-nums; }
.clock p { margin: 0; flex: 1 1 16rem; }
.clock[data-clock="connected"] { border-inline-start-color: var(--good); } .clock[data-clock="closed"] { border-inline-start-color: var(--bad); }
.clock[data-clock="closed"] time { color: var(--muted); text-decoration: line-through; text-decoration-thickness: 1px; }
.clock[data-clock="closed"] p { color: var(--bad); }
.clock button, .clock .button { min-height: 2.25rem; padding: .25rem .75rem; font-size: .875rem; }
.clock [hidden] { display: none; }
`;

export function demoAppPage(view: DemoAppView): string {
  const { verdict } = view;
  const isPublic = verdict.type === "absent" || (verdict.type === "verified" && verdict.subject === null);
  return renderLayout({
    page: "demo-app",
    title: `Demo app on ${view.host}`,
    brand: "Demo app",
    aside: view.host,
    width: "wide",
    css,
    scriptUrl: "/clock.js",
    body: html`<h1>Hello, ${verdict.type === "verified" && verdict.subject !== null ? isolateText(nameOf(verdict.claims)) : "visitor"}</h1>
<p class="muted">This is an application behind the proxy. It has no sign-in of its own: it trusts what the proxy signs.</p>
${verdictBox(view)}
${isPublic ? nextSteps(view) : null}
<h2>Live connection</h2>
<div class="clock" data-clock="waiting" id="clock"><time id="time">--:--:--</time><p id="state" role="status">A WebSocket through the proxy needs JavaScript.</p><a class="button" id="reload" href="/" hidden>Reload</a><button type="button" id="again" hidden>Connect again</button></div>
<p class="muted small">${isPublic ? "It belongs to no session, so no revocation closes it." : "Revoke the session from a terminal and watch: the connection closes within milliseconds."}</p>
${claimsOf(verdict)}
<h2>Identity headers</h2>
${headerFacts(view.rawHeaders, (name) => identityHeaders.test(name))}
<details><summary>All headers as received (${view.rawHeaders.length / 2})</summary>${headerFacts(view.rawHeaders, () => true)}</details>
<h2>Links</h2>
<div class="actions">${linkButton("/.pomerium/routes", "My apps", "second")}${linkButton("/.pomerium/", "My account", "second")}${view.links.map((link) => linkButton(link.url, link.name, "second"))}${isPublic ? null : linkButton("/.pomerium/sign_out", "Sign out", "second")}</div>`,
  });
}

const tick = html`<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round" role="img" aria-label="Verified"><circle cx="12" cy="12" r="9.5"/><path d="m7.5 12.5 3 3 6-6.5"/></svg>`;
const cross = html`<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" role="img" aria-label="Refused"><circle cx="12" cy="12" r="9.5"/><path d="m8.5 8.5 7 7m0-7-7 7"/></svg>`;
const open = html`<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" role="img" aria-label="Public"><circle cx="12" cy="12" r="9.5"/><path d="M7.5 12h9"/></svg>`;

function verdictBox(view: DemoAppView): Html {
  const { verdict } = view;
  switch (verdict.type) {
    case "absent":
      return html`<div class="verdict" data-verdict="absent">${open}<p><b>No assertion: a public visitor.</b> The proxy lets everyone in here, or does not pass on identities.</p></div>`;
    case "refused":
      return html`<div class="verdict bad" data-verdict="refused">${cross}<p><b>The signature doesn't check out.</b> ${verdict.why}</p></div>`;
    case "verified":
      return verdict.subject === null
        ? html`<div class="verdict" data-verdict="public">${open}<p><b>A public visitor.</b> Cardea confirmed that no one is signed in.</p></div>`
        : html`<div class="verdict good" data-verdict="verified">${tick}<p><b>The proxy signed who you are.</b> Checked against the keys at <code>${view.jwksUrl}</code>, for this host, and not expired.</p></div>`;
    default:
      return unreachable(verdict);
  }
}

/** For a visitor without a session: how to get one, and what to try with it. */
function nextSteps({ links }: DemoAppView): Html {
  const linkTo = (name: string): HtmlValue => {
    const link = links.find((one) => one.name === name);
    return link === undefined ? name : html`<a href="${link.url}">${name}</a>`;
  };
  return html`<h2>What to do next</h2>
<ol data-part="next">
<li>Open ${linkTo("app")} and sign in as alice, bob or carol, with any password. The page then shows what the proxy signed about you.</li>
<li>Open ${linkTo("eng")}: alice is in the group eng and may use it; bob may not, and a page tells him why.</li>
<li>Leave a page open and run <code>cardea sessions revoke --user alice --wait</code> (in a checkout: <code>npm run cardea -- sessions revoke --user alice --wait</code>). Its clock stops at once.</li>
</ol>`;
}

function claimsOf(verdict: AssertionVerdict): HtmlValue {
  if (verdict.type !== "verified") return null;
  const rows = Object.entries(verdict.claims).map(
    ([name, value]) => [name, html`<code>${claimText(name, value)}</code>`] as const,
  );
  return html`<h2>Claims of the assertion</h2><div data-part="claims">${definitionList(rows)}</div>`;
}

function nameOf(claims: Readonly<Record<string, unknown>>): string {
  const names = [claims["name"], claims["email"], claims["sub"]];
  return names.find((name): name is string => typeof name === "string" && name !== "") ?? "visitor";
}

function claimText(name: string, value: unknown): string {
  const time = (name === "exp" || name === "iat" || name === "nbf") && typeof value === "number" ? value * 1000 : null;
  if (time !== null && Math.abs(time) <= 8.64e15) return `${value} (${new Date(time).toISOString()})`;
  return typeof value === "string" ? value : JSON.stringify(value);
}

const identityHeaders = /^(?:x-pomerium-|x-forwarded-|x-request-id$|x-real-ip$|x-envoy-)/i;
const shownMax = 200;

function headerFacts(raw: readonly string[], wanted: (name: string) => boolean): Html {
  const rows: (readonly [string, Html])[] = [];
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const [name = "", value = ""] = [raw[i], raw[i + 1]];
    const shown = value.length > shownMax ? `${value.slice(0, shownMax / 4)}… (${value.length} characters)` : value;
    if (wanted(name)) rows.push([name, html`<code>${shown}</code>`]);
  }
  return rows.length === 0 ? html`<p class="muted">None.</p>` : definitionList(rows);
}
