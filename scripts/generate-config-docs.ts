/**
 * Generate the configuration's reference from its schema: `docs/configuration.md`, `docs/cardea.schema.json`,
 * `.env.example`.
 *
 *   node scripts/generate-config-docs.ts          writes the three files
 *
 * test/config/config-docs.test.ts fails when a file differs from the output.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { type KeyMeta, keyMeta, valueTypeLabel, writtenDefault } from "../src/config/schema/keys.ts";
import {
  documentSchema,
  globalGroups,
  routeGroups,
  unusedGlobals,
  unusedRouteKeys,
} from "../src/config/schema/schema.ts";
import { sectionShape } from "../src/config/values/value-type.ts";

type Keys = Readonly<Record<string, z.ZodType>>;
type Row = Readonly<{ path: string; schema: z.ZodType; meta: KeyMeta }>;

/** Every value below some keys, including those in sections, each with its dotted path. */
function rows(keys: Keys, prefix = ""): readonly Row[] {
  return Object.entries(keys).flatMap(([key, schema]) => {
    const path = `${prefix}${key}`;
    const inner = sectionShape(schema);
    return inner === undefined ? [{ path, schema, meta: keyMeta(schema) }] : rows(inner, `${path}.`);
  });
}

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ");

function defaultText(schema: z.ZodType): string {
  const value = writtenDefault(schema);
  if (value === undefined) return "";
  return typeof value === "string" && value !== "" ? value : JSON.stringify(value);
}

function table(keys: Keys): string {
  const lines = rows(keys).map(({ path, schema, meta }) => {
    const written = defaultText(schema);
    const cells = [
      `\`${path}\``,
      valueTypeLabel(schema),
      written === "" ? "" : `\`${written}\``,
      meta.description,
      meta.origin,
    ];
    return `| ${cells.map(cell).join(" | ")} |`;
  });
  return ["| Key | Type | Default | Meaning | Origin |", "| --- | --- | --- | --- | --- |", ...lines].join("\n");
}

function unusedTable(keys: Keys): string {
  const what = { supported: "", ignored: "warning", unsupported: "error", removed: "error" } as const;
  const lines = Object.entries(keys).map(([key, schema]) => {
    const meta = keyMeta(schema);
    const fine = meta.harmless.filter((value) => value !== "" && value !== "[]").map((value) => `\`${value}\``);
    const remedy = meta.remedy === "" ? "" : `; ${meta.remedy}`;
    const warned = meta.tolerated.map((value) => `\`${value}\``);
    const exception = [
      ...(fine.length === 0 ? [] : [` (${fine.join(", ")}: accepted silently)`]),
      ...(warned.length === 0 ? [] : [` (${warned.join(", ")}: a warning)`]),
    ].join("");
    return `| \`${key}\` | ${what[meta.status]} | ${cell(`${meta.description}${remedy}${exception}`)} |`;
  });
  return ["| Key | Result | Why, and what to do |", "| --- | --- | --- |", ...lines].join("\n");
}

const introduction = `<!-- Written by scripts/generate-config-docs.ts from the schema. Do not edit by hand. -->
# Configuration

Cardea reads Pomerium's keys with Pomerium's meanings, so many Pomerium configurations run unchanged. The column *Origin*
says which keys Cardea adds. \`cardea check -c cardea.yaml\` names every problem at once, each as
\`file:line:column: error: key: problem; remedy\`, and exits 1 when there is an error.

- **File**: YAML (JSON is YAML too), with anchors, aliases and merge keys. A repeated or unknown
  key is an error.
- **Environment**: a variable overrides the file. Its name is the key in capitals, nested keys joined with \`_\`
  (\`BROKER_LISTEN\`). Lists are comma-separated, mappings are JSON or \`k=v,k=v\`, \`ROUTES\` and \`POLICY\` are base64 of
  YAML, \`HEADERS\` is \`set_response_headers\`. An empty variable counts as unset.
- **Durations** are written as in Go: \`250ms\`, \`30s\`, \`1h30m\`. **Addresses** are \`host:port\`; \`:443\` means every IPv4
  address, \`[::]:443\` every address.
- **Secrets**: each has a variant with \`_file\` that names a file. Create secrets of 32 bytes with
  \`openssl rand -base64 32\`. With \`services: all\`, Cardea creates a missing \`shared_secret\` or \`cookie_secret\` at the
  first start and keeps it in the data folder.
- **Editors**: put \`# yaml-language-server: $schema=<path to docs/cardea.schema.json>\` on the first line.

Plain HTTP is only for \`*.localhost\` and loopback. Behind a load balancer that terminates TLS, use \`insecure_server: true\`
with \`https\` routes: people see the scheme of each route's \`from\`.
`;

