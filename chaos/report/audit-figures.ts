/** Audit figures: how much of a run the audit sinks have, and what is declared lost, in numbers. Pure. */
import { gapsOf } from "../judge/audit-gaps.ts";
import type { AuditSeen } from "../judge/audit-line.ts";

export type AuditFigures = Readonly<{
  /** Of each sink: its records, each once, and how many lines repeat one. */
  sinks: readonly Readonly<{ sink: string; records: number; repetitions: number }>[];
  /** Declared gaps, and how many numbers they cover at most and at least. */
  gaps: Readonly<{ count: number; most: number; least: number }>;
}>;

export function auditFiguresOf({ copies }: AuditSeen): AuditFigures {
  const declared = gapsOf(copies.find(({ sink }) => sink === "file")?.lines ?? []);
  const sizes = declared.map(({ first, last, atLeast }) => {
    const most = last - first + 1;
    return { most, least: atLeast ?? most };
  });
  return {
    sinks: copies.map(({ sink, lines }) => {
      const records = lines.filter(({ gap }) => gap === null);
      const numbers = new Set(records.map(({ boot, seq }) => `${boot}:${seq}`)).size;
      return { sink, records: numbers, repetitions: records.length - numbers };
    }),
    gaps: {
      count: declared.length,
      most: sizes.reduce((sum, { most }) => sum + most, 0),
      least: sizes.reduce((sum, { least }) => sum + least, 0),
    },
  };
}

export function formatAuditFigures({ sinks, gaps }: AuditFigures): string {
  const each = sinks.map(({ sink, records, repetitions }) => `${records} records in ${sink}, ${repetitions} repeated`);
  return `${each.join("; ")}; ${gaps.count} gaps of ${gaps.least} to ${gaps.most} numbers`;
}
