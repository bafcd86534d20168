/**
 * Path parameters: `/area;a=b/admin` is `/area/admin` to Tomcat, Jetty and Spring. A path that another route or another rule would judge
 * once a server has removed `;…` is refused, by the proxy and at every decision API alike.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { Registry } from "prom-client";
import { type DecisionServer, startDecisionServer } from "../../src/proxy/index.ts";
import {
  ask,
  decisionApi,
  engOnly,
  open,
  type Rig,
  routeTo,
  startRig,
  startUpstream,
  type Upstream,
} from "./support.ts";

const key = "a-key-of-at-least-32-characters-0123456789";
let rig: Rig;
let upstream: Upstream;
let door: DecisionServer;

before(async () => {
  upstream = await startUpstream();
  rig = await startRig([
    routeTo(upstream.port, { ...engOnly, match: { kind: "prefix", value: "/area/admin" } }),
    routeTo(upstream.port, {
      ...{ id: "open", allowAnyAuthenticatedUser: false },
      policy: {
        ppl: { allow: { and: [{ accept: true }] }, deny: { or: [{ http_path: { starts_with: "/private/" } }] } },
        place: { file: "cardea.yaml", line: 1, column: 1 },
      },
    }),
    routeTo(upstream.port, { ...open, host: "other.localhost" }),
  ]);
  door = await startDecisionServer({
    listen: decisionApi({
      address: { host: "127.0.0.1", port: 0 },
      trustedProxies: ["127.0.0.1"],
      keys: { wiki: key },
    }),
    ports: () => rig.ports,
    registry: new Registry(),
    requestId: randomUUID,
  });
});
after(async () => {
  await door.close();
  await rig.close();
  await upstream.close();
});

/** What the same path gets from the proxy, by forward-auth, by Envoy's HTTP form and by AuthZEN. */
async function statuses(path: string): Promise<readonly unknown[]> {
  const port = door.address?.port ?? 0;
  const facts = { "x-forwarded-proto": "http", "x-forwarded-for": "203.0.113.9" };
  const described = { "x-forwarded-method": "GET", "x-forwarded-host": "app.localhost", "x-forwarded-uri": path };
  const proxied = await ask(rig.port, { path });
  const forwardAuth = await ask(port, { path: "/forward-auth", headers: { ...facts, ...described } });
  const envoy = await ask(port, { path: `/ext-authz${path}`, headers: facts });
  const authzen = await ask(port, {
    ...{ path: "/access/v1/evaluation", method: "POST" },
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({
      subject: { type: "anonymous", id: "-" },
      action: { name: "GET" },
      resource: { type: "route", id: `app.localhost${path}` },
    }),
  });
  const decision = authzen.status === 200 ? JSON.parse(authzen.body).decision : authzen.status;
  return [proxied.status, forwardAuth.status, envoy.status, decision];
}

test("path parameters that hide a stricter route are refused, and no upstream hears of them", async () => {
  for (const path of ["/area;a=b/admin/x", "/area;/admin", "/area%3Ba/admin", "/area;a%3Bb/admin"]) {
    const seen = upstream.seen.length;
    const [proxied, forwardAuth, envoy, authzen] = await statuses(path);
    assert.deepEqual([proxied, forwardAuth, envoy], [400, 403, 400], path);
    assert.notEqual(authzen, true, path);
    assert.equal(upstream.seen.length, seen, path);
    assert.deepEqual(rig.records.at(-1)?.reasons, ["path-parameters"]);
  }
  const { result, reasons } = rig.records.find(({ occasion }) => occasion === "request") ?? {};
  assert.deepEqual([result, reasons], ["bad_request", ["path-parameters"]]);
  assert.match(await rig.metrics(), /reason="path-parameters"/);
});

test("path parameters that hide a path from a rule are refused alike", async () => {
  const seen = upstream.seen.length;
  const [proxied, forwardAuth, envoy, authzen] = await statuses("/private;x/y");
  assert.deepEqual([proxied, forwardAuth, envoy], [400, 403, 400]);
  assert.notEqual(authzen, true);
  assert.equal(upstream.seen.length, seen);
});

test("path parameters that change nothing reach the upstream as they came", async () => {
  for (const path of ["/cars;color=red/tires;v=2", "/x;jsessionid=1", "/other;a/area/admin"]) {
    assert.deepEqual(await statuses(path), [200, 200, 200, true], path);
    assert.equal(upstream.seen.at(-1)?.url, path);
  }
  assert.equal((await ask(rig.port, { path: "/area/admin;x" })).status, 302, "still the stricter route");
});
