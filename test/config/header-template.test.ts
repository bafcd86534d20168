// biome-ignore-all lint/suspicious/noTemplateCurlyInString: header templates look so
/** Header templates as data. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type HeaderTemplate, parseHeaderTemplate } from "../../src/config/index.ts";

const table: readonly (readonly [string, HeaderTemplate])[] = [
  ["plain", { ok: true, parts: [{ type: "text", text: "plain" }] }],
  ["", { ok: true, parts: [{ type: "text", text: "" }] }],
  ["Bearer ${pomerium.jwt}", { ok: true, parts: [{ type: "text", text: "Bearer " }, { type: "jwt" }] }],
  [
    '${pomerium.request.headers["X-Tenant"]}!',
    {
      ok: true,
      parts: [
        { type: "requestHeader", name: "x-tenant" },
        { type: "text", text: "!" },
      ],
    },
  ],
  ["$$5 and $5", { ok: true, parts: [{ type: "text", text: "$5 and $5" }] }],
  ["$${pomerium.jwt}", { ok: true, parts: [{ type: "text", text: "${pomerium.jwt}" }] }],
  ["${pomerium.access_token}", { ok: true, parts: [{ type: "providerToken", what: "access" }] }],
  [
    "id ${pomerium.id_token}",
    {
      ok: true,
      parts: [
        { type: "text", text: "id " },
        { type: "providerToken", what: "id" },
      ],
    },
  ],
  ["${pomerium.password}", { ok: false, reference: "${pomerium.password}" }],
  ["${unfinished", { ok: true, parts: [{ type: "text", text: "${unfinished" }] }],
];
for (const [value, expected] of table) {
  test(`${JSON.stringify(value)} is ${expected.ok ? "rendered in parts" : "refused"}`, () => {
    assert.deepEqual(parseHeaderTemplate(value), expected);
  });
}
