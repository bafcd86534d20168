/** Kubernetes: a real kubectl through the proxy to an API server that accepts the proxy's impersonation. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { RouteConfig } from "../../../src/config/index.ts";
import { certificate } from "../../config/support.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { findKubectl, kubectlEnvironment } from "../../support/kubectl.ts";
import { type KubernetesApi, startKubernetesApi } from "../../support/kubernetes-api.ts";
import { waitFor } from "../../support/wait-for.ts";
import {
  eng,
  groupChanged,
  publicAccess,
  type Rig,
  routeTo,
  sessionRevoked,
  signedIn,
  startRig,
  startUpstream,
  valuesOf,
} from "../support.ts";

const cleanUps: (() => unknown)[] = [];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

const kubectl = findKubectl();
const serviceToken = "service-account-token-1";
const folder = new TemporaryFolder("kubectl");
const tokenFile = join(folder.path, "token");
const pair = certificate(["localhost", "kube.localhost"]);

let api: KubernetesApi;
let rig: Rig;

function routeToApi(port: number, parts: Partial<RouteConfig> = {}): RouteConfig {
  return routeTo(port, {
    ...{ id: "kube", host: "localhost", from: new URL("https://localhost"), timeoutMs: 0, idleTimeoutMs: 0 },
    kubernetes: { token: serviceToken, tokenFile },
    ...{ allowWebsockets: true, allowUpgrades: ["spdy/3.1"] },
    ...parts,
  });
}

before(async () => {
  writeFileSync(tokenFile, `${serviceToken}\n`);
  api = await startKubernetesApi(serviceToken);
  rig = await startRig([routeToApi(api.port)], { config: { insecureServer: false, certificates: [pair] } });
  cleanUps.push(
    () => folder[Symbol.dispose](),
    () => api.close(),
    () => rig.close(),
  );
  await rig.apply(signedIn(1), signedIn(2), groupChanged({ added: [1] }), {
    type: "GroupUpserted",
    groupId: eng,

    name: "eng",
  });
});

function start(session: number | object | null, args: readonly string[], env: Record<string, string> = {}) {
  const user = typeof session === "number" ? { token: `Pomerium-s${session}` } : (session ?? {});
  const base = kubectlEnvironment(folder.path, {
    ...{ server: `https://localhost:${rig.port}`, certificateAuthority: pair.cert, user },
  });
  const child = spawn(kubectl ?? "", args, { env: { ...base, ...env } });
  let [out, err] = ["", ""];
  child.stdout.on("data", (chunk) => {
    out += chunk;
  });
  child.stderr.on("data", (chunk) => {
    err += chunk;
  });
  const ended = new Promise<Readonly<{ code: number | null; out: string; err: string }>>((resolve) =>
    child.on("close", (code) => resolve({ code, out, err })),
  );
  cleanUps.push(() => child.kill("SIGKILL"));
  return { child, ended, output: () => out };
}

describe("a person with kubectl", { skip: kubectl === undefined ? "kubectl is not installed" : false }, () => {
  test("is identified to the API server by e-mail and groups", async () => {
    const { code, out, err } = await start(1, ["auth", "whoami", "-o", "json"]).ended;
    assert.equal(code, 0, err);
    const { userInfo } = JSON.parse(out).status;
    assert.deepEqual(userInfo, { username: "user1@example.com", groups: ["eng", "system:authenticated"] });
  });

  test("may do what the cluster's own rules permit", async () => {
    const mine = await start(1, ["get", "pods"]).ended;
    assert.equal(mine.code, 0, mine.err);
    assert.match(mine.out, /^web\s/m);
    const others = await start(2, ["get", "pods"]).ended;
    assert.equal(others.code, 1);
    assert.match(others.err, /Forbidden/);
  });

  test("cannot impersonate another person, whatever options kubectl has", async () => {
    const as = ["--as", "admin@example.com", "--as-group", "system:masters"];
    const { code, out, err } = await start(2, ["auth", "whoami", "-o", "json", ...as]).ended;
    assert.equal(code, 0, err);
    assert.deepEqual(JSON.parse(out).status.userInfo, {
      username: "user2@example.com",
      groups: ["system:authenticated"],
    });
  });

  test("sees the reason in kubectl's own error, without a session and without permission", async () => {
    const stranger = await start(null, ["get", "pods", "--token", "Pomerium-unknown"]).ended;
    assert.equal(stranger.code, 1);
    assert.match(stranger.err, /You must be logged in to the server/);
  });

  test("gets a credential through kubectl itself, which runs cardea k8s exec-credential", async () => {
    const credential = ["k8s", "exec-credential", `https://localhost:${rig.port}`, "--service-account", "e30.e30.c2ln"];
    const exec = {
      ...{ apiVersion: "client.authentication.k8s.io/v1", interactiveMode: "Never", command: process.execPath },
      args: [join(import.meta.dirname, "../../../bin/cardea.cjs"), ...credential],
    };
    const { code, err } = await start({ exec }, ["get", "pods"]).ended;
    assert.equal(code, 1);
    assert.match(err, /You must be logged in to the server/); // the proxy has read the credential, and does not know it
    assert.doesNotMatch(err, /getting credentials/);
  });

  for (const [name, protocol, env] of [
    ["WebSocket", "websocket", {}],
    ["SPDY", "spdy/3.1", { KUBECTL_REMOTE_COMMAND_WEBSOCKETS: "false" }],
  ] as const) {
    test(`runs a program in a pod over ${name}`, async () => {
      const { child, ended } = start(1, ["exec", "-i", "web", "--", "cat"], env);
      const text = "every byte there and back\n".repeat(5_000);
      child.stdin.end(text);
      const { code, out, err } = await ended;
      assert.equal(code, 0, err);
      assert.equal(out, text);
      const call = api.calls.findLast(({ protocol: used }) => used !== "");
      assert.deepEqual([call?.protocol, call?.user.username], [protocol, "user1@example.com"]);
    });

    test(`loses a program that runs over ${name} when the session ends`, async () => {
      const session = name === "WebSocket" ? 11 : 12;
      await rig.apply(signedIn(session), groupChanged({ added: [session] }));
      const running = start(session, ["exec", "-i", "web", "--", "hold"], env);
      await waitFor("the program to be ready", () => running.output().includes("ready"));
      const before = api.running.size;
      assert.ok(before > 0);
      await rig.apply(sessionRevoked(session));
      const { code } = await running.ended;
      // Over SPDY, kubectl takes a broken connection for a normal end.
      if (name === "WebSocket") assert.notEqual(code, 0);
      await waitFor("the program to end at the API server", () => api.running.size < before);
    });
  }

  test("cannot run a program where the route does not permit upgrades", async () => {
    await using plain = await tlsRig([routeToApi(api.port, { allowWebsockets: false, allowUpgrades: [] })]);
    const { code, err } = await start(1, ["exec", "--server", `https://localhost:${plain.port}`, "web", "--", "hold"])
      .ended;
    assert.equal(code, 1, err);
  });
});

async function tlsRig(routes: readonly RouteConfig[]) {
  const rig = await startRig(routes, { config: { insecureServer: false, certificates: [pair] } });
  await rig.apply(signedIn(1), groupChanged({ added: [1] }));
  return { ...rig, [Symbol.asyncDispose]: () => rig.close() };
}

describe("the request to the API server", () => {
  async function plainRig(parts: Partial<RouteConfig> = {}) {
    const upstream = await startUpstream();
    const host = { host: "app.localhost", from: new URL("http://app.localhost") };
    const rig = await startRig([routeToApi(upstream.port, { ...host, ...parts })]);
    cleanUps.push(upstream.close, () => rig.close());
    const seen = (name: string): string[] => valuesOf(upstream.seen.at(-1)?.rawHeaders ?? [], name);
    return { rig, upstream, seen };
  }

  test("carries the proxy's token and the user's name, and neither from the caller", async () => {
    const { rig: own, seen } = await plainRig();
    await own.apply(signedIn(1), groupChanged({ added: [1] }));
    const spoofed = {
      authorization: "Bearer the-callers-own",
      "impersonate-user": "admin@example.com",
      "Impersonate-Group": ["system:masters", "other"],
      "Impersonate-Extra-scopes": "all",
      "IMPERSONATE-UID": "1",
    };
    assert.equal((await own.request({ session: 1, headers: spoofed })).status, 200);
    assert.deepEqual(seen("authorization"), [`Bearer ${serviceToken}`]);
    assert.deepEqual(seen("impersonate-user"), ["user1@example.com"]);
    assert.deepEqual(seen("impersonate-group"), ["eng"]);
    assert.deepEqual([...seen("impersonate-extra-scopes"), ...seen("impersonate-uid")], []);
    assert.deepEqual([...seen("cookie"), ...seen("x-pomerium-jwt-assertion")], []);
  });

  test("is refused without a name, and for a name that Kubernetes reserves", async () => {
    const { rig: own, upstream } = await plainRig(publicAccess);
    await own.apply(signedIn(1, { email: "" }), signedIn(2, { email: "system:admin" }));
    for (const session of [undefined, 1, 2]) {
      const answer = await own.request({
        ...(session === undefined ? {} : { session }),
        headers: { accept: "application/json" },
      });
      assert.equal(answer.status, 403);
    }
    assert.equal(upstream.seen.length, 0);
    assert.deepEqual(own.records.at(-1)?.reasons, ["kubernetes-nobody"]);
  });

  test("carries the current token of the file; a file that is missing for a while changes nothing", async () => {
    const file = join(folder.path, "rotating");
    writeFileSync(file, "first-token");
    const { rig: own, seen } = await plainRig({ kubernetes: { token: "first-token", tokenFile: file } });
    await own.apply(signedIn(1), groupChanged({ added: [1] }));
    await own.request({ session: 1 });
    assert.deepEqual(seen("authorization"), ["Bearer first-token"]);
    rmSync(file);
    await own.request({ session: 1 });
    assert.deepEqual(seen("authorization"), ["Bearer first-token"]);
    writeFileSync(`${file}.new`, "second-token\n");
    renameSync(`${file}.new`, file);
    await waitFor("the new token to be used", async () => {
      await own.request({ session: 1 });
      return seen("authorization")[0] === "Bearer second-token";
    });
  });
});
