/** `/.pomerium/assets/`: scripts by content hash, and the logos that a node fetches for its pages. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import { type TestContext, test } from "node:test";
import { gunzipSync } from "node:zlib";
import Fastify from "fastify";
import { createPageAssets, createPictureStore, fetchPicture, registerAssets } from "../../src/console/index.ts";

const script = "export {};\n".padEnd(2_000, "/");

function serve(pictures = createPictureStore([], { fetchPicture, now: () => 0, onFailed() {} })) {
  const assets = createPageAssets({ "page.js": script, "portal.css": "a { color: red }" });
  const app = Fastify({ logger: false });
  registerAssets(app, assets, pictures);
  return { app, path: (name: string) => assets.pathOf(name) ?? assert.fail(name) };
}

test("an asset is named by its content, kept forever, and compressed for those who accept it", async () => {
  const { app, path } = serve();
  assert.match(path("page.js"), /^\/\.pomerium\/assets\/page\.[\w-]{12}\.js$/);
  const plain = await app.inject(path("page.js"));
  assert.deepEqual([plain.statusCode, plain.body], [200, script]);
  assert.equal(plain.headers["cache-control"], "public, max-age=31536000, immutable");
  assert.equal(plain.headers["x-content-type-options"], "nosniff");
  assert.equal(plain.headers["content-type"], "text/javascript; charset=utf-8");
  const small = await app.inject({ url: path("page.js"), headers: { "accept-encoding": "br, gzip;q=0.5" } });
  assert.equal(gunzipSync(small.rawPayload).toString(), script);
  for (const refused of ["gzip;q=0", "gzip;q=0.0", "br", ""])
    assert.equal(
      (await app.inject({ url: path("page.js"), headers: { "accept-encoding": refused } })).headers["content-encoding"],
      undefined,
      refused,
    );
});

test("a name from another version gets this version's content, which is not kept; other names get nothing", async () => {
  const { app, path } = serve();
  const other = await app.inject(path("page.js").replace(/page\.[\w-]+/, "page.AAAAAAAAAAAA"));
  assert.deepEqual([other.statusCode, other.body, other.headers["cache-control"]], [200, script, "no-store"]);
  for (const name of [
    "page.js",
    "page.short.js",
    "x.AAAAAAAAAAAA.js",
    "..%2Fpage.js",
    "__proto__",
    "page.AAAAAAAAAAAA.js.js",
  ])
    assert.equal((await app.inject(`/.pomerium/assets/${name}`)).statusCode, 404, name);
});

async function startSource(t: TestContext, answer: RequestListener): Promise<string> {
  const server = createServer(answer);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  return `http://127.0.0.1:${address.port}`;
}

test("a configured logo is fetched once and served as a picture that runs nothing", async (t) => {
  let asked = 0;
  const origin = await startSource(t, (_request, response) => {
    asked++;
    response.writeHead(200, { "content-type": "image/svg+xml; charset=utf-8", "set-cookie": "a=b" }).end("<svg/>");
  });
  const pictures = createPictureStore([`${origin}/logo.svg`], { fetchPicture, now: () => 0, onFailed() {} });
  const { app } = serve(pictures);
  const path = pictures.pathOf(`${origin}/logo.svg`) ?? assert.fail();
  const answers = await Promise.all([app.inject(path), app.inject(path)]);
  answers.push(await app.inject(path));
  for (const answer of answers) {
    assert.deepEqual([answer.statusCode, answer.body], [200, "<svg/>"]);
    assert.equal(answer.headers["content-type"], "image/svg+xml");
    assert.match(String(answer.headers["content-security-policy"]), /^default-src 'none';.* sandbox$/);
    assert.equal(answer.headers["set-cookie"], undefined);
  }
  assert.equal(asked, 1);
  assert.equal((await app.inject(pictures.pathOf(`${origin}/other.svg`) ?? "")).statusCode, 404, "not configured");
  assert.equal(asked, 1);
  assert.equal(pictures.pathOf("data:image/png;base64,AA=="), "data:image/png;base64,AA==");
  assert.equal(pictures.pathOf(""), null);
});

test("what is no picture, too large, a redirect or an error is not served, and is not asked for at once again", async (t) => {
  let asked = 0;
  const origin = await startSource(t, ({ url }, response) => {
    asked++;
    if (url === "/page") return void response.writeHead(200, { "content-type": "text/html" }).end("<script>");
    if (url === "/redirect") return void response.writeHead(302, { location: "/logo" }).end();
    if (url === "/large")
      return void response.writeHead(200, { "content-type": "image/png" }).end(Buffer.alloc(300_000));
    response.writeHead(500, { "content-type": "image/png" }).end("x");
  });
  const urls = ["/page", "/redirect", "/large", "/error"].map((path) => `${origin}${path}`);
  let now = 0;
  const failed: string[] = [];
  const pictures = createPictureStore(urls, { fetchPicture, now: () => now, onFailed: (url) => failed.push(url) });
  const { app } = serve(pictures);
  const askAll = async (): Promise<void> => {
    for (const url of urls) assert.equal((await app.inject(pictures.pathOf(url) ?? "")).statusCode, 404, url);
  };
  await askAll();
  await askAll();
  assert.deepEqual([asked, failed.length], [4, 4]);
  now = 61_000;
  await askAll();
  assert.equal(asked, 8);
});

test("a logo that changes is fetched again after a day, and the old one stays if that fails", async () => {
  let now = 0;
  let works = true;
  const url = "https://static.example.com/a.png";
  const pictures = createPictureStore([url], {
    fetchPicture: async () => {
      if (!works) throw new Error("away");
      return { type: "image/png", body: Buffer.from(String(now)) };
    },
    now: () => now,
    onFailed() {},
  });
  const id = (pictures.pathOf(url) ?? "").split("picture.")[1] ?? "";
  const text = async (): Promise<string | undefined> => (await pictures.find(id))?.body.toString();
  assert.equal(await text(), "0");
  now = 25 * 3_600_000;
  works = false;
  assert.equal(await text(), "0");
  works = true;
  now += 61_000;
  assert.equal(await text(), String(now));
});
