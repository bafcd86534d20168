/**
 * How the command line connects to the operator API: which authorities it trusts, and its messages when it cannot
 * connect.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer, type Server } from "node:https";
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { describeConnectionProblem, mayHaveBeenSent } from "../../src/cli/operator/connection-problem.ts";
import { certificate } from "../config/support.ts";
import { TemporaryFolder } from "../support/child.ts";
import { freePort } from "../support/free-port.ts";
import { run } from "./support.ts";

const token = { CARDEA_TOKEN: "a token" };

async function listening(t: TestContext, server: Server | TcpServer): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

function operatorServer(names: readonly string[]) {
  const tls = certificate(names);
  const server = createServer(tls, (_request, response) => {
    response.setHeader("connection", "close");
    response.end(JSON.stringify({ groups: [], more: false, applied: { epoch: 1, position: 1, hash: "" } }));
  });
  return { tls, server };
}

test("an authority from CERTIFICATE_AUTHORITY_FILE or the configuration is trusted; otherwise the message names the setting", async (t) => {
  using folder = new TemporaryFolder("operator");
  const { tls, server } = operatorServer(["authenticate.localhost"]);
  const port = await listening(t, server);
  const url = `https://authenticate.localhost:${port}`;
  const ca = join(folder.path, "ca.pem");
  writeFileSync(ca, tls.cert);

  const untrusted = await run(["groups", "list", "--url", url], token);
  assert.equal(untrusted.code, 3);
  assert.match(untrusted.err, new RegExp(`cannot reach ${url}: this machine does not trust the authority`));
  assert.match(untrusted.err, /certificate_authority_file/);
  assert.doesNotMatch(untrusted.err, / {4}at /, "no stack");

  const byEnv = await run(["groups", "list", "--url", url], { ...token, CERTIFICATE_AUTHORITY_FILE: ca });
  assert.deepEqual([byEnv.code, byEnv.err], [0, ""]);
  const inline = { ...token, CERTIFICATE_AUTHORITY: Buffer.from(tls.cert).toString("base64") };
  assert.equal((await run(["groups", "list", "--url", url], inline)).code, 0);

  const config = join(folder.path, "cardea.yaml");
  writeFileSync(
    config,
    JSON.stringify({
      authenticate_service_url: url,
      certificate_authority_file: ca,
      shared_secret: randomBytes(32).toString("base64"),
      cookie_secret: randomBytes(32).toString("base64"),
      idp_provider: "oidc",
      idp_provider_url: "http://idp.localhost:1",
      idp_client_id: "cardea",
      idp_client_secret: "secret",
      address: "127.0.0.1:1",
      insecure_server: true,
      data_dir: join(folder.path, "data"),
      routes: [{ from: "https://app.localhost", to: "http://127.0.0.1:2", allow_any_authenticated_user: true }],
    }),
    { mode: 0o600 },
  );
  const byConfig = await run(["groups", "list", "-c", config]);
  assert.deepEqual([byConfig.code, byConfig.err], [0, ""]);

  const unreadable = await run(["groups", "list", "--url", url], { ...token, CERTIFICATE_AUTHORITY_FILE: "/no/file" });
  assert.equal(unreadable.code, 3);
  assert.match(unreadable.err, /CERTIFICATE_AUTHORITY_FILE: \/no\/file cannot be read/);
});

test("the message for an unreachable server names its address, the cause and the remedy", async (t) => {
  const closedPort = await freePort();
  const refused = await run(["groups", "list", "--url", `http://127.0.0.1:${closedPort}`], token);
  assert.equal(refused.code, 3);
  assert.match(refused.err, new RegExp(`nothing listens at 127\\.0\\.0\\.1:${closedPort} \\(ECONNREFUSED\\); check`));

  const { server } = operatorServer(["elsewhere.example"]);
  const otherName = await listening(t, server);
  const hangUp = await listening(
    t,
    createTcpServer((socket) => socket.destroy()),
  );
  const closed = await run(["groups", "list", "--url", `http://127.0.0.1:${hangUp}`], token);
  assert.match(closed.err, /closed the connection before it answered/);
  const plain = await run(["groups", "list", "--url", `http://127.0.0.1:${otherName}`], token);
  assert.equal(plain.code, 3);
  assert.doesNotMatch(plain.err, /unexpected|fetch failed/);

  const stream = await run(["audit", "tail", "--no-follow", "--url", `http://127.0.0.1:${closedPort}`], token);
  assert.deepEqual([stream.code, stream.err.includes("ECONNREFUSED")], [3, true], stream.err);
});

test("each known cause has its own message, and an unknown one shows its whole chain", () => {
  const url = new URL("https://auth.example.com");
  const failed = (code: string, message = "no", facts: object = {}): Error =>
    new TypeError("fetch failed", { cause: Object.assign(new Error(message), { code, ...facts }) });
  const words: Readonly<Record<string, RegExp>> = {
    ENOTFOUND: /auth\.example\.com has no address in DNS.*host_aliases/,
    EHOSTUNREACH: /no route to/,
    ETIMEDOUT: /did not answer in time/,
    CERT_HAS_EXPIRED: /is expired.*renew/,
    ERR_TLS_CERT_ALTNAME_INVALID: /for other names/,
    ERR_SSL_WRONG_VERSION_NUMBER: /does not speak TLS/,
    DEPTH_ZERO_SELF_SIGNED_CERT: /does not trust the authority/,
  };
  for (const [code, expected] of Object.entries(words)) {
    const text = describeConnectionProblem(url, failed(code));
    assert.match(text, expected);
    assert.ok(
      text.startsWith("cannot reach https://auth.example.com: ") && text.includes(code === "ETIMEDOUT" ? "" : code),
    );
  }
  const several = new AggregateError([failed("ECONNREFUSED", "no", { address: "::1", port: 443 })], "several attempts");
  assert.match(describeConnectionProblem(url, new TypeError("fetch failed", { cause: several })), /\[::1\]:443/);
  const unknown = new Error("outer", {
    cause: new Error("inner", { cause: Object.assign(new Error("x"), { code: "EODD" }) }),
  });
  assert.equal(
    describeConnectionProblem(url, unknown),
    "cannot reach https://auth.example.com: outer: inner: x (EODD)",
  );
});

test("a change counts as not sent only after an error that surely came before the request", () => {
  const failed = (facts: object): Error =>
    new TypeError("fetch failed", { cause: Object.assign(new Error("no"), facts) });
  const before = [
    { code: "ECONNREFUSED", syscall: "connect" },
    { code: "ENOTFOUND", syscall: "getaddrinfo" },
    { code: "EHOSTUNREACH", syscall: "connect" },
    { code: "ETIMEDOUT", syscall: "connect" },
    { code: "UND_ERR_CONNECT_TIMEOUT" },
    { code: "DEPTH_ZERO_SELF_SIGNED_CERT" },
    { code: "ERR_TLS_CERT_ALTNAME_INVALID" },
  ];
  for (const facts of before) assert.equal(mayHaveBeenSent(failed(facts)), false, JSON.stringify(facts));
  const perhapsAfter = [
    { code: "ECONNRESET", syscall: "read" },
    { code: "EHOSTUNREACH", syscall: "read" },
    { code: "ETIMEDOUT", syscall: "read" },
    { code: "UND_ERR_HEADERS_TIMEOUT" },
    { code: "EPROTO" },
    { code: "EODD" },
    {},
  ];
  for (const facts of perhapsAfter) assert.equal(mayHaveBeenSent(failed(facts)), true, JSON.stringify(facts));
  assert.equal(mayHaveBeenSent("not an error"), true);
});

test("an answer that ends in its middle leaves the outcome of a change unknown", async (t) => {
  const port = await listening(
    t,
    createTcpServer((socket) => {
      socket.once("data", () => {
        socket.write("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{");
        setTimeout(() => socket.end(), 20);
      });
    }),
  );
  const { code, err } = await run(["users", "suspend", "mallory", "--url", `http://127.0.0.1:${port}`], token);
  assert.equal(code, 3, err);
  assert.match(err, /the change may or may not have been made, which cardea receipt/);
});
