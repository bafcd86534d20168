/** Event format: one version of the body of an event type, and its conversions. Pure. */

export type EventBody = Readonly<Record<string, unknown>>;

/** One version of one type's body. */
export type Format = Readonly<{
  /** The cluster's level from which on this version is written. */
  level: number;
  /** Lifts the version before to this one; absent in the first. */
  up?: (body: EventBody) => EventBody;
  /** Lowers to the version before; null: that version cannot say it, so the event waits for the level. */
  down?: (body: EventBody) => EventBody | null;
}>;

/** A further version that adds optional fields. */
export const withMoreFields = (level: number, ...added: readonly string[]): Format => ({
  level,
  up: (body) => body,
  down: (body) => (added.some((name) => name in body) ? null : body),
});

/** A second version at a later level that adds optional fields. */
export const withFieldsAt = (level: number, ...added: readonly string[]): readonly Format[] => [
  { level: 1 },
  withMoreFields(level, ...added),
];