export function configurationPage(): string {
  const parts = [introduction];
  for (const { title, keys } of globalGroups) {
    parts.push(`## ${title}\n`);
    for (const [key, schema] of Object.entries<z.ZodType>(keys)) {
      if (sectionShape(schema) !== undefined) parts.push(`\`${key}\`: ${keyMeta(schema).description}\n`);
    }
    parts.push(`${table(keys)}\n`);
  }
  parts.push(
    "## Routes\n",
    "`routes` is a list. `policy`, its older name, may hold more routes, which precede it. Within a host the first matching route decides. An exact host precedes a wildcard, and a `from` with a port precedes one without.\n",
  );
  for (const { title, keys } of routeGroups) {
    parts.push(`### ${title}\n`);
    for (const [key, schema] of Object.entries<z.ZodType>(keys)) {
      if (sectionShape(schema) !== undefined) parts.push(`\`${key}\`: ${keyMeta(schema).description}\n`);
    }
    parts.push(`${table(keys)}\n`);
  }
  parts.push(
    "## Pomerium's keys that this build does not use\n",
    "A key without a meaning here is accepted with a warning. A key that admits people, protects something or changes where requests go is an error, so that nothing is ignored silently.\n",
    `### At the top level\n\n${unusedTable(unusedGlobals)}\n`,
    `### In a route\n\n${unusedTable(unusedRouteKeys)}\n`,
  );
  return parts.join("\n");
}

export function jsonSchema(): string {
  const ownMetadata = [
    "label",
    "origin",
    "status",
    "remedy",
    "harmless",
    "tolerated",
    "nested",
    "isSecret",
    "secretAt",
    "reload",
    "configPaths",
    "inConfig",
  ];
  const schema = z.toJSONSchema(documentSchema, {
    io: "input",
    unrepresentable: "any",
    override: ({ jsonSchema: json }) => {
      const status = json["status"];
      if (typeof status === "string" && status !== "supported") {
        const remedy = json["remedy"];
        json.deprecated = true;
        json.description = [json.description, remedy]
          .filter((part) => typeof part === "string" && part !== "")
          .join("; ");
      }
      for (const key of ownMetadata) delete json[key];
      // Sections are optional, although zod calls an object without a default required.
      delete json.required;
    },
  });
  const { $schema, ...rest } = schema;
  return `${foldShortLists(JSON.stringify({ $schema, title: "Cardea configuration", ...rest }, null, 2))}\n`;
}

/** Puts lists of words on one line where they fit, as the formatter does. */
export function foldShortLists(json: string): string {
  return json.replaceAll(
    /^( *(?:"[^"\n]+": )?)\[\n((?: *"(?:[^"\\\n]|\\.)*",?\n)+) *\](,?)$/gm,
    (whole, before: string, items: string, after: string) => {
      const folded = `${before}[${items.trim().split(/\n\s*/).join(" ")}]${after}`;
      return folded.length <= 120 ? folded : whole;
    },
  );
}

export function environmentExample(): string {
  const lines = [
    "# Written by scripts/generate-config-docs.ts from the schema. Do not edit by hand.",
    "# Every variable, commented out; docs/configuration.md says what each means. A variable overrides the file.",
    "# Secrets of 32 bytes: openssl rand -base64 32",
  ];
  for (const { title, keys } of globalGroups) {
    lines.push("", `# --- ${title}`);
    for (const { path, schema } of rows(keys)) {
      const value = writtenDefault(schema);
      const text = Array.isArray(value)
        ? value.join(",")
        : typeof value === "object" && value !== null
          ? ""
          : (value ?? "");
      lines.push(`# ${path.replaceAll(".", "_").toUpperCase()}=${String(text)}`);
    }
  }
  lines.push("", "# --- Routes, base64 of a YAML list", "# ROUTES=", "");
  return lines.join("\n");
}

export const generated = [
  { file: "docs/configuration.md", make: configurationPage },
  { file: "docs/cardea.schema.json", make: jsonSchema },
  { file: ".env.example", make: environmentExample },
] as const;

if (import.meta.main) {
  for (const { file, make } of generated) {
    writeFileSync(join(import.meta.dirname, "..", file), make());
    console.log(`wrote ${file}`);
  }
}
