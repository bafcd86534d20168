/** A copy of a text: what is cut out of a longer one holds on to the whole of it. Pure. */
export function copyString<Text extends string>(text: Text): Text {
  return Buffer.from(text).toString() as Text;
}
