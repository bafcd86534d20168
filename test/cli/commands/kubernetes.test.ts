/** `cardea k8s`: the credential that kubectl receives, when the user must sign in again, and what is cached. */
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

/** A fake proxy: signs in any caller that follows its link, and accepts only the token that it issued last. */
async function startProxy() {
  const state = { accepted: "", signIns: 0, api401: false, requests: [] as IncomingHttpHeaders[] };
  const server = createServer((req, res) => {
    const url = new URL(req.url ?? "/", "http://proxy");
    if (url.pathname === "/.pomerium/api/v1/login") {
      const back = new URL(url.searchParams.get("pomerium_redirect_uri") ?? "");
      state.signIns++;
      state.accepted = tokenOf({ jti: `session-${state.signIns}` });
      back.searchParams.set("pomerium_jwt", state.accepted);
      res.end(back.href);
      return;
    }
    state.requests.push(req.headers);
    const isAccepted = req.headers.authorization === `Bearer Pomerium-${state.accepted}`;
    if (!isAccepted) res.writeHead(401, { "x-pomerium-intercepted-response": "true" }).end();
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

/** Runs the command and opens each address that it prints, as a user would. */
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

test("the user signs in once, and kubectl receives the credential and nothing else", async () => {
  await using proxy = await startProxy();
  const first = await k8s(proxy, ["exec-credential", proxy.url, "--no-browser"]);
  assert.equal(first.code, 0, first.err);
  assert.deepEqual(JSON.parse(first.out), {
    apiVersion: "client.authentication.k8s.io/v1",
    kind: "ExecCredential",
    status: { token: `Pomerium-${proxy.state.accepted}` },
  });
  const again = await k8s(proxy, ["exec-credential", proxy.url, "--no-browser"]);
  assert.deepEqual([again.out, again.err, proxy.state.signIns], [first.out, "", 1]);
});

test("an expired session leads to a new sign-in; a 401 of the API server does not", async () => {
  await using proxy = await startProxy();
  await k8s(proxy, ["exec-credential", proxy.url, "--no-browser"]);
  proxy.state.api401 = true;
  await k8s(proxy, ["exec-credential", proxy.url, "--no-browser"]);
  assert.equal(proxy.state.signIns, 1);
  proxy.state.accepted = "revoked";
  const { out } = await k8s(proxy, ["exec-credential", proxy.url, "--no-browser"]);
  assert.equal(proxy.state.signIns, 2);
  assert.equal(JSON.parse(out).status.token, `Pomerium-${proxy.state.accepted}`);
});

test("the answer has kubectl's version of the format, and a service account token states its expiry", async () => {
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
  assert.equal(proxy.state.requests.length, 0);
});

test("flush-credentials deletes one credential or all of them", async () => {
  await using proxy = await startProxy();
  await k8s(proxy, ["exec-credential", proxy.url, "--no-browser"]);
  assert.equal((await k8s(proxy, ["flush-credentials", "https://other.example"])).code, 0);
  assert.equal(readdirSync(join(proxy.folder.path, "cardea", "tokens")).length, 1);
  assert.equal((await k8s(proxy, ["flush-credentials", proxy.url])).code, 0);
  assert.equal(readdirSync(join(proxy.folder.path, "cardea", "tokens")).length, 0);
  assert.equal((await k8s(proxy, ["flush-credentials"])).code, 0);
  assert.equal((await k8s(proxy, ["exec-credential"])).code, 2);
});
