/**
 * Colours: contrast of a colour on the surfaces of the pages, and the nearest colour that has enough (WCAG 2.2, 1.4.3).
 * Pure.
 */

/** The surfaces that text of the accent colour stands on (src/console/pages/tokens.ts). */
export const surfaces = {
  light: ["#fffefb", "#f4f3ee", "#f0eee7"],
  dark: ["#1c1e1b", "#131412", "#252823"],
} as const;
export const contrastMin = 4.5;

type Rgb = readonly [red: number, green: number, blue: number];

/** The lowest contrast of a colour on these surfaces, from 1 to 21. */
export function contrastOn(colour: string, on: readonly string[]): number {
  return Math.min(...on.map((surface) => contrast(luminance(rgbOf(colour)), luminance(rgbOf(surface)))));
}

/** The colour itself if its contrast is enough, else the nearest shade towards black or white that has it. */
export function nearestReadable(colour: string, theme: keyof typeof surfaces): string {
  const target = theme === "light" ? 0 : 255;
  const from = rgbOf(colour);
  for (let step = 0; step <= 100; step++) {
    const shade = hexOf(from.map((part) => Math.round(part + ((target - part) * step) / 100)));
    if (contrastOn(shade, surfaces[theme]) >= contrastMin) return shade;
  }
  return theme === "light" ? "#000000" : "#ffffff";
}

/** The more readable of white and near-black on this colour. */
export function textOn(colour: string): string {
  const background = luminance(rgbOf(colour));
  return contrast(background, 1) >= contrast(background, luminance(rgbOf("#0e1f1a"))) ? "#ffffff" : "#0e1f1a";
}

function contrast(a: number, b: number): number {
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}

function luminance(rgb: Rgb): number {
  const [red = 0, green = 0, blue = 0] = rgb.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** @param colour `#rgb` or `#rrggbb` */
function rgbOf(colour: string): Rgb {
  const digits = colour.slice(1);
  const long = digits.length === 3 ? [...digits].map((digit) => digit + digit).join("") : digits;
  const part = (at: number): number => Number.parseInt(long.slice(at, at + 2), 16);
  return [part(0), part(2), part(4)];
}

function hexOf(parts: readonly number[]): string {
  return `#${parts.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}
