/** Attack: bytes for one connection, and what must come of them. */
import { handleOf, type Transport } from "../oracle.ts";

export type Attack = Readonly<{
  /** What an attacker would hope for. */
  name: string;
  /** latin1 */
  bytes: string;
  outcome: Outcome;
  /** Over the other it is another matter. */
  transport?: Transport;
}>;

export type Sent = Readonly<{ method: string; target: string; host?: string; body?: string }>;

/**
 * refused: one answer, the connection is ended, and no upstream hears of anything complete · carried: these reach the
 * upstream, in this order, each is answered with 200, and the connection goes on · answered: by ourselves, with these,
 * and it goes on
 */
export type Outcome =
  | Readonly<{ type: "refused"; status: number }>
  | Readonly<{ type: "carried"; sent: readonly Sent[] }>
  | Readonly<{ type: "answered"; statuses: readonly number[] }>;

export const cookie = `Cookie: _pomerium=${handleOf(1)}\r\n`;
export const hidden = `GET /hidden HTTP/1.1\r\nHost: app.localhost\r\n${cookie}\r\n`;

/** @param lines whole header lines, each with its end */
export const get = (target: string, lines = "", version = "HTTP/1.1", host = "app.localhost"): string =>
  `GET ${target} ${version}\r\nHost: ${host}\r\n${cookie}${lines}\r\n`;
export const post = (lines: string, body = "", target = "/"): string =>
  `POST ${target} HTTP/1.1\r\nHost: app.localhost\r\n${cookie}${lines}\r\n${body}`;
/** A head of exactly these lines. */
export const head = (...lines: readonly string[]): string => `${lines.join("\r\n")}\r\n\r\n`;

/** Names and bytes, all refused alike. */
export function refused(status: number, attacks: Readonly<Record<string, string>>): Attack[] {
  return Object.entries(attacks).map(([name, bytes]) => ({ name, bytes, outcome: { type: "refused", status } }));
}

/** Names, bytes and what goes up. */
export function carried(attacks: Readonly<Record<string, readonly [bytes: string, ...sent: Sent[]]>>): Attack[] {
  return Object.entries(attacks).map(([name, [bytes, ...sent]]) => ({
    name,
    bytes,
    outcome: { type: "carried", sent },
  }));
}

export function over(transport: Transport, attacks: readonly Attack[]): Attack[] {
  return attacks.map((attack) => ({ ...attack, transport }));
}

export function answered(attacks: Readonly<Record<string, readonly [bytes: string, ...statuses: number[]]>>): Attack[] {
  return Object.entries(attacks).map(([name, [bytes, ...statuses]]) => ({
    name,
    bytes,
    outcome: { type: "answered", statuses },
  }));
}
