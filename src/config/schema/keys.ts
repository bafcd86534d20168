/**
 * Keys: what the schema says of a key beside its kind: whose it is, what it means, and what happens when it is written.
 *
 * A key of Pomerium's that this build does not use is still a known key. There are three sorts:
 *   ignored      means nothing here or does no harm: accepted with a warning
 *   unsupported  would change who gets in or how requests flow: an error, unless its value asks for what we do anyway
 *   removed      Pomerium itself no longer takes it: an error
 */
import { z } from "zod";

export type Origin = "Pomerium" | "Cardea";
export type KeyStatus = "supported" | "ignored" | "unsupported" | "removed";
export type KeyMeta = Readonly<{
  description: string;
  origin: Origin;
  status: KeyStatus;
  /** For keys that are not supported: what to do instead. */
  remedy: string;
  /** Values (as lowercase text) that ask for what this build does anyway, so that nothing needs to be said. */
  harmless: readonly string[];
  /** Values (as lowercase text) of an unsupported key that do no harm when they have no effect: a warning. */
  tolerated: readonly string[];
  /** The same under an environment variable: the names of keys nested in a key that is not supported. */
  nested: readonly string[];
  /** Where what is secret about it ends up in `Config`, as `withoutSecrets` (redact.ts) reads it; empty: nothing about it is secret. */
  secretAt: readonly string[];
}>;

type UnusedOptions = Readonly<Partial<Pick<KeyMeta, "remedy" | "harmless" | "tolerated" | "nested">>>;
type Secrecy = Readonly<Partial<Pick<KeyMeta, "secretAt">>>;

function withMeta<Schema extends z.ZodType>(schema: Schema, meta: KeyMeta): Schema {
  return schema.meta({ ...schema.meta(), ...meta });
}

const plain = { status: "supported", remedy: "", harmless: [], tolerated: [], nested: [], secretAt: [] } as const;

/** A key with Pomerium's name and meaning. */
export const pomerium = <Schema extends z.ZodType>(
  schema: Schema,
  description: string,
  secrecy: Secrecy = {},
): Schema => withMeta(schema, { ...plain, ...secrecy, description, origin: "Pomerium" });

/** A key that Pomerium does not have. */
export const cardea = <Schema extends z.ZodType>(schema: Schema, description: string, secrecy: Secrecy = {}): Schema =>
  withMeta(schema, { ...plain, ...secrecy, description, origin: "Cardea" });

type Unused = z.ZodOptional<z.ZodUnknown>;

const unused = (status: KeyStatus, description: string, said: UnusedOptions): Unused =>
  withMeta(z.unknown().optional(), { ...plain, ...said, description, origin: "Pomerium", status });

export const ignored = (why: string, said: UnusedOptions = {}): Unused => unused("ignored", why, said);
export const unsupported = (why: string, remedy: string, said: Omit<UnusedOptions, "remedy"> = {}): Unused =>
  unused("unsupported", why, { ...said, remedy });
export const removed = (remedy: string): Unused => unused("removed", "no longer a key of Pomerium", { remedy });

export function keyMeta(schema: z.ZodType): KeyMeta {
  const meta = schema.meta() ?? {};
  return {
    description: typeof meta["description"] === "string" ? meta["description"] : "",
    origin: meta["origin"] === "Cardea" ? "Cardea" : "Pomerium",
    status: (meta["status"] as KeyStatus | undefined) ?? "supported",
    remedy: typeof meta["remedy"] === "string" ? meta["remedy"] : "",
    harmless: Array.isArray(meta["harmless"]) ? (meta["harmless"] as readonly string[]) : [],
    tolerated: Array.isArray(meta["tolerated"]) ? (meta["tolerated"] as readonly string[]) : [],
    nested: Array.isArray(meta["nested"]) ? (meta["nested"] as readonly string[]) : [],
    secretAt: Array.isArray(meta["secretAt"]) ? (meta["secretAt"] as readonly string[]) : [],
  };
}

/** Without the wrappers that give defaults. */
export function unwrap(schema: z.ZodType): z.ZodType {
  let inner: unknown = schema;
  while (inner instanceof z.ZodPrefault || inner instanceof z.ZodOptional) inner = inner.def.innerType;
  return inner as z.ZodType;
}

/** The keys of a section; undefined when the schema is a value. */
export function sectionShape(schema: z.ZodType): Readonly<Record<string, z.ZodType>> | undefined {
  return schema instanceof z.ZodObject ? schema.shape : undefined;
}

export function valueTypeLabel(schema: z.ZodType): string {
  const label = unwrap(schema).meta()?.["label"];
  return typeof label === "string" ? label : "anything";
}

/** The default as it would be written in the file; undefined when there is none. */
export function writtenDefault(schema: z.ZodType): unknown {
  return schema instanceof z.ZodPrefault ? schema.def.defaultValue : undefined;
}
