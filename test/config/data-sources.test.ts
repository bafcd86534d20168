/** `data_sources`: accepted and refused values, and which of them are secret. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { canonicalConfig } from "../../src/config/hash.ts";
import { base, config, errors, goodRoute } from "./support.ts";

const withSources = (text: string): string => `${base}${goodRoute}data_sources:\n${text}`;

test("a data source has an origin, a key, a schedule and bounds", () => {
  const { dataSources } = config(
    withSources(`  - { type: example.com/hr, url: "https://hr.example.com/people.csv", foreign_key: user.email, refresh_interval: 1h, headers: { Authorization: s3cr3t } }
  - { type: ranges, file: ranges.json, foreign_key: request.ip, max_age: 24h, max_bytes: 1000, max_records: 10, timeout: 5s, format: json }
`),
  );
  assert.deepEqual(dataSources, [
    {
      type: "example.com/hr",
      from: { type: "url", url: new URL("https://hr.example.com/people.csv") },
      key: "user.email",
      format: null,
      everyMs: 3_600_000,
      timeoutMs: 30_000,
      maxAgeMs: 0,
      bytesMax: 67_108_864,
      recordsMax: 1_000_000,
      headers: { Authorization: "s3cr3t" },
    },
    {
      type: "ranges",
      from: { type: "file", path: "ranges.json" },
      key: "request.ip",
      format: "json",
      everyMs: 300_000,
      timeoutMs: 5_000,
      maxAgeMs: 86_400_000,
      bytesMax: 1_000,
      recordsMax: 10,
      headers: {},
    },
  ]);
});

test("the headers of a source are never stored with a configuration", () => {
  const written = config(withSources("  - { type: a, url: https://a.example/, headers: { Authorization: s3cr3t } }\n"));
  assert(!canonicalConfig(written).includes("s3cr3t"));
});

const refused: readonly (readonly [string, RegExp])[] = [
  ["data_sources: 5", /data_sources: is not a list of data sources/],
  ["data_sources: [{ file: x }]", /data_sources\[0\]: needs a type/],
  ["data_sources: [{ type: a }]", /data_sources\[0\]: needs either url or file/],
  ["data_sources: [{ type: a, file: x, url: https://a.example }]", /needs either url or file/],
  ["data_sources: [{ type: a, url: http://a.example }]", /data_sources\[0\]\.url: is plain HTTP/],
  ["data_sources: [{ type: a, url: nonsense }]", /data_sources\[0\]\.url: "nonsense" is not a URL/],
  [
    "data_sources: [{ type: a, file: x, foregn_key: user.id }]",
    /foregn_key: is not a known key; did you mean foreign_key/,
  ],
  ["data_sources: [{ type: a, file: x, foreign_key: user.name }]", /foreign_key: "user.name" is not known here/],
  ["data_sources: [{ type: a, file: x, refresh_interval: 10ms }]", /refresh_interval: 10ms is too short/],
  ["data_sources: [{ type: a, file: x, max_age: 5m }]", /max_age: 5m0?s? is not longer than the refresh_interval of/],
  ["data_sources: [{ type: a, file: x, max_records: 0 }]", /max_records: 0 is not a whole number/],
  ["data_sources: [{ type: a, file: x, format: xml }]", /format: "xml" is not known here/],
  [
    "data_sources: [{ type: a, file: x }, { type: a, file: y }]",
    /data_sources\[1\]\.type: "a" is already the type of another source/,
  ],
];
for (const [text, message] of refused) {
  test(`${text} is refused`, () => {
    assert.match(errors(`${base}${goodRoute}${text}\n`).join("\n"), message);
  });
}
