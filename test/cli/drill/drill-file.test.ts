/** The drill file: what it takes, and the sentence for each mistake. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseDrillFile } from "../../../src/cli/drill/drill-file.ts";
import { CannotError } from "../../../src/cli/terminal/command.ts";

const good = `
canary:
  url: https://canary.example.com/health
  stream: /stream
  user: canary@example.com
  group: canary
  route: canary
proxies:
  proxy-eu-1: { address: "10.0.1.4:443", metrics: "http://10.0.1.4:9902" }
  proxy-eu-2: { address: "[fd00::2]:8443" }
`;

test("a drill file names the canary and the address of each proxy", () => {
  const file = parseDrillFile(good, "drill.yaml");
  assert.equal(file.canary.url.href, "https://canary.example.com/health");
  assert.equal(file.canary.stream, "/stream");
  assert.equal(file.peopleErrorsMax, 0.01);
  assert.deepEqual(
    file.proxies.map(({ node, host, port, metrics }) => [node, host, port, metrics?.href]),
    [
      ["proxy-eu-1", "10.0.1.4", 443, "http://10.0.1.4:9902/metrics"],
      ["proxy-eu-2", "fd00::2", 8443, undefined],
    ],
  );
});

for (const [mistake, change, expected] of [
  ["plain HTTP, which would expose the credential", ["https://canary", "http://canary"], /canary\.url.*https/],
  ["an address without a port", ["10.0.1.4:443", "10.0.1.4"], /proxies\.proxy-eu-1\.address/],
  ["an unknown key", ["stream:", "streams:"], /streams/],
  ["no group", ["  group: canary\n", ""], /canary\.group/],
  ["a share of errors that harms people", ["proxies:", "people_errors: 0.5\nproxies:"], /people_errors/],
  ["text that is not YAML", ["canary:", "canary: ["], /not YAML/],
] as const)
  test(`a drill file with ${mistake} is refused, and the sentence names the place`, () => {
    assert.ok(good.includes(change[0]));
    assert.throws(
      () => parseDrillFile(good.replace(change[0], change[1]), "drill.yaml"),
      (error) => error instanceof CannotError && expected.test(error.message) && error.message.startsWith("drill.yaml"),
    );
  });

test("a drill file without a proxy is refused", () => {
  const none = `${good.slice(0, good.indexOf("proxies:"))}proxies: {}\n`;
  assert.throws(() => parseDrillFile(none, "drill.yaml"), /name each proxy/);
});
