/**
 * System lookup: resolves host names through the system, so that one name with a silent DNS server does not delay the
 * others.
 *
 * - Node resolves names in a few threads (half of the libuv pool: two, unless UV_THREADPOOL_SIZE says more). A silent
 *   server occupies a thread for seconds.
 * - In many networks the name of a broker that has just died is such a name, and every process resolves it repeatedly.
 *   Two such lookups would block the lookup of Postgres.
 * - The callers of a name therefore share one lookup. If the system is slow or fails temporarily, its last answer is
 *   used. A name that certainly no longer exists fails at once.
 */
import { type LookupAddress, type LookupAllOptions, lookup as systemLookup } from "node:dns";
import type { LookupFunction } from "node:net";
import { LRUCache } from "lru-cache";

type Answered = (error: NodeJS.ErrnoException | null, addresses: readonly LookupAddress[]) => void;
type Ask = (name: string, options: LookupAllOptions, callback: Answered) => void;
type Known = { addresses: readonly LookupAddress[]; at: number };

const namesMax = 256;
/** Connections opened within this time share one lookup, ms. */
const freshMs = 1_000;
/** A lookup that takes longer is slow, ms. The last answer is then used if it is not older than `keptMs`. */
const patienceMs = 400;
const keptMs = 3_600_000;

/** Creates the `lookup` function of a socket. Each client has its own. */
export function createSystemLookup(
  ask: Ask = systemLookup,
  now: () => number = () => performance.now(),
): LookupFunction {
  const known = new LRUCache<string, Known>({ max: namesMax });
  const asking = new LRUCache<string, Answered[]>({ max: namesMax });

  function resolve(name: string, answered: Answered): void {
    const waiting = asking.get(name);
    if (waiting !== undefined) {
      waiting.push(answered);
      return;
    }
    const callers = [answered];
    asking.set(name, callers);
    ask(name, { all: true }, (error, addresses) => {
      if (asking.get(name) === callers) asking.delete(name);
      const last = known.get(name);
      if (error === null) known.set(name, { addresses, at: now() });
      else if (error.code !== "EAI_AGAIN") known.delete(name);
      const lastServes = error?.code === "EAI_AGAIN" && last !== undefined && now() - last.at < keptMs;
      for (const caller of callers) {
        if (lastServes) caller(null, last.addresses);
        else caller(error, addresses);
      }
    });
  }

  function find(name: string, answered: Answered): void {
    const last = known.get(name);
    const age = last === undefined ? Number.POSITIVE_INFINITY : now() - last.at;
    if (last !== undefined && age < freshMs) {
      answered(null, last.addresses);
      return;
    }
    if (last === undefined || age >= keptMs) {
      resolve(name, answered);
      return;
    }
    let open = true;
    const once: Answered = (error, addresses) => {
      clearTimeout(timer);
      if (open) answered(error, addresses);
      open = false;
    };
    const timer = setTimeout(() => once(null, last.addresses), patienceMs);
    resolve(name, once);
  }

  return (hostname, options, callback) => {
    find(hostname.toLowerCase(), (error, addresses) => {
      if (error !== null) return callback(error, "", 0);
      const { family } = options;
      const wanted = family === 4 || family === "IPv4" ? 4 : family === 6 || family === "IPv6" ? 6 : 0;
      const fitting = wanted === 0 ? addresses : addresses.filter((one) => one.family === wanted);
      const [first] = fitting;
      if (first === undefined) {
        const none = Object.assign(new Error(`${hostname} has no address of the requested family`), {
          code: "ENOTFOUND",
          hostname,
        });
        return callback(none, "", 0);
      }
      if (options.all === true) callback(null, [...fitting]);
      else callback(null, first.address, first.family);
    });
  };
}
