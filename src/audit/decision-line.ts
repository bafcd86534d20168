/**
 * Decision line: formats a decision record as the same text as `toLine`, but faster. Pure.
 *
 * It runs for each request, so the parts that recur from record to record are cached as text: the node and the moment,
 * and the decision on a repeated request.
 */
import type { DecisionRecord } from "../auth/index.ts";
import type { Line } from "./record-buffer.ts";

/** Number of cached decisions. A new one replaces another with the same key. */
const answersMax = 256;
/** Longer texts are not cached: a stranger may send requests that are long and all different. */
const answerCharsMax = 2_048;

type CachedText = Readonly<{ record: DecisionRecord; text: string; isAscii: boolean }>;

/** @returns formats a record with this number as a line, including the line end */
export function createLineFormatter(): (seq: number, record: DecisionRecord) => Line {
  const answers: (CachedText | undefined)[] = Array.from({ length: answersMax });
  let moment: CachedText | undefined;
  let overdue: Readonly<{ ms: number | null; text: string }> = { ms: null, text: overdueText(null) };

  function momentOf(record: DecisionRecord): CachedText {
    if (moment === undefined || !isSameMoment(moment.record, record)) moment = cacheText(record, momentText(record));
    return moment;
  }

  function answerOf(record: DecisionRecord): CachedText {
    if (record.trace !== undefined || record.shadow !== undefined) return cacheText(record, answerText(record));
    const key = keyOf(record);
    const known = answers[key];
    if (known !== undefined && isSameAnswer(known.record, record)) return known;
    const made = cacheText(record, answerText(record));
    if (made.text.length <= answerCharsMax) answers[key] = made;
    return made;
  }

  return (seq, record) => {
    const { requestId, overdueMs } = record;
    const begin = momentOf(record);
    const answer = answerOf(record);
    if (overdueMs !== overdue.ms) overdue = { ms: overdueMs, text: overdueText(overdueMs) };
    const took = `${numberField("latencyMs", record.latencyMs)}${numberField("cutMs", record.cutMs)}`;
    const isPlain = plain.test(requestId);
    const id = isPlain ? `"${requestId}"` : JSON.stringify(requestId);
    const text = `{"kind":"decision","seq":${seq}${begin.text}${id}${answer.text}${overdue.text}${took}}\n`;
    return { text, isAscii: isPlain && begin.isAscii && answer.isAscii };
  };
}

function momentText({ node, boot, region, at, occasion }: DecisionRecord): string {
  return `,"node":${quote(node)},"boot":${quote(boot)},"region":${quote(region)},"at":${at},"occasion":"${occasion}","requestId":`;
}

function isSameMoment(a: DecisionRecord, b: DecisionRecord): boolean {
  return a.at === b.at && a.occasion === b.occasion && a.node === b.node && a.boot === b.boot && a.region === b.region;
}

function answerText(record: DecisionRecord): string {
  const { routeId, method, host, path, ip, sessionId, userId, result, status, reasons } = record;
  const what = `"method":${quote(method)},"host":${quote(host)},"path":${quote(path)},"ip":${quote(ip)}`;
  const whose = `"sessionId":${quoteOrNull(sessionId)},"userId":${quoteOrNull(userId)}`;
  const answer = `"result":"${result}","status":${status},"reasons":${JSON.stringify(reasons)}`;
  const why = `${optionalField("trace", record.trace)}${optionalField("shadow", record.shadow)}`;
  const from = `"applied":${JSON.stringify(record.applied)},"configHash":${JSON.stringify(record.configHash)}`;
  return `,"routeId":${quoteOrNull(routeId)},${what},${whose},${answer}${why},${from}`;
}

/** For records without a trace and a shadow decision. */
function isSameAnswer(a: DecisionRecord, b: DecisionRecord): boolean {
  return (
    a.path === b.path &&
    a.sessionId === b.sessionId &&
    a.userId === b.userId &&
    a.ip === b.ip &&
    a.host === b.host &&
    a.method === b.method &&
    a.routeId === b.routeId &&
    a.result === b.result &&
    a.status === b.status &&
    a.reasons === b.reasons &&
    a.applied === b.applied &&
    a.configHash === b.configHash
  );
}

/** Session ids are random, so their last two characters serve as a hash. */
function keyOf({ path, sessionId }: DecisionRecord): number {
  let key = path.length * 31 + path.charCodeAt(path.length - 1);
  if (sessionId !== null) {
    const end = sessionId.length;
    key = (key * 31 + sessionId.charCodeAt(end - 1)) * 31 + sessionId.charCodeAt(end - 2);
  }
  return (key | 0) & (answersMax - 1); // NaN, from an empty text, becomes 0
}

function overdueText(ms: number | null): string {
  return `,"overdueMs":${Number.isFinite(ms) ? ms : null}`;
}

/** A new field of a record stops the build here, because without code above no sink would get it. */
type Written = "node" | "boot" | "region" | "at" | "occasion" | "requestId" | "routeId" | "method" | "host" | "path";
type AlsoWritten = "ip" | "sessionId" | "userId" | "result" | "status" | "reasons" | "trace" | "shadow";
type Timing = "latencyMs" | "cutMs";
type Unwritten = Exclude<keyof DecisionRecord, Written | AlsoWritten | "applied" | "configHash" | "overdueMs" | Timing>;
true satisfies [Unwritten] extends [never] ? true : Unwritten;

function cacheText(record: DecisionRecord, text: string): CachedText {
  return { record, text, isAscii: ascii.test(text) };
}

function numberField(name: string, value: number | undefined): string {
  return value === undefined || !Number.isFinite(value) ? "" : `,"${name}":${value}`;
}

function optionalField(name: string, value: object | undefined): string {
  return value === undefined ? "" : `,"${name}":${JSON.stringify(value)}`;
}

function quoteOrNull(text: string | null): string {
  return text === null ? "null" : quote(text);
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: ASCII includes them
const ascii = /^[\u0000-\u007f]*$/;
/** Text that needs no escapes in JSON. */
const plain = /^[ !#-[\]-~]*$/;

/** As a JSON string. Most texts need no escapes. */
function quote(text: string): string {
  return plain.test(text) ? `"${text}"` : JSON.stringify(text);
}
