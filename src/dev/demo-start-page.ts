/**
 * Demo start page: three steps from a running clock to a revoked session, and where else to look.
 *
 * Pure. Every step is a link, so the page works without JavaScript; the script ticks off what has happened.
 */
import { type Html, html, renderLayout } from "../console/index.ts";
import type { DemoGuideOptions, GuideProgress, GuideTarget } from "./demo-guide.ts";

export const startPaths = { page: "/", script: "/start.js", progress: "/progress", open: "/open/" } as const;

const css = `
.head { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center; justify-content: space-between; margin-top: 1.25rem; }
.head h2 { margin: 0; } .head button { min-height: 2.25rem; padding: .25rem .75rem; font-size: .875rem; }
.steps { list-style: none; padding: 0; margin: .75rem 0 1.25rem; display: grid; gap: .75rem; }
.steps li { display: flex; flex-wrap: wrap; gap: .5rem .875rem; align-items: center; margin: 0; padding: .875rem 1rem; border: 1px solid var(--line); border-radius: 10px; }
.steps li > i { flex: none; align-self: start; width: 2.25rem; height: 2.25rem; border-radius: 50%; display: grid; place-items: center; background: var(--soft); color: var(--muted); font-style: normal; font-weight: 600; }
.steps li[data-done] > i { background: var(--good-soft); color: var(--good); }
.steps li[data-next] { border-color: var(--accent); } .steps li[data-next] > i { background: var(--accent); color: var(--on-accent); }
.steps div { flex: 1 1 16rem; min-width: 0; } .steps b { font-weight: 600; } .steps div > b { line-height: 1.3; display: block; }
.steps p { margin: .25rem 0 0; font-size: .875rem; line-height: 1.45; }
.steps [role="status"] { font-weight: 600; font-size: 1rem; color: var(--good); } .steps [role="status"]:empty { display: none; }
pre { padding: .5rem .75rem; border-radius: 6px; background: var(--soft); white-space: pre-wrap; margin: .5rem 0 0; }
`;

export function demoStartPage({ command }: DemoGuideOptions, progress: GuideProgress): string {
  return renderLayout({
    page: "demo-start",
    title: "Cardea is running",
    width: "wide",
    css,
    scriptUrl: startPaths.script,
    body: html`<h1>Cardea is running</h1>
<p class="muted">Everything in one process on this machine: the proxy, sign-in, the log, a demo app and a demo identity provider.</p>
<section aria-labelledby="guide" id="steps"><div class="head"><h2 id="guide">The first minute, in three steps</h2><button type="button" id="hide" hidden>Hide the guide</button></div>
<ol class="steps">
${stepOf(
  1,
  progress.running > 0 || progress.cutAt !== null,
  html`<div><b>Bob uses an app</b><p>It has no sign-in of its own: it shows what the proxy signed about Bob, and a clock that runs over an open connection. Leave its tab open.</p></div>${opener("app", "Open the app as Bob")}`,
)}
${stepOf(
  2,
  progress.consoleOpened,
  html`<div><b>Alice is an administrator</b><p>The console shows people, sessions and servers, and opens on Bob's page. In its tab you are Alice; in the app's tab you stay Bob.</p></div>${opener("console", "Open the console as Alice")}`,
)}
${stepOf(
  3,
  progress.cutAt !== null,
  html`<div><b>Alice revokes Bob's session</b><p>Press <b>Revoke sessions…</b> there, and watch the receipt: it has a line for each server, and this demo is one. Or run the same in a second terminal:</p>
<pre><code>${command}</code></pre>
<p role="status" id="ended" data-running="${running}" data-ended="${cutAt("{}")}">${saidOf(progress)}</p></div>`,
)}
</ol></section>
<p id="hidden" hidden><button type="button" id="show">Show the guide</button></p>
<h2>Where else to look</h2>
<ul>
<li><a href="${startPaths.open}portal" target="_blank" rel="noopener">Bob's apps</a>: the portal of everyone, with what he can open and what he can ask for.</li>
<li><a href="${startPaths.open}refused" target="_blank" rel="noopener">A refusal</a>: Bob opens an app for engineers, and a page says why not and who decides.</li>
</ul>`,
  });
}

function stepOf(number: number, done: boolean, content: Html): Html {
  return html`<li data-step="${number}"${done && html` data-done`}><i aria-hidden="true">${done ? "✓" : number}</i>${content}</li>`;
}

function opener(target: GuideTarget, label: string): Html {
  return html`<a class="button" href="${startPaths.open}${target}" target="_blank" rel="noopener">${label}</a>`;
}

const running = "Bob's clock is running.";
const cutAt = (time: string): string => `Bob's connection was cut at ${time}.`;

function saidOf(progress: GuideProgress): string {
  if (progress.running > 0) return running;
  return progress.cutAt === null ? "" : cutAt(`${new Date(progress.cutAt).toISOString().slice(11, 19)} UTC`);
}
