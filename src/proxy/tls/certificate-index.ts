/**
 * Certificate index: which certificate is shown to a caller, by the name it asks for or the address it came to.
 *
 * Pure. A whole name goes before a wildcard, which stands for one label (RFC 9525 §6.3). Among certificates of one name the
 * first counts, unless it is expired and another is not.
 */
import { canonicalAddress, servedNames } from "../../config/index.ts";

export type Shown<Value> = Readonly<{
  certificate: Readonly<{ subjectAltName: string | undefined; subject: string; validToDate: Date }>;
  value: Value;
}>;

export class CertificateIndex<Value> {
  readonly #hosts = new Map<string, Value>();
  /** By what follows the star. */
  readonly #above = new Map<string, Value>();
  readonly #addresses = new Map<string, Value>();

  constructor(shown: readonly Shown<Value>[], now: number) {
    const alive = ({ certificate }: Shown<Value>): boolean => certificate.validToDate.getTime() > now;
    for (const one of [...shown.filter(alive), ...shown.filter((each) => !alive(each))]) {
      const { hosts, addresses } = servedNames(one.certificate);
      for (const host of hosts) {
        if (host.startsWith("*.")) addOnce(this.#above, host.slice(1), one.value);
        else addOnce(this.#hosts, host, one.value);
      }
      for (const address of addresses) addOnce(this.#addresses, address, one.value);
    }
  }

  /** @param serverName as the caller wrote it; RFC 6066 §3 allows no address there, and some send one */
  byName(serverName: string): Value | undefined {
    const name = serverName.toLowerCase().replace(/\.$/, "");
    const dot = name.indexOf(".");
    return (
      this.#hosts.get(name) ??
      (dot > 0 ? this.#above.get(name.slice(dot)) : undefined) ??
      this.#addresses.get(canonicalAddress(name))
    );
  }

  byAddress(address: string): Value | undefined {
    return this.#addresses.get(canonicalAddress(address));
  }
}

function addOnce<Value>(map: Map<string, Value>, name: string, value: Value): void {
  if (!map.has(name)) map.set(name, value);
}
