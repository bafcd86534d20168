/**
 * Bench: security events per second of the transmitter of Shared Signals, by push and by poll, beside bare HTTP POSTs
 * of the same size to the same receiver. The transmitter is what a process runs: it reads the log, names people, signs
 * with RS256, and moves its cursor. Prints the rates and their ratios.
 *
 *   node bench/signals.ts [--events 2000]
 *
 * One process with all services and SQLite; the receiver is in this one. Pushes go over TLS, as the product demands.
 */
import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Agent, request } from "undici";
import { mintOperatorToken, operatorApiPrefix } from "../src/console/index.ts";
import { readsLevel } from "../src/events/index.ts";
import { Authority } from "../test/support/pki.ts";
import { type Cardea, startCardea } from "./support/cardea.ts";
import { withStand } from "./support/stand.ts";

const { values } = parseArgs({ options: { events: { type: "string", default: "2000" } } });
const events = Number(values.events);
const inFlight = 8;
const tokens = { push: "a-token-for-push", poll: "a-token-for-poll" };
const hash = (text: string): string => createHash("sha256").update(text).digest("hex");

await withStand(async (stand) => {
  const authority = await Authority.root();
  const { cert, key } = await authority.issue({ hosts: ["receiver.localhost"] });
  let received = 0;
  let bytes = 0;
  const receiver = createServer({ cert, key }, (incoming, response) => {
    incoming.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    incoming.on("end", () => {
      received += 1;
      response.writeHead(202).end();
    });
  }).listen(0, "127.0.0.1");
  stand.atEnd(async () => {
    receiver.closeAllConnections();
    receiver.close();
  });
  await once(receiver, "listening");
  const { port } = receiver.address() as AddressInfo;
  const endpoint = `https://receiver.localhost:${port}/`;
  const ca = Buffer.from(authority.pem).toString("base64");
  const cardea = await startCardea(stand, {
    upstreamPort: port,
    store: "file",
    people: events,
    settings: [
      `certificate_authority: ${ca}`,
      `signal_receivers: ${JSON.stringify({
        push: { audience: "https://push.example.com", token_sha256: hash(tokens.push), push_urls: [endpoint] },
        poll: { audience: "https://poll.example.com", token_sha256: hash(tokens.poll) },
      })}`,
    ],
  });
  const agent = new Agent({ connections: inFlight, connect: { ca: authority.pem, lookup: toLoopback } });
  stand.atEnd(() => agent.close());
  const call = caller(cardea, agent);
  await call("operator", "POST", `${operatorApiPrefix}/cluster/finalize`, { level: readsLevel });
  await call("push", "POST", "/ssf/v1/streams", {
    delivery: { method: "urn:ietf:rfc:8935", endpoint_url: endpoint },
  });
  const stream = (await call("poll", "POST", "/ssf/v1/streams", {})) as { delivery: { endpoint_url: string } };

  console.log(`recording ${events} revocations…`);
  await call("push", "POST", "/ssf/v1/status", await statusOf(call, "paused"));
  await record(call);
  const pushedAt = performance.now();
  await call("push", "POST", "/ssf/v1/status", await statusOf(call, "enabled"));
  while (received < events) await delay(20);
  const push = rateSince(pushedAt);
  const size = Math.round(bytes / received);

  const polledAt = performance.now();
  let polled = 0;
  for (let ack: string[] = []; polled < events || ack.length > 0; ) {
    const path = new URL(stream.delivery.endpoint_url).pathname;
    const answer = (await call("poll", "POST", path, { returnImmediately: true, ack })) as { sets: object };
    ack = Object.keys(answer.sets);
    polled += ack.length;
  }
  const poll = rateSince(polledAt);

  const body = Buffer.alloc(size, "x");
  const bareAt = performance.now();
  let sent = 0;
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      while (sent++ < events) {
        const answer = await request(endpoint, { dispatcher: agent, method: "POST", body });
        await answer.body.dump();
      }
    }),
  );
  const bare = rateSince(bareAt);
  console.log(`tokens of ${size} bytes, ${events} of each`);
  console.log(`bare POSTs, ${inFlight} at once: ${Math.round(bare)}/s`);
  console.log(`push: ${Math.round(push)}/s, ${(push / bare).toFixed(2)} × bare POSTs`);
  console.log(`poll: ${Math.round(poll)}/s, ${(poll / bare).toFixed(2)} × bare POSTs`);
});

function rateSince(at: number): number {
  return (events * 1_000) / (performance.now() - at);
}

function toLoopback(
  _hostname: string,
  options: Readonly<{ all?: boolean | undefined }>,
  callback: (error: null, address: string | { address: string; family: number }[], family?: number) => void,
): void {
  if (options.all === true) callback(null, [{ address: "127.0.0.1", family: 4 }]);
  else callback(null, "127.0.0.1", 4);
}

type Call = (as: "push" | "poll" | "operator", method: string, path: string, body?: object) => Promise<unknown>;

function caller(cardea: Cardea, agent: Agent): Call {
  const { config } = cardea;
  return async (as, method, path, body) => {
    const token =
      as === "operator"
        ? await mintOperatorToken({
            secret: config.sharedSecret,
            cluster: config.broker.clusterName,
            name: "bench",
            tokenId: randomUUID(),
            nowS: Math.floor(Date.now() / 1_000),
            ttlS: 60,
          })
        : tokens[as];
    const answer = await request(new URL(path, config.authenticateServiceUrl), {
      dispatcher: agent,
      method: method as "GET",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.body.text();
    if (answer.statusCode >= 300) throw new Error(`${method} ${path}: ${answer.statusCode} ${text}`);
    return JSON.parse(text);
  };
}

async function statusOf(call: Call, status: string): Promise<object> {
  const [stream] = (await call("push", "GET", "/ssf/v1/streams")) as { stream_id: string }[];
  return { stream_id: stream?.stream_id, status };
}

/** Revokes every session: each is an event of its own. */
async function record(call: Call): Promise<void> {
  for (let more = true; more; ) {
    const body = { filter: { all: true }, wait: "none" };
    ({ more } = (await call("operator", "POST", `${operatorApiPrefix}/sessions/revoke`, body)) as { more: boolean });
  }
}
