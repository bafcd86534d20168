/** `cardea run`: runs the services that a configuration names until SIGTERM or SIGINT. */
import type { Logger as PinoLogger } from "pino";
import {
  type ConfigurationResult,
  configPathOf,
  type LoadedConfig,
  loadOrReport,
  readConfiguration,
} from "../build/load.ts";
import type { Services } from "../build/services.ts";
import { problemOfGcSetting } from "../process/gc/gc-threads.ts";
import { tuneHeap } from "../process/gc/heap-tuning.ts";
import { createLogger, openStandardOutput } from "../process/logger.ts";
import { startReloading } from "../process/reloading.ts";
import { untilStopped } from "../process/until-stopped.ts";
import { type Share, shareOf } from "../process/worker-shares.ts";
import { disconnectWorker, newShare, reportHealthPort, startWorkers, workerShareOf } from "../process/workers.ts";
import { parse } from "../terminal/arguments.ts";
import { type CliCommand, UsageError } from "../terminal/command.ts";
import type { Output } from "../terminal/output.ts";

/** authenticate, authorize, databroker and proxy */
const servicesCount = 4;

export const run: CliCommand = {
  name: "run",
  usage: "[-c cardea.yaml]",
  summary: "run the services that a configuration names",
  help: "services is all, or a list of authenticate, authorize, databroker, proxy. Without -c the configuration comes from environment variables, as\nin Pomerium. SIGTERM drains and stops. SIGHUP, or a change to the file or a file that it names, reloads the configuration; an invalid one is\nrefused, and the old one stays in force. Exit 1: the configuration is invalid.",
  async run(args, terminal) {
    const parsed = parse(
      args,
      { config: { type: "string", short: "c" }, "data-dir": { type: "string" } },
      { min: 0, max: 1 },
    );
    const path = configPathOf(parsed, terminal);
    const dataDir = parsed.text("data-dir");
    const options = dataDir === undefined ? {} : { dataDir };
    const wrong = problemOfGcSetting(terminal.env);
    if (wrong !== null) throw new UsageError(wrong);
    const { loaded, files } = loadOrReport(path, terminal, options);
    if (loaded === undefined) return 1;
    const { config } = loaded;
    const own = workerShareOf(terminal.env);
    const output = openStandardOutput();
    const facts = {
      service: config.services.size === servicesCount ? "all" : [...config.services].join(","),
      services: [...config.services].join(","),
      ...(own === undefined ? {} : { worker: String(own.index) }),
    };
    const logger = createLogger(config.logLevel, { facts, output });
    // Handles signals even while starting: the kernel does not stop process 1 of a container by an unhandled signal.
    const stopped = untilStopped();
    const context = {
      loaded,
      files,
      logger,
      output,
      read: () => readConfiguration(path, { env: terminal.env, ...options }),
    };
    const parts =
      config.workers > 1 && own === undefined ? await startWithWorkers(context) : await startHere(context, own ?? null);
    const ended = await Promise.race([stopped, ...parts.failed]);
    if (typeof ended === "string") logger.info({ signal: ended }, "draining");
    await parts.stop();
    if (own !== undefined) disconnectWorker();
    if (typeof ended === "string") logger.info({}, "stopped");
    await output.close();
    if (typeof ended !== "string") throw ended;
    return 0;
  },
};

type ProcessContext = Readonly<{
  loaded: LoadedConfig;
  files: readonly string[];
  logger: PinoLogger;
  output: Output;
  read: () => ConfigurationResult;
}>;
type RunningParts = Readonly<{ failed: readonly Promise<Error>[]; stop(): Promise<void> }>;

/** @param share the part of the configuration that this process runs; null: all of it */
async function startHere(
  { loaded, files, logger, output, read }: ProcessContext,
  share: Share | null,
): Promise<RunningParts & Pick<Services, "healthPort">> {
  // Loaded here, so that a process that only supervises workers does not load the services.
  const { nodeNameOf, startServices } = await import("../build/services.ts");
  const node = nodeNameOf(loaded.config);
  const shared = (whole: LoadedConfig): LoadedConfig =>
    share === null ? whole : { ...whole, config: shareOf(whole.config, node, share) };
  let whole = loaded;
  const services = await startServices(shared(whole), { logger, output });
  const stopReloading = startReloading(process, {
    files,
    logger,
    read,
    watchesFiles: loaded.config.hotReload,
    services: {
      config: () => whole.config,
      registry: services.registry,
      async activate(next) {
        await services.activate(shared(next));
        whole = next;
        logger.level = next.config.logLevel;
      },
    },
  });
  if (share !== null) reportHealthPort(services.healthPort);
  return {
    failed: [services.failed],
    healthPort: services.healthPort,
    async stop() {
      await stopReloading();
      await services.stop();
    },
  };
}

/** Workers, and in this process the databroker if the configuration has one. */
async function startWithWorkers(context: ProcessContext): Promise<RunningParts> {
  const { config } = context.loaded;
  const share = newShare(0);
  const databroker = config.services.has("databroker") ? await startHere(context, share) : null;
  try {
    const beside = databroker === null ? null : { share, port: databroker.healthPort };
    const workers = await startWorkers(config, { logger: context.logger, databroker: beside });
    process.on("SIGHUP", workers.reload);
    if (databroker === null) tuneHeap(); // otherwise starting the databroker has done so
    return {
      failed: [workers.failed, ...(databroker?.failed ?? [])],
      async stop() {
        await workers.stop();
        await databroker?.stop();
      },
    };
  } catch (error) {
    await databroker?.stop();
    throw error;
  }
}
