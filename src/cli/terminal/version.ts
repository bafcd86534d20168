/** The program's version from package.json, three folders up from the sources and from dist alike. */
import { readFileSync } from "node:fs";

const packageJson: unknown = JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8"));

export const version: string =
  typeof packageJson === "object" && packageJson !== null && "version" in packageJson
    ? String(packageJson.version)
    : "unknown";
