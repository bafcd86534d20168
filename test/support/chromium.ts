/** Chromium: finds the browser that the end-to-end tests drive through playwright-core. */
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";

const commands = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const applications = [
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

/** @returns the path of the browser: CARDEA_CHROMIUM, or the first one found */
export function findChromium(): string | undefined {
  const chosen = process.env["CARDEA_CHROMIUM"];
  if (chosen !== undefined) return chosen;
  const inPath = (process.env["PATH"] ?? "")
    .split(delimiter)
    .flatMap((folder) => commands.map((command) => join(folder, command)));
  return [...inPath, ...applications].find((path) => existsSync(path));
}
