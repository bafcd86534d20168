/** Errors of the proxy, in the format of each kind of caller. Real gRPC clients and a real browser are among them. */
import assert from "node:assert/strict";
import { connect } from "node:http2";
import { after, before, describe, test } from "node:test";
import { type Client, credentials, Metadata, makeGenericClientConstructor, type ServiceError } from "@grpc/grpc-js";
import { chromium } from "playwright-core";
import { signInLoopOf } from "../../../src/auth/index.ts";
import type { Config, RouteConfig } from "../../../src/config/index.ts";
import { Projection } from "../../../src/events/index.ts";
import { findChromium } from "../../support/chromium.ts";
import { renderPage } from "../../support/pages.ts";
import {
  engOnly,
  groupChanged,
  publicAccess,
  type Rig,
  routeTo,
  signedIn,
  startRig,
  startUpstream,
  type Upstream,
} from "../support.ts";

const cleanUps: (() => Promise<unknown>)[] = [];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

async function start(routes: (port: number) => readonly RouteConfig[], config: Partial<Config> = {}) {
  const upstream = await startUpstream();
  const rig = await startRig(routes(upstream.port), { config, deps: { render: renderPage, signInLoopOf: loopOf } });
  await rig.apply(signedIn(1), signedIn(2), groupChanged({ added: [1] }));
  cleanUps.push(upstream.close, () => rig.close());
  return { rig, upstream };
}

/** As in the composition root, for callers whose sessions nothing has revoked. */
const loopOf: Rig["deps"]["signInLoopOf"] = (address, cookieHeader) =>
  signInLoopOf(
    {
      settings: { cookie: { name: "_pomerium", domain: null, expireMs: 3_600_000 } },
      handles: { verify: () => "invalid" },
      replica: { projection: new Projection() },
    },
    cookieHeader,
    address,
  );

let rig: Rig;
let upstream: Upstream;
before(async () => {
  ({ rig, upstream } = await start((port) => [
    routeTo(port, engOnly),
    routeTo(1, { host: "gone.localhost", ...publicAccess }),
    routeTo(port, { host: "slow.localhost", ...publicAccess, timeoutMs: 30 }),
  ]));
});

/** A status, and a request that gets it. */
const failures: readonly (readonly [status: number, name: string, ask: Parameters<Rig["request"]>[0]])[] = [
  [400, "a path with two readings", { path: "/a%2fb", session: 1 }],
  [403, "no right", { session: 2 }],
  [404, "no route", { host: "none.localhost" }],
  [414, "an address that is too long", { path: `/${"x".repeat(40_000)}`, session: 1 }],
  [417, "an expectation", { session: 1, headers: { expect: "wonders" } }],
  [503, "an unreachable upstream", { host: "gone.localhost" }],
];

describe("a program that prefers JSON", () => {
  for (const [status, name, options] of failures) {
    test(`${status}, ${name}`, async () => {
      const answer = await rig.request({ ...options, headers: { ...options.headers, accept: "application/json" } });
      assert.equal(answer.status, status);
      assert.equal(answer.headers["content-type"], "application/json");
      assert.equal(answer.headers["x-pomerium-intercepted-response"], "true");
      const body = JSON.parse(answer.body);
      const id = answer.headers["x-request-id"];
      if (status === 403) assert.deepEqual(body, { error: "Access denied", request_id: id });
      else {
        assert.deepEqual(Object.keys(body), ["requestId", "status", "statusText"]);
        assert.deepEqual([body.requestId, body.status], [id, status]);
      }
    });
  }
  test("401 without a session, with the fields of a denial", async () => {
    const answer = await rig.request({ headers: { accept: "application/json" } });
    assert.equal(answer.status, 401);
    assert.deepEqual(JSON.parse(answer.body), {
      error: "Unauthenticated",
      request_id: answer.headers["x-request-id"],
    });
  });
});

