/**
 * Keys: the facts that the schema states about a key besides its type, such as its origin, meaning and effect.
 *
 * A key of Pomerium's that this build does not use is still a known key. There are three sorts:
 *   ignored      has no meaning here or does no harm: accepted with a warning
 *   unsupported  would change who gets in or how requests flow: an error, unless its value matches Cardea's behaviour
 *   removed      no longer accepted by Pomerium either: an error
 */
import * as z from "zod";
import type { Shape } from "../values/value-type.ts";

export type Origin = "Pomerium" | "Cardea";
export type KeyStatus = "supported" | "ignored" | "unsupported" | "removed";
/** When a change of the key takes effect: with a reload, or with the next start of the process. */
export type ReloadBehaviour = "live" | "restart";
export type KeyMeta = Readonly<{
  description: string;
  origin: Origin;
  status: KeyStatus;
  /** For keys that are not supported: what to do instead. */
  remedy: string;
  /** Values (in lowercase) of an unused key that change nothing: accepted without a warning. */
  harmless: readonly string[];
  /** Values (in lowercase) of an unsupported key that do no harm without their effect: a warning. */
  tolerated: readonly string[];
  /** Names of the keys inside an unused key, for their environment variables. */
  nested: readonly string[];
  /** The value itself is a secret: it does not belong in a file that everyone can read. */
  isSecret: boolean;
  /**
   * Paths in `Config` of everything secret about the key, in the form that `withoutSecrets` (redact.ts) reads. Empty:
   * nothing is secret.
   */
  secretAt: readonly string[];
  /** A key that names a file (`…_file`) reloads like the key whose value the file holds. */
  reload: ReloadBehaviour;
  /** Paths in `Config` of what the key decides, such as `store.type`. Empty: the path of the key in camel case. */
  configPaths: readonly string[];
  inConfig: InConfig | null;
}>;

/**
 * How a key becomes a field of `Config` by itself: its value under its name in camel case; durations get the suffix
 * `Ms`.
 */
export type InConfig = "value" | "milliseconds";

export type KeyOptions = Readonly<{
  /** The value is a secret, and this is its path in `Config`. */
  secret?: string;
  /** Paths in `Config` of the secret parts of a value that is not secret as a whole. */
  secretParts?: readonly string[];
  /** Absent: `live`. */
  reload?: ReloadBehaviour;
  configPaths?: readonly string[];
  /** Absent: the resolvers (resolve/) make fields of `Config` out of the key. */
  inConfig?: InConfig;
}>;

declare const inConfigMark: unique symbol;
type Marked<Schema, Options> = Options extends { readonly inConfig: infer Form extends InConfig }
  ? Schema & { readonly [inConfigMark]: Form }
  : Schema;

type UnusedOptions = Readonly<Partial<Pick<KeyMeta, "remedy" | "harmless" | "tolerated" | "nested">>>;

function withMeta<Schema extends z.ZodType>(schema: Schema, meta: KeyMeta): Schema {
  return schema.meta({ ...schema.meta(), ...meta });
}

const plain = {
  status: "supported",
  remedy: "",
  harmless: [],
  tolerated: [],
  nested: [],
  isSecret: false,
  secretAt: [],
  reload: "live",
  configPaths: [],
  inConfig: null,
} as const;

function supported<Schema extends z.ZodType, Options extends KeyOptions>(
  schema: Schema,
  meta: Pick<KeyMeta, "description" | "origin">,
  options: Options | undefined,
): Marked<Schema, Options> {
  const { secret, secretParts = [], reload = "live", configPaths = [], inConfig = null } = options ?? {};
  const secretAt = secret === undefined ? secretParts : [secret, ...secretParts];
  const described = withMeta(schema, {
    ...plain,
    ...meta,
    isSecret: secret !== undefined,
    secretAt,
    reload,
    configPaths,
    inConfig,
  });
  return described as Marked<Schema, Options>; // the mark exists in the type alone
}

