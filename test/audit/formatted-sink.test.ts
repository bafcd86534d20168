/** Records as cloud events and as OCSF events: valid by the SDK of CloudEvents and by the published schema of OCSF. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type CloudEvent, HTTP } from "cloudevents";
import { type AuditRecord, withFormat, withoutEnvelope } from "../../src/audit/index.ts";
import { fc } from "../support/property.ts";
import { samples } from "./samples.ts";
import { batchOf } from "./support.ts";

async function linesOf(format: "cloudevents" | "ocsf" | "json", ...records: readonly AuditRecord[]): Promise<string[]> {
  const written: string[] = [];
  const sink = withFormat(
    { name: "test", write: async ({ bytes }) => void written.push(bytes.toString()), close: async () => undefined },
    { format, cluster: "prod" },
  );
  await sink.write(batchOf(...records));
  return written.join("").split("\n").slice(0, -1);
}

describe("cloud events", () => {
  test("every kind of record is a valid event, in the structured JSON mode", async () => {
    const all = Object.values(samples);
    const lines = await linesOf("cloudevents", ...all);
    assert.equal(lines.length, all.length);
    for (const [i, line] of lines.entries()) {
      const headers = { "content-type": "application/cloudevents+json" };
      const event = HTTP.toEvent({ headers, body: line }) as CloudEvent<AuditRecord>;
      assert.equal(event.validate(), true);
      assert.deepEqual(event.data, JSON.parse(JSON.stringify(all[i])));
      assert.equal(event.id, `boot-1:${all[i]?.seq}`);
      assert.equal(event.source, "urn:cardea:prod:node-1");
      assert.match(event.type, /^io\.cardea\.audit\.[a-z.]+$/);
      assert.deepEqual(withoutEnvelope(JSON.parse(line)), JSON.parse(JSON.stringify(all[i])), "it is read back");
      for (const name of Object.keys(JSON.parse(line) as object)) assert.match(name, /^[a-z0-9]{1,20}$/);
    }
  });

  test("an event of a decision names its subject by id, and its trace", async () => {
    const [line = ""] = await linesOf("cloudevents", samples["decision"] as AuditRecord);
    const { subject, traceid, type, dataschema, time } = JSON.parse(line) as Record<string, unknown>;
    assert.deepEqual(
      [subject, traceid, type, dataschema, time],
      [
        "user:u-1",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "io.cardea.audit.decision.request",
        "urn:cardea:schema:audit-record:1",
        "2025-11-28T00:00:00.000Z",
      ],
    );
  });
});

type Attribute = Readonly<{ type?: string; object?: string; array?: true; required?: true; enum?: readonly string[] }>;
type Shape = Readonly<{
  attributes: Readonly<Record<string, Attribute>>;
  constraints?: Readonly<{ at_least_one?: readonly string[]; just_one?: readonly string[] }>;
}>;
/** Classes and objects of the published schema, with the profile security_control; others are left out. */
const schema = JSON.parse(readFileSync(join(import.meta.dirname, "fixtures/ocsf-1.8.0.json"), "utf8")) as Readonly<{
  version: string;
  classes: Readonly<Record<string, Shape & Readonly<{ class_uid: number; category_uid: number }>>>;
  objects: Readonly<Record<string, Shape>>;
}>;

/** @returns what is wrong with an event */
function problemsOf(value: Readonly<Record<string, unknown>>): readonly string[] {
  const known = Object.values(schema.classes).find(({ class_uid }) => class_uid === value["class_uid"]);
  if (known === undefined) return [`class ${value["class_uid"]} is not known`];
  const problems = [...problemsIn(value, known, "")];
  if (value["type_uid"] !== Number(value["class_uid"]) * 100 + Number(value["activity_id"])) problems.push("type_uid");
  if ((value["metadata"] as { version?: string }).version !== schema.version) problems.push("metadata.version");
  return problems;
}

function* problemsIn(value: Readonly<Record<string, unknown>>, shape: Shape, at: string): Generator<string> {
  for (const [name, { required }] of Object.entries(shape.attributes))
    if (required === true && value[name] === undefined) yield `${at}${name} is missing`;
  const some = shape.constraints?.at_least_one;
  if (some !== undefined && !some.some((name) => value[name] !== undefined)) yield `${at}: none of ${some.join()}`;
  for (const [name, found] of Object.entries(value)) {
    const attribute = shape.attributes[name];
    if (attribute === undefined) yield `${at}${name} is not an attribute`;
    else if (attribute.array === true && !Array.isArray(found)) yield `${at}${name} is not a list`;
    else
      for (const one of attribute.array === true ? (found as unknown[]) : [found])
        yield* problemsOfValue(one, attribute, `${at}${name}`);
  }
}

