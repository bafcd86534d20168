/** Value types of process keys: services, certificates and bearer token formats. Pure. */
import {
  enumValue,
  formatValue,
  isPlainObject,
  isRefused,
  parseJson,
  parseStringList,
  type RefusedValue,
  type ValueType,
  valueType,
} from "./value-type.ts";

export type Service = "authenticate" | "authorize" | "databroker" | "proxy";

export const everyService: readonly Service[] = ["authenticate", "authorize", "databroker", "proxy"];
const spellings: Readonly<Record<string, readonly Service[]>> = {
  all: everyService,
  "all-in-one": everyService,
  authenticate: ["authenticate"],
  authorize: ["authorize"],
  databroker: ["databroker"],
  cache: ["databroker"],
  proxy: ["proxy"],
};

export const serviceSet = (): ValueType<ReadonlySet<Service>> =>
  valueType({ label: "all, or list of services", json: { type: ["string", "array"] } }, (value, refuse) => {
    const list = parseStringList(typeof value === "string" ? value.trim().replaceAll(/\s+/g, ",") : value, refuse);
    if (isRefused(list)) return list;
    const remedy = `write all, or some of ${everyService.join(", ")}`;
    if (list.length === 0) return refuse("names no service", remedy);
    const found = new Set<Service>();
    for (const word of list) {
      const services = Object.hasOwn(spellings, word.toLowerCase()) ? spellings[word.toLowerCase()] : undefined;
      if (services === undefined) return refuse(`${formatValue(word)} is not a service`, remedy);
      for (const service of services) found.add(service);
    }
    return found;
  });

export type CertificateFiles = Readonly<{ cert: string; key: string }>;

export const certificatePairs = (): ValueType<readonly CertificateFiles[]> =>
  valueType({ label: "list of {cert: file, key: file}", json: { type: ["array", "string"] } }, (value, refuse) => {
    const list = typeof value === "string" ? parseJson(value) : value;
    const remedy = "write - cert: file and key: file";
    if (!Array.isArray(list)) return refuse("is not a list of certificates", remedy);
    const found: CertificateFiles[] = [];
    let refused: RefusedValue | undefined;
    list.forEach((item: unknown, i) => {
      const { cert, key, ...rest } = isPlainObject(item) ? item : {};
      if (
        typeof cert !== "string" ||
        cert === "" ||
        typeof key !== "string" ||
        key === "" ||
        Object.keys(rest).length > 0
      ) {
        refused = refuse(`${formatValue(item)} is not {cert, key}`, remedy, [i]);
      } else found.push({ cert, key });
    });
    return refused ?? found;
  });

const bearerFormats = ["default", "idp_access_token", "idp_identity_token", "jwt"] as const;

/** Also accepts the full names of Pomerium's enumeration. */
export const bearerFormat = (): ValueType<(typeof bearerFormats)[number]> =>
  enumValue(bearerFormats, {
    "": "default",
    bearer_token_format_unknown: "default",
    ...Object.fromEntries(bearerFormats.map((format) => [`bearer_token_format_${format}`, format])),
  });
