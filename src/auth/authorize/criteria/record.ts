/**
 * Criterion `record`: a test on the caller's record in an external data set, found by id, address or certificate.
 *
 * - Values are compared as text, because CSV has nothing else.
 * - A missing field is an empty list, as with claims.
 * - A missing record is a known fact. A set that could not be read is not: the answer carries `record-unavailable`.
 */
import { suggest } from "../../../config/index.ts";
import { certificateReader } from "../client-certificates/client-certificate.ts";
import type { DecisionRequest, Principal } from "../decision.ts";
import { describeValue, isObject, type PolicyPath, suggestionFor, useOneOf } from "../ppl-parser.ts";
import type { DataRecord, RecordKey } from "../records/records.ts";
import {
  type CompiledCriterion,
  type CriterionContext,
  type CriterionDescriptor,
  compiledCriterion,
  readsOf,
} from "./criterion-parts.ts";

type Values = readonly unknown[];
type ValueTest = (values: Values) => boolean;
type Operand = "scalar" | "list" | "text" | "number";

const textOf = (value: unknown): string => String(value);
/** A test of a field that holds exactly one value. */
const exactlyOne =
  (holds: (value: unknown) => boolean): ValueTest =>
  (values) =>
    values.length === 1 && holds(values[0]);
const numeric = (value: unknown): number =>
  typeof value === "number" ? value : typeof value === "string" && value.trim() !== "" ? Number(value) : Number.NaN;

type Operator = Readonly<{ operand: Operand; build: (operand: never) => ValueTest }>;
const comparison = (holds: (value: number, operand: number) => boolean): Operator => ({
  operand: "number",
  build: (operand: number) => exactlyOne((value) => holds(numeric(value), operand)),
});
const operators: Readonly<Record<string, Operator>> = {
  is: { operand: "scalar", build: (operand: string) => exactlyOne((value) => textOf(value) === operand) },
  not: { operand: "scalar", build: (operand: string) => exactlyOne((value) => textOf(value) !== operand) },
  contains: { operand: "text", build: (operand: string) => exactlyOne((value) => textOf(value).includes(operand)) },
  starts_with: {
    operand: "text",
    build: (operand: string) => exactlyOne((value) => textOf(value).startsWith(operand)),
  },
  ends_with: { operand: "text", build: (operand: string) => exactlyOne((value) => textOf(value).endsWith(operand)) },
  in: { operand: "list", build: (operand: ReadonlySet<string>) => exactlyOne((value) => operand.has(textOf(value))) },
  not_in: {
    operand: "list",
    build: (operand: ReadonlySet<string>) => exactlyOne((value) => !operand.has(textOf(value))),
  },
  has: { operand: "scalar", build: (operand: string) => (values) => values.some((value) => textOf(value) === operand) },
  exclude: {
    operand: "scalar",
    build: (operand: string) => (values) => !values.some((value) => textOf(value) === operand),
  },
  "<": comparison((value, operand) => value < operand),
  "<=": comparison((value, operand) => value <= operand),
  "=": comparison((value, operand) => value === operand),
  ">": comparison((value, operand) => value > operand),
  ">=": comparison((value, operand) => value >= operand),
};
const names = ["type", "field", "exists", ...Object.keys(operators)];

export const recordCriteria: readonly CriterionDescriptor[] = [
  {
    name: "record",
    compile: compileRecord,
    reasons: {
      ok: "record-ok",
      fail: "record-unauthorized",
      others: ["record-unavailable"],
    },
    replay: "unknown",
    mayRequireMore: true,
  },
];

function compileRecord(context: CriterionContext): CompiledCriterion | undefined {
  const criterion = parseRecord(context);
  if (criterion === undefined) return undefined;
  const { reasons, records, words } = context;
  const set = records.get(criterion.type);
  if (set === undefined) {
    const meant = suggest(criterion.type, records.keys());
    const remedy = meant === undefined ? "add it to `data_sources`" : `did you mean \`${meant}\`?`;
    context.report(
      [...context.criterion.path, "type"],
      `there is no data source of the type \`${criterion.type}\``,
      remedy,
    );
    return undefined;
  }
  const met = reasons.of(words.ok).met;
  const unmet = reasons.of(words.fail).unmet;
  const unauthenticated = reasons.of("user-unauthenticated").unmet;
  const unknown = reasons.of("record-unavailable").unmet;
  const needsSession = set.key.startsWith("user.");
  const nameOf = nameReader(set.key);
  return compiledCriterion(
    (request, principal) => {
      if (needsSession && (principal === null || principal.profile === undefined)) return unauthenticated;
      if (!set.known) return unknown;
      const name = nameOf(request, principal);
      const record = name === undefined || name === "" ? undefined : set.find(name);
      return criterion.holds(record) ? met : unmet;
    },
    { type: "record", recordType: criterion.type },
    { needsSession, reads: readsOf({ recordTypes: [criterion.type] }) },
  );
}

