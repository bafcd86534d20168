/**
 * Decision line: formats a decision record as the same text as `toLine`, but faster. Pure.
 *
 * It runs for each request, so the parts that recur from record to record are cached as text: the node and the moment,
 * and the decision on a session's requests of one kind, whatever their path.
 */
import type { DecisionRecord } from "../auth/index.ts";
import { type Line, runsPerLine } from "./spool/index.ts";

/** Number of cached decisions, a power of two: those of some hundred people at a time. Two may have the same key. */
const answersMax = 1_024;
/** Longer texts are not cached: a stranger may send requests that are long and all different. */
const answerCharsMax = 2_048;

type CachedMoment = Readonly<{ record: DecisionRecord; text: string; isAscii: boolean }>;
/** The text of a decision around its path, which differs from one request to the next. */
type CachedAnswer = Readonly<{
  record: DecisionRecord;
  beforePath: string;
  afterPath: string;
  isAscii: boolean;
  /** Where the turns of public and personal members end, from the beginning of each text on. */
  publicBefore: number;
  personalAfter: number;
  publicAfter: number;
  lateAfter: number;
}>;

/** What follows the public members of the moment. */
const requestIdKey = ',"requestId":';

/** @returns formats a record with this number as a line, including the line end; its runs are valid until the next */
export function createLineFormatter(): (seq: number, record: DecisionRecord) => Line {
  const answers: (CachedAnswer | undefined)[] = Array.from({ length: answersMax });
  let moment: CachedMoment | undefined;
  const runs = new Uint16Array(runsPerLine);
  let overdue: Readonly<{ ms: number | null; text: string }> = { ms: null, text: overdueText(null) };

  function momentOf(record: DecisionRecord): CachedMoment {
    if (moment !== undefined && isSameMoment(moment.record, record)) return moment;
    const text = momentText(record);
    moment = { record: withoutPath(record), text, isAscii: ascii.test(text) };
    return moment;
  }

  function answerOf(record: DecisionRecord): CachedAnswer {
    if (record.trace !== undefined || record.shadow !== undefined) return answerText(record);
    const key = keyOf(record);
    const known = answers[key];
    if (known !== undefined && isSameAnswer(known.record, record)) return known;
    const second = answers[key + 1];
    if (second !== undefined && isSameAnswer(second.record, record)) return second;
    const made = answerText(record);
    if (made.beforePath.length + made.afterPath.length <= answerCharsMax) {
      answers[key + 1] = known; // the older one of the two is forgotten
      answers[key] = made;
    }
    return made;
  }

  return (seq, record) => {
    const { requestId, path, overdueMs } = record;
    const begin = momentOf(record);
    const answer = answerOf(record);
    if (overdueMs !== overdue.ms) overdue = { ms: overdueMs, text: overdueText(overdueMs) };
    const took = `${numberField("latencyMs", record.latencyMs)}${numberField("cutMs", record.cutMs)}${optionalField("closed", record.closed)}`;
    const shown = requestFields(record);
    const areWordsPlain = plain.test(requestId) && plain.test(path);
    const id = areWordsPlain ? `"${requestId}"` : JSON.stringify(requestId);
    const pathText = areWordsPlain ? `"${path}"` : JSON.stringify(path);
    const head = `{"kind":"decision","seq":${seq}${begin.text}`;
    const text = `${head}${id}${answer.beforePath}${pathText}${answer.afterPath}${overdue.text}${took}${shown}}\n`;
    const isAscii = areWordsPlain && begin.isAscii && answer.isAscii && (shown === "" || ascii.test(shown));
    if (!isAscii || text.length > runsOffsetMax) return { text, isAscii };
    const beforePath = head.length + id.length;
    const afterPath = beforePath + answer.beforePath.length + pathText.length;
    runs[0] = head.length - requestIdKey.length;
    runs[1] = beforePath;
    runs[2] = beforePath + answer.publicBefore;
    runs[3] = afterPath + answer.personalAfter;
    runs[4] = afterPath + answer.publicAfter;
    runs[5] = afterPath + answer.lateAfter;
    runs[6] = text.length - lineEndChars - shown.length;
    runs[7] = text.length - lineEndChars;
    return { text, isAscii, runs };
  };
}

/** The closing brace and the line end. */
const lineEndChars = 2;
const runsOffsetMax = 0xffff;

function momentText({ node, boot, region, at, occasion }: DecisionRecord): string {
  return `,"node":${quote(node)},"boot":${quote(boot)},"region":${quote(region)},"at":${at},"occasion":"${occasion}"${requestIdKey}`;
}

function isSameMoment(a: DecisionRecord, b: DecisionRecord): boolean {
  return a.at === b.at && a.occasion === b.occasion && a.node === b.node && a.boot === b.boot && a.region === b.region;
}

