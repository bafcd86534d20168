/**
 * Promotion rules: decides which standby may replace a Postgres primary, and under which conditions (docs/protocol.md
 * §4.4).
 *
 * - A commit counts as acknowledged when the primary and k of its n synchronous standbys hold it.
 * - Once all but k − 1 of them have stopped receiving, the old primary can acknowledge nothing more, wherever it is and
 *   whatever its state.
 * - Of those that stopped, the one that received most holds everything that was acknowledged.
 *
 * So the rules need no time-out and no contact with the old primary. Pure; postgres/promote.ts queries the servers and
 * carries out the decision.
 */

/** The parsed value of `synchronous_standby_names`. `any`: its list has a `*`. */
export type SynchronousNames = Readonly<{ count: number; names: readonly string[] | "any" }>;

export type StandbySeen = Readonly<{
  /** For people: host and port. */
  host: string;
  /** The name used in `synchronous_standby_names`. */
  name: string;
  synchronous: string;
}>;

export type Seen = Readonly<{
  standbys: readonly StandbySeen[];
  /** Servers that answer and are not standbys. */
  primaries: readonly Readonly<{ host: string; name: string; synchronous: string }>[];
  unreachable: readonly Readonly<{ host: string; problem: string }>[];
  /** The name of the old primary in `synchronous_standby_names`, if it does not answer. */
  oldPrimary: string | null;
}>;

export type Received = Readonly<{ host: string; bytes: bigint; epoch: number; position: number }>;

/** @returns undefined when the setting names none; @throws SyntaxError when it cannot be parsed */
export function parseSynchronousNames(text: string): SynchronousNames | undefined {
  const form = /^\s*(?:(?:(?:first|any)\s+)?(\d+)\s*\((.*)\)|(.*))\s*$/is.exec(text);
  const list = (form?.[2] ?? form?.[3] ?? "").trim();
  if (list === "") return undefined;
  const names: string[] = [];
  const each = /\s*(?:"((?:[^"]|"")+)"|([^\s",()]+))\s*(,|$)/y;
  while (each.lastIndex < list.length) {
    const found = each.exec(list);
    if (found === null) throw new SyntaxError(`synchronous_standby_names cannot be read: ${text}`);
    names.push(found[1]?.replaceAll('""', '"') ?? (found[2] ?? "").toLowerCase());
  }
  return { count: Number(form?.[1] ?? 1), names: names.includes("*") ? "any" : [...new Set(names)] };
}

/**
 * Why a promotion could lose acknowledged events. Empty: it cannot, once every standby found has stopped receiving.
 */
export function whatMayBeLost({ standbys, primaries, unreachable, oldPrimary }: Seen): readonly string[] {
  const written = new Set([...standbys, ...primaries].map(({ synchronous }) => synchronous.trim()));
  if (written.size > 1) {
    const all = [...written].map((text) => `"${text}"`).join(", ");
    return [
      `synchronous_standby_names is not the same on all servers (${all}): it is unknown which of them was in force`,
    ];
  }
  const wanted = readableNames([...written][0] ?? "");
  if (wanted === "unreadable") return ["synchronous_standby_names cannot be read"];
  if (wanted === undefined)
    return [
      "there were no synchronous standbys: the last changes that the old primary acknowledged may have reached none",
    ];
  if (wanted.names === "any")
    return [
      "synchronous_standby_names is *: any server may be the only one with an acknowledged change; name the standbys there",
    ];
  const lower = (name: string): string => name.toLowerCase();
  const old = new Set([
    ...primaries.map(({ name }) => lower(name)),
    ...(oldPrimary === null ? [] : [lower(oldPrimary)]),
  ]);
  const could = wanted.names.map(lower).filter((name) => !old.has(name));
  const seen = new Set(standbys.map(({ name }) => lower(name)));
  const missing = could.filter((name) => !seen.has(name));
  if (missing.length < wanted.count) return [];
  const who = unreachable.map(({ host, problem }) => `${host} (${problem})`).join(", ");
  return [
    `${missing.join(", ")} may hold changes that no other standby has, or still acknowledge for the old primary, and cannot be stopped` +
      `${who === "" ? "" : `; unreachable: ${who}`}. If one of these names is the old primary itself, name it with --old-primary`,
  ];
}

/** @returns undefined when the setting names none */
export function readableNames(text: string): SynchronousNames | undefined | "unreadable" {
  try {
    return parseSynchronousNames(text);
  } catch {
    return "unreadable"; // Postgres can parse it, and this build cannot
  }
}

