/** Copies a string: a slice of a longer string keeps all of it in memory. Pure. */
export function copyString<Text extends string>(text: Text): Text {
  return Buffer.from(text).toString() as Text;
}
