/**
 * Reloading: replaces the configuration of a running process, at SIGHUP or when its files change.
 *
 * - It reads and checks the configuration completely, as at the start. If there is an error it logs every problem, and
 *   the old configuration stays in force.
 * - A key that a running process cannot change keeps its old value, and the log names it.
 * - Reloads run one at a time. Requests during a reload cause one more reload after it.
 */
import { Counter, Gauge, type Registry } from "prom-client";
import { type Config, formatProblem, type Problem, reloadConfig } from "../../config/index.ts";
import type { Logger } from "../../replication/index.ts";
import { type FileChange, watchConfig } from "./config-watch.ts";

/** A configuration with what a reader has compiled of it. */
type WithConfig = Readonly<{ config: Config }>;

export type Reloadable<Loaded extends WithConfig> = Readonly<{
  config: () => Config;
  registry: Registry;
  /** @throws if it fails; the old configuration then stays in force */
  activate(loaded: Loaded): Promise<void>;
}>;

const checkEveryMs = 1_000;

const causes: Readonly<Record<FileChange, string>> = {
  seen: "a file may have changed since it was read",
  changed: "a file has changed",
};

/** @returns stops reloading */
export function startReloading<Loaded extends WithConfig>(
  process: Readonly<{
    on(signal: "SIGHUP", listener: () => void): unknown;
    off(signal: "SIGHUP", l: () => void): unknown;
  }>,
  parts: Readonly<{
    read: () => Readonly<{ loaded: Loaded | undefined; problems: readonly Problem[]; files: readonly string[] }>;
    files: readonly string[];
    watchesFiles: boolean;
    services: Reloadable<Loaded>;
    logger: Logger;
  }>,
): () => Promise<void> {
  const { services, logger } = parts;
  const metrics = configMetrics(services);
  let stopped = false;
  let requested = 0;
  let reloading: Promise<void> | undefined;
  const watch = watchConfig({ everyMs: checkEveryMs, onChange: (files) => reload(causes[files]) });
  if (parts.watchesFiles) watch.watch(parts.files);

  function reload(cause: string): Promise<void> {
    requested++;
    reloading ??= reloadPending(cause).finally(() => {
      reloading = undefined;
    });
    return reloading;
  }

  async function reloadPending(cause: string): Promise<void> {
    while (requested > 0 && !stopped) {
      requested = 0;
      await reloadOnce(cause).catch((error: unknown) => refuse(cause, [String(error)]));
    }
  }

  async function reloadOnce(cause: string): Promise<void> {
    const { loaded, problems, files } = parts.read();
    if (parts.watchesFiles) watch.watch(files);
    const lines = problems.map(formatProblem);
    if (loaded === undefined) {
      refuse(cause, lines);
      return;
    }
    const running = services.config();
    const { config, waiting } = reloadConfig(running, loaded.config);
    metrics.waiting(waiting.length);
    if (waiting.length > 0) logger.warn({ keys: waiting }, "some changed keys take effect only at the next start");
    if (config.hash === running.hash) {
      metrics.done("unchanged");
      const level = cause === causes.seen ? "debug" : "info"; // not requested by an operator, and nothing has changed
      logger[level]({ cause, hash: running.hash }, "the configuration has not changed");
      return;
    }
    for (const problem of lines) logger.warn({ problem }, "configuration");
    await services.activate({ ...loaded, config });
    metrics.done("activated");
    logger.info({ cause, hash: config.hash, before: running.hash }, "a new configuration is in force");
  }

  function refuse(cause: string, problems: readonly string[]): void {
    metrics.done("refused");
    logger.error({ cause, problems }, "the new configuration is refused; the old one stays in force");
  }

  const onHangUp = (): void => void reload("SIGHUP");
  process.on("SIGHUP", onHangUp);
  return async () => {
    stopped = true;
    process.off("SIGHUP", onHangUp);
    watch.stop();
    await reloading;
  };
}

function configMetrics({ config, registry }: Omit<Reloadable<never>, "activate">) {
  const registers = [registry];
  let generation = 1;
  new Gauge({
    name: "cardea_config_info",
    help: "1, with the hash of the configuration in force.",
    labelNames: ["hash"],
    registers,
    collect() {
      this.reset();
      this.set({ hash: config().hash }, 1);
    },
  });
  new Gauge({
    name: "cardea_config_generation",
    help: "How many configurations have been in force since the start.",
    registers,
    collect() {
      this.set(generation);
    },
  });
  const waiting = new Gauge({
    name: "cardea_config_keys_waiting",
    help: "Changed keys that take effect at the next start.",
    registers,
  });
  const success = new Gauge({
    name: "cardea_config_last_reload_success",
    help: "1, or 0 if the last configuration read was refused and the old one stays in force.",
    registers,
  });
  const at = new Gauge({
    name: "cardea_config_last_reload_success_timestamp_seconds",
    help: "When a configuration was last read and accepted.",
    registers,
  });
  const reloads = new Counter({
    name: "cardea_config_reloads_total",
    help: "Configurations read since the start, by result: activated, unchanged or refused.",
    labelNames: ["result"],
    registers,
  });
  for (const result of ["activated", "unchanged", "refused"]) reloads.inc({ result }, 0);
  success.set(1);
  at.setToCurrentTime();
  return {
    waiting: (count: number) => waiting.set(count),
    done(result: "activated" | "unchanged" | "refused") {
      reloads.inc({ result });
      success.set(result === "refused" ? 0 : 1);
      if (result !== "refused") at.setToCurrentTime();
      if (result === "activated") generation++;
    },
  };
}