function answerText(record: DecisionRecord): CachedAnswer {
  const { routeId, method, host, ip, sessionId, userId, result, status, reasons } = record;
  const whose = `"ip":${quote(ip)},"sessionId":${quoteOrNull(sessionId)},"userId":${quoteOrNull(userId)}`;
  const answer = `"result":"${result}","status":${status},"reasons":${JSON.stringify(reasons)}`;
  const sides = `${optionalField("allow", record.allow)}${optionalField("deny", record.deny)}`;
  const names = `${textField("rule", record.rule)}${textField("routeName", record.routeName)}`;
  const late = `${textField("userAgent", record.userAgent)}${optionalField("trace", record.trace)}${optionalField("shadow", record.shadow)}`;
  const from = `"applied":${JSON.stringify(record.applied)},"configHash":${JSON.stringify(record.configHash)}`;
  const question = `,"routeId":${quoteOrNull(routeId)},"method":${quote(method)}`;
  const beforePath = `${question},"host":${quote(host)},"path":`;
  const afterPath = `,${whose},${answer}${sides}${names}${late},${from}`;
  const isAscii = ascii.test(beforePath) && ascii.test(afterPath);
  const publicAfter = afterPath.length - 1 - from.length - late.length;
  return {
    record: withoutPath(record),
    beforePath,
    afterPath,
    isAscii,
    publicBefore: question.length,
    personalAfter: 1 + whose.length,
    publicAfter,
    lateAfter: publicAfter + late.length,
  };
}

/** The texts of a request can be slices of its whole head. What is cached must not keep it in memory. */
function withoutPath(record: DecisionRecord): DecisionRecord {
  const { userAgent } = record;
  const copied = userAgent === undefined ? undefined : Buffer.from(userAgent).toString();
  return { ...record, path: "", userAgent: copied, query: undefined, headers: undefined };
}

/** What differs from one request to the next and is rarely recorded. A trace id is hexadecimal. */
function requestFields({ traceId, query, headers }: DecisionRecord): string {
  const trace = traceId === undefined ? "" : `,"traceId":"${traceId}"`;
  if (query === undefined && headers === undefined) return trace;
  return `${trace}${textField("query", query)}${optionalField("headers", headers)}`;
}

/** Whether two records have the same text but for their paths. For records without a trace and a shadow decision. */
function isSameAnswer(a: DecisionRecord, b: DecisionRecord): boolean {
  return (
    a.sessionId === b.sessionId &&
    a.userId === b.userId &&
    a.ip === b.ip &&
    a.host === b.host &&
    a.method === b.method &&
    a.routeId === b.routeId &&
    a.result === b.result &&
    a.status === b.status &&
    a.reasons === b.reasons &&
    a.allow === b.allow &&
    a.deny === b.deny &&
    a.rule === b.rule &&
    a.routeName === b.routeName &&
    a.userAgent === b.userAgent &&
    a.applied === b.applied &&
    a.configHash === b.configHash
  );
}

/** An even index. Session ids are random, so their last five characters serve as a hash. */
function keyOf({ routeId, sessionId }: DecisionRecord): number {
  let key = routeId === null ? 0 : routeId.length * 31 + routeId.charCodeAt(routeId.length - 1);
  if (sessionId !== null) {
    for (let i = sessionId.length - 5; i < sessionId.length; i++) key = Math.imul(key, 31) + sessionId.charCodeAt(i);
  }
  return (Math.imul(key, 0x9e3779b1) >>> 16) & (answersMax - 2); // NaN, from an empty text, becomes 0
}

function overdueText(ms: number | null): string {
  return `,"overdueMs":${Number.isFinite(ms) ? ms : null}`;
}

/** A new field of a record stops the build here, because without code above no sink would get it. */
type Written = "node" | "boot" | "region" | "at" | "occasion" | "requestId" | "routeId" | "method" | "host" | "path";
type AlsoWritten = "ip" | "sessionId" | "userId" | "result" | "status" | "reasons" | "trace" | "shadow";
type Timing = "latencyMs" | "cutMs" | "closed";
type Shown = "allow" | "deny" | "rule" | "routeName" | "userAgent" | "traceId" | "query" | "headers";
type From = "applied" | "configHash" | "overdueMs";
type Unwritten = Exclude<keyof DecisionRecord, Written | AlsoWritten | From | Timing | Shown>;
true satisfies [Unwritten] extends [never] ? true : Unwritten;

function numberField(name: string, value: number | undefined): string {
  return value === undefined || !Number.isFinite(value) ? "" : `,"${name}":${value}`;
}

function optionalField(name: string, value: object | undefined): string {
  return value === undefined ? "" : `,"${name}":${JSON.stringify(value)}`;
}

function textField(name: string, value: string | undefined): string {
  return value === undefined ? "" : `,"${name}":${quote(value)}`;
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
