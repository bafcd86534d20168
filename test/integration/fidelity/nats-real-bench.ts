/** NATS bench on real servers, with small limits so that a slow consumer is soon reached. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect, headers, type NatsConnection } from "@nats-io/transport-node";
import { Child, TemporaryFolder } from "../../support/child.ts";
import { startNats } from "../../support/nats.ts";
import { waitFor } from "../../support/wait-for.ts";
import type { BenchConnection, NatsBench, StartNatsBench } from "./nats-bench.ts";

const config = 'max_pending: 1MB\nwrite_deadline: "2s"';
const answerMs = 5_000;

export const startRealBench: StartNatsBench = async ({ servers }) => {
  const nats = await startNats({ size: servers, config });
  const subject = `fidelity-${randomBytes(4).toString("hex")}`;
  const stream = subject.toUpperCase();
  const folder = new TemporaryFolder("fidelity");
  const open: NatsConnection[] = [];
  const children: Child[] = [];
  const operator = await connectTo(nats.urls);
  const manager = await jetstreamManager(operator);

  async function connectTo(urls: readonly string[]): Promise<NatsConnection> {
    const opened = await connect({
      servers: [...urls],
      noRandomize: true,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 200,
      pingInterval: 2_000,
    });
    open.push(opened);
    return opened;
  }

  async function inProcess(server: number): Promise<BenchConnection> {
    const first = nats.node(server).url;
    const connection = await connectTo([first, ...nats.urls.filter((url) => url !== first)]);
    const seen: string[] = [];
    let healthy = true;
    connection.subscribe(subject, {
      callback: (error, message) => {
        if (error === null) seen.push(message.string().trimEnd());
      },
    });
    await connection.flush();
    seen.push("connected");
    const watching = watch();
    watching.catch(() => {});
    async function watch(): Promise<void> {
      for await (const { type } of connection.status()) {
        if (type === "disconnect") {
          healthy = false;
          seen.push("disconnected");
        }
        if (type !== "reconnect") continue;
        await connection.flush();
        healthy = true;
        seen.push("connected");
      }
    }
    return {
      seen: () => seen,
      publish(text) {
        if (healthy) connection.publish(subject, text); // like the product's fan-out
      },
      async publishToStream(text, { id, expectedLast } = {}) {
        const conditions = headers();
        if (id !== undefined) conditions.set("Nats-Msg-Id", id);
        if (expectedLast !== undefined) conditions.set("Nats-Expected-Last-Sequence", `${expectedLast}`);
        try {
          const answer = await connection.request(subject, text, { headers: conditions, timeout: answerMs });
          return describeAnswer(answer.json());
        } catch {
          return "no answer";
        }
      },
      flush: () => connection.flush(),
      pause: () => Promise.reject(new Error("not a separate process")),
      resume: () => Promise.reject(new Error("not a separate process")),
    };
  }

  async function inOwnProcess(server: number): Promise<BenchConnection> {
    const logFile = join(folder.path, `listener-${children.length}.log`);
    const args = [join(import.meta.dirname, "nats-listener.ts"), nats.node(server).url, subject];
    const child = await Child.start({ command: process.execPath, args, logFile });
    children.push(child);
    const seen = (): readonly string[] => child.log().split("\n").slice(0, -1);
    await waitFor("the listener", () => seen().includes("connected"));
    const unsupported = (): never => {
      throw new Error("this client only listens");
    };
    return {
      seen,
      publish: unsupported,
      publishToStream: unsupported,
      flush: unsupported,
      pause: async () => child.pause(),
      resume: async () => child.resume(),
    };
  }

  const bench: NatsBench = {
    connect: ({ server = 0, pausable } = {}) => (pausable === true ? inOwnProcess(server) : inProcess(server)),
    async createStream() {
      await waitFor("the stream", async () => {
        const { state } = await manager.streams.add({ name: stream, subjects: [subject], num_replicas: servers });
        // A server removes the files of a deleted stream in the background. A new stream of its name may start with the
        // content of the old one.
        if (state.last_seq === 0) return true;
        await manager.streams.delete(stream);
        return false;
      });
    },
    async deleteStream() {
      await manager.streams.delete(stream);
    },
    async streamed(last = 0) {
      const state = await waitFor("the stream to have all messages", async () => {
        const info = await manager.streams.info(stream);
        return info.state.last_seq >= last && info.state;
      });
      const messages: string[] = [];
      for (let seq = state.first_seq; seq <= state.last_seq && state.messages > 0; seq += 1) {
        const message = await manager.streams.getMessage(stream, { seq });
        if (message !== null) messages.push(new TextDecoder().decode(message.data).trimEnd());
      }
      return messages;
    },
    kill: (server) => nats.node(server).kill(),
    start: (server) => nats.node(server).start(),
    until: async (what, isSo) => {
      await waitFor(what, isSo, { withinMs: 60_000 });
    },
    async dispose() {
      for (const child of children) await child.kill();
      for (const connection of open) await connection.close();
      await nats.stop();
      folder.remove();
    },
  };
  return bench;
};

function describeAnswer(answer: unknown): string {
  const { seq, duplicate, error } = answer as {
    seq?: number;
    duplicate?: boolean;
    error?: { err_code: number; description: string };
  };
  if (error !== undefined) return `refused, last is ${error.description.replace(/\D/g, "")}`;
  return `${duplicate === true ? "duplicate of" : "stored"} ${seq}`;
}
