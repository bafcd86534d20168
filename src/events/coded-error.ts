/**
 * The base of every error class that has a code.
 *
 * - Programs compare `code`, never the message. A code is never renamed: docs/errors.md lists them all.
 * - `name` is the class's own, also in logs.
 */
export abstract class CodedError<Code extends string> extends Error {
  abstract readonly code: Code;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}
