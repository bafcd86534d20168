/** Logger: the logging methods that a component needs. A pino logger satisfies it. */
type Write = (fields: object, message: string) => void;

export type Logger = Readonly<{ debug: Write; info: Write; warn: Write; error: Write }>;
