/** The program's version, from package.json. */
import { readFileSync } from "node:fs";
import { packageFile } from "./package-file.ts";

const packageJson: unknown = JSON.parse(readFileSync(packageFile("package.json"), "utf8"));

export const version: string =
  typeof packageJson === "object" && packageJson !== null && "version" in packageJson
    ? String(packageJson.version)
    : "unknown";
