/**
 * Certificate index: chooses the certificate for a handshake by the server name or the local address.
 *
 * Pure. An exact name wins over a wildcard, which matches one label (RFC 9525 §6.3). Of several certificates for one
 * name the first wins, unless it has expired and another has not.
 */
import { canonicalAddress, servedNames } from "../../config/index.ts";

export type Shown<Value> = Readonly<{
  certificate: Readonly<{ subjectAltName: string | undefined; subject: string; validToDate: Date }>;
  value: Value;
}>;

export class CertificateIndex<Value> {
  readonly #hosts = new Map<string, Value>();
  /** By the text after the star. */
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

  /** @param serverName as sent. RFC 6066 §3 forbids an address, but some clients send one */
  byName(serverName: string): Value | undefined {
    const name = serverName.toLowerCase().replace(/\.$/, "");
    const dot = name.indexOf(".");
    return (
      this.#hosts.get(name) ??
      (dot > 0 ? this.#above.get(name.slice(dot)) : undefined) ??
      this.#addresses.get(canonicalAddress(name))
    );
  }

  get hasAddresses(): boolean {
    return this.#addresses.size > 0;
  }

  byAddress(address: string): Value | undefined {
    return this.#addresses.get(canonicalAddress(address));
  }
}

function addOnce<Value>(map: Map<string, Value>, name: string, value: Value): void {
  if (!map.has(name)) map.set(name, value);
}
