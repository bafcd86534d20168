/**
 * Demo pages: the pages of the demo identity provider, with plain forms that work without JavaScript. Pure.
 */
import type { RenderedPage } from "../auth/index.ts";
import { html, isolateText, renderPlainPage, safeUrl } from "../console/index.ts";
import type { DemoUser } from "./demo-users.ts";

const brand = "Demo identity provider";
const css = `
form + form, form + p { margin-top: 1.5rem; }
label { display: block; font-weight: 550; margin: .875rem 0 .25rem; }
input { width: 100%; min-height: 2.75rem; padding: .5rem .75rem; border: 1px solid var(--line); border-radius: 9px; background: var(--card); color: inherit; font: inherit; }
input + p { margin: .375rem 0 0; }
input[aria-invalid] { border-color: var(--bad); }
form > button.first { width: 100%; margin-top: 1rem; }
.people { display: grid; gap: .5rem; margin-top: 1.25rem; }
.people button { justify-content: flex-start; gap: .75rem; text-align: start; padding: .5rem .875rem; line-height: 1.3; }
.people button small { display: block; font-weight: 400; color: var(--muted); font-size: .8125rem; }
.people i { flex: none; width: 2rem; height: 2rem; border-radius: 50%; display: grid; place-items: center; background: var(--soft); font-style: normal; font-weight: 650; color: var(--accent); }
.or { display: flex; align-items: center; gap: .75rem; color: var(--muted); font-size: .875rem; margin: 1.25rem 0 0; }
.or::before, .or::after { content: ""; flex: 1; border-top: 1px solid var(--line); }
.alert { padding: .625rem .875rem; border-radius: 9px; background: var(--bad-soft); color: var(--bad); }
button.plain { border-color: transparent; background: none; color: var(--muted); width: 100%; font-weight: 450; }
`;

export type SignInForm = Readonly<{
  /** Where the forms are posted to: a path of the provider. */
  action: string;
  clientName: string;
  users: readonly DemoUser[];
  /** The user already signed in at the provider in this browser; null: none. */
  current: string | null;
  /** The entered name of an unknown user; null: none. */
  unknown: string | null;
  /** Filled in for the person: `login_hint`. */
  hint: string;
}>;

export function signInPage(question: SignInForm): RenderedPage {
  const { action, unknown } = question;
  return renderPlainPage({
    page: "demo-sign-in",
    title: "Sign in",
    brand,
    width: "narrow",
    css,
    body: html`<h1>Sign in</h1>
<p class="muted">to continue to ${isolateText(question.clientName)}</p>
${unknown !== null && html`<p class="alert" role="alert" id="problem">No account named “${isolateText(unknown)}”.</p>`}
<form method="post" action="${safeUrl(action)}" class="people">
${question.users.map(
  (user) =>
    html`<button type="submit" name="user" value="${user.user}"><i aria-hidden="true">${user.user.slice(0, 1).toUpperCase()}</i><span>Sign in as ${user.user}<small>${
      user.groups.length === 0 ? "no groups" : user.groups.join(", ")
    }${user.user === question.current && " · signed in here now"}</small></span></button>`,
)}
</form>
<p class="or">or</p>
<form method="post" action="${safeUrl(action)}">
<label for="user">User name</label>
<input id="user" name="user" required autocomplete="username" autocapitalize="none" spellcheck="false" maxlength="100" value="${unknown ?? question.hint}"${
      unknown !== null && html` aria-invalid="true" aria-describedby="problem"`
    }>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" maxlength="200" aria-describedby="any">
<p class="muted small" id="any">Any password works: this provider is only for trying things out.</p>
<button class="first" type="submit">Sign in</button>
</form>
<form method="post" action="${safeUrl(action)}"><button class="plain" type="submit" name="cancel" value="yes">Cancel</button></form>`,
  });
}

/** Shown only if the application did not prove which session it means (RP-Initiated Logout 1.0 §2). */
export function providerSignOutPage(question: Readonly<{ action: string; xsrf: string; user: string }>): RenderedPage {
  return renderPlainPage({
    page: "demo-sign-out",
    title: "Sign out?",
    brand,
    width: "narrow",
    css,
    body: html`<h1>Sign out of the demo provider too?</h1>
<p>You are signed in at the demo identity provider as ${isolateText(question.user)}.</p>
<form method="post" action="${safeUrl(question.action)}"><input type="hidden" name="xsrf" value="${question.xsrf}"><div class="actions"><button class="first" type="submit" name="logout" value="yes">Sign out</button><button type="submit">Stay signed in</button></div></form>`,
  });
}

/** A page with a message and no form. */
export function providerNotePage(note: Readonly<{ title: string; text: string; code?: string }>): RenderedPage {
  return renderPlainPage({
    page: "demo-note",
    title: note.title,
    brand,
    width: "narrow",
    css,
    body: html`<h1>${note.title}</h1><p>${note.text}</p>${note.code !== undefined && html`<p class="muted small"><code>${note.code}</code></p>`}`,
  });
}