describe("a browser", () => {
  for (const [status, name, options] of failures) {
    test(`${status}, ${name}: a page`, async () => {
      const answer = await rig.request({ ...options, headers: { ...options.headers, accept: "text/html" } });
      assert.equal(answer.status, status);
      assert.match(String(answer.headers["content-type"]), /^text\/html/);
      assert.equal(answer.headers["x-pomerium-intercepted-response"], "true");
      assert.equal(answer.headers["cache-control"], "no-store");
    });
  }
});

describe("a browser without a session", () => {
  const navigation = { accept: "text/html", "sec-fetch-mode": "navigate" };

  test("a form post is not forwarded and not redirected: 401 with a page", async () => {
    const answer = await rig.request({ method: "POST", headers: { ...navigation, "content-length": "0" } });
    assert.equal(answer.status, 401);
    assert.equal(answer.headers["location"], undefined);
    assert.match(answer.body, /what you sent was not forwarded/);
  });

  test("an address too long for a redirect is kept by a page: 401, with a script from this host only", async () => {
    const path = `/orders?q=${"x".repeat(3_000)}`;
    const answer = await rig.request({ path, headers: navigation });
    assert.equal(answer.status, 401);
    assert.equal(answer.headers["location"], undefined);
    assert.match(String(answer.headers["set-cookie"]), /_nonce=/);
    assert.match(
      String(answer.headers["content-security-policy"]),
      /^default-src 'none'; .*; script-src app\.localhost\/\.pomerium\/address\.js; require-trusted-types-for 'script';/,
    );
    assert.ok(answer.body.includes(`data-address="http://app.localhost${path}"`), answer.body);
    assert.equal(rig.records.at(-1)?.result, "signin");
    const plain = await rig.request({ path, headers: { accept: "text/html" } });
    assert.deepEqual([plain.status, plain.headers["content-security-policy"]], [302, undefined]);
    const short = await rig.request({ path: path.slice(0, 1_000), headers: navigation });
    assert.equal(short.status, 302);
  });

  const executablePath = findChromium();
  const options = { skip: executablePath === undefined ? "Chromium is not installed" : false, timeout: 120_000 };
  test("a form post from a real browser ends on the page, and a reload sends the form again", options, async (t) => {
    const args = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"];
    const chrome = await chromium.launch({ executablePath: executablePath ?? "", args });
    t.after(() => chrome.close());
    const page = await chrome.newPage();
    const url = `http://app.localhost:${rig.port}/orders`;
    await page.setContent(
      `<form method="post" action="${url}"><input name="amount" value="7"><button>Send</button></form>`,
    );
    await page.getByRole("button", { name: "Send" }).click();
    await page.getByRole("heading", { name: "Sign in, then send it again" }).waitFor();
    const link = page.getByRole("link", { name: "Sign in (new tab)" });
    assert.equal(await link.getAttribute("target"), "_blank");
    const folder = process.env["SCREENSHOTS"];
    for (const width of [375, 768, 1280]) {
      await page.setViewportSize({ width, height: 800 });
      for (const colorScheme of ["light", "dark"] as const) {
        await page.emulateMedia({ colorScheme });
        assert.equal(await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), true, `${width}`);
        if (folder !== undefined)
          await page.screenshot({ path: `${folder}/unsent-${width}-${colorScheme}.png`, fullPage: true });
      }
    }
    await page.context().addCookies([{ name: "_pomerium", value: "s1", url }]);
    await page.reload();
    assert.equal(page.url(), url);
    // The browser also requests /favicon.ico.
    const sent = upstream.seen.findLast(({ url: path }) => path === "/orders");
    assert.equal(sent?.method, "POST");
    assert.equal(sent.body(), "amount=7");
  });

  test("after three returns from sign-in a browser gets a page instead of a redirect, and starts over", async () => {
    const visit = (cookie: string) => rig.request({ headers: { ...navigation, cookie } });
    assert.equal((await visit("_pomerium_returns=2")).status, 302);
    const missing = await visit("_pomerium_returns=3");
    assert.equal(missing.status, 401);
    assert.match(missing.body, /data-page="sign-in-loop"/);
    assert.match(missing.body, /Cookies are blocked/);
    assert.match(String(missing.headers["set-cookie"]), /^_pomerium_returns=; .*Max-Age=0/);
    const refused = await visit("_pomerium_returns=3; _pomerium=unknown");
    assert.match(refused.body, /A clock is wrong/);
    assert.doesNotMatch(refused.body, /Cookies are blocked/);
  });
});

