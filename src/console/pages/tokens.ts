/**
 * Tokens: the one style sheet of the pages, with the colours as custom properties.
 *
 * - Pure. Light and dark, forced colours, reduced motion, and no horizontal scroll at 320 px.
 * - `line` is decoration only; what a person operates has the border colour `field` (WCAG 2.2, 1.4.11).
 * - test/config/branding.test.ts holds the surfaces equal to those against which colours are checked.
 */
import { type BrandingConfig, textOn } from "../../config/index.ts";

/** Each colour in light and dark; one value: it is the same, or follows from another. */
const tokens: Readonly<Record<string, readonly [light: string, dark?: string]>> = {
  ground: ["#f4f3ee", "#131412"],
  card: ["#fffefb", "#1c1e1b"],
  soft: ["#f0eee7", "#252823"],
  line: ["#dedbd1", "#353832"],
  ink: ["#1d1c19", "#ecebe5"],
  muted: ["#65615a", "#a5a298"],
  field: ["#8b867a", "#74786f"],
  accent: ["#14594b", "#7cd0b8"],
  "on-accent": ["#fff", "#0e1f1a"],
  second: ["var(--accent)"],
  "on-second": ["var(--on-accent)"],
  focus: ["#1f6fd6", "#7db4ff"],
  good: ["#1c6b45", "#86d8a9"],
  "good-soft": ["#e5f3ea", "#1a3125"],
  warn: ["#7a5200", "#e8bf6a"],
  "warn-soft": ["#fbf0d9", "#352a14"],
  bad: ["#a02c17", "#ff9c86"],
  "bad-soft": ["#fbeae6", "#3a201b"],
  info: ["#23588f", "#93c1f2"],
  "info-soft": ["#e6eff8", "#1a2a3c"],
};

const entries = Object.entries(tokens);
const day = entries.map(([name, [light]]) => `--${name}: ${light};`).join(" ");
const night = entries.flatMap(([name, [, dark]]) => (dark === undefined ? [] : [`--${name}: ${dark};`])).join(" ");

export const baseSheet = `
:root { color-scheme: light dark; ${day} }
@media (prefers-color-scheme: dark) { :root { ${night} } }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { margin: 0; min-height: 100vh; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  display: flex; flex-direction: column; align-items: center; padding: clamp(1rem, 7vh, 5rem) 1rem 2rem; }
main { width: 100%; max-width: 37rem; background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: clamp(1.25rem, 5vw, 2.25rem); }
main.wide { max-width: 50rem; }
main.narrow { max-width: 25rem; }
.brand { display: flex; align-items: center; gap: .5rem; margin: 0 0 1.5rem; max-width: none; color: var(--muted); font-size: .875rem; font-weight: 600; overflow-wrap: anywhere; }
.brand svg { width: 1.375rem; height: 1.375rem; color: var(--second); flex: none; }
.brand img { max-width: 8rem; height: 1.75rem; object-fit: contain; flex: none; }
.brand span:last-child { margin-inline-start: auto; font-weight: 550; font-variant-numeric: tabular-nums; }
h1 { font-size: 1.375rem; line-height: 1.4; font-weight: 600; margin: 0 0 .5rem; text-wrap: balance; overflow-wrap: anywhere; }
h2 { font-size: .875rem; line-height: 1.43; font-weight: 600; color: var(--muted); margin: 1.5rem 0 .375rem; }
p { margin: 0 0 .75rem; text-wrap: pretty; max-width: 72ch; overflow-wrap: anywhere; }
ul { margin: 0 0 .75rem; padding-inline-start: 1.2rem; } li { margin: .25rem 0; overflow-wrap: anywhere; } li::marker { color: var(--muted); }
a { color: var(--accent); text-underline-offset: .15em; }
code, kbd, pre { font: .8125rem/1.54 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; overflow-wrap: anywhere; }
.muted { color: var(--muted); } .small { font-size: .875rem; }
.who { display: flex; flex-wrap: wrap; gap: .75rem; align-items: center; margin: 1.25rem 0; padding: .75rem .875rem; background: var(--soft); border-radius: 10px; overflow-wrap: anywhere; }
.who i { flex: none; width: 2.25rem; height: 2.25rem; border-radius: 50%; display: grid; place-items: center; background: var(--second); color: var(--on-second); font-style: normal; font-weight: 600; }
.who > div { flex: 1 1 10rem; min-width: 0; } .who b { display: block; line-height: 1.3; font-weight: 600; } .who small { display: block; color: var(--muted); font-size: .875rem; line-height: 1.3; }
.actions { display: flex; flex-wrap: wrap; gap: .5rem; margin: 1.25rem 0 0; }
.button, button { display: inline-flex; align-items: center; justify-content: center; min-height: 2.75rem; padding: .5rem 1rem; border: 1px solid var(--field); border-radius: 6px;
  background: var(--card); color: var(--ink); font: inherit; font-weight: 550; text-decoration: none; cursor: pointer; transition: border-color .12s ease-out; }
.button:hover, button:hover { border-color: var(--ink); }
.button.first, button.first { background: var(--accent); border-color: var(--accent); color: var(--on-accent); }
.button.first:hover, button.first:hover { text-decoration: underline; }
button.copy { min-height: 1.75rem; padding: .125rem .5rem; font-size: .8125rem; margin-inline-start: .375rem; vertical-align: middle; }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; }
.tag { display: inline-block; padding: .0625rem .55rem; margin: 0 .25rem .3rem 0; border-radius: 99px; background: var(--soft); font-size: .875rem; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: 8.5rem 1fr; gap: .25rem 1rem; margin: 0; font-size: .875rem; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
.facts { margin-top: 1.5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
.facts code { user-select: all; } .facts dl { align-items: baseline; }
details { margin-top: 1rem; font-size: .875rem; } summary { cursor: pointer; color: var(--muted); min-height: 1.5rem; } details dl { margin-top: .5rem; }
.quiet { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@media (pointer: coarse) { button.copy { min-height: 2.75rem; padding-inline: .875rem; } summary { min-height: 2.75rem; padding-block: .625rem; } }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } .actions > * { flex: 1 1 100%; } }
@media (prefers-reduced-motion: reduce) { * { transition: none !important; animation: none !important; } }
@media (forced-colors: active) { .button, button { border-color: ButtonText; } .button.first, button.first { forced-color-adjust: none; background: Highlight; color: HighlightText; border-color: Highlight; }
  .who i { border: 1px solid CanvasText; } .tag { border: 1px solid CanvasText; } }
`;

