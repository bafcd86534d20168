/** The NATS sink keeps the sink contract, over a real server. */
import { setTimeout as delay } from "node:timers/promises";
import { connect } from "@nats-io/transport-node";
import { type AuditRecord, createNatsAuditSink, readAuditStream } from "../../src/audit/index.ts";
import { checkSink } from "../audit/sink-contract.ts";
import { node, secret, signerOf } from "../audit/support.ts";
import { startNats } from "../support/nats.ts";

const cluster = "contract";

checkSink("nats", async (t) => {
  const nats = await startNats();
  t.after(() => nats.stop());
  async function connection() {
    const opened = await connect({
      ...{ servers: [...nats.urls], maxReconnectAttempts: -1, reconnectTimeWait: 100 },
      ...{ pingInterval: 2_000, timeout: 2_000 },
    });
    t.after(() => opened.close());
    return opened;
  }
  return {
    open: async (boot) =>
      createNatsAuditSink({
        ...{ connection: await connection(), cluster, region: "here", node, boot, replicas: 1 },
        ...{ streamBytesMax: 50_000_000, signer: signerOf({ cluster, node, boot }) },
      }),
    async records() {
      const read: AuditRecord[] = [];
      const reader = await connection();
      for await (const one of readAuditStream(reader, { cluster, secrets: [secret], fromMs: Date.now() - 60_000 }))
        if ("record" in one) read.push(one.record);
      await reader.close();
      return read;
    },
    breakDown: async () => nats.nodes[0]?.kill(),
    async repair() {
      await nats.nodes[0]?.start();
      await delay(100);
    },
  };
});