describe("a malformed request", () => {
  test("400 is JSON with the request's id, and the connection closes", async () => {
    const answer = await rig.sendRaw("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n");
    const [head = "", body = ""] = answer.split("\r\n\r\n");
    assert.match(head, /^HTTP\/1\.1 400 Bad Request\r\n/);
    assert.match(head, /connection: close/i);
    const id = /x-request-id: (\S+)/i.exec(head)?.[1];
    assert.deepEqual(JSON.parse(body), { requestId: id, status: 400, statusText: "Bad request" });
    assert.match(head, new RegExp(`content-length: ${body.length}(\r|$)`, "i"));
  });

  test("431 is a page, because the caller is usually a browser with too many cookies", async () => {
    const cookies = Array.from({ length: 140 }, (_, i) => `c${i}=${"x".repeat(1_000)}`).join("; ");
    const answer = await rig.sendRaw(`GET / HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookies}\r\n\r\n`);
    assert.match(answer, /^HTTP\/1\.1 431 Request Header Fields Too Large\r\n/);
    assert.match(answer, /content-type: text\/html/i);
    assert.match(answer, /x-pomerium-intercepted-response: true/i);
    assert.match(answer, /Clear the cookies of this site and try again/);
  });

  test("408 for a request that never completes is a page too", async () => {
    const slow = await start((port) => [routeTo(port)], {
      timeouts: { readMs: 50, readLimit: "request", writeMs: 0, idleMs: 300_000 },
    });
    const answer = await slow.rig.sendRaw("GET / HTTP/1.1\r\nHost: app.localhost\r\n", 5_000);
    assert.match(answer, /^HTTP\/1\.1 408 Request Timeout\r\n/);
    assert.match(answer, /content-type: text\/html/i);
  });

  test("a timeout of 0 means no timeout: a slow or idle connection is not closed", async () => {
    const { rig: patient } = await start((port) => [routeTo(port)], {
      timeouts: { readMs: 0, readLimit: "request", writeMs: 0, idleMs: 0 },
    });
    const answer = await patient.sendRaw("GET /ping HTTP/1.1\r\nHost: app.localhost\r\n", 2_500);
    assert.equal(answer, "");
  });
});

