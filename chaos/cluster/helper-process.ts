/**
 * Helper process: a process of the harness (clients, operator, upstream, identity provider, network), from both sides.
 * `script` is its file, relative to chaos/.
 *
 * It gets its options on the command line and talks over Node's IPC channel. It never outlives the main process: it
 * ends when the channel closes, and the test reaper knows it too.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { reap } from "../../test/support/child.ts";
import type { Rule } from "./link-rules.ts";

export type SessionMessage = Readonly<{
  type: "session";
  session: string;
  user: string;
  cookie: string;
  routes: readonly string[];
}>;
export type Message =
  | SessionMessage
  /** This session needs no more attempts. */
  | Readonly<{ type: "retire"; session: string }>
  /** A complete receipt has arrived, of one region or (null) of all: try these sessions there at once. */
  | Readonly<{
      type: "probe";
      op: string;
      region: string | null;
      sessions: readonly string[];
      routes: readonly string[];
    }>
  | Readonly<{ type: "ready"; port: number }>
  | Readonly<{ type: "progress"; counts: Readonly<Record<string, number>> }>
  /** Breaks links of the network between the cluster's processes until they are healed by the same id. */
  | Readonly<{ type: "break-links"; id: string; rules: readonly Rule[] }>
  | Readonly<{ type: "heal-links"; id: string }>
  /** The network has done so. */
  | Readonly<{ type: "links-set"; id: string }>
  | Readonly<{ type: "start" | "stop" }>;

export type Helper = Readonly<{
  name: string;
  send(message: Message): void;
  onMessage(listener: (message: Message) => void): void;
  ready: Promise<number>;
  /** Resolves with the exit code when it has ended. */
  exited: Promise<number | null>;
  stop(withinMs: number): Promise<void>;
}>;

export function startHelper(options: { name: string; script: string; options: object; logFile: string }): Helper {
  const log = openSync(options.logFile, "a");
  const child: ChildProcess = fork(join(import.meta.dirname, "..", options.script), [JSON.stringify(options.options)], {
    stdio: ["ignore", log, log, "ipc"],
    detached: true, // Ctrl-C reaches the main process alone
  });
  closeSync(log);
  const { pid } = child;
  if (pid !== undefined) reap({ type: "process", pid });
  const exited = once(child, "exit").then(([code]) => {
    if (pid !== undefined) reap({ type: "processEnded", pid });
    return code as number | null;
  });
  const onMessage = (listener: (message: Message) => void): void =>
    void child.on("message", (message) => listener(message as Message));
  const ready = new Promise<number>((resolve, reject) => {
    onMessage((message) => {
      if (message.type === "ready") resolve(message.port);
    });
    exited.then((code) => reject(new Error(`${options.name} ended with ${code}; see ${options.logFile}`)), reject);
  });
  ready.catch(() => {}); // its awaiters get the error
  return {
    name: options.name,
    send: (message) => {
      if (child.connected) child.send(message, () => {});
    },
    onMessage,
    ready,
    exited,
    async stop(withinMs) {
      if (child.connected) child.send({ type: "stop" }, () => {});
      const over = new AbortController();
      const late = delay(withinMs, "late", { signal: over.signal }).catch(() => "ended");
      if ((await Promise.race([exited, late])) === "late") child.kill("SIGKILL");
      over.abort();
      await exited;
    },
  };
}

export type Main = Readonly<{ send(message: Message): void; onMessage(listener: (message: Message) => void): void }>;

/** Inside a helper: its options and the channel to the main process. */
export function connectMain<Options>(): Readonly<{ options: Options; main: Main }> {
  for (const ignored of ["SIGINT", "SIGHUP"] as const) process.on(ignored, () => {});
  process.once("disconnect", () => process.exit(0));
  return {
    options: JSON.parse(process.argv[2] ?? "{}") as Options,
    main: {
      send: (message) => {
        if (process.connected) process.send?.(message, undefined, undefined, () => {});
      },
      onMessage: (listener) => void process.on("message", (message) => listener(message as Message)),
    },
  };
}
