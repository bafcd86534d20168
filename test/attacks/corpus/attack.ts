/** An attack: bytes for one connection, and the required outcome. */
import { handleOf, type Transport } from "../oracle.ts";

export type Attack = Readonly<{
  /** What the attacker tries. */
  name: string;
  /** latin1 */
  bytes: string;
  outcome: Outcome;
  /** The only transport it applies to. Absent: both. */
  transport?: Transport;
}>;

export type ForwardedRequest = Readonly<{ method: string; target: string; host?: string; body?: string }>;

/**
 * - refused: one error reply, the connection is closed, and no complete request reaches an upstream
 * - forwarded: these requests reach the upstream in this order, each is answered with 200, and the connection stays
 *   open
 * - answered: the proxy replies itself with these statuses, and the connection stays open
 */
export type Outcome =
  | Readonly<{ type: "refused"; status: number }>
  | Readonly<{ type: "forwarded"; requests: readonly ForwardedRequest[] }>
  | Readonly<{ type: "answered"; statuses: readonly number[] }>;

export const cookie = `Cookie: _pomerium=${handleOf(1)}\r\n`;
export const hidden = `GET /hidden HTTP/1.1\r\nHost: app.localhost\r\n${cookie}\r\n`;

/** @param lines whole header lines, each with its line end */
export const get = (target: string, lines = "", version = "HTTP/1.1", host = "app.localhost"): string =>
  `GET ${target} ${version}\r\nHost: ${host}\r\n${cookie}${lines}\r\n`;
export const post = (lines: string, body = "", target = "/"): string =>
  `POST ${target} HTTP/1.1\r\nHost: app.localhost\r\n${cookie}${lines}\r\n${body}`;
/** A request head of exactly these lines. */
export const head = (...lines: readonly string[]): string => `${lines.join("\r\n")}\r\n\r\n`;

/** Attacks by name, each the bytes to send; all are refused with the same status. */
export function refused(status: number, attacks: Readonly<Record<string, string>>): Attack[] {
  return Object.entries(attacks).map(([name, bytes]) => ({ name, bytes, outcome: { type: "refused", status } }));
}

/** Attacks by name, each the bytes to send and the requests that reach the upstream. */
export function forwarded(
  attacks: Readonly<Record<string, readonly [bytes: string, ...requests: ForwardedRequest[]]>>,
): Attack[] {
  return Object.entries(attacks).map(([name, [bytes, ...requests]]) => ({
    name,
    bytes,
    outcome: { type: "forwarded", requests },
  }));
}

export function onlyOver(transport: Transport, attacks: readonly Attack[]): Attack[] {
  return attacks.map((attack) => ({ ...attack, transport }));
}

export function answered(attacks: Readonly<Record<string, readonly [bytes: string, ...statuses: number[]]>>): Attack[] {
  return Object.entries(attacks).map(([name, [bytes, ...statuses]]) => ({
    name,
    bytes,
    outcome: { type: "answered", statuses },
  }));
}
