/**
 * Generate the description of the operator API from its table of operations and schemas:
 * `docs/operator-api.openapi.json`.
 *
 *   npm run docs:operator-api
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { operatorApiPrefix, operatorOpenApi } from "../src/console/index.ts";
import { foldShortLists } from "./generate-config-docs.ts";

export const operatorApiFile = "docs/operator-api.openapi.json";

export function operatorApiText(): string {
  return `${foldShortLists(JSON.stringify(operatorOpenApi(operatorApiPrefix), null, 2))}\n`;
}

if (import.meta.main) {
  writeFileSync(join(import.meta.dirname, "..", operatorApiFile), operatorApiText());
  console.log(`wrote ${operatorApiFile}`);
}