function* problemsOfValue(value: unknown, attribute: Attribute, at: string): Generator<string> {
  const { object, type, enum: values } = attribute;
  if (object === "object") {
    if (typeof value !== "object" || value === null) yield `${at} is not an object`;
    return;
  }
  if (object !== undefined) {
    const shape = schema.objects[object];
    if (shape === undefined) yield `${at}: ${object} is not among the vendored objects`;
    else if (typeof value !== "object" || value === null) yield `${at} is not an object`;
    else yield* problemsIn(value as Readonly<Record<string, unknown>>, shape, `${at}.`);
    return;
  }
  if (values !== undefined && !values.includes(String(value)))
    yield `${at}: ${String(value)} is not one of ${values.join()}`;
  const isRight = {
    string_t: typeof value === "string",
    integer_t: Number.isSafeInteger(value),
    long_t: Number.isSafeInteger(value),
    boolean_t: typeof value === "boolean",
  }[type?.startsWith("string") === true ? "string_t" : (type ?? "string_t")];
  if (isRight === false) yield `${at}: ${JSON.stringify(value)} is not ${type}`;
}

describe("OCSF events", () => {
  for (const [name, record] of Object.entries(samples))
    test(`every attribute is one of the published schema, with a valid value: ${name}`, async () => {
      const [line = ""] = await linesOf("ocsf", record);
      assert.deepEqual(problemsOf(JSON.parse(line)), []);
    });

  test("the kinds have their classes, activities and outcomes", async () => {
    const lines = await linesOf("ocsf", ...Object.values(samples));
    const events = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    const seen = Object.keys(samples).map((name, i) => {
      const { class_uid, activity_id, action_id, status_id } = events[i] ?? {};
      return [name, class_uid, activity_id, action_id, status_id];
    });
    assert.deepEqual(seen, [
      ["decision", 6003, 2, 1, 1],
      ["denied", 6003, 99, 2, 2],
      ["anonymous", 6003, 2, 2, 2],
      ["redecision", 6003, 2, 2, 2],
      ["closed", 4001, 3, 2, 2],
      ["ended", 4001, 2, 1, 1],
      ["operator", 6003, 3, 1, 1],
      ["refused", 6003, 4, 2, 2],
      ["operatorRead", 6003, 2, 1, 1],
      ["operatorRefused", 6003, 3, 2, 2],
      ["signIn", 3002, 1, 1, 1],
      ["signOut", 3002, 2, 0, 0],
      ["gap", 0, 99, undefined, 2],
    ]);
  });

  test("whatever a caller sends, the event stays valid", async () => {
    const text = fc.string({ unit: "binary", maxLength: 20 }).map((made) => made.toWellFormed());
    const sent = fc.record({ method: text, host: text, path: text, ip: text, userAgent: text, query: text });
    await fc.assert(
      fc.asyncProperty(sent, async (more) => {
        const [line = ""] = await linesOf("ocsf", { ...(samples["decision"] as AuditRecord), ...more } as AuditRecord);
        assert.deepEqual(problemsOf(JSON.parse(line)), []);
      }),
      { numRuns: 200 },
    );
  });

  test("the checker finds a missing attribute, a value that is none, and an attribute that is not in the schema", async () => {
    const [line = ""] = await linesOf("ocsf", samples["decision"] as AuditRecord);
    const event = JSON.parse(line) as Record<string, unknown>;
    assert.deepEqual(problemsOf({ ...event, actor: undefined }).slice(0, 1), ["actor is missing"]);
    assert.deepEqual(problemsOf({ ...event, severity_id: 42 }), ["severity_id: 42 is not one of 0,1,2,3,4,5,6,99"]);
    assert.deepEqual(problemsOf({ ...event, extra: 1 }), ["extra is not an attribute"]);
  });
});

test("JSON lines pass as they are, and a line that no reader knows passes any format", async () => {
  const record = samples["decision"] as AuditRecord;
  assert.deepEqual(await linesOf("json", record), [JSON.stringify(record)]);
  const strange = { kind: "later", seq: 1, boot: "boot-1" } as unknown as AuditRecord;
  assert.deepEqual(await linesOf("ocsf", strange), [JSON.stringify(strange)]);
});
