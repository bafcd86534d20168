/**
 * HTML template: a tagged template that escapes every value.
 *
 * Pure. Only markup from `html` itself is inserted unescaped, so text cannot become markup by accident. The only way to
 * mark a string as safe is `styleSheet`, for our CSS. Values stand in element content or in double-quoted attributes,
 * never in a tag, a script or an unquoted attribute; a URL goes through `safeUrl` first, since escaping does not make
 * `javascript:` harmless.
 */
const made: unique symbol = Symbol("made");
/** Markup that needs no more escaping. Made only here. */
export type Html = Readonly<{ markup: string; [made]: true }>;
/** Null, undefined and false are nothing, so that `condition && html...` reads well. */
export type HtmlValue = Html | string | number | null | undefined | false | readonly HtmlValue[];

export function html(strings: TemplateStringsArray, ...values: readonly HtmlValue[]): Html {
  let markup = strings[0] ?? "";
  for (const [i, value] of values.entries()) markup += render(value) + (strings[i + 1] ?? "");
  return { markup, [made]: true };
}

/** A `<style>` element of CSS that we wrote; refuses text that could end the element. */
export function styleSheet(css: string): Html {
  if (css.includes("<")) throw new TypeError("our style sheets contain no <");
  return { markup: `<style>${css}</style>`, [made]: true };
}

function render(value: HtmlValue): string {
  if (value === null || value === undefined || value === false) return "";
  if (typeof value === "string") return escapeHtml(value);
  if (typeof value === "number") return String(value);
  if (isHtml(value)) return value.markup;
  return value.map(render).join("");
}

function isHtml(value: Html | readonly HtmlValue[]): value is Html {
  return made in value;
}

const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
  "`": "&#96;",
};

/** Also replaces what HTML cannot carry: control characters and lone surrogates. */
export function escapeHtml(text: string): string {
  return (
    text
      .toWellFormed()
      // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is replaced
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g, "\ufffd")
      .replace(/[&<>"'`]/g, (character) => entities[character] ?? "")
  );
}

/**
 * A URL that may stand in `href` or `action`: a path on the same host, or http(s) without credentials. Null for all
 * else, also for what browsers would rewrite into something else: white space, control characters, backslashes,
 * `//host`.
 */
export function safeUrl(url: string | null | undefined): string | null {
  if (url === null || url === undefined || !/^[!-[\]-~]+$/.test(url)) return null;
  if (url.startsWith("/")) return url.startsWith("//") ? null : url;
  const parsed = URL.parse(url);
  if (parsed === null || (parsed.protocol !== "https:" && parsed.protocol !== "http:")) return null;
  return parsed.username === "" && parsed.password === "" ? parsed.href : null;
}

/** As `safeUrl`, and also `mailto:` with one plain address: where people get help. */
export function safeContactUrl(url: string | null | undefined): string | null {
  if (url !== null && url !== undefined && /^mailto:[A-Za-z0-9._%+-]{1,100}@[A-Za-z0-9.-]{1,200}$/.test(url))
    return url;
  return safeUrl(url);
}
