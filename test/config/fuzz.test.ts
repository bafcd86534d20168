// biome-ignore-all lint/suspicious/noTemplateCurlyInString: header templates look so
/** Reading any input returns a result: it never throws, and a failure always lists problems. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { formatProblem } from "../../src/config/index.ts";
import { globalShape, routeShape } from "../../src/config/schema/schema.ts";
import { fc } from "../support/property.ts";
import { base, goodRoute, parse } from "./support.ts";

function parsesOrExplains(text: string, env: Readonly<Record<string, string>> = {}): void {
  const result = parse(text, { env, files: { f: "content" } });
  if (result.ok) return;
  assert.ok(result.problems.some(({ severity }) => severity === "error"));
  for (const problem of result.problems) {
    assert.ok(formatProblem(problem).length > 0);
    assert.ok(problem.line >= 0 && problem.column >= 0);
  }
}

const word = fc.oneof(
  fc.constantFrom(
    "",
    "true",
    "0s",
    "30s",
    "-1",
    "1.5h",
    ":443",
    "[::1]:0",
    "https://a.example.com",
    "https://*",
    "http://[::1]:8091",
    "http://%00",
    "f",
    "/",
    "/a",
    "^/(.*)$",
    "\\1",
    "(",
    "*",
    "${pomerium.jwt}",
    "{}",
    "[]",
    "all",
    "proxy",
    "__proto__",
    "constructor",
    "strict",
    "deny",
    "disable",
    "AAAA",
    "a,b",
    "k=v",
    "🦊",
    "\u0000",
    "null",
    "1e9",
    "0x10",
    "nats://a:b@c",
  ),
  fc.string({ maxLength: 12 }),
);
const scalar = fc.oneof(word, fc.integer(), fc.double(), fc.boolean(), fc.constant(null));
const { value } = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    scalar,
    fc.array(tie("value"), { maxLength: 3 }),
    fc.dictionary(fc.oneof(word, fc.constantFrom(...Object.keys(routeShape))), tie("value"), { maxKeys: 3 }),
  ),
}));
const ofShape = (shape: Readonly<Record<string, unknown>>) =>
  fc.dictionary(fc.constantFrom(...Object.keys(shape)), value, { maxKeys: 6 });
const section = (...keys: readonly string[]) => fc.dictionary(fc.constantFrom(...keys), value, { maxKeys: 4 });

test("any document of known keys and odd values parses or explains its errors", () => {
  const document = fc.record({
    globals: ofShape(globalShape),
    broker: section(
      "lease",
      "beat",
      "renew",
      "urls",
      "listen",
      "advertised_url",
      "clock_drift",
      "tls_cert_file",
      "tls_key_file",
      "tls_ca",
    ),
    routes: fc.array(
      fc
        .record({ from: fc.oneof(word, value), to: fc.oneof(word, value) }, { requiredKeys: [] })
        .chain((own) => ofShape(routeShape).map((more) => ({ ...more, ...own }))),
      { maxLength: 3 },
    ),
  });
  fc.assert(
    fc.property(document, ({ globals, broker, routes }) =>
      parsesOrExplains(JSON.stringify({ ...globals, broker, routes })),
    ),
    { numRuns: 1500 },
  );
});

test("any change of a valid document to odd values parses or explains its errors", () => {
  fc.assert(
    fc.property(ofShape(globalShape), ofShape(routeShape), (globals, route) => {
      const good = {
        authenticate_service_url: "https://a.example.com",
        insecure_server: true,
        shared_secret: Buffer.alloc(32, "abcdefghijk").toString("base64"),
      };
      parsesOrExplains(
        JSON.stringify({ ...good, ...globals, routes: [{ from: "https://b.example.com", to: "http://c", ...route }] }),
      );
    }),
    { numRuns: 1500 },
  );
});

test("any text parses or explains its errors", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.string({ unit: "binary" })), (text) => parsesOrExplains(text)),
    { numRuns: 500 },
  );
});

test("a valid file with a piece changed or removed parses or explains its errors", () => {
  const files = [
    base + goodRoute,
    ...["cardea.dev.yaml", "examples/pomerium.yaml"].map((file) =>
      readFileSync(new URL(`../../${file}`, import.meta.url), "utf8"),
    ),
  ];
  const change = fc.record({
    file: fc.constantFrom(...files),
    at: fc.nat(),
    length: fc.nat({ max: 40 }),
    insert: fc.oneof(word, fc.constantFrom(": ", "\n- ", "&a ", "*a", "<<: ", "\t", "{", "]", "'", "|", "---\n")),
  });
  fc.assert(
    fc.property(change, ({ file, at, length, insert }) => {
      const start = at % file.length;
      parsesOrExplains(file.slice(0, start) + insert + file.slice(start + length));
    }),
    { numRuns: 1500 },
  );
});

test("any environment parses or explains its errors", () => {
  const names = Object.keys(globalShape).map((key) => key.toUpperCase());
  const environment = fc.dictionary(
    fc.constantFrom(...names, "ROUTES", "POLICY", "HEADERS", "BROKER_LEASE", "NATS_SERVERS", "AUDIT_SINKS"),
    word,
    { maxKeys: 5 },
  );
  fc.assert(
    fc.property(environment, (env) => parsesOrExplains(base + goodRoute, env)),
    { numRuns: 1000 },
  );
});
