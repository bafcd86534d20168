/** Logger: what a part needs of one. A pino logger is one. */
type Write = (fields: object, message: string) => void;

export type Logger = Readonly<{ debug: Write; info: Write; warn: Write; error: Write }>;
