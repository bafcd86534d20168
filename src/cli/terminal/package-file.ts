/** Package file: the address of a file beside `src/` in a checkout, or beside `dist/` in a published package. */
const root = new URL(import.meta.url.endsWith(".ts") ? "../../../" : "../", import.meta.url);

export function packageFile(name: string): URL {
  return new URL(name, root);
}
