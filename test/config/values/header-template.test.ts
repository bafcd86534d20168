// biome-ignore-all lint/suspicious/noTemplateCurlyInString: header templates look so
/** Parser of header templates: literal text, references and unknown references. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type HeaderTemplate, parseHeaderTemplate } from "../../../src/config/index.ts";

const table: readonly (readonly [string, HeaderTemplate])[] = [
  ["plain", { unknown: [], parts: [{ type: "text", text: "plain" }] }],
  ["", { unknown: [], parts: [{ type: "text", text: "" }] }],
  ["Bearer ${pomerium.jwt}", { unknown: [], parts: [{ type: "text", text: "Bearer " }, { type: "jwt" }] }],
  [
    '${pomerium.request.headers["X-Tenant"]}!',
    {
      unknown: [],
      parts: [
        { type: "requestHeader", name: "x-tenant" },
        { type: "text", text: "!" },
      ],
    },
  ],
  ["$$5 and $5", { unknown: [], parts: [{ type: "text", text: "$5 and $5" }] }],
  ["$${pomerium.jwt}", { unknown: [], parts: [{ type: "text", text: "${pomerium.jwt}" }] }],
  ["${pomerium.access_token}", { unknown: [], parts: [{ type: "providerToken", what: "access" }] }],
  [
    "id ${pomerium.id_token}",
    {
      unknown: [],
      parts: [
        { type: "text", text: "id " },
        { type: "providerToken", what: "id" },
      ],
    },
  ],
  ["${pomerium.password}", { unknown: ["${pomerium.password}"], parts: [{ type: "text", text: "" }] }],
  ["a ${pomerium.x} b${y}", { unknown: ["${pomerium.x}", "${y}"], parts: [{ type: "text", text: "a  b" }] }],
  ["${unfinished", { unknown: [], parts: [{ type: "text", text: "${unfinished" }] }],
];
for (const [value, expected] of table) {
  test(`${JSON.stringify(value)} is parsed into its parts`, () => {
    assert.deepEqual(parseHeaderTemplate(value), expected);
  });
}
