/** Caddy: finds the `caddy` binary on this machine. */
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";

export function findCaddy(): string | undefined {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"];
  return folders.map((folder) => join(folder, "caddy")).find((path) => existsSync(path));
}
