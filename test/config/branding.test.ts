/** The look of the pages: colours that people can read, and contacts that are links of a known kind. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { textOn } from "../../src/config/index.ts";
import { contrastOn, nearestReadable, surfaces } from "../../src/config/values/colour.ts";
import { baseSheet } from "../../src/console/pages/tokens.ts";
import { fc } from "../support/property.ts";
import { base, config, errors, goodRoute } from "./support.ts";

const withKeys = (keys: string): string => `${base}${keys}\n${goodRoute}`;

test("a colour that people cannot read is an error, with the nearest that they can", () => {
  const [problem = "", ...more] = errors(withKeys('primary_color: "#7cd0b8"'));
  assert.deepEqual(more, []);
  assert.match(problem, /primary_color: #7cd0b8 has a contrast of 1\.[0-9]:1 on the light pages/);
  const suggested = /write "(#[0-9a-f]{6})"/.exec(problem)?.[1] ?? assert.fail(problem);
  assert.deepEqual(errors(withKeys(`primary_color: "${suggested}"`)), []);
  assert.equal(errors(withKeys('darkmode_primary_color: "#14594b"')).length, 1);
});

test("a colour for dark pages is derived where none is given", () => {
  const { branding } = config(withKeys('primary_color: "#7a1f5c"\nsecondary_color: "#14594B"'));
  assert.deepEqual(branding.light, { primary: "#7a1f5c", secondary: "#14594b" });
  for (const colour of [branding.dark.primary, branding.dark.secondary])
    assert.ok(contrastOn(colour ?? "", surfaces.dark) >= 4.5);
});

test("every colour has a readable shade for both themes, and readable text on it", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 0xffffff }),
      fc.constantFrom("light" as const, "dark" as const),
      (n, theme) => {
        const shade = nearestReadable(`#${n.toString(16).padStart(6, "0")}`, theme);
        assert.ok(contrastOn(shade, surfaces[theme]) >= 4.5);
        assert.ok(contrastOn(textOn(shade), [shade]) >= 4.5);
      },
    ),
  );
});

test("colours are checked against the surfaces that the pages have", () => {
  for (const [theme, sheet] of [
    ["light", baseSheet.split("@media")[0]],
    ["dark", baseSheet.split("@media")[1]],
  ] as const)
    for (const [i, name] of ["card", "ground", "soft"].entries())
      assert.ok(sheet?.includes(`--${name}: ${surfaces[theme][i]};`), `${theme} ${name}`);
});

test("a contact is a page or an address for email, and a logo is a picture", () => {
  for (const url of ["javascript:alert(1)", "https://user@evil.example", "mailto:a@b?subject=x", "//x", "ftp://x"])
    assert.equal(errors(withKeys(`support: {label: us, url: "${url}"}`)).length, 1, url);
  for (const url of ["https://help.example.com/x", "mailto:help@example.com"])
    assert.deepEqual(errors(withKeys(`support: {label: us, url: "${url}"}`)), [], url);
  assert.equal(errors(withKeys('support: {url: "https://help.example.com"}')).length, 1);
  assert.equal(errors(withKeys('logo_url: "data:text/html,x"')).length, 1);
});

test("a configuration without branding keeps its hash, and one with it gets another", () => {
  const plain = config(withKeys("")).hash;
  assert.equal(config(withKeys('organization_name: ""')).hash, plain);
  assert.notEqual(config(withKeys("organization_name: Acme")).hash, plain);
});