describe("kubectl", () => {
  const headers = { "user-agent": "kubectl/v1.32.3 (linux/amd64) kubernetes/32cc146", accept: "application/json, */*" };
  const reasons: Readonly<Record<number, string>> = {
    403: "Forbidden",
    404: "NotFound",
    503: "ServiceUnavailable",
    417: "Forbidden",
  };
  for (const [status, name, options] of failures.filter(([status]) => status !== 400 && status !== 414)) {
    test(`${status}, ${name}: a Status object`, async () => {
      const answer = await rig.request({ ...options, headers: { ...options.headers, ...headers } });
      const { message, ...body } = JSON.parse(answer.body);
      assert.equal(answer.status, status);
      assert.equal(answer.headers["content-type"], "application/json");
      assert.ok(message.length > 0);
      const expected = { kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", code: status };
      assert.deepEqual(body, { ...expected, reason: reasons[status] });
    });
  }
  test("401 without a session, never a redirect", async () => {
    const answer = await rig.request({ headers: { ...headers, accept: "*/*" } });
    assert.deepEqual([answer.status, JSON.parse(answer.body).reason], [401, "Unauthorized"]);
  });
});

describe("gRPC", () => {
  const Echo = makeGenericClientConstructor(
    {
      say: {
        path: "/echo.Echo/Say",
        requestStream: false,
        responseStream: false,
        requestSerialize: (value: Buffer) => value,
        requestDeserialize: (bytes: Buffer) => bytes,
        responseSerialize: (value: Buffer) => value,
        responseDeserialize: (bytes: Buffer) => bytes,
      },
    },
    "Echo",
  );
  type Say = Client & { say(message: Buffer, metadata: Metadata, done: (error: ServiceError | null) => void): void };

  function say(host: string, session: number | null, on = rig): Promise<ServiceError | null> {
    const client = new Echo(`127.0.0.1:${on.port}`, credentials.createInsecure(), {
      "grpc.default_authority": host,
    }) as unknown as Say;
    const metadata = new Metadata();
    if (session !== null) metadata.set("authorization", `Pomerium s${session}`);
    return new Promise((resolve) =>
      client.say(Buffer.from("hello"), metadata, (error) => {
        client.close();
        resolve(error);
      }),
    );
  }

  const cases = [
    ["no session", 16, "Unauthenticated", "app.localhost", null],
    ["no right", 7, "Access denied", "app.localhost", 2],
    ["no route", 12, "Not found", "none.localhost", 1],
    ["an unreachable upstream", 14, "Service unavailable", "gone.localhost", null],
  ] as const;
  for (const [name, code, details, host, session] of cases) {
    test(`${name} is status ${code} to a real client`, async () => {
      const error = await say(host, session);
      assert.deepEqual([error?.code, error?.details], [code, details]);
    });
  }

  test("no lease is UNAVAILABLE, which clients retry", async () => {
    const { rig: own } = await start((port) => [routeTo(port)]);
    own.lease.overdueMs = 1e9;
    assert.equal((await say("app.localhost", 1, own))?.code, 14);
  });

  test("the response is a head without trailers, which ends the stream", async () => {
    const session = connect(`http://127.0.0.1:${rig.port}`);
    const stream = session.request({
      ":method": "POST",
      ":authority": "app.localhost",
      "content-type": "application/grpc+proto; charset=x",
      te: "trailers",
    });
    stream.end();
    const seen = await new Promise<Readonly<{ headers: Record<string, unknown>; flags: number }>>((resolve) =>
      stream.on("response", (headers, flags) => resolve({ headers, flags })),
    );
    let trailers = 0;
    stream.on("trailers", () => trailers++);
    stream.resume();
    await new Promise((resolve) => stream.on("close", resolve));
    session.close();
    assert.ok((seen.flags & 1) === 1, "END_STREAM");
    assert.equal(trailers, 0);
    assert.deepEqual(
      [
        seen.headers[":status"],
        seen.headers["content-type"],
        seen.headers["grpc-status"],
        seen.headers["grpc-message"],
      ],
      [401, "application/grpc+proto", "16", "Unauthenticated"],
    );
  });

  test("gRPC-Web from a page of a route may read the status; from any other page it may not", async () => {
    const headers = { "content-type": "application/grpc-web-text", "sec-fetch-mode": "cors" };
    const ours = await rig.request({ method: "POST", headers: { ...headers, origin: "http://app.localhost" } });
    assert.deepEqual(
      [ours.status, ours.headers["content-type"], ours.headers["grpc-status"]],
      [401, "application/grpc-web-text", "16"],
    );
    assert.equal(ours.headers["access-control-allow-origin"], "http://app.localhost");
    assert.match(String(ours.headers["access-control-expose-headers"]), /grpc-status, grpc-message/);
    const others = await rig.request({ method: "POST", headers: { ...headers, origin: "http://evil.example" } });
    assert.equal(others.headers["access-control-allow-origin"], undefined);
  });
});
