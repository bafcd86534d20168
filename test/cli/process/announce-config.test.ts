/** A node offers what its configuration says where that is missing, and nowhere else. */
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
import { BrokerUnavailableError } from "../../../src/replication/index.ts";
import { base, config, cookieSecret, goodRoute, sharedSecret } from "../../config/support.ts";
import { waitFor } from "../../support/wait-for.ts";

type Warning = Readonly<{ message: string; fields: Readonly<Record<string, unknown>> }>;

/** A broker that keeps bodies, unless it is told not to. */
class Keeper {
  readonly bodies = new Map<ConfigHash, string>();
  readonly submitted: CommandRequest[] = [];
  readonly warnings: Warning[] = [];
  looks = 0;
  keeps: "bodies" | "nothing" = "bodies";
  /** An older one does not know what it is asked. */
  version: "this" | "older" = "this";
  /** So many submissions are refused first. */
  refusals = 0;
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
        if (this.refusals > 0) {
          this.refusals -= 1;
          return { type: "refused", commandId, code: "forbidden", message: "not yet" };
        }
        if (
          command.type === "activateConfiguration" &&
          command.body !== undefined &&
          this.keeps === "bodies" &&
          this.version === "this"
        )
          this.bodies.set(command.configHash, configTextOf(parseConfigBody(command.body, command.configHash)));
        return { type: "done", commandId, link: {} as Link, changed: true };
      },
      holdsConfiguration: async (hash) => {
        this.looks += 1;
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

test("the hash first, then what it stands for, once, without a secret", async (t) => {
  const keeper = new Keeper();
  t.after(() => keeper.announce(null));
  keeper.announce(own);
  await waitFor("the body", () => keeper.bodies.get(own.hash));
  await waitFor("it to be looked for again", () => keeper.looks >= 4);
  assert.equal(keeper.submitted.length, 2);
  assert.equal(keeper.offers, 1);
  const text = keeper.bodies.get(own.hash) ?? "";
  assert.match(text, /"authenticateServiceUrl":"https:\/\/authenticate\.example\.com\/"/);
  for (const secret of [sharedSecret, cookieSecret, "from-the-provider"]) assert.equal(text.includes(secret), false);
});

test("a refused activation is submitted again until the brokers take it", async (t) => {
  const keeper = new Keeper();
  t.after(() => keeper.announce(null));
  keeper.refusals = 2;
  keeper.announce(own);
  await waitFor("the body", () => keeper.bodies.get(own.hash));
  assert.equal(keeper.submitted.length, 4);
  assert.equal(keeper.offers, 1);
});

test("a refused body is offered again at a later look", async (t) => {
  const keeper = new Keeper();
  t.after(() => keeper.announce(null));
  keeper.announce(own);
  await waitFor("the activation", () => keeper.submitted.length === 1 || undefined);
  keeper.refusals = 1;
  await waitFor("the body", () => keeper.bodies.get(own.hash));
  assert.equal(keeper.offers, 2);
});

test("what is kept already is not sent", async (t) => {
  const keeper = new Keeper();
  t.after(() => keeper.announce(null));
  keeper.bodies.set(own.hash, "there");
  keeper.announce(own);
  await waitFor("it to be looked for", () => keeper.looks >= 3);
  assert.equal(keeper.offers, 0);
});

test("a broker of an older version is not offered anything; the one that follows it is, and so is a log that lost it", async (t) => {
  const keeper = new Keeper();
  t.after(() => keeper.announce(null));
  keeper.version = "older";
  keeper.announce(own);
  await waitFor("it to be looked for", () => keeper.looks >= 3);
  assert.equal(keeper.offers, 0);
  keeper.version = "this";
  await waitFor("the body", () => keeper.bodies.get(own.hash));
  keeper.bodies.clear(); // a backup was restored
  await waitFor("the body again", () => keeper.bodies.get(own.hash));
  assert.deepEqual(keeper.warnings, []);
});

test("a body that is offered and not kept is told of, and does no harm", async (t) => {
  const keeper = new Keeper();
  t.after(() => keeper.announce(null));
  keeper.keeps = "nothing";
  keeper.announce(own);
  const [warning] = await waitFor("a warning", () => (keeper.warnings.length > 0 ? keeper.warnings : undefined));
  assert.match(warning?.message ?? "", /the brokers did not store the text of the configuration/);
});

test("one that is too long is told of with its remedy, and its hash is recorded", async (t) => {
  const keeper = new Keeper();
  t.after(() => keeper.announce(null));
  const long = config(`${base}${goodRoute}    description: ${randomBytes(600 * 1024).toString("base64")}\n`);
  keeper.announce(long);
  const [warning] = await waitFor("a warning", () => (keeper.warnings.length > 0 ? keeper.warnings : undefined));
  assert.equal(warning?.fields["code"], "ERR_EVENTS_CONFIG_BODY_TOO_LONG");
  assert.match(warning?.message ?? "", /bytes compressed, and at most 524288 are stored: move long lists/);
  assert.equal(keeper.submitted.length, 1);
  assert.equal(keeper.offers, 0);
});

test("another configuration takes its place, and what the first said is kept too: decisions were made by it", async (t) => {
  const keeper = new Keeper();
  t.after(() => keeper.announce(null));
  const next = config(`${base}region: elsewhere\n${goodRoute}`);
  keeper.announce(own);
  keeper.announce(next);
  await waitFor("both bodies", () => keeper.bodies.has(next.hash) && keeper.bodies.has(own.hash));
  await waitFor("it to be looked for again", () => keeper.looks >= 6);
  assert.equal(keeper.offers, 2);
  const told = keeper.submitted.map(({ command }) => command.type === "activateConfiguration" && command.configHash);
  assert.deepEqual(told, [own.hash, own.hash, next.hash, next.hash], "the log hears last of the one in force");
});
