/** Certificates by ACME, built from a configuration. */
import { X509Certificate } from "node:crypto";
import { Counter, Gauge, type Registry } from "prom-client";
import type { Config } from "../../config/index.ts";
import { type Autocert, startAutocert } from "../../proxy/index.ts";
import type { Logger } from "../../replication/index.ts";
import { systemClock } from "../../replication/runtime/index.ts";

export function startAutocertOf(config: Config, parts: Readonly<{ registry: Registry; logger: Logger }>): Autocert {
  const orders = new Counter({
    name: "cardea_autocert_orders_total",
    help: "Orders of ACME certificates, by result.",
    labelNames: ["result"],
    registers: [parts.registry],
  });
  const autocert = startAutocert({
    config: config.autocert,
    logger: parts.logger,
    events: { onOrdered: (result) => orders.inc({ result }) },
    wall: systemClock.wall,
    random: Math.random,
  });
  new Gauge({
    name: "cardea_autocert_expires_timestamp_seconds",
    help: "When the first ACME certificate expires; 0: none.",
    registers: [parts.registry],
    collect() {
      const ends = autocert.certificates().map(({ cert }) => new X509Certificate(cert).validToDate.getTime());
      this.set(ends.length === 0 ? 0 : Math.min(...ends) / 1_000);
    },
  });
  return autocert;
}