/** A key with Pomerium's name and meaning. */
export const pomerium = <Schema extends z.ZodType, const Options extends KeyOptions>(
  schema: Schema,
  description: string,
  options?: Options,
): Marked<Schema, Options> => supported(schema, { description, origin: "Pomerium" }, options);

/** A key that Pomerium does not have. */
export const cardea = <Schema extends z.ZodType, const Options extends KeyOptions>(
  schema: Schema,
  description: string,
  options?: Options,
): Marked<Schema, Options> => supported(schema, { description, origin: "Cardea" }, options);

type Unused = z.ZodOptional<z.ZodUnknown>;

const unused = (status: KeyStatus, description: string, said: UnusedOptions): Unused =>
  withMeta(z.unknown().optional(), { ...plain, ...said, description, origin: "Pomerium", status });

export const ignored = (why: string, said: UnusedOptions = {}): Unused => unused("ignored", why, said);
export const unsupported = (why: string, remedy: string, said: Omit<UnusedOptions, "remedy"> = {}): Unused =>
  unused("unsupported", why, { ...said, remedy });
export const removed = (remedy: string): Unused => unused("removed", "no longer a key of Pomerium", { remedy });

/** The facts that the schema states about a key; those of an undescribed schema for any other. */
export function keyMeta(schema: z.ZodType): KeyMeta {
  return { ...plain, description: "", origin: "Pomerium", ...(schema.meta() as Partial<KeyMeta> | undefined) };
}

/** The schema without the wrappers that add defaults. */
export function unwrapSchema(schema: z.ZodType): z.ZodType {
  let inner: unknown = schema;
  while (inner instanceof z.ZodPrefault || inner instanceof z.ZodOptional) inner = inner.def.innerType;
  return inner as z.ZodType;
}

export function valueTypeLabel(schema: z.ZodType): string {
  const label = unwrapSchema(schema).meta()?.["label"];
  return typeof label === "string" ? label : "anything";
}

/** The default as it would be written in the file; undefined when there is none. */
export function writtenDefault(schema: z.ZodType): unknown {
  return schema instanceof z.ZodPrefault ? schema.def.defaultValue : undefined;
}

/** The values of a section: undefined where a key without a default is absent or was written wrongly. */
export type Values<S extends Shape> = { readonly [Key in keyof S]: ValueOrSection<S[Key]> };
type ValueOrSection<Schema> =
  Schema extends z.ZodObject<infer Inner extends Shape>
    ? Values<Inner>
    : Schema extends z.ZodPrefault<infer Inner extends z.ZodType>
      ? z.output<Inner>
      : Schema extends z.ZodType
        ? z.output<Schema> | undefined
        : never;

type CamelCase<Name extends string> = Name extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : Name;
type FieldName<Name extends string, Schema> = Schema extends { readonly [inConfigMark]: infer Form }
  ? Form extends "milliseconds"
    ? `${CamelCase<Name>}Ms`
    : CamelCase<Name>
  : never;
type OrNull<Value> = undefined extends Value ? Exclude<Value, undefined> | null : Value;

/** The fields of `Config` that keys with `inConfig` become by themselves; an absent value is null. */
export type ConfigFields<S extends Shape> = {
  readonly [Key in keyof S & string as FieldName<Key, S[Key]>]: OrNull<ValueOrSection<S[Key]>>;
};

export function configFields<S extends Shape>(shape: S, values: Values<S>): ConfigFields<S> {
  const fields = Object.entries(shape).flatMap(([key, schema]) =>
    keyMeta(schema).inConfig === null ? [] : [[fieldName(key, schema), values[key] ?? null] as const],
  );
  return Object.fromEntries(fields) as ConfigFields<S>; // key for key, as the type says
}

/** The name of a key's field in `Config`: `stale_grace` is `staleGrace`, and `staleGraceMs` when it is a duration. */
export function fieldName(key: string, schema: z.ZodType): string {
  const name = key.replaceAll(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
  return keyMeta(schema).inConfig === "milliseconds" ? `${name}Ms` : name;
}
