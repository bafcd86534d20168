/**
 * Command bytes: about how many bytes a command takes while it waits. Near enough for a bound, and a fraction of the time that it would take
 * to write the command down. Pure.
 */
const ofNumber = 9;
const ofName = 16;

export function commandBytesOf(value: unknown): number {
  if (typeof value === "string") return value.length + 4;
  if (typeof value !== "object" || value === null) return ofNumber;
  if (ArrayBuffer.isView(value)) return value.byteLength + 4;
  let weight = 4;
  if (Array.isArray(value)) {
    for (const one of value) weight += commandBytesOf(one);
    return weight;
  }
  for (const name in value) weight += ofName + commandBytesOf((value as Readonly<Record<string, unknown>>)[name]);
  return weight;
}
