/** The documents generated from the schema: up to date and complete. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { suite, test } from "node:test";
import { z } from "zod";
import { generated, jsonSchema } from "../../scripts/generate-config-docs.ts";
import { readYaml } from "../../src/config/index.ts";
import { keyMeta, writtenDefault } from "../../src/config/schema/keys.ts";
import { globalKeys, globalShape, routeKeys, routeShape } from "../../src/config/schema/schema.ts";
import { sectionShape } from "../../src/config/values/value-type.ts";

const read = (file: string): string => readFileSync(new URL(`../../${file}`, import.meta.url), "utf8");

for (const { file, make } of generated) {
  test(`${file} matches the schema (else: node scripts/generate-config-docs.ts)`, () => {
    assert.equal(read(file), make());
  });
}

test("every key has a description", () => {
  const all = (shape: Readonly<Record<string, z.ZodType>>): readonly string[] =>
    Object.entries(shape).flatMap(([key, schema]) => [
      ...(keyMeta(schema).description.length < 5 ? [key] : []),
      ...all(sectionShape(schema) ?? {}),
    ]);
  assert.deepEqual([...all(globalShape), ...all(routeShape)], []);
});

test("every default is a valid value", () => {
  const check = (shape: Readonly<Record<string, z.ZodType>>): void => {
    for (const [key, schema] of Object.entries(shape)) {
      const section = sectionShape(schema);
      if (section !== undefined) check(section);
      else if (writtenDefault(schema) !== undefined) assert.equal(schema.safeParse(undefined).success, true, key);
    }
  };
  check(globalKeys);
  check(routeKeys);
});

suite("the JSON Schema", () => {
  const schema = z.fromJSONSchema(JSON.parse(jsonSchema()) as z.core.JSONSchema.JSONSchema);
  for (const file of ["cardea.dev.yaml", "examples/pomerium.yaml"]) {
    test(`accepts ${file}`, () => {
      const result = schema.safeParse(readYaml(read(file), file).value);
      assert.equal(result.success, true, result.success ? "" : z.prettifyError(result.error));
    });
  }
  test("refuses an unknown key", () => {
    assert.equal(schema.safeParse({ adress: ":443" }).success, false);
    assert.equal(schema.safeParse({ routes: [{ form: "https://a" }] }).success, false);
  });
});
