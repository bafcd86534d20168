/**
 * NATS credentials from a file (JWT and nkey), against a real server with accounts.
 *
 * The file is replaced while everything runs. Clients reconnect with the new credentials when the server no longer
 * accepts the old ones.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { renameSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { nkeys } from "@nats-io/transport-node";
import { connectNatsFanout, type Fanout } from "../../src/replication/fanout/index.ts";
import { quiet, secret } from "../replication/support.ts";
import { Child, TemporaryFolder } from "../support/child.ts";
import { envelopeOf, textIn } from "../support/envelopes.ts";
import { freePorts } from "../support/free-port.ts";
import { findNatsServer } from "../support/nats.ts";
import { waitFor } from "../support/wait-for.ts";

const patience = { withinMs: 60_000 };
type Keys = ReturnType<typeof nkeys.createUser>;

/** A JWT in the form of NATS: signed with an nkey. */
function jwt(issuer: Keys, of: Readonly<{ subject: Keys; nats: object; name: string }>): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const issued = { iat: Math.floor(Date.now() / 1_000), iss: issuer.getPublicKey(), sub: of.subject.getPublicKey() };
  const claims = { jti: randomBytes(16).toString("hex"), ...issued, name: of.name, nats: { ...of.nats, version: 2 } };
  const text = `${part({ typ: "JWT", alg: "ed25519-nkey" })}.${part(claims)}`;
  return `${text}.${Buffer.from(issuer.sign(Buffer.from(text))).toString("base64url")}`;
}

function credentials(account: Keys, name: string): Readonly<{ user: Keys; text: string }> {
  const user = nkeys.createUser();
  const unlimited = { subs: -1, data: -1, payload: -1 };
  const token = jwt(account, { subject: user, name, nats: { pub: {}, sub: {}, ...unlimited, type: "user" } });
  const seed = Buffer.from(user.getSeed()).toString("latin1");
  const jwtBlock = `-----BEGIN NATS USER JWT-----\n${token}\n------END NATS USER JWT------\n`;
  return { user, text: `${jwtBlock}\n-----BEGIN USER NKEY SEED-----\n${seed}\n------END USER NKEY SEED------\n` };
}

test("new credentials in the file are used at the next connection, so the old ones can be revoked", async (t: TestContext) => {
  const binary = findNatsServer();
  assert.ok(binary !== undefined, "nats-server is needed");
  using folder = new TemporaryFolder("nats-credentials");
  const [port = 0] = await freePorts(1);
  const [operator, account] = [nkeys.createOperator(), nkeys.createAccount()];
  const [old, renewed] = [credentials(account, "old"), credentials(account, "young")];
  const serverFile = join(folder.path, "nats.conf");
  /** Writes the server's configuration. The account names the users whose credentials are revoked. */
  const write = (revoked: readonly Keys[]): void => {
    const limits = { subs: -1, data: -1, payload: -1, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 };
    const revocations = Object.fromEntries(
      revoked.map((user) => [user.getPublicKey(), Math.floor(Date.now() / 1_000)]),
    );
    const accountJwt = jwt(operator, {
      ...{ subject: account, name: "cardea" },
      nats: { limits, default_permissions: { pub: {}, sub: {} }, revocations, type: "account" },
    });
    const operatorJwt = jwt(operator, { subject: operator, name: "operator", nats: { type: "operator" } });
    writeFileSync(
      serverFile,
      `listen: "127.0.0.1:${port}"\noperator: ${operatorJwt}\nresolver: MEMORY\nresolver_preload: { ${account.getPublicKey()}: ${accountJwt} }\n`,
    );
  };
  const startServer = async (): Promise<Child> => {
    const started = await Child.start({
      ...{ command: binary, args: ["--config", serverFile], logFile: join(folder.path, "nats.log") },
    });
    t.after(() => started.kill());
    return started;
  };
  write([]);
  const before = await startServer();

  const file = join(folder.path, "cardea.creds");
  writeFileSync(file, old.text, { mode: 0o600 });
  const fanouts: Fanout[] = ["speaker", "listener"].map((name) =>
    connectNatsFanout({
      ...{ servers: [`nats://127.0.0.1:${port}`], cluster: "test", name, secrets: [secret], logger: quiet },
      ...{ randomBytes: (size: number) => randomBytes(size), credentialsFile: file },
    }),
  );
  t.after(() => Promise.all(fanouts.map((fanout) => fanout.close())));
  const [publisher, listener] = fanouts;
  const received: string[] = [];
  listener?.subscribe((envelope) => received.push(textIn(envelope)));
  const delivers = async (text: string): Promise<void> => {
    await waitFor(
      "both clients to be connected",
      () => fanouts.every((fanout) => fanout.status().healthy),
      patience,
    ).catch((cause: unknown) => Promise.reject(new Error(before.log().slice(-2_000), { cause })));
    await waitFor(
      `${text} to arrive`,
      () => {
        publisher?.publish(envelopeOf(text));
        return received.includes(text);
      },
      patience,
    );
  };
  await delivers("with the old credentials");

  // A file that is incomplete for a moment disconnects no client.
  await before.end("SIGTERM");
  truncateSync(file, 40);
  const meanwhile = await startServer();
  await delivers("while the file is half written");

  writeFileSync(`${file}.new`, renewed.text, { mode: 0o600 });
  renameSync(`${file}.new`, file);
  await meanwhile.end("SIGTERM");
  write([old.user]);
  await startServer();
  await delivers("with the new credentials");
});