type NameReader = (request: DecisionRequest, principal: Principal | null) => string | undefined;

function nameReader(key: RecordKey): NameReader {
  const read = certificateReader();
  switch (key) {
    case "user.id":
      return (_request, principal) => principal?.profile?.subject;
    case "user.email":
      return (_request, principal) => principal?.profile?.email;
    case "request.ip":
      return ({ ip }) => ip;
    case "request.client_certificate.fingerprint":
      return ({ clientCertificate: shown }) => (shown?.valid === true ? read(shown)?.fingerprint : undefined);
  }
}

type RecordQuery = Readonly<{ type: string; holds: (record: DataRecord | undefined) => boolean }>;

function parseRecord({ criterion, report }: CriterionContext): RecordQuery | undefined {
  const { data, path } = criterion;
  if (!isObject(data) || typeof data["type"] !== "string" || data["type"] === "") {
    report(
      path,
      "`record` needs the type of its data source",
      "write `record: {type: example.com/hr, field: team, is: blue}`",
    );
    return undefined;
  }
  let complete = true;
  const refuse = (key: string, problem: string, remedy: string): void => {
    complete = false;
    report([...path, key], problem, remedy);
  };
  const { type, field, exists } = data;
  if (exists !== undefined && typeof exists !== "boolean")
    refuse("exists", `${describeValue(exists)} is neither true nor false`, "write `true` or `false`");
  const tests: ValueTest[] = [];
  for (const [key, value] of Object.entries(data)) {
    if (key === "type" || key === "field" || key === "exists") continue;
    const operator = Object.hasOwn(operators, key) ? operators[key] : undefined;
    if (operator === undefined) refuse(key, `unknown operator \`${key}\``, suggestionFor(key, names, data));
    else {
      const operand = operandOf(operator.operand, value);
      if (operand === undefined)
        refuse(key, `${describeValue(value)} cannot be compared with \`${key}\``, remedies[operator.operand]);
      else tests.push(operator.build(operand as never));
    }
  }
  if (tests.length === 0 && exists === undefined && complete) {
    complete = false;
    report(path, "`record` without an operator would be met by every request", useOneOf(names.slice(2)));
  }
  if (tests.length > 0 && (typeof field !== "string" || field === "")) {
    complete = false;
    report(path, "`record` needs a field to compare", "add `field: <name>`");
  }
  if (!complete) return undefined;
  const read = typeof field === "string" ? fieldReader(field) : () => [];
  return {
    type,
    holds: (record) =>
      (exists === undefined || (record !== undefined) === exists) &&
      (tests.length === 0 || tests.every((test) => test(read(record)))),
  };
}

const remedies: Readonly<Record<Operand, string>> = {
  scalar: "write text, a number, `true` or `false`",
  text: "write text",
  number: "write a number",
  list: "write a list: `[one, two]`",
};

const isScalar = (value: unknown): boolean => ["string", "number", "boolean"].includes(typeof value);

function operandOf(kind: Operand, value: unknown): string | number | ReadonlySet<string> | undefined {
  switch (kind) {
    case "scalar":
      return isScalar(value) ? textOf(value) : undefined;
    case "text":
      return typeof value === "string" && value !== "" ? value : undefined;
    case "number":
      return typeof value === "number" && Number.isFinite(value) ? value : undefined;
    case "list":
      return Array.isArray(value) && value.every(isScalar) ? new Set(value.map(textOf)) : undefined;
  }
}

/** Finds a field by its exact name, then by its dotted path. Objects and nulls are not values. */
function fieldReader(field: string): (record: DataRecord | undefined) => Values {
  const steps: PolicyPath = field.split(".");
  return (record) => {
    if (record === undefined) return [];
    const value = Object.hasOwn(record, field) ? record[field] : steps.reduce<unknown>(stepInto, record);
    return (Array.isArray(value) ? value : [value]).filter(isScalar);
  };
}

function stepInto(value: unknown, step: string | number): unknown {
  return isObject(value) && Object.hasOwn(value, step) ? value[step] : undefined;
}
