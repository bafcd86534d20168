/**
 * Page steps: what a page of the documentation asks its reader to do, in order. Pure.
 *
 * The paragraph before each fenced block says where it belongs. It ends with a colon.
 *
 *   On **eu-1**, **eu-2**:                                        commands, in a block `sh`
 *   On every machine, in `/etc/…`:                                a file
 *   On **us-1**, and on **ap-1** with `ap` in place of `us`, …    the same, with one word replaced on the others
 *   It prints:                                                    what the commands before print; `…` is any text
 *   It prints within a minute:                                    the same, when they are repeated until then
 *   It exits with 1, and it prints within a minute:               with this exit code
 *
 * Blocks of other languages, and those after other paragraphs, are for the reader alone.
 */
export type Step = Readonly<{ heading: string; line: number }> &
  (
    | Readonly<{ type: "run"; machines: readonly string[]; text: (machine: string) => string }>
    | Readonly<{ type: "file"; machines: readonly string[]; path: string; text: (machine: string) => string }>
    | Readonly<{ type: "prints"; when: "at-once" | "soon"; code: number | null; text: string }>
  );

/** @param every the machines that "every machine" means, in order */
export function stepsOf(page: string, every: readonly string[]): readonly Step[] {
  const steps: Step[] = [];
  let heading = "";
  for (const found of page.matchAll(
    /^(?:## (?<heading>.+)|(?<before>(?:.+\n)*?.+:)\n\n```(?<language>\w*)\n(?<text>[\s\S]*?)^```)$/gm,
  )) {
    const { heading: title, before = "", language = "", text = "" } = found.groups ?? {};
    if (title !== undefined) {
      heading = title;
      continue;
    }
    const line = page.slice(0, found.index).split("\n").length;
    const paragraph = before.replaceAll("\n", " ");
    const printed = /\b[Ii]t prints( within a minute)?:$/.exec(paragraph);
    if (printed !== null) {
      const code = /\bexits with (\d+)\b/.exec(paragraph)?.[1];
      const when = printed[1] === undefined ? "at-once" : "soon";
      steps.push({ type: "prints", heading, line, text, when, code: code === undefined ? null : Number(code) });
      continue;
    }
    if (!/^(?:.*[,.] o|O)n (?:every machine|\*\*)/.test(paragraph)) continue;
    const machines = /\bon every machine\b/i.test(paragraph)
      ? every
      : [...paragraph.matchAll(/\*\*([\w-]+)\*\*/g)].map(([, name = ""]) => name);
    const path = /\bin `(\/[^`]+)`/.exec(paragraph)?.[1];
    const replaced = /in place of `(\w+)`/.exec(paragraph)?.[1];
    const textFor = (machine: string): string =>
      replaced === undefined ? text : text.replaceAll(new RegExp(`\\b${replaced}\\b`, "g"), regionOf(machine));
    if (path !== undefined) steps.push({ type: "file", heading, line, machines, path, text: textFor });
    else if (language === "sh") steps.push({ type: "run", heading, line, machines, text: textFor });
  }
  return steps;
}

const regionOf = (machine: string): string => machine.replace(/-\d+$/, "");

/** Whether the output is what the page shows. Spaces at line ends do not count. */
export function isAsPrinted(output: string, shown: string): boolean {
  const clean = (text: string): string => text.replace(/[ \t]+$/gm, "").trim();
  const pattern = clean(shown)
    .split("…")
    .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replace(/ +/g, " +"))
    .join("[\\s\\S]*?");
  return new RegExp(`^${pattern}$`).test(clean(output));
}