/**
 * The colours of the console, with those of the configuration. The reader's choice of light or dark is an attribute of
 * the document, so that it holds from the first paint on.
 */
export function themeSheet({ light, dark }: Pick<BrandingConfig, "light" | "dark">): string {
  const own: Record<string, readonly [light: string, dark?: string]> = { ...tokens };
  const usual = (name: string): readonly [light: string, dark: string] => {
    const [first = "", second = first] = tokens[name] ?? [];
    return [first, second];
  };
  const set = (name: string, onName: string, key: "primary" | "secondary"): void => {
    const [color, on] = [usual(name), usual(onName)];
    const [atDay, atNight] = [light[key], dark[key]];
    own[name] = [atDay ?? color[0], atNight ?? color[1]];
    own[onName] = [atDay === null ? on[0] : textOn(atDay), atNight === null ? on[1] : textOn(atNight)];
  };
  if (light.primary !== null || dark.primary !== null) set("accent", "on-accent", "primary");
  if (light.secondary !== null || dark.secondary !== null) set("second", "on-second", "secondary");
  const properties = Object.entries(own).map(([name, [first, second]]) =>
    second === undefined || second === first ? `--${name}:${first}` : `--${name}:light-dark(${first},${second})`,
  );
  return `:root{color-scheme:light dark;${properties.join(";")}}[data-theme=light]{color-scheme:light}[data-theme=dark]{color-scheme:dark}[hidden]{display:none!important}@media (prefers-reduced-motion:reduce){*{transition:none!important;animation:none!important}}\n`;
}

/** The custom properties that a configuration sets; empty: none. The colours have been checked (src/config). */
export function brandSheet({ light, dark }: Pick<BrandingConfig, "light" | "dark">): string {
  const [atDay, atNight] = [propertiesOf(light), propertiesOf(dark)];
  return `${atDay === "" ? "" : `:root { ${atDay} }\n`}${atNight === "" ? "" : `@media (prefers-color-scheme: dark) { :root { ${atNight} } }\n`}`;
}

function propertiesOf({ primary, secondary }: BrandingConfig["light"]): string {
  const accent = primary === null ? "" : `--accent: ${primary}; --on-accent: ${textOn(primary)};`;
  const second = secondary === null ? "" : `--second: ${secondary}; --on-second: ${textOn(secondary)};`;
  return [accent, second].filter((part) => part !== "").join(" ");
}
