/**
 * Decision line: the text of a decision record, the very text that `toLine` would make of it.
 *
 * Pure. It is made for each request, so what is the same from one record to the next (who decides, the reasons of a rule, the link and the
 * configuration it was decided from) is remembered as text, by identity.
 */
import type { DecisionRecord } from "../auth/index.ts";

/** @returns makes the line of a record that has this number, with its end */
export function createLineMaker(): (seq: number, record: DecisionRecord) => string {
  const who = remembered(
    ({ node, boot, region }: DecisionRecord) =>
      `"node":${JSON.stringify(node)},"boot":${JSON.stringify(boot)},"region":${JSON.stringify(region)}`,
    (a, b) => a.node === b.node && a.boot === b.boot && a.region === b.region,
  );
  const reasonsOf = remembered(
    ({ reasons }: DecisionRecord) => JSON.stringify(reasons),
    (a, b) => a.reasons === b.reasons,
  );
  const from = remembered(
    ({ applied, configHash }: DecisionRecord) =>
      `"applied":${JSON.stringify(applied)},"configHash":${JSON.stringify(configHash)}`,
    (a, b) => a.applied === b.applied && a.configHash === b.configHash,
  );
  const timeOf = remembered(
    ({ at }: DecisionRecord) => String(at),
    (a, b) => a.at === b.at,
  );
  return (seq, record) => {
    const { occasion, requestId, routeId, method, host, path, ip, sessionId, userId } = record;
    const { result, status, trace, shadow, overdueMs } = record;
    const asked = `"at":${timeOf(record)},"occasion":"${occasion}","requestId":${quote(requestId)},"routeId":${quoteOrNull(routeId)}`;
    const what = `"method":${quote(method)},"host":${quote(host)},"path":${quote(path)},"ip":${quote(ip)}`;
    const whose = `"sessionId":${quoteOrNull(sessionId)},"userId":${quoteOrNull(userId)}`;
    const answer = `"result":"${result}","status":${status},"reasons":${reasonsOf(record)}`;
    const why = `${beside("trace", trace)}${beside("shadow", shadow)}`;
    const head = `{"kind":"decision","seq":${seq},${who(record)},${asked},${what},${whose},${answer}${why}`;
    return `${head},${from(record)},"overdueMs":${Number.isFinite(overdueMs) ? overdueMs : null}}\n`;
  };
}

/** What is not written above would be missing from every sink: a new field of a record stops the build here. */
type Written = "node" | "boot" | "region" | "at" | "occasion" | "requestId" | "routeId" | "method" | "host" | "path";
type AlsoWritten = "ip" | "sessionId" | "userId" | "result" | "status" | "reasons" | "trace" | "shadow";
type Unwritten = Exclude<keyof DecisionRecord, Written | AlsoWritten | "applied" | "configHash" | "overdueMs">;
true satisfies [Unwritten] extends [never] ? true : Unwritten;

function remembered(
  make: (record: DecisionRecord) => string,
  isSame: (a: DecisionRecord, b: DecisionRecord) => boolean,
): (record: DecisionRecord) => string {
  let last: DecisionRecord | undefined;
  let text = "";
  return (record) => {
    if (last === undefined || !isSame(last, record)) {
      text = make(record);
      last = record;
    }
    return text;
  };
}

function beside(name: string, value: object | undefined): string {
  return value === undefined ? "" : `,"${name}":${JSON.stringify(value)}`;
}

function quoteOrNull(text: string | null): string {
  return text === null ? "null" : quote(text);
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: what JSON escapes
const needsEscape = /["\\\u0000-\u001f\u007f-\uffff]/;

/** As JSON. Hardly any text needs more than its quotes. */
function quote(text: string): string {
  return needsEscape.test(text) ? JSON.stringify(text) : `"${text}"`;
}
