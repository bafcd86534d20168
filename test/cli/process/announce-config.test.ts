/** Announcement of a configuration: a node sends its text only to a broker that lacks it. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { announceConfigurations } from "../../../src/cli/process/announce-config.ts";
import type { Config } from "../../../src/config/index.ts";
import {
  type CommandRequest,
  type ConfigHash,
  configTextOf,
  type Link,
  type NodeId,
  parseConfigBody,
} from "../../../src/events/index.ts";
import { BrokerUnavailableError } from "../../../src/replication/wire/index.ts";
import { base, config, cookieSecret, goodRoute, sharedSecret } from "../../config/support.ts";
import { waitFor } from "../../support/wait-for.ts";

type Warning = Readonly<{ message: string; fields: Readonly<Record<string, unknown>> }>;

/** A fake broker that stores configuration bodies, unless a test disables that. */
class FakeBroker {
  readonly bodies = new Map<ConfigHash, string>();
  readonly submitted: CommandRequest[] = [];
  readonly warnings: Warning[] = [];
  checks = 0;
  stores: "bodies" | "nothing" = "bodies";
  /** An older broker does not know the request. */
  version: "this" | "older" = "this";
  /** Number of submissions to refuse first. */
  refusals = 0;
  /** Number of bodies to refuse first. */
  bodyRefusals = 0;
  readonly announce = announceConfigurations({
    node: "proxy-1" as NodeId,
    logger: {
      ...{ debug() {}, info() {}, error() {} },
      warn: (fields: object, message: string) => void this.warnings.push({ message, fields: { ...fields } }),
    },
    databroker: {
      submit: async (request) => {
        this.submitted.push(request);
        const { command, commandId } = request;
        const refused = "body" in command && this.bodyRefusals > 0 ? "bodyRefusals" : "refusals";
        if (this[refused] > 0) {
          this[refused] -= 1;
          return { type: "refused", commandId, code: "forbidden", message: "not yet" };
        }
        if (
          command.type === "activateConfiguration" &&
          command.body !== undefined &&
          this.stores === "bodies" &&
          this.version === "this"
        )
          this.bodies.set(command.configHash, configTextOf(parseConfigBody(command.body, command.configHash)));
        return { type: "done", commandId, link: {} as Link, changed: true };
      },
      holdsConfiguration: async (hash) => {
        this.checks += 1;
        if (this.version === "older") throw new BrokerUnavailableError("a broker answered 404");
        return this.bodies.has(hash);
      },
    },
    recheckMs: { known: 20, unknown: 20 },
  });

  get offers(): number {
    return this.submitted.filter(({ command }) => "body" in command).length;
  }
}

const own: Config = config(base + goodRoute);

test("the hash is announced first, then the text once, without secrets", async (t) => {
  const broker = new FakeBroker();
  t.after(() => broker.announce(null));
  broker.announce(own);
  await waitFor("the body", () => broker.bodies.get(own.hash));
  await waitFor("the next checks", () => broker.checks >= 4);
  assert.equal(broker.submitted.length, 2);
  assert.equal(broker.offers, 1);
  const text = broker.bodies.get(own.hash) ?? "";
  assert.match(text, /"authenticateServiceUrl":"https:\/\/authenticate\.example\.com\/"/);
  for (const secret of [sharedSecret, cookieSecret, "from-the-provider"]) assert.equal(text.includes(secret), false);
});

test("a refused activation is submitted again until the brokers accept it", async (t) => {
  const broker = new FakeBroker();
  t.after(() => broker.announce(null));
  broker.refusals = 2;
  broker.announce(own);
  await waitFor("the body", () => broker.bodies.get(own.hash));
  assert.equal(broker.submitted.length, 4);
  assert.equal(broker.offers, 1);
});

test("a refused body is offered again at a later check", async (t) => {
  const broker = new FakeBroker();
  t.after(() => broker.announce(null));
  broker.bodyRefusals = 1;
  broker.announce(own);
  await waitFor("the body", () => broker.bodies.get(own.hash));
  assert.equal(broker.offers, 2);
});

test("a body that the brokers already store is not sent", async (t) => {
  const broker = new FakeBroker();
  t.after(() => broker.announce(null));
  broker.bodies.set(own.hash, "there");
  broker.announce(own);
  await waitFor("several checks", () => broker.checks >= 3);
  assert.equal(broker.offers, 0);
});

test("a broker of an older version is offered no body; its successor is, and so is a log that has lost the body", async (t) => {
  const broker = new FakeBroker();
  t.after(() => broker.announce(null));
  broker.version = "older";
  broker.announce(own);
  await waitFor("several checks", () => broker.checks >= 3);
  assert.equal(broker.offers, 0);
  broker.version = "this";
  await waitFor("the body", () => broker.bodies.get(own.hash));
  broker.bodies.clear(); // a backup was restored
  await waitFor("the body again", () => broker.bodies.get(own.hash));
  assert.deepEqual(broker.warnings, []);
});

test("a body that is offered and not stored causes a warning and nothing else", async (t) => {
  const broker = new FakeBroker();
  t.after(() => broker.announce(null));
  broker.stores = "nothing";
  broker.announce(own);
  const [warning] = await waitFor("a warning", () => (broker.warnings.length > 0 ? broker.warnings : undefined));
  assert.match(warning?.message ?? "", /the brokers did not store the text of the configuration/);
});

test("a body that is too long causes a warning with its remedy, and its hash is recorded", async (t) => {
  const broker = new FakeBroker();
  t.after(() => broker.announce(null));
  const long = config(`${base}${goodRoute}    description: ${randomBytes(600 * 1024).toString("base64")}\n`);
  broker.announce(long);
  const [warning] = await waitFor("a warning", () => (broker.warnings.length > 0 ? broker.warnings : undefined));
  assert.equal(warning?.fields["code"], "ERR_EVENTS_CONFIG_BODY_TOO_LONG");
  assert.match(warning?.message ?? "", /bytes compressed, and at most 524288 are stored: move long lists/);
  assert.equal(broker.submitted.length, 1);
  assert.equal(broker.offers, 0);
});

test("a newer configuration replaces the first, whose text is stored as well because decisions were made by it", async (t) => {
  const broker = new FakeBroker();
  t.after(() => broker.announce(null));
  const next = config(`${base}region: elsewhere\n${goodRoute}`);
  broker.announce(own);
  broker.announce(next);
  await waitFor("both bodies", () => broker.bodies.has(next.hash) && broker.bodies.has(own.hash));
  await waitFor("the next checks", () => broker.checks >= 6);
  assert.equal(broker.offers, 2);
  const announcedHashes = broker.submitted.map(
    ({ command }) => command.type === "activateConfiguration" && command.configHash,
  );
  assert.deepEqual(
    announcedHashes,
    [own.hash, own.hash, next.hash, next.hash],
    "the current configuration is announced last",
  );
});