/**
 * The server from which every standby that answers received last, if it is the only one that does not answer: the old
 * primary. Null: they name different ones or one that answers, or several are silent. Of these, the one that they name
 * may be a standby between them and the primary, and as such may have acknowledged what none that answers has received.
 *
 * @param sources host and port in `primary_conninfo` of each standby
 * @param answering host and port of the servers that answer
 */
export function oldPrimaryAmong(
  sources: readonly (string | null)[],
  { answering, silent }: Readonly<{ answering: ReadonlySet<string | null>; silent: ReadonlySet<string | null> }>,
): string | null {
  // A standby of another standby says nothing of the primary.
  const named = new Set(sources.filter((source) => source === null || !answering.has(source)));
  const [only] = named;
  return named.size === 1 && only !== undefined && only !== null && silent.size === 1 && silent.has(only) ? only : null;
}

/** Host and port in connection settings, for comparison. Null: none can be read. */
export function sourceIn(conninfo: string): string | null {
  const url = isUrl(conninfo) && URL.canParse(conninfo) ? new URL(conninfo) : null;
  const host = settingIn(conninfo, "host") ?? url?.hostname.replace(/^\[|\]$/g, "") ?? "";
  const port = settingIn(conninfo, "port") ?? url?.port ?? "";
  return host === "" ? null : `${host}:${port === "" ? "5432" : port}`.toLowerCase();
}

/** The standby that received the most write-ahead log, and with it the most of the event log. */
export function chooseStandby(received: readonly Received[]): Received | undefined {
  return received.toSorted((a, b) => (a.bytes === b.bytes ? 0 : a.bytes > b.bytes ? -1 : 1))[0];
}

const nowhere = "/nonexistent/detached-by-cardea";

/** Makes the connection settings lead nowhere, in a reversible way. */
export function detachConninfo(conninfo: string): string {
  return conninfo.trim() === "" ? "" : overridden(attachConninfo(conninfo), { host: nowhere, port: "1" });
}

/** Undoes `detached`. */
export function attachConninfo(conninfo: string): string {
  const at = conninfo.indexOf(isUrl(conninfo) ? encodeURIComponent(nowhere) : nowhere);
  if (at < 0) return conninfo;
  return conninfo.slice(0, at).replace(/(?: host='|[?&]host=)$/, "");
}

/** The same settings for another server. */
export function leadingTo(conninfo: string, to: Readonly<{ host: string; port: string }>): string {
  return overridden(withoutLead(attachConninfo(conninfo)), to);
}

/** Removes what earlier moves appended, so that the settings do not grow with each. */
function withoutLead(conninfo: string): string {
  return isUrl(conninfo)
    ? conninfo.replace(/(?:[?&]host=[^&]*&hostaddr=&port=\d+)+$/, "")
    : conninfo.replace(/(?: host='(?:[^'\\]|\\.)*' hostaddr='' port='\d+')+$/, "");
}

/** The last value of a setting wins (PostgreSQL manual, "Connection Strings"). */
function overridden(conninfo: string, { host, port }: Readonly<{ host: string; port: string }>): string {
  const quoted = (value: string): string => `'${value.replace(/(['\\])/g, "\\$1")}'`;
  if (!isUrl(conninfo)) return `${conninfo} host=${quoted(host)} hostaddr='' port=${quoted(port)}`;
  const parameters = `host=${encodeURIComponent(host)}&hostaddr=&port=${encodeURIComponent(port)}`;
  return `${conninfo}${conninfo.includes("?") ? "&" : "?"}${parameters}`;
}

function isUrl(conninfo: string): boolean {
  return /^\s*postgres(ql)?:\/\//.test(conninfo);
}

/** The name that a standby gives itself. */
export function nameIn(conninfo: string, clusterName: string): string {
  const name = settingIn(conninfo, "application_name") ?? clusterName;
  return name === "" ? "walreceiver" : name;
}

/** The last value of a setting wins (PostgreSQL manual, "Connection Strings"). */
function settingIn(conninfo: string, key: string): string | undefined {
  const all = conninfo.matchAll(new RegExp(`(?:^|[\\s?&])${key}\\s*=\\s*(?:'((?:[^'\\\\]|\\\\.)*)'|([^\\s&']+))`, "g"));
  const last = [...all].at(-1);
  const value = last?.[1]?.replace(/\\(.)/g, "$1") ?? last?.[2];
  return value !== undefined && isUrl(conninfo) ? decodeURIComponent(value) : value;
}
