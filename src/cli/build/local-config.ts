/** Local configuration: read by a command on the machine of the cluster. */
import { type Config, loadConfig } from "../../config/index.ts";
import type { Parsed } from "../terminal/arguments.ts";
import { CannotError, type Terminal, UsageError } from "../terminal/command.ts";

/** Generated if the file lacks them, as for `cardea dev`: a command that only reads needs no real ones. */
export const generatedSecrets = ["shared_secret", "cookie_secret", "idp_client_secret"] as const;

/** @throws CannotError if it is invalid */
export function readLocalConfig(path: string, terminal: Pick<Terminal, "env">, dataDir?: string): Config {
  const loaded = loadConfig(path, {
    env: terminal.env,
    generate: generatedSecrets,
    ...(dataDir === undefined ? {} : { dataDir }),
  });
  if (!loaded.ok) throw new CannotError(`${path} is not valid; see cardea check -c ${path}`);
  return loaded.config;
}

/** The configuration of `--config` and `--data-dir`. @throws UsageError, CannotError */
export function localConfigOf(parsed: Parsed, terminal: Pick<Terminal, "env">): Config {
  const path = parsed.text("config");
  if (path === undefined) throw new UsageError("name the configuration with -c (for cardea dev: -c cardea.dev.yaml)");
  return readLocalConfig(path, terminal, parsed.text("data-dir"));
}
