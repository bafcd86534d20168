/** `cardea k8s`: what kubectl is handed, when a person is asked to sign in again, and what is forgotten. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { commandsFor, runCommandLine } from "../../../src/cli/index.ts";
import { TemporaryFolder } from "../../support/child.ts";

const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
const tokenOf = (claims: object): string => `${part({ alg: "HS256" })}.${part(claims)}.c2ln`;

/** A proxy's outside: it signs in whoever follows its link, and takes the token that it gave last. */
async function startProxy() {
  const state = { taken: "", signIns: 0, api401: false, asked: [] as IncomingHttpHeaders[] };
  const server = createServer((req, res) => {
    const url = new URL(req.url ?? "/", "http://proxy");
    if (url.pathname === "/.pomerium/api/v1/login") {
      const back = new URL(url.searchParams.get("pomerium_redirect_uri") ?? "");
      state.signIns++;
      state.taken = tokenOf({ jti: `session-${state.signIns}` });
      back.searchParams.set("pomerium_jwt", state.taken);
      res.end(back.href);
      return;
    }
    state.asked.push(req.headers);
    const known = req.headers.authorization === `Bearer Pomerium-${state.taken}`;
    if (!known) res.writeHead(401, { "x-pomerium-intercepted-response": "true" }).end();
    else res.writeHead(state.api401 ? 401 : 200).end("{}");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const folder = new TemporaryFolder("k8s");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    state,
    url,
    folder,
    async [Symbol.asyncDispose]() {
      folder[Symbol.dispose]();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

type Proxy = Awaited<ReturnType<typeof startProxy>>;

/** Whoever is told an address on the terminal goes there. */
async function k8s(proxy: Proxy, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  let [out, err] = ["", ""];
  const all = ["k8s", ...args];
  const code = await runCommandLine(all, await commandsFor(all), {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
      const link = /http:\/\/127\.0\.0\.1:\S+pomerium_jwt=\S+/.exec(text)?.[0];
      if (link !== undefined) void fetch(link);
    },
    interactive: false,
    env: { XDG_CACHE_HOME: proxy.folder.path, ...env },
  });
  return { code, out, err };
}

test("a person signs in once, and kubectl is handed the credential and nothing else", async () => {
  await using proxy = await startProxy();
  const first = await k8s(proxy, ["exec-credential", proxy.url, "--no-browser"]);
  assert.equal(first.code, 0, first.err);
  assert.deepEqual(JSON.parse(first.out), {
    apiVersion: "client.authentication.k8s.io/v1",
    kind: "ExecCredential",
    status: { token: `Pomerium-${proxy.state.taken}` },
  });
  const again = await k8s(proxy, ["exec-credential", proxy.url, "--no-browser"]);
  assert.deepEqual([again.out, again.err, proxy.state.signIns], [first.out, "", 1]);
});

test("a session that is over is asked for anew; a 401 of the API server itself is not such a one", async () => {
  await using proxy = await startProxy();
  await k8s(proxy, ["exec-credential", proxy.url, "--no-browser"]);
  proxy.state.api401 = true;
  await k8s(proxy, ["exec-credential", proxy.url, "--no-browser"]);
  assert.equal(proxy.state.signIns, 1);
  proxy.state.taken = "revoked";
  const { out } = await k8s(proxy, ["exec-credential", proxy.url, "--no-browser"]);
  assert.equal(proxy.state.signIns, 2);
  assert.equal(JSON.parse(out).status.token, `Pomerium-${proxy.state.taken}`);
});

test("kubectl's version of the form is answered, and a service account's token says when it ends", async () => {
  await using proxy = await startProxy();
  const token = tokenOf({ exp: 1_900_000_000 });
  const { out } = await k8s(proxy, ["exec-credential", proxy.url, "--service-account", token], {
    KUBERNETES_EXEC_INFO: JSON.stringify({
      apiVersion: "client.authentication.k8s.io/v1beta1",
      kind: "ExecCredential",
    }),
  });
  assert.deepEqual(JSON.parse(out), {
    apiVersion: "client.authentication.k8s.io/v1beta1",
    kind: "ExecCredential",
    status: { token: `Pomerium-${token}`, expirationTimestamp: "2030-03-17T17:46:40Z" },
  });
  assert.equal(proxy.state.asked.length, 0);
});

test("flush-credentials forgets one, or all", async () => {
  await using proxy = await startProxy();
  await k8s(proxy, ["exec-credential", proxy.url, "--no-browser"]);
  assert.equal((await k8s(proxy, ["flush-credentials", "https://other.example"])).code, 0);
  assert.equal(readdirSync(join(proxy.folder.path, "cardea", "tokens")).length, 1);
  assert.equal((await k8s(proxy, ["flush-credentials", proxy.url])).code, 0);
  assert.equal(readdirSync(join(proxy.folder.path, "cardea", "tokens")).length, 0);
  assert.equal((await k8s(proxy, ["flush-credentials"])).code, 0);
  assert.equal((await k8s(proxy, ["exec-credential"])).code, 2);
});
