/**
 * Autocert folder: the certificates of an ACME authority, the account that ordered them, and the open challenges.
 *
 * Certificates are where Pomerium keeps them (`certificates/<authority>/<host>/<host>.crt` and `.key`), so its folder
 * can be reused. Every file is private to its owner and is written atomically. Several processes may share the folder.
 */
import { createPrivateKey, randomUUID, X509Certificate } from "node:crypto";
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { TlsFiles } from "../../config/index.ts";

export type Account = Readonly<{ key: string; url: string | null }>;
export type KeptPair = TlsFiles & Readonly<{ certificate: X509Certificate }>;

export class AutocertFolder {
  readonly #path: string;
  readonly #authority: string;

  constructor(path: string, directory: URL) {
    this.#path = path;
    this.#authority = `${directory.host}${directory.pathname}`.replaceAll(/[^A-Za-z0-9.]+/g, "-").replace(/-$/, "");
    mkdirSync(path, { recursive: true, mode: 0o700 });
  }

  /** @returns undefined when there is no usable certificate */
  pair(host: string): KeptPair | undefined {
    const [cert, key] = [this.#read(this.#fileOf(host, "crt")), this.#read(this.#fileOf(host, "key"))];
    if (cert === undefined || key === undefined) return undefined;
    try {
      const certificate = new X509Certificate(cert);
      return certificate.checkPrivateKey(createPrivateKey(key)) ? { cert, key, certificate } : undefined;
    } catch {
      return undefined;
    }
  }

  savePair(host: string, { cert, key }: TlsFiles): void {
    this.#write(this.#fileOf(host, "key"), key);
    this.#write(this.#fileOf(host, "crt"), cert);
  }

  account(): Account | undefined {
    const key = this.#read(this.#accountFile("key"));
    return key === undefined ? undefined : { key, url: this.#read(this.#accountFile("url"))?.trim() ?? null };
  }

  saveAccount({ key, url }: Account): void {
    this.#write(this.#accountFile("key"), key);
    if (url !== null) this.#write(this.#accountFile("url"), `${url}\n`);
  }

  /** Publishes an answer, for the process that receives the challenge. */
  challengeAnswer(token: string): string | undefined {
    return this.#read(this.#challengeFile(token));
  }
  saveChallenge(token: string, answer: string): void {
    this.#write(this.#challengeFile(token), answer);
  }
  removeChallenge(token: string): void {
    rmSync(this.#challengeFile(token), { force: true });
  }

  /** Publishes the challenge certificate of a host, for the process that receives the handshake. */
  question(host: string): TlsFiles | undefined {
    const pair = this.#read(this.#questionFile(host));
    const key = pair?.indexOf("-----BEGIN PRIVATE KEY-----") ?? -1;
    return pair === undefined || key < 0 ? undefined : { cert: pair.slice(0, key), key: pair.slice(key) };
  }
  saveQuestion(host: string, { cert, key }: TlsFiles): void {
    this.#write(this.#questionFile(host), `${cert.trimEnd()}\n${key}`);
  }
  removeQuestion(host: string): void {
    rmSync(this.#questionFile(host), { force: true });
    try {
      rmdirSync(join(this.#path, "questions"));
    } catch {
      // other challenges are open, or the folder is gone
    }
  }
  /** Removes the remains of a killed process. Only the holder of the lock may call it. */
  forgetQuestions(): void {
    rmSync(join(this.#path, "questions"), { recursive: true, force: true });
  }
  /** Whether any process has an open challenge. Costs one file system call per connection. */
  isAsked(): boolean {
    return existsSync(join(this.#path, "questions"));
  }

  #fileOf(host: string, ending: "crt" | "key"): string {
    const name = encodeURIComponent(host);
    return join(this.#path, "certificates", this.#authority, name, `${name}.${ending}`);
  }
  #accountFile(ending: "key" | "url"): string {
    return join(this.#path, "accounts", this.#authority, `account.${ending}`);
  }
  #questionFile(host: string): string {
    return join(this.#path, "questions", encodeURIComponent(host));
  }
  /** A token has letters, digits, `-` and `_` (RFC 8555 §8.3). */
  #challengeFile(token: string): string {
    return join(this.#path, "challenges", encodeURIComponent(token).replaceAll(".", "%2E"));
  }

  #read(path: string): string | undefined {
    try {
      return readFileSync(path, "utf8");
    } catch {
      return undefined;
    }
  }

  #write(path: string, text: string): void {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const draft = `${path}.${randomUUID()}`;
    try {
      writeFileSync(draft, text, { mode: 0o600, flag: "wx", flush: true });
      chmodSync(draft, 0o600);
      renameSync(draft, path);
    } finally {
      rmSync(draft, { force: true });
    }
  }
}

/**
 * Takes the lock that lets one process per host order certificates at a time. It is an exclusive SQLite lock on a small
 * file, so the kernel releases it however the process ends.
 *
 * @returns a function that releases the lock; undefined: another process holds it
 */
export function tryOrderLock(folder: string): (() => void) | undefined {
  const path = join(folder, "ordering.sqlite");
  if (existsSync(path)) chmodSync(path, 0o600);
  else closeSync(openSync(path, "a", 0o600));
  const database = new DatabaseSync(path);
  try {
    database.exec("pragma busy_timeout = 0; pragma locking_mode = exclusive; begin exclusive");
    return () => database.close();
  } catch (error) {
    database.close();
    if (error instanceof Error && "errcode" in error && error.errcode === 5) return undefined; // SQLITE_BUSY
    throw error;
  }
}
