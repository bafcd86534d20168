/** Local config: the configuration that a command reads for itself, on the machine that it is of. */
import { type Config, loadConfig } from "../../config/index.ts";
import type { Parsed } from "../terminal/arguments.ts";
import { CannotError, type Terminal, UsageError } from "../terminal/command.ts";

/** Made on the spot where a file leaves them out: `cardea dev` has them so, and who only reads needs no others. */
export const generatedSecrets = ["shared_secret", "cookie_secret", "idp_client_secret"] as const;

/** @throws CannotError when it is not valid */
export function readLocalConfig(path: string, terminal: Pick<Terminal, "env">, dataDir?: string): Config {
  const loaded = loadConfig(path, {
    env: terminal.env,
    generate: generatedSecrets,
    ...(dataDir === undefined ? {} : { dataDir }),
  });
  if (!loaded.ok) throw new CannotError(`${path} is not valid; see cardea check -c ${path}`);
  return loaded.config;
}

/** As the options `--config` and `--data-dir` say. @throws UsageError, CannotError */
export function localConfigOf(parsed: Parsed, terminal: Pick<Terminal, "env">): Config {
  const path = parsed.text("config");
  if (path === undefined) throw new UsageError("name the configuration with -c (for cardea dev: -c cardea.dev.yaml)");
  return readLocalConfig(path, terminal, parsed.text("data-dir"));
}
